"""What a cache tells of its work, and to whom. No value is ever told."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final, NamedTuple

from asecretcache._core.batch_fetch import BatchFetchTask
from asecretcache._core.fetch import Fetch, FetchReason, FetchTask
from asecretcache._core.loader import Loader
from asecretcache._core.observer import FetchObserver
from asecretcache._exceptions import ConfigurationError, SecretCacheError, origin_of
from asecretcache._models import SecretRequest

_logger: Final = logging.getLogger("asecretcache")

_number: Final = itertools.count(1)


class SourceCall:
    """One call of a cache's source, from its start to its end. Immutable, and hashable by itself.

    Attributes:
        number: tells it from all other calls of the process.
        api: "GetSecretValue", or "BatchGetSecretValue" for several secrets at once.
        references: what is fetched, such as ``("prod/db",)``; by at most 20 references in a batch.
        reason: why it was started: "read", "refresh", "revalidation" (a stale value was served) or "prefetch".
        context: the context in which the source runs, empty at first. What an observer puts there when the call
            starts, such as a span, the source sees.
    """

    __slots__ = ("api", "context", "number", "reason", "references")

    def __init__(self, api: str, references: tuple[str, ...], reason: str, context: Context) -> None:
        self.number = next(_number)
        self.api = api
        self.references = references
        self.reason = reason
        self.context = context

    def __repr__(self) -> str:
        return f"<SourceCall {self.number} {self.api} {', '.join(self.references)}>"


class SourceResult(NamedTuple):
    """What a call of the source has brought for one secret; immutable.

    Attributes:
        reference: names the secret, as in the call's references.
        outcome: "fetched": the first version in memory; "changed": another version than the one in memory;
            "unchanged": the same one; "discarded": it isn't stored, since the secret was invalidated meanwhile or a
            later call was faster; "failed"; or "cancelled".
        version_id: the version, or None without one.
        arn: the secret's ARN, or None without a version.
        error: what it failed with, or None.
    """

    reference: str
    outcome: str
    version_id: str | None
    arn: str | None
    error: SecretCacheError | None


class CacheObserver:
    """Is told of a cache's work: derive from it, and override what you want to know.

    Each method is called where the work is done, on the loop and in the thread of the caller or of the call, without a
    lock, so it must return at once. It may use the cache. What it raises is logged once, and reaches no caller. Hits
    aren't told: they are counted by ``stats()``.
    """

    def call_started(self, call: SourceCall) -> None:
        """A call of the source has started, in the context of the caller that caused it."""

    def call_joined(self, call: SourceCall, reference: str, reason: str) -> None:
        """Another caller waits for a running call; in that caller's context. The reason is as a call has it."""

    def call_ended(self, call: SourceCall, results: Sequence[SourceResult], seconds: float) -> None:
        """A call has ended; its values are stored.

        Args:
            call: the call.
            results: one for each secret, but for those of a refused batch, which are fetched with calls of their own.
            seconds: how long it took, the wait for one of the source's slots included.
        """

    def stale_served(self, reference: str, error: SecretCacheError | None) -> None:
        """A read was answered with an expired value; the error says why, unless it is being refreshed."""

    def evicted(self, reference: str) -> None:
        """A value was dropped because there were more than ``max_size``."""


class Observers(FetchObserver):
    """The observers of one cache. Any thread may tell it something.

    Args:
        loader: the cache's engine, which tells only while there is an observer.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        # In the order in which they are told. By identity: they may not be hashable, or may all be equal.
        self._observers: tuple[CacheObserver, ...] = ()
        self._failed: set[int] = set()
        # With those to whom its start was told.
        self._calls: dict[FetchTask, tuple[SourceCall, list[SourceResult], tuple[CacheObserver, ...]]] = {}

    def add(self, observer: CacheObserver) -> Callable[[], None]:
        """Tell an observer from now on; return what ends that.

        Raises:
            ConfigurationError: it isn't a CacheObserver.
        """
        if not isinstance(observer, CacheObserver):
            hint = f": give an object of it, {observer.__name__}()" if isinstance(observer, type) else ""
            name = observer.__name__ if isinstance(observer, type) else type(observer).__name__
            raise ConfigurationError(
                f"observer must be an object of a class derived from CacheObserver, not {name}{hint}"
            )
        with self._loader.lock:
            self._observers = (*self._without(observer), observer)
            self._loader.tell(self)
        return partial(self._remove, observer)

    def _remove(self, observer: CacheObserver) -> None:
        with self._loader.lock:
            self._observers = self._without(observer)
            self._failed.discard(id(observer))
            if not self._observers:
                self._loader.tell(None)
                self._calls.clear()

    def _without(self, observer: CacheObserver) -> tuple[CacheObserver, ...]:
        return tuple(each for each in self._observers if each is not observer)

    def _still(self, told: tuple[CacheObserver, ...]) -> tuple[CacheObserver, ...]:
        """Return those of the observers that were told of a call's start who still observe."""
        now = self._observers
        return told if told is now else tuple(each for each in now if any(each is other for other in told))

    def started(self, task: FetchTask) -> None:
        """Make a call of a task."""
        fetches = task.fetches
        # The usual case first: what is done for each call is felt beside a fetch of a quarter of a millisecond.
        is_single = not isinstance(task, BatchFetchTask)
        call = SourceCall(
            "GetSecretValue" if is_single else "BatchGetSecretValue",
            (fetches[0].request.reference,) if is_single else tuple(fetch.request.reference for fetch in fetches),
            fetches[0].reason.value,
            task.variables,
        )
        observers = self._observers
        self._calls[task] = call, [], observers
        for observer in observers:
            try:
                observer.call_started(call)
            except Exception as exc:  # noqa: BLE001 - an observer may raise anything
                self._log(observer, exc)

    def joined(self, fetch: Fetch, reason: FetchReason, *, is_new: bool, is_retry: bool) -> None:  # noqa: ARG002 - a retry is a caller
        """Tell of a caller that waits for a call which runs already."""
        if is_new or (found := self._calls.get(fetch.task)) is None:
            return
        for observer in self._still(found[2]):
            try:
                observer.call_joined(found[0], fetch.request.reference, reason.value)
            except Exception as exc:  # noqa: BLE001 - as above
                self._log(observer, exc)

    def ended(self, fetch: Fetch) -> None:
        """Note the result of a fetch, for the end of its call; and tell of what its value has evicted."""
        found, secret = self._calls.get(fetch.task), fetch.secret
        if found is not None:
            version_id, arn = (None, None) if secret is None else (secret.version_id, secret.arn)
            found[1].append(SourceResult(fetch.request.reference, fetch.outcome, version_id, arn, fetch.error))
        if fetch.evicted is None:
            return
        for observer in self._observers:
            try:
                observer.evicted(SecretRequest._of_key(fetch.evicted).reference)
            except Exception as exc:  # noqa: BLE001 - as above
                self._log(observer, exc)

    def task_ended(self, task: FetchTask) -> None:
        """Tell of the end of a call."""
        found = self._calls.pop(task, None)
        if found is None:
            return
        results, elapsed = tuple(found[1]), task.timeout.elapsed()
        for observer in self._still(found[2]):
            try:
                observer.call_ended(found[0], results, elapsed)
            except Exception as exc:  # noqa: BLE001 - as above
                self._log(observer, exc)

    def stale_served(self, request: SecretRequest, error: SecretCacheError | None) -> None:
        """Tell of a stale answer."""
        for observer in self._observers:
            try:
                observer.stale_served(request.reference, error)
            except Exception as exc:  # noqa: BLE001 - as above
                self._log(observer, exc)

    def _log(self, observer: CacheObserver, exc: Exception) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            message = "the observer %s raised %s at %s; its further errors aren't logged"
            _logger.warning(message, type(observer).__name__, type(exc).__name__, origin_of(exc))
