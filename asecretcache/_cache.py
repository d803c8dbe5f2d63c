"""SecretCache: the public methods and the hit path."""

from __future__ import annotations

from asyncio import CancelledError, Future
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, Self, TypeVar, overload
from weakref import WeakValueDictionary

from asecretcache._core.entries import Record
from asecretcache._core.fetch import Fetch, FetchReason
from asecretcache._core.loader import Loader
from asecretcache._core.options import CacheOptions
from asecretcache._core.rotation import RefreshOn, RefreshPolicy, Rotations, taking_secret
from asecretcache._core.selection import select, select_texts, text_of
from asecretcache._core.stats import CacheStats
from asecretcache._events import EventReport, apply_event
from asecretcache._exceptions import ConfigurationError, SecretCacheError, SecretErrorGroup
from asecretcache._init_phase import is_init
from asecretcache._inject import Injected, Injector
from asecretcache._models import Secret
from asecretcache._observing import CacheObserver, Observers
from asecretcache._process_events import after_fork, before_snapshot
from asecretcache._references import check_parser, parse_reference, parse_several, parse_text
from asecretcache._sources.preparation import prepare_in_init
from asecretcache._sources.protocols import ConnectedSource, SecretSource, WarmableSource, as_batch_source, check_source
from asecretcache._sources.sdk.source import SecretsManagerSource

T = TypeVar("T")


class SecretCache:
    """Secrets in memory, each fetched once: concurrent first reads share one call, later reads look into a dict.

    Any task, loop and thread may share a cache. Values are shared by all of them. A running fetch and the client it
    uses belong to one event loop, so threads with a loop each may fetch a secret once each at first.

    Secrets are named by references, ``name-or-arn:json-key:version-stage:version-id``, trailing parts optional, as in
    an ECS task definition. A name and the ARN of one secret are stored apart.

    Args:
        source: where secrets come from; by default Secrets Manager, with boto3's own configuration. The cache closes
            it only if it made it.
        ttl: seconds for which a value is fresh; None: for as long as the process lives.
        ttl_by_secret: other ttls, by name or ARN.
        jitter: the fraction of the ttl, from 0 to 1, of which a random part is taken off each expiry, so that
            environments that started together don't fetch together.
        stale_while_revalidate: seconds past its expiry for which a value is served at once, while it is refreshed in
            the background (RFC 5861).
        stale_if_error: seconds past its expiry for which a value is served when Secrets Manager can't be reached,
            fails or throttles (RFC 5861); never when access is denied or the secret is gone.
        fetch_timeout: seconds that a fetch may take, counted from when it holds one of the source's slots.
        max_size: how many values are kept at most; the oldest is evicted first, unless it was read since.
        batch: whether several secrets are fetched with one call per 20 of them. This needs another permission,
            secretsmanager:BatchGetSecretValue, and that call's quota is 100 a second in a region.
        clock: returns the wall-clock time in seconds; for tests.

    Raises:
        ConfigurationError: an argument is out of range, or the source has no batches.
    """

    def __init__(
        self,
        source: SecretSource | None = None,
        *,
        ttl: float | None = 3600.0,
        ttl_by_secret: Mapping[str, float | None] | None = None,
        jitter: float = 0.1,
        stale_while_revalidate: float = 0.0,
        stale_if_error: float = 3600.0,
        fetch_timeout: float = 10.0,
        max_size: int = 1024,
        batch: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        options = CacheOptions.checked(
            ttl=ttl,
            ttl_by_secret=ttl_by_secret,
            jitter=jitter,
            stale_while_revalidate=stale_while_revalidate,
            stale_if_error=stale_if_error,
            fetch_timeout=fetch_timeout,
            max_size=max_size,
            batch=batch,
            clock=clock,
        )
        self._source: SecretSource = SecretsManagerSource() if source is None else source
        self._owns_source = source is None
        check_source(self._source)
        self._now = options.clock
        self._loader = Loader(options, self._source.fetch, as_batch_source(self._source).fetch_batch if batch else None)
        self._store = self._loader.store
        self._records = self._store.records
        self._rotations = Rotations(self._loader)
        self._observers = Observers(self._loader)
        _caches[id(self)] = self
        after_fork.add(self._loader.reset_after_fork)
        before_snapshot.add(self.clear)
        if is_init():
            prepare_in_init(self._source)

    async def get_secret(self, reference: str, version_stage: str | None = None, version_id: str | None = None) -> str:
        """Return the text of a secret, or of one key of its JSON, from memory while it is fresh.

        Args:
            reference: such as ``"prod/db"`` or ``"prod/db:password"``. A value of the JSON that isn't a string is
                returned as JSON.
            version_stage: a staging label instead of AWSCURRENT, unless the reference has one.
            version_id: a version's id, unless the reference has one. What only an id names never expires.

        Raises:
            SecretCacheError: one of its subclasses; SecretFormatError if the secret is binary, or has no such key.
        """
        # The hit path: one look-up and one clock. A running fetch that is found is never fresh, and a binary secret's
        # record has no text. The slow path begins after the except block, or its errors would have this one as context.
        # Arguments that are keyword-only would make CPython's call slower, by a seventh of a bare coroutine.
        try:
            found = self._records[
                reference if version_stage is None and version_id is None else (reference, version_stage, version_id)
            ]
            now = self._now()
            if now < found.expires_at and now >= found.started_at:
                text: str = found.text
                found.hits += 1
                return text
        except (KeyError, TypeError, AttributeError):
            found = None
        waiter = self._loader.single_flight.try_join(found, now) if type(found) is Fetch else None
        if waiter is None:
            parsed = parse_reference(reference, version_stage, version_id)
            return text_of(self._loader, parsed, await self._loader.load(parsed.request, name=parsed.name))
        # As _wait has it. Many readers may come at once, and one coroutine more takes them half as long again.
        try:
            await waiter
        except CancelledError:
            found.remove_waiter(waiter)
            raise
        secret = found.secret or await self._loader.load(found.request, joined=found)
        # All but the first of them find its text there.
        record = self._records.get(reference)
        if type(record) is Record and record.secret is secret and secret.secret_string is not None:
            return record.text  # type: ignore[return-value]  # what is kept has a text
        return text_of(self._loader, parse_reference(reference, version_stage, version_id), secret)

    async def get_secrets(self, *references: str) -> dict[str, str]:
        """Return the texts of several secrets, or of keys of their JSON, by the references; fetched concurrently.

        Args:
            references: as get_secret takes them. Each secret is fetched once.

        Raises:
            SecretErrorGroup: with an error for each reference that failed; what was fetched is stored all the same.
        """
        texts = self._store.fresh_texts(references, self._now())
        if texts is not None:
            return texts
        parsed = parse_several("get_secrets", references)
        return select_texts(self._loader, parsed, await self._loader.load_all([each.request for each in parsed]))

    async def get_secret_binary(
        self, reference: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> bytes:
        """Return the bytes of a binary secret; otherwise as ``get``."""
        secret = await self.get(reference, version_stage=version_stage, version_id=version_id)
        return secret._bytes(parse_reference(reference).secret_id)

    async def get_json(
        self, reference: str, key: str | None = None, *, version_stage: str | None = None, version_id: str | None = None
    ) -> Any:
        """Return the parsed JSON of a secret, or the value of one key of its object.

        Objects and arrays are parsed for each caller, so that no caller sees another caller's changes.

        Args:
            reference: as get_secret takes it.
            key: the key, unless the reference has one. Only here may it have a colon.
            version_stage: a staging label instead of AWSCURRENT, unless the reference has one.
            version_id: a version's id, unless the reference has one.

        Raises:
            SecretCacheError: one of its subclasses; SecretFormatError if it isn't JSON or has no such key.
        """
        secret: Secret | None = None
        try:
            found = self._records[reference if key is None else (reference, key)]
            if version_stage is None and version_id is None and found.started_at <= self._now() < found.expires_at:
                if found.value is not None:
                    found.hits += 1
                    return found.value
                if found.is_whole:
                    found.hits += 1
                    secret = found.secret
        except (KeyError, TypeError, AttributeError):
            pass
        if secret is not None:
            return secret._json(reference, None)
        if key is not None and not isinstance(key, str):
            raise ConfigurationError(f"the key of get_json must be a str or None, not {type(key).__name__}")
        parsed = parse_reference(reference, version_stage, version_id, key)
        secret = await self._loader.load(parsed.request, name=parsed.name)
        if parsed.json_key is None:
            return secret._json(parsed.secret_id, None)
        return select(self._loader, parsed, secret).value

    async def get_as(
        self,
        reference: str,
        parse: Callable[[str], T],
        *,
        version_stage: str | None = None,
        version_id: str | None = None,
    ) -> T:
        """Return what ``parse`` makes of the text of a secret, such as ``Settings.model_validate_json`` of pydantic.

        The text is parsed for each caller, so that no caller sees another caller's changes.

        Args:
            reference: as get_secret takes it.
            parse: a function of the text. Whatever it raises becomes a SecretFormatError that tells only its type.
            version_stage: a staging label instead of AWSCURRENT, unless the reference has one.
            version_id: a version's id, unless the reference has one.

        Raises:
            SecretCacheError: one of its subclasses; SecretFormatError if ``parse`` raised or the secret is binary.
        """
        check_parser(parse)
        text = self.get_secret(reference, version_stage=version_stage, version_id=version_id)
        return parse_text(await text, reference, parse)

    async def get(self, reference: str, *, version_stage: str | None = None, version_id: str | None = None) -> Secret:
        """Return the record of a secret: value, version, stages. A JSON key is refused; otherwise as get_secret."""
        # As get_secret has it.
        try:
            found = self._records[
                reference if version_stage is None and version_id is None else (reference, version_stage, version_id)
            ]
            now = self._now()
            if now < found.expires_at and now >= found.started_at and found.is_whole:
                found.hits += 1
                secret: Secret = found.secret
                return secret
        except (KeyError, TypeError, AttributeError):
            found = None
        if type(found) is Fetch and ":" not in reference:
            waiter = self._loader.single_flight.try_join(found, now)
            if waiter is not None:
                return await self._wait(found, waiter)
        return await self._loader.load(parse_reference(reference, version_stage, version_id).whole_request("get"))

    async def _wait(self, fetch: Fetch, waiter: Future[None]) -> Secret:
        """Return the secret of a running fetch that was joined."""
        try:
            await waiter
        except CancelledError:
            fetch.remove_waiter(waiter)
            raise
        return fetch.secret or await self._loader.load(fetch.request, joined=fetch)

    @overload
    async def get_many(self, *references: str, return_exceptions: Literal[False] = False) -> dict[str, Secret]: ...
    @overload
    async def get_many(self, *references: str, return_exceptions: bool) -> dict[str, Secret | SecretCacheError]: ...
    async def get_many(self, *references: str, return_exceptions: bool = False) -> dict[str, Any]:
        """Return the records of several secrets by the references, fetched concurrently.

        Args:
            references: as ``get`` takes them. Each secret is fetched once.
            return_exceptions: whether an error stands in the result in its secret's place, instead of being raised.

        Raises:
            SecretErrorGroup: with an error for each secret that failed; what was fetched is stored all the same.
        """
        requests = {each.text: each.whole_request("get_many") for each in parse_several("get_many", references)}
        results = await self._loader.load_all(requests.values())
        if not return_exceptions:
            SecretErrorGroup._raise_from(results.values())
        return {text: results[request] for text, request in requests.items()}

    async def refresh(
        self, reference: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> Secret:
        """Fetch a secret now, whatever is stored, and return it; concurrent refreshes share one call.

        Args:
            reference: as ``get`` takes it.
            version_stage: a staging label instead of AWSCURRENT, unless the reference has one.
            version_id: a version's id, unless the reference has one.

        Raises:
            SecretCacheError: one of its subclasses; what is stored stays, and is served while it is fresh.
        """
        request = parse_reference(reference, version_stage, version_id).whole_request("refresh")
        return await self._loader.load(request, FetchReason.REFRESH)

    async def prefetch(self, *references: str) -> None:
        """Fetch the secrets that aren't fresh in memory; without references prepare the source (imports, client).

        Args:
            references: as get_secret takes them; JSON keys are ignored.

        Raises:
            SecretErrorGroup: with an error for each secret that failed.
            SecretCacheError: without references: why the source could not be prepared.
        """
        parsed = parse_several("prefetch", references)
        self._loader.check_open()
        if parsed:
            # The first fetch prepares the source, within its own time.
            requests = [each.request for each in parsed]
            SecretErrorGroup._raise_from((await self._loader.load_all(requests, FetchReason.PREFETCH)).values())
        elif isinstance(self._source, WarmableSource):
            await self._loader.warm(self._source.warm)

    async def call_with_secret(
        self,
        reference: str,
        function: Callable[[Secret], Awaitable[T]],
        *,
        refresh_on: RefreshOn,
        refresh_timeout: float = 5.0,
    ) -> T:
        """Return what ``await function(secret)`` returns, with a newer version if the stored one is refused.

        When the function raises ``refresh_on``, the secret is refreshed: with one call for all concurrent callers, and
        with none if a newer version is in memory already. If the version has changed, the function is called once
        more. While it hasn't, the secret is refreshed again with growing pauses: a database may be ahead of the secret.

        Args:
            reference: as ``get`` takes it.
            function: takes the Secret, and is ``async def`` or returns an awaitable.
            refresh_on: what the function raises when the secret is no longer valid: an exception, a tuple of them,
                or a function of the exception that returns a bool.
            refresh_timeout: seconds to wait for a new version, at most until the invocation's deadline. It doesn't
                bound the calls of the function.

        Raises:
            SecretCacheError: the secret could not be loaded in the first place.
            Exception: what the function raised, if no other version came or that one was refused too.
        """
        request = parse_reference(reference).whole_request("call_with_secret")
        policy = RefreshPolicy.checked(refresh_on, refresh_timeout)
        call = taking_secret(function, request)
        secrets = {request: await self._loader.load(request)}
        return await self._rotations.call(secrets, call, policy)

    @overload
    def inject(self, /, **references: str) -> Injected: ...
    @overload
    def inject(self, /, *, refresh_on: RefreshOn, refresh_timeout: float = 5.0, **references: str) -> Injected: ...
    def inject(
        self, /, *misplaced: object, refresh_on: Any = None, refresh_timeout: Any = None, **references: str
    ) -> Any:
        """Return a decorator that passes secrets to an ``async def`` function as keyword arguments, at each call.

        ``@cache.inject(password="prod/db:password")``. They are fetched concurrently unless they are fresh; those of
        one secret are of one version. An argument that the caller passes isn't fetched. The function's signature, seen
        from outside, lacks them. Type checkers see all its parameters: there, an injected one needs a default.

        Args:
            refresh_on: as call_with_secret takes it. When the function raises it, all the secrets are refreshed, and
                the function is called once more, with the same arguments of the caller, if one has changed.
            refresh_timeout: as call_with_secret takes it, 5 seconds by default.
            references: by the names of the function's arguments, as get_secret takes them.

        Raises:
            ConfigurationError: when it is applied: a reference is wrong, or the function isn't ``async def`` or doesn't
                take an argument.
            SecretErrorGroup: when the function is called: with an error for each secret that failed.
        """
        if misplaced:
            raise ConfigurationError("inject takes references by the names of arguments: inject(password='prod/db')")
        policy = RefreshPolicy.of_options(refresh_on, refresh_timeout)
        return Injector(self._loader, self._rotations, references, policy)

    def on_change(self, reference: str, callback: Callable[[Secret], object]) -> Callable[[], None]:
        """Call a function with the Secret whenever a version of it replaces another, and return what ends that.

        Once per version, whatever has brought it: a ttl, a refresh, a rotation, an event. The first value isn't a
        change. A plain function is called on the event loop that has fetched, and must return at once; what an async
        one returns is awaited in a task of that loop. What either raises is logged, by its type alone.

        Args:
            reference: a name or an ARN, whichever the secret is read by; and a staging label if it isn't AWSCURRENT.
            callback: the function, sync or async.

        Raises:
            ConfigurationError: the reference has a JSON key or a version, or the callback isn't callable.
        """
        self._loader.check_open()
        request = parse_reference(reference).whole_request("on_change")
        changes = self._loader.changes
        with self._loader.lock:
            listener = changes.add(request, callback, self._store.entries.items())
        return partial(changes.remove, listener)

    async def apply_event(self, event: object) -> EventReport:
        """Refresh what an event of Secrets Manager says has changed, and report what was done.

        EventBridge sends "Secret Label Updated" when a label moves. Each entry of that secret and label whose version
        is another is refreshed once; events that come twice or late do no harm.

        Args:
            event: the event or its detail, as a dict or JSON, also within what SQS, SNS and Lambda wrap it in.

        Raises:
            ConfigurationError: it is none of these types. What fails in a refresh is in the report.
        """
        return await apply_event(self._loader, event)

    def observe(self, observer: CacheObserver) -> Callable[[], None]:
        """Tell an observer of this cache's work from now on, and return what ends that.

        Raises:
            ConfigurationError: it isn't an object of a class derived from CacheObserver.
        """
        self._loader.check_open()
        return self._observers.add(observer)

    def peek(self, reference: str, *, version_stage: str | None = None, version_id: str | None = None) -> Secret | None:
        """Return what is stored, fresh or not, or None; no I/O, not a coroutine. A JSON key is refused."""
        if version_stage is version_id is None and type(reference) is str:
            # A name or ARN that is stored needs no parsing.
            entry = self._store.entries.get(reference)
            if entry is not None:
                return entry.secret
        self._loader.check_open()
        request = parse_reference(reference, version_stage, version_id).whole_request("peek")
        entry = self._store.entries.get(request.key)
        return None if entry is None else entry.secret

    def invalidate(self, reference: str) -> None:
        """Forget all versions of a secret, whichever id they were stored by, and its failures.

        A running fetch still answers its waiters, but isn't stored.

        Args:
            reference: a name or an ARN. What is stored by an ARN or another id of this very secret goes too.
        """
        self._loader.check_open()
        secret_id = parse_reference(reference).unversioned_id("invalidate")
        self._loader.forget(secret_id)
        self._rotations.forget(secret_id)

    def clear(self) -> None:
        """Forget all secrets, as invalidate does with one."""
        self._loader.forget()
        self._rotations.forget()

    def stats(self) -> CacheStats:
        """Return what has been counted since the cache was made."""
        return self._loader.stats()

    async def aclose(self) -> None:
        """Forget everything, end the running fetches, and close the source if the cache made it. Idempotent.

        Using the cache afterwards raises CacheClosedError.
        """
        self._loader.is_closed = True
        self._loader.forget()
        try:
            await self._loader.single_flight.cancel_all()
            await self._loader.changes.aclose()
        finally:
            if self._owns_source:
                from anyio import CancelScope  # Its import takes some milliseconds; few callers close a cache.

                # Shielded, or a caller that is being cancelled would leave the connections open.
                with CancelScope(shield=True):
                    await self._source.aclose()

    async def _close_connections(self) -> None:
        """Close the running loop's client, before the loop ends."""
        if isinstance(self._source, ConnectedSource):
            await self._source.close_connections()

    async def __aenter__(self) -> Self:
        self._loader.check_open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._loader.is_closed else f"{len(self._store.entries)} secrets"
        return f"<SecretCache {state} ttl={self._loader.options.ttl!r}>"


# All live caches, for what concerns the whole process: a snapshot, the end of an invocation. Not a WeakSet, which can't
# be listed while another thread adds to it.
_caches: WeakValueDictionary[int, SecretCache] = WeakValueDictionary()


def live_caches() -> list[SecretCache]:
    """Return the caches of this process that are in use."""
    caches = (reference() for reference in _caches.valuerefs())
    return [cache for cache in caches if cache is not None and not cache._loader.is_closed]
