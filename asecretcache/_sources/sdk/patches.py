"""All changes to objects of the AWS SDK, aiohttp and asyncio, most of them to attributes that these don't document.

A version that lacks one of the attributes is used as it is. For each attribute a test in tests/sources/sdk/ fails when
it is gone.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SERVICE = "secretsmanager"


def patch_session(session: Any) -> None:
    """Let a session patch all clients that it makes, also those of STS and single sign-on, which get credentials."""
    create_client = session.create_client
    session.create_client = lambda *args, **kwargs: PatchedClient(create_client(*args, **kwargs))


class PatchedClient:
    """The SDK's context manager of a client, which patches the client when it is entered."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        return patch_client(await self._context.__aenter__())

    async def __aexit__(self, *exc_info: object) -> None:
        await self._context.__aexit__(*exc_info)


def patch_client(client: Any) -> Any:
    """Return the client after two changes to the connections that it will make.

    Host names are verified. Otherwise the client would accept any certificate of a trusted authority for any host:
    botocore turns ``check_hostname`` off because urllib3 compares the names itself, and aiohttp doesn't.

    Connections are aborted, not closed. Otherwise asyncio waits up to 30 s for the peer's end of TLS. Most loops end
    before that, and their sockets would stay open, with a warning, if the peer hangs or a gateway has forgotten it.
    """
    with suppress(AttributeError):
        http_session = client._endpoint.http_session
        http_session._create_connector = functools.partial(make_connector, http_session._create_connector)
    return client


def make_connector(create: Callable[[Any], Any], proxy_url: Any) -> Any:
    """Return the connector that ``create`` makes, patched as ``patch_client`` describes."""
    connector = create(proxy_url)
    with suppress(AttributeError):
        context = connector._ssl
        # verify=False asks for a context that verifies nothing. A TLS proxy may be named by its address.
        if context and context.verify_mode == ssl.CERT_REQUIRED and not str(proxy_url or "").startswith("https:"):
            context.check_hostname = True
        connector._factory = functools.partial(_make_protocol, connector._factory)
    return connector


def _make_protocol(create: Callable[[], Any]) -> Any:
    protocol = create()
    with suppress(AttributeError):
        protocol.close = protocol.abort
    return protocol


def abandon_client(client: Any, *, abort: bool) -> None:
    """Close the connections of a client of aiobotocore's whose loop doesn't run; see ``AbandonClient``.

    They are taken from the client's HTTP sessions: closing a session with connections waits for a loop that doesn't
    run; closing one without them waits for nothing.
    """
    sessions = getattr(getattr(getattr(client, "_endpoint", None), "http_session", None), "_sessions", None) or {}
    for session in list(sessions.values()):
        connector = session.connector
        protocols = [entry[0] for pool in connector._conns.values() for entry in pool]
        protocols += connector._acquired
        connector._conns.clear()
        for protocol in protocols:
            close_transport(protocol.transport, abort=abort)


def close_transport(transport: Any, *, abort: bool) -> None:
    """Close a transport of asyncio's whose loop doesn't run; uvloop closes its own with the loop.

    Args:
        transport: the transport; None if the connection has none any more.
        abort: whether to abort it too: False in the child of a fork, where the loop is the parent's.
    """
    tcp_transport = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    for each in filter(None, (tcp_transport, transport)):
        with suppress(Exception):
            # If the loop is run again, this is left to be called, and would fail without a socket.
            each._call_connection_lost = _ignore
        if abort:
            # It marks itself as closed before it raises, because the loop is closed.
            with suppress(Exception):
                each.abort()
        with suppress(Exception):
            each._sock.close()
            each._sock = None


def _ignore(_: object) -> None:
    """Do nothing when the loop tells that the connection is lost."""


def patch_loader(loader: Any) -> None:
    """Make a session's loader of models faster, by 23 ms of the 430 ms that it takes to import the SDK and warm it.

    Half of them is a search for all services of AWS; the other half is what an OrderedDict takes more than a dict.
    """
    with suppress(AttributeError):
        loader.list_available_services = lambda type_name: _AnyService([SERVICE])  # noqa: ARG005  # passed by keyword
        loader.file_loader.load_file = read_model


class _AnyService(list[str]):
    """A list of services that contains every name: for a service that doesn't exist, the loader then finds no model."""

    def __contains__(self, _name: object) -> bool:
        return True


def read_model(path: str) -> Any:
    """Return the contents of one of the SDK's JSON files, or None if there is no such file.

    Args:
        path: the path without its suffix, which is .json or .json.gz.
    """
    import gzip
    import json

    for suffix, open_file in ((".json", open), (".json.gz", gzip.open)):
        if os.path.isfile(path + suffix):
            with open_file(path + suffix, "rb") as file:
                return json.loads(file.read())
    return None
