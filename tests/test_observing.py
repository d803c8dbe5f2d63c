"""CacheObserver: what a cache tells of its calls, joins, stale answers and evictions."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import observe
from asecretcache import (
    CacheClosedError,
    CacheObserver,
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretUnavailableError,
    SourceCall,
    SourceResult,
)
from asecretcache.testing import InMemorySource, ManualClock
from gated_source import GatedSource
from turns import until

NAME, OTHER, VALUE = "prod/db", "prod/api", "hunter2"
trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")


class Recorder(CacheObserver):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.calls: list[SourceCall] = []
        self.seconds: list[float] = []
        self.errors: list[SecretCacheError | None] = []

    def call_started(self, call: SourceCall) -> None:
        self.calls.append(call)
        self.note("started", call.api, *call.references, call.reason)

    def call_joined(self, call: SourceCall, reference: str, reason: str) -> None:
        assert call in self.calls
        self.note("joined", reference, reason)

    def call_ended(self, call: SourceCall, results: Sequence[SourceResult], seconds: float) -> None:
        assert call in self.calls
        self.seconds.append(seconds)
        self.errors += [result.error for result in results]
        self.note("ended", *[(result.reference, result.outcome, bool(result.version_id)) for result in results])

    def stale_served(self, reference: str, error: SecretCacheError | None) -> None:
        self.note("stale", reference, type(error).__name__)

    def evicted(self, reference: str) -> None:
        self.note("evicted", reference)

    def note(self, *told: Any) -> None:
        self.told.append(told)


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: VALUE, OTHER: VALUE, "third": VALUE})


@pytest.fixture
def recorder(cache: SecretCache) -> Iterator[Recorder]:
    recorder = Recorder()
    cache.observe(recorder)
    yield recorder
    assert VALUE not in repr((recorder.told, recorder.calls, recorder.errors))


async def test_calls_and_joins(cache: SecretCache, source: InMemorySource, recorder: Recorder) -> None:
    """Each call once, with its result; each further caller; and no hit."""
    source.pause()
    readers = [asyncio.create_task(cache.get_secret(NAME)) for _ in range(3)]
    refresh = asyncio.create_task(cache.refresh(f"{NAME}::AWSCURRENT"))
    await until(lambda: len(source.calls) == 2)
    source.resume()
    await asyncio.gather(*readers, refresh)
    await cache.get_secret(NAME)

    assert recorder.told == [
        ("started", "GetSecretValue", NAME, "read"),
        ("joined", NAME, "read"),
        ("joined", NAME, "read"),
        ("started", "GetSecretValue", NAME, "refresh"),
        ("ended", (NAME, "fetched", True)),
        ("ended", (NAME, "unchanged", True)),
    ]
    assert recorder.calls[0].number < recorder.calls[1].number
    assert repr(recorder.calls[1]) == f"<SourceCall {recorder.calls[1].number} GetSecretValue {NAME}>"


async def test_how_a_fetch_ends(cache: SecretCache, source: InMemorySource, recorder: Recorder) -> None:
    """As the outcomes of SourceResult have it."""
    await cache.prefetch(NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)
    source.fail(SecretUnavailableError("down"), NAME)
    with pytest.raises(SecretUnavailableError):
        await cache.refresh(NAME)
    source.recover()
    source.pause()
    forgotten = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 4)
    cache.invalidate(NAME)
    source.resume()
    await forgotten
    source.pause()
    cancelled = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 5)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await until(lambda: len(recorder.seconds) == 5)

    assert [told[1] for told in recorder.told if told[0] == "ended"] == [
        (NAME, "fetched", True),
        (NAME, "changed", True),
        (NAME, "failed", False),
        (NAME, "discarded", True),
        (NAME, "cancelled", False),
    ]
    assert recorder.told[0] == ("started", "GetSecretValue", NAME, "prefetch")
    assert [type(error) for error in recorder.errors if error] == [SecretUnavailableError]


async def test_a_slower_fetch_is_discarded(clock: ManualClock) -> None:
    """A later one has brought a value already."""
    source = GatedSource({NAME: VALUE})
    cache = SecretCache(source, clock=clock)
    cache.observe(recorder := Recorder())
    read, refresh = asyncio.create_task(cache.get(NAME)), asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.gates) == 2)
    for gate, task in ((source.gates[1], refresh), (source.gates[0], read)):
        gate.set()
        await task

    assert [told[1][1] for told in recorder.told if told[0] == "ended"] == ["fetched", "discarded"]


async def test_a_batch_is_one_call(source: InMemorySource) -> None:
    """With a result for each secret; a label has a call of its own."""
    cache = SecretCache(source, batch=True)
    cache.observe(recorder := Recorder())
    await cache.get_many(NAME, OTHER, "missing", f"{NAME}::mine", return_exceptions=True)

    assert recorder.told == [
        ("started", "BatchGetSecretValue", NAME, OTHER, "missing", "read"),
        ("started", "GetSecretValue", f"{NAME}::mine", "read"),
        ("ended", (f"{NAME}::mine", "failed", False)),
        ("ended", (NAME, "fetched", True), (OTHER, "fetched", True), ("missing", "failed", False)),
    ] or recorder.told[2:] == [
        ("ended", (NAME, "fetched", True), (OTHER, "fetched", True), ("missing", "failed", False)),
        ("ended", (f"{NAME}::mine", "failed", False)),
    ]


async def test_a_refused_batch_is_followed_by_calls_for_each(source: InMemorySource) -> None:
    """They are told as calls of their own; the batch's own has no result."""
    cache = SecretCache(source, batch=True)
    cache.observe(recorder := Recorder())
    source.fail_batches(SecretAccessDeniedError("denied"))
    await cache.get_many(NAME, OTHER)

    assert sorted(recorder.told) == sorted(
        [
            ("started", "BatchGetSecretValue", NAME, OTHER, "read"),
            ("started", "GetSecretValue", NAME, "read"),
            ("started", "GetSecretValue", OTHER, "read"),
            ("ended",),
            ("ended", (NAME, "fetched", True)),
            ("ended", (OTHER, "fetched", True)),
        ]
    )


async def test_stale_answers(source: InMemorySource, clock: ManualClock) -> None:
    """While a refresh runs, and after one has failed."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0, stale_while_revalidate=10.0)
    cache.observe(recorder := Recorder())
    await cache.get(NAME)
    clock.advance(15.0)
    await cache.get(NAME)
    await cache.get_many(NAME)
    await until(lambda: len(recorder.seconds) == 2)
    source.fail(SecretUnavailableError("down"))
    clock.advance(30.0)
    await cache.get(NAME)
    await cache.get(NAME)

    assert recorder.told[2:] == [
        ("stale", NAME, "NoneType"),
        ("started", "GetSecretValue", NAME, "revalidation"),
        ("stale", NAME, "NoneType"),
        ("joined", NAME, "revalidation"),
        ("ended", (NAME, "unchanged", True)),
        ("started", "GetSecretValue", NAME, "read"),
        ("ended", (NAME, "failed", False)),
        ("stale", NAME, "SecretUnavailableError"),
        ("stale", NAME, "SecretUnavailableError"),
    ]


async def test_evictions(source: InMemorySource) -> None:
    """By the reference of what is gone."""
    cache = SecretCache(source, max_size=1)
    cache.observe(recorder := Recorder())
    source.rotate(NAME, "two")
    for reference in (NAME, f"{NAME}::AWSPREVIOUS", OTHER):
        await cache.get(reference)

    assert [told for told in recorder.told if told[0] == "evicted"] == [
        ("evicted", NAME),
        ("evicted", f"{NAME}::AWSPREVIOUS"),
    ]


async def test_callers_contexts(cache: SecretCache, source: InMemorySource) -> None:
    """Starts and joins are told in the caller's; the source sees what an observer puts into the call's, and no more."""
    seen: list[tuple[str, str]] = []

    class Tracing(CacheObserver):
        def call_started(self, call: SourceCall) -> None:
            seen.append(("started", trace.get()))
            call.context.run(trace.set, f"span of {trace.get()}")

        def call_joined(self, call: SourceCall, reference: str, reason: str) -> None:
            seen.append(("joined", trace.get()))

    class Seeing(InMemorySource):
        async def fetch(self, request: Any) -> Any:
            seen.append(("fetch", trace.get()))
            return await super().fetch(request)

    cache = SecretCache(Seeing({NAME: VALUE}))
    cache.observe(Tracing())

    async def read(name: str) -> None:
        trace.set(name)
        await cache.get_secret(NAME)

    await asyncio.gather(read("one"), read("two"))

    assert seen == [("started", "one"), ("joined", "two"), ("fetch", "span of one")]


async def test_it_is_told_without_the_lock(source: InMemorySource, clock: ManualClock) -> None:
    """So another thread may use the cache meanwhile; also where the fetches of a closed loop are swept out."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0, stale_while_revalidate=10.0, max_size=1)
    kinds = set()

    class Using(Recorder):
        def note(self, *told: Any) -> None:
            kinds.add(told[0])
            thread = threading.Thread(target=cache.stats, daemon=True)
            thread.start()
            thread.join(60.0)
            assert not thread.is_alive()

    def leave_a_fetch_behind() -> None:
        loop = asyncio.new_event_loop()
        source.pause()
        task = loop.create_task(cache.get("third"))
        loop.run_until_complete(asyncio.sleep(0))
        source.resume()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own task
        loop.close()

    cache.observe(Using())
    await asyncio.to_thread(leave_a_fetch_behind)
    await asyncio.gather(cache.get(NAME), cache.get(NAME))
    clock.advance(15.0)
    await cache.get(NAME)
    await cache.get(OTHER)

    assert kinds == {"started", "joined", "ended", "stale", "evicted"}


@pytest.mark.parametrize("method", ["call_started", "call_joined", "call_ended", "stale_served", "evicted"])
async def test_an_observers_error(
    source: InMemorySource,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """It reaches no caller, is logged once by its type, and keeps nothing from the others."""

    @dataclass
    class Raising(CacheObserver):
        """It isn't hashable, as dataclasses aren't."""

        value: str

    def fail(self: Raising, *_: object) -> None:
        raise ValueError(self.value)

    monkeypatch.setattr(Raising, method, fail, raising=False)
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0, stale_while_revalidate=100.0, max_size=1)
    cache.observe(earlier := Recorder())
    cache.observe(Raising(VALUE))
    cache.observe(later := Recorder())
    for _ in range(2):
        assert list(await asyncio.gather(cache.get_secret(NAME), cache.get_secret(NAME))) == [VALUE] * 2
        clock.advance(20.0)
        assert await cache.get_secret(NAME) == VALUE
        await cache.get(OTHER)

    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    place = r"\S+test_observing\.py:\d+"
    assert re.fullmatch(
        rf"the observer Raising raised ValueError at {place}; its further errors aren't logged", record.getMessage()
    )
    assert VALUE not in caplog.text
    assert later.told == earlier.told
    assert {told[0] for told in later.told} == {"started", "joined", "ended", "stale", "evicted"}


async def test_the_end_of_observing(cache: SecretCache, source: InMemorySource) -> None:
    """It is told no more, also of calls that had begun; nor of those that began before."""
    source.pause()
    early = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    observers = Recorder(), Recorder()
    removers = [cache.observe(observer) for observer in observers]
    joining, other = asyncio.create_task(cache.get(NAME)), asyncio.create_task(cache.get(OTHER))
    await until(lambda: len(source.calls) == 2)
    removers[0]()
    removers[0]()
    source.resume()
    await asyncio.gather(early, joining, other)
    removers[1]()
    await cache.refresh(NAME)

    assert observers[0].told == [("started", "GetSecretValue", OTHER, "read")]
    assert observers[1].told == [*observers[0].told, ("ended", (OTHER, "fetched", True))]


async def test_a_call_that_began_before(
    cache: SecretCache, source: InMemorySource, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """It isn't told to an observer that came later, also where another one knows of it."""
    source.pause()
    early = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    cache.observe(late := Recorder())
    joining = asyncio.create_task(cache.get(NAME))
    await until(lambda: recorder.told[-1][0] == "joined")
    source.resume()
    await asyncio.gather(early, joining)

    assert [told[0] for told in recorder.told] == ["started", "joined", "ended"]
    assert late.told == []
    assert "AssertionError" not in caplog.text  # A Recorder asserts that it knows the call.


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("method", ["call_started", "call_joined", "call_ended", "stale_served", "evicted"])
async def test_an_observer_that_ends_its_observing(
    source: InMemorySource, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, method: str, batch: bool
) -> None:
    """It may do that in any of its methods, and no caller notices."""
    told = []

    def end(_self: CacheObserver, *_: object) -> None:
        told.append(method)
        remove()

    class Once(CacheObserver):
        pass

    monkeypatch.setattr(Once, method, end, raising=False)
    options: dict[str, Any] = {"ttl": 10.0, "jitter": 0.0, "stale_while_revalidate": 100.0, "max_size": 2}
    cache = SecretCache(source, clock=clock, batch=batch, **options)
    remove = cache.observe(Once())
    for _ in range(2):
        assert await asyncio.gather(cache.get_secrets(NAME, OTHER), cache.get_secret(NAME))
        clock.advance(20.0)
        assert await cache.get_secrets(NAME, OTHER)
        await cache.get("third")

    assert told == [method]


async def test_an_observer_that_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises may be no Exception: the readers are woken all the same."""

    def cancel(*_: object) -> None:
        raise asyncio.CancelledError

    cache = SecretCache(InMemorySource({NAME: VALUE, OTHER: VALUE}), max_size=1)
    observer = CacheObserver()
    monkeypatch.setattr(observer, "evicted", cancel)
    cache.observe(observer)
    await cache.get(NAME)

    async with asyncio.timeout(10):
        assert await cache.get_secret(OTHER) == VALUE


async def test_observing_twice_and_again(cache: SecretCache, caplog: pytest.LogCaptureFixture) -> None:
    """An observer that is added twice is told once; one that is added again may log an error again."""

    class Raising(Recorder):
        def call_started(self, call: SourceCall) -> None:
            super().call_started(call)
            raise ValueError

    recorder = Raising()
    for _ in range(2):
        cache.observe(recorder)
        remove = cache.observe(recorder)
        await cache.refresh(NAME)
        remove()
        await cache.refresh(NAME)

    assert len(recorder.calls) == 2
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 2


async def test_the_seconds_of_a_call(source: InMemorySource, clock: ManualClock) -> None:
    """By the monotonic clock, from the start of the call."""
    now = [0.0]
    cache = observe.new_cache(source, monotonic=lambda: now[0])
    cache.observe(recorder := Recorder())
    source.pause()
    task = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    now[0] = 1.5
    source.resume()
    await task

    assert recorder.seconds == [1.5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 on; that is what is tested
def test_a_forked_child_goes_on_observing(cache: SecretCache, recorder: Recorder) -> None:
    """With the observers that its parent had."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        asyncio.run(cache.get(NAME))
        os._exit(0 if len(recorder.told) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_wrong_use_is_told(cache: SecretCache) -> None:
    """What isn't an observer, a class instead of an object, and a closed cache."""
    with pytest.raises(ConfigurationError, match=r"a class derived from CacheObserver, not function$"):
        cache.observe(lambda: None)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match=r"not Recorder: give an object of it, Recorder\(\)"):
        cache.observe(Recorder)  # type: ignore[arg-type]  # what is tested
    await cache.aclose()
    with pytest.raises(CacheClosedError):
        cache.observe(Recorder())


async def test_log_lines_have_fields(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a JSON formatter shows which secret, how the fetch ended and how long it took."""
    caplog.set_level(logging.INFO, "asecretcache")
    cache = SecretCache(source, clock=clock, ttl=10.0)
    await cache.get_secret(NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)
    source.fail(SecretUnavailableError("down"))
    clock.advance(60.0)
    await cache.get_secret(NAME)

    fields = [(each.levelname, *(each.__dict__[key] for key in ("secret_id", "outcome"))) for each in caplog.records]
    assert fields == [("INFO", NAME, "fetched"), ("INFO", NAME, "changed"), ("WARNING", NAME, "failed")]
    assert all(each.__dict__["duration_ms"] >= 0 for each in caplog.records)
