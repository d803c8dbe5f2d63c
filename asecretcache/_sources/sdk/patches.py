"""All changes to objects of the AWS SDK, aiohttp and asyncio, most of them to attributes that these don't document.

A version that lacks one of the attributes is used as it is, unless a connection would then not be verified. For each
attribute a test in tests/sources/sdk/ fails when it is gone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

SERVICE = "secretsmanager"


def patch_credentials(session: Any) -> None:
    """Let a session get credentials from a container or an instance by our HTTP session, which follows no redirect.

    Its fetchers make HTTP sessions of their own, which accept a certificate of any host.
    """
    get_credentials = session.get_credentials

    async def get_credentials_safely() -> Any:
        # Not before, since the SDK makes the fetchers for the region of the client that needs them.
        patch_fetchers(session.get_component("credential_provider"))
        return await get_credentials()

    session.get_credentials = get_credentials_safely


def patch_fetchers(providers: Any) -> None:
    """Give the fetchers among the providers of credentials our HTTP session; see ``patch_credentials``."""
    from botocore.exceptions import UnknownCredentialError
    from botocore.utils import get_environ_proxies

    from asecretcache._sources.sdk.http_session import CredentialsSession

    with suppress(UnknownCredentialError):
        fetcher = providers.get_provider("container-role")._fetcher
        fetcher._session = CredentialsSession(timeout=fetcher.TIMEOUT_SECONDS)
    with suppress(UnknownCredentialError):
        fetcher = providers.get_provider("iam-role")._role_fetcher
        proxies = get_environ_proxies(fetcher._base_url)
        fetcher._session = CredentialsSession(timeout=fetcher._timeout, proxies=proxies)


def abandon_client(client: Any, *, abort: bool) -> None:
    """Close the connections of a client of aiobotocore's whose loop doesn't run; see ``ClientFactory``.

    They are taken from the client's HTTP sessions: closing a session with connections waits for a loop that doesn't
    run; closing one without them waits for nothing.
    """
    http_session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    # Ours, or the SDK's in a client that the user made.
    sessions = getattr(http_session, "sessions", None) or getattr(http_session, "_sessions", None) or {}
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
