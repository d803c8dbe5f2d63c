"""A pool of HTTP/1.1 connections to one server, which are kept alive."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import zip_longest
from typing import Final, cast

from asecretcache._sources import exceptions as errors
from asecretcache._sources.direct.http_message import Request, Response, encode_request
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.direct.tls import TLSContextProvider
from asecretcache._sources.loop_clients import MAX_IDLE
from asecretcache._sources.sdk.patches import close_transport
from asecretcache._sources.threads import Address, resolve

#: Seconds until the next address of a host is tried.
NEXT_ADDRESS_AFTER: Final = 0.5


class NoResponseError(errors.ConnectionClosedError):
    """The connection ended before the first byte of a response. If it was idle, it may have been dead before."""


class ConnectionPool:
    """The connections to one server; it belongs to one loop.

    Args:
        origin: the server.
        tls: provides the TLS context; None for plain HTTP.
        clock: the wall clock, by which idle connections grow old.
    """

    def __init__(self, origin: Origin, tls: TLSContextProvider | None, *, clock: Callable[[], float]) -> None:
        self._origin = origin
        self._tls = tls
        self._clock = clock
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []

    async def send(self, request: Request, *, connect_timeout: float, read_timeout: float) -> Response:
        """Return the response to a request, which must be one that may be sent twice.

        Args:
            request: the request.
            connect_timeout: seconds for making a connection, with its TLS handshake.
            read_timeout: seconds for each wait for more bytes of the response.

        Raises:
            TransportError: a subclass that says why there is no response.
            ValueError: a header has a character that it must not have.
        """
        connection = self._take_idle()
        if connection is not None:
            with suppress(NoResponseError):
                return await self._exchange(connection, request, read_timeout)
            # The other idle connections are likely to be dead for the same reason.
            self.close()
        return await self._exchange(await self._connect(connect_timeout), request, read_timeout)

    async def connect(self, seconds: float) -> None:
        """Open a connection for a later request.

        Raises:
            TransportError: a subclass that says why there is none.
        """
        self._keep(await self._connect(seconds))

    def close(self) -> bool:
        """Close the idle connections and return whether there were any."""
        had_idle = bool(self._idle)
        while self._idle:
            self._drop(self._idle.pop())
        return had_idle

    def abandon(self, *, abort: bool) -> None:
        """Close all connections from outside of the loop, which doesn't run; see ``ClientFactory``."""
        self._idle.clear()
        while self._open:
            close_transport(self._open.pop().transport, abort=abort)

    def _take_idle(self) -> _Connection | None:
        """Return the idle connection that was used last, or None; drop those that are closed or too old."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed and 0 <= self._clock() - connection.used_at <= MAX_IDLE:
                return connection
            self._drop(connection)
        return None

    async def _connect(self, seconds: float) -> _Connection:
        try:
            async with asyncio.timeout(seconds):
                return await self._connect_with_tls()
        except TimeoutError as exc:
            raise errors.ConnectTimeoutError(f"no connection to {self._origin.host_header} in {seconds:g} s") from exc
        except ssl.SSLError as exc:
            raise errors.SSLError(f"no TLS connection to {self._origin.host_header}: {exc}") from exc
        except OSError as exc:
            raise errors.EndpointConnectionError(f"no connection to {self._origin.host_header}: {exc}") from exc

    async def _connect_with_tls(self) -> _Connection:
        if self._tls is None:
            return await self._open_connection(None)
        context = await self._tls.context()
        try:
            return await self._open_connection(context)
        except ssl.SSLCertVerificationError:
            if not self._tls.widen(context):
                raise
        return await self._open_connection(await self._tls.context())

    async def _open_connection(self, context: ssl.SSLContext | None) -> _Connection:
        host = None if context is None else self._origin.host
        sock = await _connected_socket(self._origin.host, self._origin.port)
        # From here on the loop closes it, whatever happens.
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, sock=sock, ssl=context, server_hostname=host
        )
        self._open.add(connection)
        return connection

    async def _exchange(self, connection: _Connection, request: Request, read_timeout: float) -> Response:
        try:
            return await connection.exchange(request, read_timeout)
        except TimeoutError:
            raise errors.ReadTimeoutError(
                f"no response from {self._origin.host_header} in {read_timeout:g} s"
            ) from None
        finally:
            if connection.is_closed:
                self._drop(connection)
            else:
                self._keep(connection)

    def _keep(self, connection: _Connection) -> None:
        connection.used_at = self._clock()
        self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.abort()


class _Connection(asyncio.Protocol):
    """One connection, used by one task at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._response: Response | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_closed = False
        self.used_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.is_complete:
            # Bytes that no request asked for must not become the next response.
            self.abort()
            return
        self._response.feed(data)
        self._wake()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.is_closed = True
        if self._response is not None:
            self._response.feed_eof()
        self._wake()

    def abort(self) -> None:
        """Close the connection now, without waiting for the peer."""
        self.is_closed = True
        if self._loop.is_closed():
            close_transport(self.transport, abort=True)
        else:
            self.transport.abort()

    async def exchange(self, request: Request, read_timeout: float) -> Response:
        """Send a request and return the response. Unless another one can follow, ``is_closed`` is True afterwards."""
        self._response = response = Response()
        try:
            self.transport.write(encode_request(request))
            while not (response.is_complete or response.is_malformed or self.is_closed):
                self._waiter = self._loop.create_future()
                async with asyncio.timeout(read_timeout):
                    await self._waiter
        finally:
            self._response = None
            response.close()
            # Also if it was cancelled or timed out: the rest of the response may still arrive.
            self.is_closed = self.is_closed or response.is_last or not response.is_complete
        if not response.is_complete:
            raise errors.ConnectionClosedError if response.received else NoResponseError
        return response

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def _connected_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to one of the host's addresses, which are tried one after another.

    asyncio's happy_eyeballs_delay fails with eager tasks, and what races in tasks leaves some of them to a loop that is
    closed meanwhile.
    """
    loop = asyncio.get_running_loop()
    addresses = _interleaved(await resolve(host, port))
    failure = OSError(f"{host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            async with asyncio.timeout(NEXT_ADDRESS_AFTER if number < len(addresses) else None):
                await loop.sock_connect(sock, address)
        except BaseException as exc:
            if sock is not None:
                sock.close()
            if not isinstance(exc, OSError):
                raise
            failure = exc
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # Its traceback holds this frame.


def _interleaved(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with IPv6 and IPv4 in turn (RFC 8305), since one of the two may lead nowhere."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for turn in zip_longest(*families.values()) for address in turn if address is not None]
