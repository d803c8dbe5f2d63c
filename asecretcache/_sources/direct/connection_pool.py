"""HTTP/1.1 to one server: connections of one event loop that are kept alive."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, cast

from asecretcache._sources.direct.http_message import Answer, Request, Response, encoded
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.direct.tls import Trust
from asecretcache._sources.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from asecretcache._sources.loop_clients import MAX_IDLE, hush

_STAGGER: Final = 0.25  # RFC 8305, section 8


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
        self._answer: Answer | None = None
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
        self._answer = answer = Answer()
        try:
            self.transport.write(encoded(request))
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
