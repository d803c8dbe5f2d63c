"""A source over any client: slots, time-outs, mapping of responses and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._exceptions import ConfigurationError, CredentialsError, SecretCacheError, SecretUnavailableError
from asecretcache._loops import is_loop_running, run_on_new_loop
from asecretcache._models import Secret, SecretRequest
from asecretcache._process_events import before_snapshot
from asecretcache._sources.error_mapping import explain, malformed_response, to_error
from asecretcache._sources.log_redaction import redacted
from asecretcache._sources.loop_clients import ClientFactory, Lease, LoopClient
from asecretcache._sources.regional_clients import RegionalClients, RegionalFactory
from asecretcache._sources.responses import to_batch, to_secret
from asecretcache._sources.threads import in_thread

T = TypeVar("T")
_ARN_PARTS: Final = 7
#: It takes some milliseconds, unless credentials come from somewhere that doesn't answer. INIT may take 10 s.
PREPARE_SECONDS: Final = 2.0
#: Uses a client of AWS; None stands for a malformed response.
_Use = Callable[[Any], Awaitable[T | None]]


class LoopSource:
    """Has one client per event loop, and calls with it; any task, loop or thread may use it.

    Args:
        factory: makes the clients.
        max_concurrency: the number of calls that may run at the same time on one loop.

    Raises:
        ConfigurationError: max_concurrency is not valid.
    """

    def __init__(self, factory: ClientFactory, *, max_concurrency: int = 10) -> None:
        if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
            raise ConfigurationError("max_concurrency= must be an int of at least 1")
        self._factory = factory
        self._clients = RegionalClients(factory, max_concurrency)
        self._had_response = False

    def prepare(self) -> None:
        """Do what is of use on any loop: imports, models, the TLS context, and a client without a connection.

        Raises:
            SecretCacheError: a subclass that says what is wrong; a later fetch tries again.
        """
        takes_long = self._factory.prepare()
        # A client has credentials, and a snapshot must hold none.
        if takes_long and not before_snapshot.is_ahead and not is_loop_running():
            run_on_new_loop(self._prepare_client)

    async def _prepare_client(self) -> None:
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await self._use_client(self._clients.own.for_running_loop(), _ready, None)
                await self.close_connections()
        except TimeoutError:
            msg = f"no client could be made in {PREPARE_SECONDS:g} s: where its credentials come from doesn't answer"
            raise SecretUnavailableError(msg) from None

    async def warm(self) -> None:
        """Make and connect this loop's client: import and load what it needs. No call is made.

        Raises:
            SecretCacheError: a subclass that says why the client could not be made; a later fetch tries again.
        """
        if before_snapshot.is_ahead:
            # A client has credentials, and a user's session would keep them, too.
            await in_thread(self._factory.prepare)
            return
        await self._use_client(self._clients.own.for_running_loop(), self._connect, None)

    async def _connect(self, client: Any) -> bool:
        # If there is none, the first fetch tells why.
        with suppress(Exception):
            await self._factory.connect(client)
        return True

    async def close_connections(self) -> None:
        """Close this loop's client, before the loop ends; the source can be used on."""
        await self._clients.close_this_loops()

    async def aclose(self) -> None:
        """Close the clients: this loop's at once, those of other running loops soon after. Idempotent."""
        await self._clients.aclose()

    async def _call(self, use: _Use[T], request: SecretRequest | None, region: str | None = None) -> T:
        """Wait for a slot, call AWS in a region and return the result."""
        loop_client = self._clients.of(region).for_running_loop()
        # A fetch's time doesn't count while it waits for a slot.
        timeout = current_fetch_timeout.get()
        if timeout is not None:
            timeout.pause()
        try:
            await loop_client.slots.acquire()
        except asyncio.CancelledError:
            _resume(timeout)  # The fetch may go on, with another source.
            raise
        try:
            _resume(timeout)
            result = await self._use_client(loop_client, use, request)
        finally:
            loop_client.slots.release()
        self._had_response = True
        return result

    async def _use_client(self, loop_client: LoopClient, use: _Use[T], request: SecretRequest | None) -> T:
        """Return what ``use`` makes of the client; None stands for a malformed response."""
        error: SecretCacheError
        cause: BaseException | None = None
        lease: Lease | None = None
        secret_id = None if request is None else request.secret_id
        try:
            with redacted():
                lease = await loop_client.acquire()
                try:
                    result = await use(lease.client)
                finally:
                    await loop_client.release(lease)
        except Exception as exc:  # noqa: BLE001  # the SDK's parsers raise exceptions of any type
            if _is_of_closing(exc):
                raise GeneratorExit from None
            error, is_chainable, is_renewable = to_error(exc, secret_id)
            if is_renewable and lease is not None:
                loop_client.outdate(lease)
            if is_renewable and self._had_response:
                # The credentials were good before, so they are likely to be renewed.
                error.is_transient = True
            if request is not None:
                explain(error, request, _region(None if lease is None else lease.client))
            cause = exc if is_chainable else None
        else:
            if result is not None:
                return result
            error = malformed_response(secret_id)
        # Raised outside of the except block, so that __context__, which may hold the response, is empty.
        try:
            raise error from cause
        finally:
            del error, cause  # Break the reference cycle: the error's traceback holds this frame.


def _resume(timeout: FetchTimeout | None) -> None:
    if timeout is not None:
        timeout.resume()


def _merged(
    groups: Sequence[Sequence[str]], outcomes: Sequence[Mapping[str, Secret | SecretCacheError] | BaseException]
) -> dict[str, Secret | SecretCacheError]:
    """Return the results of the batches of several regions; of one that failed as a whole, what its error means.

    Raises:
        SecretCacheError: all of them failed: the first one's error.
        BaseException: what isn't an error of this package.
    """
    results: dict[str, Secret | SecretCacheError] = {}
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failures:
        if len(failures) == len(outcomes) or not isinstance(failure, SecretCacheError):
            raise failure
    for secret_ids, outcome in zip(groups, outcomes, strict=True):
        if isinstance(outcome, Mapping):
            results |= outcome
        elif isinstance(outcome, SecretUnavailableError | ConfigurationError | CredentialsError):
            results |= {secret_id: outcome._about(secret_id) for secret_id in secret_ids}
        # Those of a batch that was refused are left out, so that they are fetched one by one.
    return results


class ClientSource(LoopSource):
    """Fetches with clients that have the methods of the SDK's, singly and in batches."""

    def __init__(self, factory: RegionalFactory, *, max_concurrency: int = 10) -> None:
        super().__init__(factory, max_concurrency=max_concurrency)
        self._regions = factory

    @property
    def region_name(self) -> str | None:
        """The region that is called for names; None if it isn't known."""
        return self._regions.own_region()

    def _region_of(self, secret_id: str) -> str | None:
        """Return the region that has to be called for a secret; None for the source's own."""
        parts = secret_id.split(":")
        if len(parts) != _ARN_PARTS or not parts[3] or self._regions.serves(parts[3]):
            return None
        return parts[3]

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the requested version of a secret, with one GetSecretValue.

        Raises:
            SecretCacheError: a subclass that says why the fetch failed.
        """
        return await self._call(lambda client: _get(client, request), request, self._region_of(request.secret_id))

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions of up to 20 secrets, or their errors, with one BatchGetSecretValue.

        A response of several pages takes one call for each page. The credentials need
        secretsmanager:GetSecretValue on each secret, and BatchGetSecretValue on ``*``, the only resource that it takes.

        Raises:
            SecretCacheError: a subclass that says why the batch as a whole failed.
        """
        by_region: dict[str | None, list[str]] = {}
        for secret_id in secret_ids:
            by_region.setdefault(self._region_of(secret_id), []).append(secret_id)
        if len(by_region) == 1:
            return await self._fetch_batch_in(*by_region.popitem())
        outcomes = await asyncio.gather(
            *(self._fetch_batch_in(region, ids) for region, ids in by_region.items()), return_exceptions=True
        )
        return _merged(list(by_region.values()), outcomes)

    async def _fetch_batch_in(
        self, region: str | None, secret_ids: Sequence[str]
    ) -> Mapping[str, Secret | SecretCacheError]:
        return await self._call(lambda client: _get_batch(client, secret_ids), None, region)


def _is_of_closing(exc: BaseException) -> bool:
    """Whether an exception was raised while the coroutine was closed, from another context or by the collector."""
    link: BaseException | None = exc
    while link is not None and not isinstance(link, GeneratorExit):
        link = link.__context__
    return link is not None


async def _ready(_client: Any) -> bool:
    return True


class _Pages:
    """The pages of a batch so far. A class of its own, so that no traceback with locals shows their values."""

    __slots__ = ("responses",)

    def __init__(self) -> None:
        self.responses: list[Any] = []

    def next_token(self) -> str | None:
        last = self.responses[-1]
        token = last.get("NextToken") if isinstance(last, Mapping) else None
        return token if isinstance(token, str) else None


async def _get(client: Any, request: SecretRequest) -> Secret | None:
    version = {"VersionId": request.version_id, "VersionStage": request.version_stage}
    arguments = {name: value for name, value in version.items() if value is not None}
    return to_secret(await client.get_secret_value(SecretId=request.secret_id, **arguments), request)


async def _get_batch(client: Any, secret_ids: Sequence[str]) -> dict[str, Secret | SecretCacheError] | None:
    """Call for pages until a response names no next one."""
    arguments = {"SecretIdList": list(secret_ids)}
    pages = _Pages()
    pages.responses.append(await client.batch_get_secret_value(**arguments))
    tokens: set[str] = set()
    while (token := pages.next_token()) and token not in tokens:
        # A token that comes a second time would repeat the same pages until the fetch's time is over.
        tokens.add(token)
        pages.responses.append(await client.batch_get_secret_value(**arguments, NextToken=token))
    results = to_batch(pages.responses, secret_ids)
    for secret_id, result in (results or {}).items():
        if isinstance(result, SecretCacheError):
            explain(result, SecretRequest(secret_id), _region(client))
    return results


def _region(client: Any) -> str | None:
    """Return the region that a client calls, or None. A client of the user may not tell."""
    region: str | None = getattr(getattr(client, "meta", None), "region_name", None)
    return region
