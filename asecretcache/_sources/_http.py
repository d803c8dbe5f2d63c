"""HTTP/1.1 to one server: connections of one event loop that are kept alive; httptools reads what comes back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from asecretcache._sources._client import MAX_IDLE, hush
from asecretcache._sources._failures import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from asecretcache._sources._origin import Origin
from asecretcache._sources._trust import Trust

# Twenty values of 64 KiB, each byte escaped as \u00XX, and room for what is around them.
_MAX_BODY: Final = 16 * 2**20
_MAX_HEAD: Final = 64 * 2**10
_STAGGER: Final = 0.25  # RFC 8305, section 8


class Request:
    """What is sent; no repr shows it."""

    __slots__ = ("body", "headers", "method", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


class Response:
    """What came back; no repr shows it. Header names are in lower case."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class UnansweredError(ConnectionClosedError):
    """It ended before the first byte of an answer: if it was idle, it had perhaps been dead for long."""


class Connections:
    """The connections to one server. They belong to one loop."""

    def __init__(self, origin: Origin, trust: Trust | None, *, clock: Callable[[], float]) -> None:
        self._origin = origin
        self._trust = trust
        self._clock = clock
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []

    async def send(self, request: Request, *, connect_timeout: float, read_timeout: float) -> Response:
        """Return the answer to a request that may be sent twice.

        Arguments:
            connect_timeout: seconds for all of a connection's set-up.
            read_timeout: seconds for each wait for more of the answer.

        Raises:
            TransportError: a subclass that says why there is none.
            ValueError: the request has what no header can hold.
        """
        connection = self._take()
        if connection is not None:
            with suppress(UnansweredError):
                return await self._exchange(connection, request, read_timeout)
            # What was idle as long is as dead.
            self.close()
        return await self._exchange(await self._connect(connect_timeout), request, read_timeout)

    def close(self) -> bool:
        """Close what is idle; say whether that was anything."""
        was_open = bool(self._idle)
        while self._idle:
            self._drop(self._idle.pop())
        return was_open

    def detach(self) -> Iterator[Any]:
        """Let go of all connections and yield their transports, which are the caller's to end."""
        self._idle.clear()
        while self._open:
            yield self._open.pop().transport

    def _take(self) -> _Connection | None:
        """Return the connection that was used last, or None; too old ones are dropped."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_over and 0 <= self._clock() - connection.used_at <= MAX_IDLE:
                return connection
            self._drop(connection)
        return None

    async def _connect(self, seconds: float) -> _Connection:
        try:
            async with asyncio.timeout(seconds):
                return await self._connect_trusting()
        except TimeoutError as exc:
            raise ConnectTimeoutError(f"no connection to {self._origin.header} in {seconds:g} s") from exc
        except ssl.SSLError as exc:
            raise SSLError(f"no trust in {self._origin.header}: {exc}") from exc
        except OSError as exc:
            raise EndpointConnectionError(f"no connection to {self._origin.header}: {exc}") from exc

    async def _connect_trusting(self) -> _Connection:
        if self._trust is None:
            return await self._connect_with(None)
        try:
            return await self._connect_with(await self._trust.context())
        except ssl.SSLCertVerificationError:
            if not self._trust.widen():
                raise
        return await self._connect_with(await self._trust.context())

    async def _connect_with(self, context: ssl.SSLContext | None) -> _Connection:
        loop = asyncio.get_running_loop()
        # uvloop has no such argument: it tries one address after another.
        race: dict[str, Any] = {"happy_eyeballs_delay": _STAGGER} if isinstance(loop, asyncio.BaseEventLoop) else {}
        _, connection = await loop.create_connection(
            _Connection, self._origin.host, self._origin.port, ssl=context, **race
        )
        self._open.add(connection)
        return connection

    async def _exchange(self, connection: _Connection, request: Request, read_timeout: float) -> Response:
        try:
            response = await connection.exchange(request, read_timeout)
        except TimeoutError:
            self._drop(connection)
            raise ReadTimeoutError(f"no answer from {self._origin.header} in {read_timeout:g} s") from None
        except BaseException:
            # Also when it is cancelled: half of an answer may be on its way.
            self._drop(connection)
            raise
        if connection.is_over:
            self._drop(connection)
        else:
            connection.used_at = self._clock()
            self._idle.append(connection)
        return response

    def _drop(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.abort()


class _Connection(asyncio.Protocol):
    """One connection, and the one task that uses it at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer: _Answer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_over = False
        self.used_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.is_complete:
            # Nobody asked: it must not become the answer to the next request.
            self.abort()
            return
        self._answer.feed(data)
        self._wake()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end()

    def abort(self) -> None:
        """End it now, without a word to the other side: nobody waits for that."""
        self.is_over = True
        if self._loop.is_closed():
            hush(self.transport, abort=True)
        else:
            self.transport.abort()

    async def exchange(self, request: Request, read_timeout: float) -> Response:
        """Send the request and return the answer; the caller ends the connection on any error."""
        self._answer = answer = _Answer()
        try:
            self.transport.write(_encoded(request))
            while not (answer.is_complete or answer.is_broken or self.is_over):
                self._waiter = self._loop.create_future()
                async with asyncio.timeout(read_timeout):
                    await self._waiter
        finally:
            self._answer = None
            answer.close()
        if not answer.is_complete:
            raise ConnectionClosedError if answer.has_begun else UnansweredError
        self.is_over = self.is_over or answer.is_last
        return answer.response()

    def _end(self) -> None:
        self.is_over = True
        if self._answer is not None:
            self._answer.end()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Answer:
    """What has come of the answer to one request: the callbacks of httptools' parser, and what they make of it.

    Values are locals only here, where nothing is awaited and no traceback that is shown has its frames.
    """

    __slots__ = ("_body", "_headers", "_parser", "_received", "_status", "is_broken", "is_complete", "is_last")

    def __init__(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        # What the SDK's HTTP client takes from servers that are careless: lines that end with LF alone, folded headers.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._received = 0
        self._headers: dict[str, str] = {}
        #: 0 until the headers are complete.
        self._status = 0
        self._body = bytearray()
        self.is_complete = False
        #: Whether no more will come of it, for what came is no HTTP, or too much.
        self.is_broken = False
        #: Whether its connection can't be used any more.
        self.is_last = False

    @property
    def has_begun(self) -> bool:
        """Whether anything has come."""
        return self._received > 0

    def response(self) -> Response:
        """Return what it was, once it is complete."""
        return Response(self._status, self._headers, bytes(self._body))

    def close(self) -> None:
        """Part from the parser, which has the callbacks: they would keep each other until the collector runs."""
        self._parser = None

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            # Behind the end it is but a reason not to use the connection again.
            self.is_broken = self.is_last = True
        # Behind a body there may be headers again.
        if self._received > (_MAX_BODY + _MAX_HEAD if self._status else _MAX_HEAD):
            self.is_broken = True

    def end(self) -> None:
        """Take note of the connection's end, which is that of an answer that doesn't tell its length."""
        is_measured = "content-length" in self._headers or "chunked" in self._headers.get("transfer-encoding", "")
        if self._status and not is_measured and not self.is_broken:
            self.is_complete = True

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise HttpParserError  # Nobody asked for another.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # Not those behind a body.
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < 100:
            raise HttpParserError

    def on_body(self, data: bytes) -> None:
        if len(self._body) + len(data) > _MAX_BODY:
            raise HttpParserError
        self._body += data

    def on_message_complete(self) -> None:
        if self._status < 200:
            # A word before the answer.
            self._status = 0
            self._headers.clear()
            self._body.clear()
        else:
            self.is_complete = True
            self.is_last = not self._parser.should_keep_alive()


def _encoded(request: Request) -> bytes:
    """Return the request's bytes, whose headers say how long its body is."""
    lines = [
        f"{request.method} {request.target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    if not all(line.isascii() and line.isprintable() for line in lines):
        # It would begin another header. It isn't told, for it may be a token.
        del lines
        raise ValueError("what a header can't hold")
    return "\r\n".join((*lines, "", "")).encode("ascii") + request.body
