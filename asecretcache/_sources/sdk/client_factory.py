"""Clients of the SDK: what of it is imported and loaded, and when."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Final

from asecretcache._exceptions import ConfigurationError
from asecretcache._sources.loop_clients import mended
from asecretcache._sources.retry_quota import ATTEMPTS, timeouts

_SERVICE: Final = "secretsmanager"


class SdkClients:
    """Makes clients, after it has imported the SDK and loaded its models off the loop.

    Unless the user gave a session, each client has one of its own. Credentials that are refreshed hold a lock of their
    loop, which a loop that dies never releases; and those found before a snapshot was taken aren't those of its clones.

    Raises:
        ConfigurationError: an argument isn't valid.
    """

    def __init__(self, session: Any, region_name: str | None, endpoint_url: str | None, config: Any) -> None:
        _check_session(session)
        _check_addresses(region_name, endpoint_url)
        if config is not None and "Config" not in (kind.__name__ for kind in type(config).__mro__):
            raise ConfigurationError("config= is a botocore.config.Config or an aiobotocore.config.AioConfig")
        self._given = session
        self._spares: list[Any] = []
        self._loader: Any = None
        self._where = {"region_name": region_name, "endpoint_url": endpoint_url}
        self._config = config

    def open(self) -> _Opening:
        """Return a context manager of a new client."""
        return _Opening(self.client)

    async def client(self) -> AbstractAsyncContextManager[Any]:
        """Return the SDK's own context manager of a client."""
        if self._loader is None:
            # asyncio's own, since anyio's thread support takes some milliseconds to import. Who is cancelled meanwhile
            # leaves the thread to its work, which the next one finds done.
            await asyncio.to_thread(self._prepare)
        arguments = {**self._where, "config": self._settings()}
        if self._given is not None:
            return _Mended(self._given.client(_SERVICE, **arguments))
        made: AbstractAsyncContextManager[Any] = self._session().create_client(_SERVICE, **arguments)
        return made

    def _session(self) -> Any:
        # Two threads may be here at a time, and must not get the same one.
        with suppress(IndexError):
            return self._spares.pop()
        session = _new_session()
        session.register_component("data_loader", self._loader)
        return session

    def _settings(self) -> Any:
        from aiobotocore.config import AioConfig  # 0.3 s of a cold start, so not before it is needed

        connect_timeout, read_timeout = timeouts()
        ours = AioConfig(
            getattr(self._config, "connector_args", None),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            # Stated because SDK versions differ in their default.
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            parameter_validation=True,
            tcp_keepalive=True,
            user_agent_extra="asecretcache",
        )
        return ours if self._config is None else ours.merge(self._config)

    def _prepare(self) -> None:
        """Do what would block the loop: imports and models. It runs in a thread, perhaps in two at a time."""
        session = _new_session() if self._given is None else self._given._session
        loader = session.get_component("data_loader")
        if self._given is None:
            _lighten(loader)
        with suppress(Exception):  # A part that a version of the SDK lacks is loaded when it is wanted.
            _load_models(loader)
        if self._given is None:
            self._spares.append(session)
        self._loader = loader


class _Opening:
    """A context manager that isn't a generator: see ``_client``, which allows one per client."""

    def __init__(self, make: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]]) -> None:
        self._make = make

    async def __aenter__(self) -> Any:
        self._inner = await self._make()
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


class _Mended:
    """The SDK's context manager of a client, which is mended before anybody has it."""

    def __init__(self, inner: AbstractAsyncContextManager[Any]) -> None:
        self._inner = inner

    async def __aenter__(self) -> Any:
        return mended(await self._inner.__aenter__())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


def _new_session() -> Any:
    """Return what is inside of a new aioboto3.Session: the rest of it, and boto3, would only be imported."""
    from aiobotocore.session import AioSession

    session = AioSession()
    create = session.create_client
    # Also those clients that it makes for itself, to get credentials with: of STS and of single sign-on.
    session.create_client = lambda *args, **kwargs: _Mended(create(*args, **kwargs))
    return session


class _AnyService(list[str]):
    """A list of services that says of each that it is in it: of one that isn't, no model is found right after."""

    def __contains__(self, _name: object) -> bool:
        return True


def _lighten(loader: Any) -> None:
    """Spare a session's loader what it does in vain: to search for all services, of which it is asked for one, and to
    put models in order, which they have anyway.
    """
    with suppress(AttributeError):  # A version that lacks it searches, or reads as before.
        loader.list_available_services = lambda type_name: _AnyService([_SERVICE])  # noqa: ARG005  # it is a keyword
        loader.file_loader.load_file = _read_model


def _read_model(path: str) -> Any:
    """Return a file of the SDK's as plain dicts: ordered ones take twice the time, 20 ms for the list of endpoints."""
    import gzip
    import json

    for suffix, open_file in ((".json", open), (".json.gz", gzip.open)):
        if os.path.isfile(path + suffix):
            with open_file(path + suffix, "rb") as file:
                return json.loads(file.read())
    return None


def _load_models(loader: Any) -> None:
    """Have a session's loader read and parse what the making of a client asks it for."""
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model(_SERVICE, kind)


def _check_session(session: Any) -> None:
    packages = {kind.__module__.partition(".")[0] for kind in type(session).__mro__}
    if session is not None and "aioboto3" not in packages:
        raise ConfigurationError("session= is an aioboto3.Session; for another kind of client give client_factory=")


def _check_addresses(region_name: Any, endpoint_url: Any) -> None:
    if region_name is not None and not (isinstance(region_name, str) and re.fullmatch(r"[a-z0-9-]+", region_name)):
        raise ConfigurationError("region_name= is the name of a region, such as 'eu-west-1'")
    if endpoint_url is None:
        return
    valid = False
    if isinstance(endpoint_url, str):
        from urllib.parse import urlsplit

        with suppress(ValueError):
            parts = urlsplit(endpoint_url)
            valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
    if not valid:
        raise ConfigurationError("endpoint_url= is a URL that begins with https:// or http://")
