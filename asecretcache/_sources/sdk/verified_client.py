"""Clients of the SDK whose connections are verified, or that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asecretcache._exceptions import ConfigurationError


def create_client(create: Callable[..., Any], *args: Any, config: Any = None, **arguments: Any) -> Any:
    """Return the SDK's context manager of a client whose connections are verified."""
    return _VerifyingClient(create(*args, config=_verifying_config(config), **arguments))


class _VerifyingClient:
    """The SDK's context manager of a client, which refuses a client that would send by another session than ours."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        from aiobotocore import __version__ as version

        from asecretcache._sources.sdk.http_session import VerifyingSession

        client = await self._context.__aenter__()
        session = getattr(getattr(client, "_endpoint", None), "http_session", None)
        if type(session) is VerifyingSession:
            return client
        await self._context.__aexit__(None, None, None)
        msg = f"aiobotocore {version} didn't take the HTTP session that verifies connections: leave out the session's"
        raise ConfigurationError(f"{msg} default client config, use a version of 2.25 to 3.10, or give client_factory=")

    async def __aexit__(self, *exc_info: object) -> None:
        await self._context.__aexit__(*exc_info)


def _verifying_config(config: Any) -> Any:
    """Return a copy of a client's config with which connections are verified.

    Raises:
        ConfigurationError: the config asks for another HTTP session.
    """
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession

    from asecretcache._sources.sdk.http_session import VerifyingSession

    wanted = getattr(config, "http_session_cls", AIOHTTPSession)
    if wanted not in (AIOHTTPSession, VerifyingSession):
        msg = f"config= can't have the http_session_cls {getattr(wanted, '__name__', '')}: leave it out"
        raise ConfigurationError(f"{msg}, since this library's verifies all connections; or give client_factory=")
    merged = AioConfig(getattr(config, "connector_args", None), http_session_cls=VerifyingSession)
    if config is not None:
        merged = merged.merge(config)
        # Versions before 3 don't keep it.
        merged.http_session_cls = VerifyingSession
    return merged
