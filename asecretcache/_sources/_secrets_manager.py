"""The default source: AWS Secrets Manager over aioboto3."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Final, TypeVar

from asecretcache._errors import ConfigurationError, SecretCacheError
from asecretcache._secret import Secret, SecretRequest
from asecretcache._sources._client import LoopClients, mended
from asecretcache._sources._mapping import nonsense, to_batch, to_error, to_secret
from asecretcache._sources._redaction import redacted
from asecretcache._sources._retries import ATTEMPTS, timeouts
from asecretcache._timer import fetch_timer

T = TypeVar("T")

_SERVICE: Final = "secretsmanager"


class SecretsManagerSource:
    """Fetches from AWS Secrets Manager; any task, loop or thread may use it. It keeps one client per event loop.

    Region, credentials, profile, endpoint, proxies and CA bundle are found as boto3 finds them. Nothing of the SDK is
    imported before the first fetch or ``warm()``.

    Args:
        session: an ``aioboto3.Session``; None: what such a one has inside, without the rest.
        region_name: the region; None: the session's.
        endpoint_url: where to send the calls; None: AWS_ENDPOINT_URL_SECRETS_MANAGER and the like, else AWS's.
        config: a ``botocore.config.Config`` or ``AioConfig``; what it sets overrides what this class sets.
        client_factory: makes an async context manager of a client, instead of all of the above. It is left when the
            client is; if it is made by ``@asynccontextmanager``, its clean-up belongs into ``finally`` or
            ``async with``, because a loop that ends ends it as it does any asynchronous generator.
        max_concurrency: how many calls may be under way at a time on one loop.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(
        self,
        session: Any = None,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        config: Any = None,
        client_factory: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        max_concurrency: int = 10,
    ) -> None:
        _check_session(session)
        _check_addresses(region_name, endpoint_url)
        if config is not None and "Config" not in (kind.__name__ for kind in type(config).__mro__):
            raise ConfigurationError("config= is a botocore.config.Config or an aiobotocore.config.AioConfig")
        if client_factory is not None and not callable(client_factory):
            raise ConfigurationError("client_factory= is a callable that returns an async context manager of a client")
        others = (session, region_name, endpoint_url, config)
        if client_factory is not None and any(other is not None for other in others):
            raise ConfigurationError("client_factory= makes the whole client: give it nothing else, or leave it out")
        if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
            raise ConfigurationError("max_concurrency= is an int of at least 1")
        opener = client_factory or _Opener(session, region_name, endpoint_url, config).open
        self._clients = LoopClients(opener, max_concurrency)

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the version that is asked for, with one GetSecretValue.

        Raises:
            SecretCacheError: a subclass that says why not.
        """
        arguments = {"SecretId": request.secret_id}
        if request.version_id is not None:
            arguments["VersionId"] = request.version_id
        if request.version_stage is not None:
            arguments["VersionStage"] = request.version_stage
        (secret,) = await self._call(
            lambda client: _pages(client.get_secret_value, arguments),
            lambda pages: [secret] if (secret := to_secret(pages[0], request)) else None,
            request.secret_id,
        )
        return secret

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions of up to 20 secrets, or their errors, with one BatchGetSecretValue.

        What comes in several pages takes a call for each. Needs secretsmanager:BatchGetSecretValue besides
        GetSecretValue on each secret.

        Raises:
            SecretCacheError: a subclass that says why the batch as a whole could not be had.
        """
        return await self._call(
            lambda client: _pages(client.batch_get_secret_value, {"SecretIdList": list(secret_ids)}),
            lambda pages: to_batch(pages, secret_ids),
            None,
        )

    async def _call(
        self,
        send: Callable[[Any], Awaitable[list[Any]]],
        read: Callable[[list[Any]], T | None],
        secret_id: str | None,
    ) -> T:
        """Return what ``read`` makes of the answer; None from it means that the answer makes no sense."""
        here = self._clients.here()
        cause: BaseException | None = None
        error: SecretCacheError
        # What a fetch waits for the others doesn't count as its own time.
        timer = fetch_timer.get()
        if timer is not None:
            timer.pause()
        await here.slots.acquire()
        try:
            if timer is not None:
                timer.restart()
            with redacted():
                client = await here.acquire()
                try:
                    outcome = read(await send(client))
                finally:
                    here.release()
        except Exception as exc:  # noqa: BLE001  # the SDK's parsers let anything out
            error, tellable = to_error(exc, secret_id)
            cause = exc if tellable else None
        else:
            if outcome is not None:
                return outcome
            error = nonsense(secret_id)
        finally:
            here.slots.release()
        # Out here no exception is being handled, so that __context__ is empty.
        try:
            raise error from cause
        finally:
            del error, cause  # The error's traceback holds this frame.

    async def warm(self) -> None:
        """Import the SDK, load its models and make this loop's client; no call is made.

        Raises:
            SecretCacheError: a subclass that says why not; a later fetch tries again.
        """
        cause: BaseException | None = None
        here = self._clients.here()
        try:
            with redacted():
                await here.acquire()
                here.release()
        except Exception as exc:  # noqa: BLE001  # as in fetch
            error, tellable = to_error(exc, None)
            cause = exc if tellable else None
        else:
            return
        try:
            raise error from cause
        finally:
            del error, cause

    async def aclose(self) -> None:
        """Close the clients: this loop's now, those of other live loops soon after. Idempotent."""
        await self._clients.aclose()


class _Pages(list[Any]):
    """The answers so far, whose values no traceback's locals show while the next one is awaited."""

    def __repr__(self) -> str:
        return f"<{len(self)} answers>"


async def _pages(operation: Callable[..., Awaitable[Any]], arguments: Mapping[str, Any]) -> _Pages:
    """Call until no answer names a next one."""
    pages = _Pages([await operation(**arguments)])
    tokens: set[str] = set()
    while isinstance(pages[-1], Mapping) and (token := pages[-1].get("NextToken")) and token not in tokens:
        # One that comes back would lead round in a circle until the time is over.
        tokens.add(token)
        pages.append(await operation(**arguments, NextToken=token))
    return pages


def sdk_clients(region_name: str | None, endpoint_url: str | None) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Return a factory of the clients that a SecretsManagerSource with these arguments has.

    Raises:
        ConfigurationError: one of them isn't valid.
    """
    _check_addresses(region_name, endpoint_url)
    return _Opener(None, region_name, endpoint_url, None).open


class _Opener:
    """Makes clients, after it has imported the SDK and loaded its models off the loop.

    Unless the user gave a session, each client has one of its own. Credentials that are refreshed hold a lock of their
    loop, which a loop that dies never releases; and those found before a snapshot was taken aren't those of its clones.
    """

    def __init__(self, session: Any, region_name: str | None, endpoint_url: str | None, config: Any) -> None:
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
