"""A source over two others, of which the second stands in for the first."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from asecretcache._core.options import seconds
from asecretcache._exceptions import ConfigurationError, SecretCacheError, SecretThrottledError, SecretUnavailableError
from asecretcache._models import Secret, SecretRequest
from asecretcache._sources.client_source import ClientSource
from asecretcache._sources.protocols import (
    BatchSource,
    ConnectedSource,
    PreparableSource,
    SecretSource,
    WarmableSource,
    check_source,
)

T = TypeVar("T")
_logger: Final = logging.getLogger("asecretcache")

# The spacing of attempts at the first source while the second stands in, doubling.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 60.0
_ARN_PARTS: Final = 7
#: What the second source is asked after: the first can't be reached, fails or throttles. A refusal is an answer.
_FAILURES: Final = (SecretUnavailableError, SecretThrottledError)


class FallbackSource:
    """Asks a second source, such as the replica of the secrets in another region, while the first one fails.

    ``FallbackSource(SecretsManagerSource(), SecretsManagerSource(region_name="eu-central-1"))``

    The second is asked when the first can't be reached, doesn't answer in time, fails or throttles; never when it
    refuses: what isn't found or allowed there is an error. Meanwhile the first is tried again every 5 seconds, and less
    often the longer it lasts, at least once a minute. Each change over is logged, and each change back.

    A replica has the ARN of its primary but for the region. So a secret that is named by an ARN is asked for in the
    second source's region, and has the ARN that it was asked for by. Names are asked for as they are.

    Any task, loop or thread may use it. Batches are fetched if both sources have them.

    Args:
        first: the source that is asked as long as it answers.
        second: the source that stands in.
        timeout: seconds after which the second is asked, at the latest; it should be less than half of the cache's
            ``fetch_timeout``.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(self, first: SecretSource, second: SecretSource, *, timeout: float = 3.0) -> None:
        for source in (first, second):
            check_source(source)
        if first is second:
            raise ConfigurationError("first and second must be two sources, not one and the same")
        self._first, self._second = first, second
        self._timeout = seconds("timeout", timeout, remedy="give seconds above zero", zero=False)
        self._pause = _FIRST_PAUSE
        # When the first failed last, while the second stands in; minus infinity while the first answers.
        self._failed_at = self._retry_at = -math.inf
        if isinstance(first, BatchSource) and isinstance(second, BatchSource):
            self.fetch_batch = self._fetch_batch

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the requested version of a secret, from the first source or else from the second.

        Raises:
            SecretCacheError: the first source's error, unless the second was asked alone.
        """

        async def ask_second() -> Secret:
            replicas = SecretRequest(
                self._replicas(request.secret_id),
                request.version_stage,
                request.version_id,
                is_refresh=request.is_refresh,
            )
            secret: Secret = _named(await self._second.fetch(replicas), request.secret_id)
            return secret

        return await self._ask(lambda: self._first.fetch(request), ask_second)

    async def _fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions of up to 20 secrets; see BatchSource."""
        failed: list[str] = []

        async def ask_first() -> Mapping[str, Secret | SecretCacheError]:
            results: Mapping[str, Secret | SecretCacheError] = await self._first.fetch_batch(secret_ids)  # type: ignore[attr-defined]  # seen in __init__
            failed.extend(secret_id for secret_id, result in results.items() if isinstance(result, _FAILURES))
            return results

        async def ask_second(secret_ids: Sequence[str] = secret_ids) -> Mapping[str, Secret | SecretCacheError]:
            by_replica = {self._replicas(secret_id): secret_id for secret_id in secret_ids}
            results = await self._second.fetch_batch(list(by_replica))  # type: ignore[attr-defined]  # seen in __init__
            return {by_replica[asked]: _named(result, by_replica[asked]) for asked, result in results.items()}

        results = await self._ask(ask_first, ask_second)
        if failed:
            # Some of a batch alone, such as those whose ARNs are of another region, which is down.
            with suppress(SecretCacheError):
                others = await ask_second(failed)
                results = {**results, **{key: each for key, each in others.items() if isinstance(each, Secret)}}
        return results

    def prepare(self) -> None:
        """Prepare the first source, if it can be; see its own."""
        if isinstance(self._first, PreparableSource):
            self._first.prepare()

    async def warm(self) -> None:
        """Warm the first source, if it can be; see its own."""
        if isinstance(self._first, WarmableSource):
            await self._first.warm()

    async def close_connections(self) -> None:
        """Close this loop's connections of both, before the loop ends."""
        for source in (self._first, self._second):
            if isinstance(source, ConnectedSource):
                await source.close_connections()

    async def aclose(self) -> None:
        """Close both sources."""
        try:
            await self._first.aclose()
        finally:
            await self._second.aclose()

    async def _ask(self, ask_first: Callable[[], Awaitable[T]], ask_second: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        if began < self._retry_at:
            with suppress(*_FAILURES):
                return await ask_second()
        elif self._stands_in():
            # One fetch tries the first; those that come meanwhile ask the second.
            self._retry_at = began + self._timeout
        error: SecretCacheError
        try:
            async with asyncio.timeout(self._timeout) as timeout:
                result = await ask_first()
        except _FAILURES as exc:
            error = exc
        except TimeoutError:
            if not timeout.expired():
                raise
            error = SecretUnavailableError(f"the first source didn't answer within {self._timeout:g} s")
        else:
            self._note_success()
            return result
        self._note_failure(error, began)
        try:
            return await ask_second()
        except SecretCacheError as exc:
            _logger.warning("the second source fails too: %s", exc)
        try:
            raise error
        finally:
            del error  # Break the reference cycle: the error's traceback holds this frame.

    def _note_failure(self, error: SecretCacheError, began: float) -> None:
        if began <= self._failed_at:
            return  # Another fetch, which ran at the same time, has failed just before.
        if not self._stands_in():
            _logger.warning("the second source is asked from now on, since the first one fails: %s", error)
        self._failed_at = time.monotonic()
        self._retry_at = self._failed_at + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _note_success(self) -> None:
        if self._stands_in():
            _logger.warning("the first source answers again, and is asked from now on")
        self._failed_at = self._retry_at = -math.inf
        self._pause = _FIRST_PAUSE

    def _stands_in(self) -> bool:
        return self._failed_at > -math.inf

    def _replicas(self, secret_id: str) -> str:
        """Return the id by which the second source has the secret."""
        parts = secret_id.split(":")
        region = self._second.region_name if isinstance(self._second, ClientSource) else None
        if region is None or len(parts) != _ARN_PARTS:
            return secret_id
        return ":".join((*parts[:3], region, *parts[4:]))


def _named(result: Any, secret_id: str) -> Any:
    """Return a result with the ARN that it was asked for by; a replica's differs in the region."""
    if isinstance(result, SecretCacheError):
        return result._about(secret_id)
    parts = secret_id.split(":")
    if len(parts) != _ARN_PARTS:
        return result
    arn = result.arn.split(":")
    return Secret(
        name=result.name,
        arn=":".join((*arn[:3], parts[3], *arn[4:])),
        version_id=result.version_id,
        version_stages=result.version_stages,
        created_date=result._created,
        secret_string=result.secret_string,
        secret_binary=result.secret_binary,
    )
