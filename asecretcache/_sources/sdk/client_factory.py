"""Makes clients of the SDK, and imports and loads what they need in a thread."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from asecretcache._exceptions import ConfigurationError
from asecretcache._sources.retry_quota import ATTEMPTS, attempt_timeouts
from asecretcache._sources.sdk.credentials import KeptCredentials, adopt
from asecretcache._sources.sdk.patches import SERVICE, patch_credentials, patch_loader
from asecretcache._sources.sdk.verified_client import create_client
from asecretcache._sources.tls_context import UNVERIFIED
from asecretcache._version import __version__


class SdkClientFactory:
    """Makes clients of the SDK.

    Unless the user gives a session, each client has a session of its own: credentials that are being refreshed hold a
    lock of their loop, which a loop that dies never releases. Temporary credentials are kept for the next session.

    Args:
        session: an ``aioboto3.Session``, an ``aiobotocore.session.AioSession`` or None. Its clients for others stay as
            they are.
        region_name: the region or None.
        endpoint_url: the endpoint or None.
        config: a ``botocore.config.Config``, an ``AioConfig`` or None.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(self, session: Any, region_name: str | None, endpoint_url: str | None, config: Any) -> None:
        _check_arguments(session, region_name, endpoint_url, config)
        # An aioboto3.Session has the other inside.
        self._user_session = getattr(session, "_session", session)
        self._config = config
        self._location = {"region_name": region_name, "endpoint_url": endpoint_url}
        self._loader: Any = None
        self._spare_sessions: list[Any] = []
        self._credentials = KeptCredentials()

    def open(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager of a new client."""
        return _DeferredContext(self._create)

    def prepare(self) -> None:
        """Import the SDK and load its models, which takes 0.3 s. It may run in several threads at the same time.

        Raises:
            ConfigurationError: this version of the SDK can't be used.
        """
        _check_version()
        if self._user_session is None:
            session = self._new_session()
            patch_loader(session.get_component("data_loader"))
            self._spare_sessions.append(session)
        else:
            session = self._user_session
        loader = session.get_component("data_loader")
        with suppress(Exception):  # A model that a version of the SDK lacks is loaded when it is needed.
            for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
                loader.load_data(name)
            for kind in ("service-2", "endpoint-rule-set-1"):
                loader.load_service_model(SERVICE, kind)
        self._loader = loader

    async def _create(self) -> Any:
        """Return the SDK's own context manager of a client."""
        if self._loader is None:
            # Not by anyio, whose thread support takes some milliseconds to import. If this is cancelled, the thread
            # goes on, and a later call finds its work done.
            await asyncio.to_thread(self.prepare)
        session = self._take_session() if self._user_session is None else self._user_session
        _check_bundle(session)
        arguments = {**self._location, "config": self._merged_config()}
        if self._user_session is None:
            return session.create_client(SERVICE, **arguments)
        await adopt(session)
        return create_client(session.create_client, SERVICE, **arguments)

    def _take_session(self) -> Any:
        # Not "if there is one": another thread may take it in between.
        with suppress(IndexError):
            return self._spare_sessions.pop()
        session = self._new_session()
        session.register_component("data_loader", self._loader)
        return session

    def _new_session(self) -> Any:
        session = new_session()
        self._credentials.attach(session)
        return session

    def _merged_config(self) -> Any:
        from aiobotocore.config import AioConfig  # Imported in a thread by now.

        connect_timeout, read_timeout = attempt_timeouts()
        config = AioConfig(
            getattr(self._config, "connector_args", None),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            # Set explicitly, because the default differs between versions of the SDK.
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            tcp_keepalive=True,
            user_agent_extra=f"asecretcache/{__version__}",
        )
        if self._config is None:
            return config
        merged = config.merge(self._config)
        # Versions before 3 don't keep it; it is looked at where the client is made.
        merged.http_session_cls = getattr(self._config, "http_session_cls", config.http_session_cls)
        return merged


class _DeferredContext:
    """An async context manager that a coroutine makes.

    It isn't a generator, because LoopClient wraps it into one: see ``_lifetime_of`` there.
    """

    def __init__(self, create: Callable[[], Awaitable[Any]]) -> None:
        self._create = create

    async def __aenter__(self) -> Any:
        self._context = await self._create()
        return await self._context.__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._context.__aexit__(*exc_info)


def new_session() -> Any:
    """Return the session that a new aioboto3.Session has inside: importing aioboto3 and boto3 would only cost time.

    All clients that it makes verify their connections, also those of STS and single sign-on, which get credentials.
    """
    from aiobotocore.session import AioSession

    session = AioSession()
    session.create_client = functools.partial(create_client, session.create_client)
    patch_credentials(session)
    return session


def _check_version() -> None:
    """Raise ConfigurationError for a version of the SDK that has a known fault."""
    from aiobotocore import __version__ as version

    if version.startswith("3.8."):
        msg = (
            f"aiobotocore {version} can mix up the sessions of concurrent calls: install a version before or after 3.8"
        )
        raise ConfigurationError(msg)


def _check_bundle(session: Any) -> None:
    """Raise ConfigurationError for an empty CA bundle. Older versions of the SDK would verify nothing."""
    bundle = session.get_config_variable("ca_bundle")
    if bundle == "" or (bundle is None and os.environ.get("REQUESTS_CA_BUNDLE") == ""):
        raise ConfigurationError(UNVERIFIED)


def _check_arguments(session: Any, region_name: Any, endpoint_url: Any, config: Any) -> None:
    """Raise ConfigurationError for an argument that can't be right; the SDK isn't imported for that."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(session).__mro__}
    if session is not None and kinds.isdisjoint({("aioboto3", "Session"), ("aiobotocore", "AioSession")}):
        msg = "session= must be an aioboto3.Session or an aiobotocore AioSession; for other clients there is"
        raise ConfigurationError(f"{msg} client_factory=")
    if region_name is not None and not (isinstance(region_name, str) and re.fullmatch(r"[a-z0-9-]+", region_name)):
        raise ConfigurationError("region_name= must be the name of a region, such as 'eu-west-1'")
    if endpoint_url is not None and not _is_http_url(endpoint_url):
        raise ConfigurationError("endpoint_url= must be a URL that begins with https:// or http://")
    if config is not None and "Config" not in (kind.__name__ for kind in type(config).__mro__):
        raise ConfigurationError("config= must be a botocore.config.Config or an aiobotocore.config.AioConfig")


def _is_http_url(url: Any) -> bool:
    from urllib.parse import urlsplit

    with suppress(ValueError, AttributeError):  # It raises AttributeError for other types than str.
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    return False
