"""The default source: AWS Secrets Manager over aioboto3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from asecretcache._core.timeouts import current_fetch_timeout
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import Secret, SecretRequest
from asecretcache._sources.error_mapping import nonsense, to_batch, to_error, to_secret
from asecretcache._sources.log_redaction import redacted
from asecretcache._sources.loop_clients import LoopClients
from asecretcache._sources.sdk.client_factory import SdkClients

T = TypeVar("T")


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
        opener = SdkClients(session, region_name, endpoint_url, config).open
        if client_factory is not None and not callable(client_factory):
            raise ConfigurationError("client_factory= is a callable that returns an async context manager of a client")
        others = (session, region_name, endpoint_url, config)
        if client_factory is not None and any(other is not None for other in others):
            raise ConfigurationError("client_factory= makes the whole client: give it nothing else, or leave it out")
        if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
            raise ConfigurationError("max_concurrency= is an int of at least 1")
        self._clients = LoopClients(client_factory or opener, max_concurrency)

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
        timer = current_fetch_timeout.get()
        if timer is not None:
            timer.pause()
        await here.slots.acquire()
        try:
            if timer is not None:
                timer.resume()
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
