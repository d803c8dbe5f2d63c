"""The connections of the SDK's HTTP session: how aiohttp resolves names, connects, verifies and closes."""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver

from asecretcache._sources.threads import resolve
from asecretcache._sources.tls_context import check_context

# An address needs no look-up by the loop.
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
#: Whether a connection is wanted, and nothing to be sent by it.
only_connect: ContextVar[bool] = ContextVar("asecretcache.only_connect", default=False)


class ConnectedError(Exception):
    """There is a connection, and nothing is to be sent."""


class Connector(aiohttp.TCPConnector):
    """Connects, and if that was all that is wanted, puts the connection among those that are idle."""

    async def connect(self, *args: Any, **arguments: Any) -> Any:
        """Return a connection."""
        connection = await super().connect(*args, **arguments)
        if only_connect.get():
            connection.release()
            raise ConnectedError
        return connection


class Resolver(AbstractResolver):
    """Looks up addresses in threads for which neither the loop's end nor Python's exit waits."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        """Return the addresses as aiohttp wants them."""
        names = ("hostname", "host", "port", "family", "proto", "flags")
        return [
            dict(zip(names, (host, *address[:2], kind, protocol, _NUMERIC), strict=True))
            for kind, _, protocol, _, address in await resolve(host, port, family)
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


class ContextByHost(ssl.SSLContext):
    """A context that uses one of two others, by the host: so a proxy's authorities vouch for the proxy alone.

    aiohttp takes one context for both connections. It verifies nothing by itself, and each use checks the context that
    it takes.
    """

    _endpoint: ssl.SSLContext
    _to_proxy: ssl.SSLContext
    _proxy_host: str | None

    @classmethod
    def of(cls, endpoint: ssl.SSLContext, to_proxy: ssl.SSLContext, proxy_host: str | None) -> Self:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._endpoint, context._to_proxy, context._proxy_host = endpoint, to_proxy, proxy_host
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  # as the base class has it
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection with the context of its host."""
        is_proxy = server_hostname == self._proxy_host
        context = check_context(self._to_proxy if is_proxy else self._endpoint)
        return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def abort_when_closed(connector: Any) -> None:
    """Abort connections instead of closing them.

    Otherwise asyncio waits up to 30 s for the peer's end of TLS. Most loops end before that, and their sockets would
    stay open, with a warning, if the peer hangs or a gateway has forgotten it.
    """
    with suppress(AttributeError):  # A version of aiohttp that lacks it works too.
        connector._factory = functools.partial(_make_protocol, connector._factory)


def _make_protocol(create: Callable[[], Any]) -> Any:
    protocol = create()
    with suppress(AttributeError):
        protocol.close = protocol.abort
    return protocol
