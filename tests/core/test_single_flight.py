"""Concurrent callers share one fetch: what they join, what they get, and what is stored of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import traceback

import pytest

import observe
from asecretcache import Secret, SecretAccessDeniedError, SecretCache, SecretRequest, SecretUnavailableError
from asecretcache._core.fetch import FetchReason
from asecretcache._core.timeouts import current_fetch_timeout
from asecretcache.testing import InMemorySource, ManualClock
from gated_source import GatedSource
from turns import until

NAME, VALUE = "prod/db", "hunter2"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-000001"


# Sharing


@pytest.mark.every_loop
@pytest.mark.parametrize("method", ["get_secret", "get", "get_json", "get_many", "get_secrets", "prefetch"])
async def test_a_thousand_concurrent_first_gets_are_one_call(method: str) -> None:
    """However many callers want a secret at once, it is fetched once."""
    cache = SecretCache(source := InMemorySource({NAME: "5"}))

    results = await asyncio.gather(*(getattr(cache, method)(NAME) for _ in range(1000)))

    assert all(result == results[0] for result in results)
    assert len(source.calls) == 1


@pytest.mark.every_loop
async def test_all_kinds_of_reads_share_one_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """Whole secrets, texts, keys of the JSON and stages that mean the current version."""
    source.rotate(NAME, '{"user": "u"}')
    source.pause()
    reads = [
        cache.get(NAME),
        cache.get_secret(NAME),
        cache.get_secret(f"{NAME}:user"),
        cache.get_json(NAME, "user"),
        cache.get_json(f"{NAME}:user"),
        cache.get_secret(NAME, version_stage="AWSCURRENT"),
        cache.get_secrets(f"{NAME}:user"),
        cache.get_many(f"{NAME}::AWSCURRENT"),
    ]
    tasks = [asyncio.ensure_future(read) for read in reads]
    await until(lambda: source.calls)
    source.resume()

    results = await asyncio.gather(*tasks)

    assert results[1:4] == ['{"user": "u"}', "u", "u"]
    assert len(source.calls) == 1
    assert cache.stats().coalesced == len(reads) - 1


@pytest.mark.every_loop
async def test_a_name_and_its_arn_are_two_calls(cache: SecretCache, source: InMemorySource) -> None:
    """An id is its own key, singly and together."""
    by_name, by_arn = await asyncio.gather(cache.get_secret(NAME), cache.get_secret(ARN))
    assert by_name == by_arn == VALUE
    assert [call.secret_id for call in source.calls] == [NAME, ARN]
    cache.clear()

    secrets = await cache.get_many(NAME, ARN)

    assert list(secrets) == [NAME, ARN]
    assert [call.secret_id for call in source.calls[2:]] == [NAME, ARN]


async def test_versions_are_fetched_apart(cache: SecretCache, source: InMemorySource) -> None:
    """Stage and version id are part of the key."""
    source.rotate(NAME, "hunter3")

    texts = await asyncio.gather(cache.get_secret(NAME), cache.get_secret(NAME, version_stage="AWSPREVIOUS"))

    assert list(texts) == ["hunter3", VALUE]
    assert len(source.calls) == 2


async def test_a_refresh_does_not_join_a_plain_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """What made the caller ask for a refresh may have happened after the plain fetch was sent."""
    source.pause()
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    refreshes = [asyncio.create_task(cache.refresh(NAME)) for _ in range(10)]
    await until(lambda: len(source.calls) == 2)
    source.resume()

    await asyncio.gather(plain, *refreshes)

    assert len(source.calls) == 2
    assert cache.stats().coalesced == 9


async def test_a_plain_get_joins_a_refresh(cache: SecretCache, source: InMemorySource) -> None:
    """A running fetch is as good as a new one."""
    source.pause()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: source.calls)
    plain = asyncio.create_task(cache.get_secret(NAME))
    await asyncio.sleep(0)
    source.resume()

    assert (await refresh).secret_string == await plain
    assert len(source.calls) == 1


async def test_a_read_joins_the_refresh_rather_than_the_older_fetch() -> None:
    """The value of the fetch that started later is the newer one."""
    source = GatedSource({NAME: "old"})
    cache = SecretCache(source)
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 1)
    source.rotate(NAME, "new")
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.gates) == 2)
    many = asyncio.create_task(cache.get_many(NAME))
    await asyncio.sleep(0)

    for gate in source.gates:
        gate.set()

    assert await plain == "old"
    assert (await refresh).secret_string == (await many)[NAME].secret_string == "new"
    assert len(source.calls) == 2


async def test_whether_a_refresh_is_running_can_be_asked(source: InMemorySource, clock: ManualClock) -> None:
    """Plain fetches are none, nor is a refresh that slept through a freeze."""
    cache = SecretCache(source, clock=clock, fetch_timeout=10)
    single_flight, request = observe.loader(cache).single_flight, SecretRequest(NAME)
    source.pause()
    plain = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    assert not single_flight.is_joinable(request, FetchReason.REFRESH)

    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    assert single_flight.is_joinable(request, FetchReason.REFRESH)
    assert not single_flight.is_joinable(SecretRequest("other"), FetchReason.REFRESH)

    clock.advance(11)
    assert not single_flight.is_joinable(request, FetchReason.REFRESH)
    source.resume()
    await asyncio.wait([plain, refresh])
    assert not single_flight.is_joinable(request, FetchReason.REFRESH)


async def test_ten_thousand_keys_at_once_are_ten_thousand_fetches() -> None:
    """Starting one doesn't slow down with the number of fetches, and none is left over."""

    class Quick(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            await asyncio.sleep(0)
            return Secret(name=request.secret_id, arn="arn", version_id="v", secret_string=VALUE)

    cache = SecretCache(Quick(), max_size=10_000)

    secrets = await cache.get_many(*(f"secret-{number}" for number in range(10_000)))

    assert len(secrets) == cache.stats().get_calls == 10_000
    assert not observe.running(cache)


# Results


@pytest.mark.every_loop
async def test_a_failure_is_one_call_and_an_error_for_each_waiter(cache: SecretCache, source: InMemorySource) -> None:
    """Each waiter raises its own instance with a short traceback, and the cause is the source's."""
    error = SecretAccessDeniedError("no", secret_id=NAME, code="AccessDeniedException", request_id="r-1")
    error.__cause__ = cause = ValueError("the source's")
    source.fail(error)

    errors = await asyncio.gather(*(cache.get_secret(NAME) for _ in range(100)), return_exceptions=True)

    assert len(source.calls) == 1
    assert len({id(each) for each in errors}) == 100
    for each in errors:
        assert isinstance(each, SecretAccessDeniedError)
        assert (each.secret_id, each.code, each.request_id) == (NAME, "AccessDeniedException", "r-1")
        assert each.__cause__ is cause
        assert each.__context__ is None or each.__suppress_context__
        assert len(traceback.extract_tb(each.__traceback__)) < 10


async def test_an_error_names_the_id_that_the_caller_used(cache: SecretCache, source: InMemorySource) -> None:
    """Whatever the source calls the secret."""
    source.fail(SecretUnavailableError("down", secret_id="something else"))

    for secret_id in (NAME, ARN):
        with pytest.raises(SecretUnavailableError) as caught:
            await cache.get(secret_id)
        assert caught.value.secret_id == secret_id


async def test_a_transient_failure_is_not_cached(cache: SecretCache, source: InMemorySource) -> None:
    """The next caller after a failure tries again."""
    source.fail(SecretUnavailableError("down"), times=1)
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)

    assert await cache.get_secret(NAME) == VALUE


async def test_a_fetch_never_overwrites_the_result_of_a_later_one() -> None:
    """The order is that of the starts: a slow old response doesn't replace a newer one."""
    source = GatedSource({NAME: "old"})
    cache = SecretCache(source)
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 1)
    source.rotate(NAME, "new")
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.gates) == 2)

    source.gates[1].set()
    await refresh
    source.gates[0].set()

    assert await plain == "old"
    assert await cache.get_secret(NAME) == "new"


async def test_each_fetch_is_logged_at_info(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each fetch that brought a secret, in the article's words, and never with the value."""
    with caplog.at_level(logging.DEBUG, "asecretcache"):
        await asyncio.gather(*(cache.get_secret(NAME) for _ in range(10)))
        await cache.get_secret(NAME)
        await cache.refresh(NAME)
        await cache.get_many("missing", return_exceptions=True)

    assert (
        caplog.record_tuples == [("asecretcache", logging.INFO, f"secret {NAME} was fetched from Secrets Manager")] * 2
    )


async def test_a_log_handler_may_use_the_cache(cache: SecretCache, source: InMemorySource) -> None:
    """A fetch is logged once its result is stored and no lock is held."""
    seen: list[object] = []

    class Reading(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(cache.peek(NAME))
            cache.invalidate("other")

    logger, handler = logging.getLogger("asecretcache"), Reading()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        secret = await cache.get(NAME)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    assert seen == [secret]


# References as names of running fetches


async def test_many_readers_of_a_json_key_join_the_short_way(cache: SecretCache, source: InMemorySource) -> None:
    """The running fetch is found by the reference, too, and by nothing once it has ended."""
    source.rotate(NAME, '{"user": "u"}')
    source.pause()
    first = asyncio.create_task(cache.get_secret(f"{NAME}:user"))
    await until(lambda: source.calls)
    (fetch,) = observe.running(cache)
    others = [asyncio.create_task(cache.get_secret(f"{NAME}:user")) for _ in range(5)]
    await asyncio.sleep(0)

    assert (fetch.names, fetch.joins) == ((f"{NAME}:user",), 5)
    source.resume()
    assert await asyncio.gather(first, *others) == ["u"] * 6
    assert fetch not in observe.loader(cache).store.records.values()
    assert cache.stats()[:4] == (0, 6, 0, 5)


async def test_a_name_is_added_once_and_only_if_it_is_free(cache: SecretCache, source: InMemorySource) -> None:
    """A field that is stored, or another fetch, keeps its place."""
    loader = observe.loader(cache)
    source.pause()
    flights = loader.single_flight
    for _ in range(2):
        one = flights.join_or_start(SecretRequest(NAME), FetchReason.READ, name="ref")
    other = flights.join_or_start(SecretRequest("other"), FetchReason.READ, name="ref")

    assert (one.names, other.names) == (("ref",), ())
    assert loader.store.records["ref"] is one
    await cache.aclose()


# Clocks


@pytest.mark.parametrize("method", ["get_secret", "get", "get_many"])
async def test_a_fetch_that_slept_through_a_freeze_is_not_joined(
    source: InMemorySource, clock: ManualClock, method: str
) -> None:
    """A fetch older than its time-out by the wall clock is replaced, and its waiters get the new one's value."""
    cache = SecretCache(source, clock=clock, fetch_timeout=10)
    source.pause()
    before = asyncio.create_task(getattr(cache, method)(NAME))
    await until(lambda: source.calls)

    clock.advance(3600)
    after = asyncio.create_task(getattr(cache, method)(NAME))
    await until(lambda: len(source.calls) == 2)
    source.resume()

    assert await before == await after
    assert len(source.calls) == 2
    assert cache.stats() == cache.stats()._replace(misses=2, coalesced=0, get_calls=2)


async def test_a_fetch_that_slept_by_the_monotonic_clock_is_not_joined(source: InMemorySource) -> None:
    """Either clock shows a freeze: here the wall clock stood still and the monotonic one went on."""
    monotonic = ManualClock(0.0)
    cache = observe.new_cache(source, monotonic=monotonic, clock=ManualClock(), fetch_timeout=10)
    source.pause()
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)

    monotonic.advance(11)
    after = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    source.resume()

    assert list(await asyncio.gather(before, after)) == [VALUE, VALUE]


async def test_a_refresh_that_slept_hides_no_fetch_that_may_be_joined(
    source: InMemorySource, clock: ManualClock
) -> None:
    """Only the one that has expired is replaced: here by a clock that was set back."""
    cache = SecretCache(source, clock=clock, fetch_timeout=10)
    source.pause()
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 1)
    clock.advance(1)
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)

    clock.advance(-10.5)
    after = asyncio.create_task(cache.get_many(NAME))
    # The refresh is replaced, because its caller still waits.
    await until(lambda: len(source.calls) == 3)
    source.resume()

    assert await plain == VALUE
    assert (await after)[NAME].secret_string == VALUE
    assert (await refresh).secret_string == VALUE
    assert len(source.calls) == 3


@pytest.mark.parametrize("readings", range(8))
@pytest.mark.parametrize("batch", [False, True])
async def test_a_clock_that_raises_leaves_no_caller_waiting(readings: int, *, batch: bool) -> None:
    """Whenever a user's clock fails, the next read fetches, and what had begun is brought to its end."""
    source = InMemorySource({"a": VALUE, "b": VALUE})
    left = itertools.count(readings, -1)

    def clock() -> float:
        if next(left) == 0:
            raise OSError("no time")
        return 1_000_000.0

    cache = SecretCache(source, clock=clock, batch=batch)
    source.fail(SecretUnavailableError("down"), times=2)
    first = await asyncio.wait_for(asyncio.gather(cache.get_many("a", "b"), return_exceptions=True), 5)
    assert isinstance(first[0], Exception)
    source.recover()
    for _ in range(10):
        next(left)

    assert len(await asyncio.wait_for(cache.get_many("a", "b"), 5)) == 2
    assert not observe.running(cache)


async def test_a_clock_that_raises_in_storing_harms_no_waiter(
    source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """The waiters get the result all the same, and the log tells what was not stored."""
    is_broken = False

    def clock() -> float:
        if is_broken:
            raise ArithmeticError(VALUE)
        return 0.0

    cache = SecretCache(source, clock=clock)
    source.fail(SecretAccessDeniedError("no"))
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    is_broken = True
    source.resume()

    with pytest.raises(SecretAccessDeniedError):
        await asyncio.wait_for(caller, 5)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "a result could not be stored: the clock raised ArithmeticError"
    assert VALUE not in caplog.text


async def test_a_fetch_that_has_ended_is_not_ended_again(cache: SecretCache) -> None:
    """Its first result stands."""
    loader = observe.loader(cache)
    fetch = loader.single_flight.join_or_start(SecretRequest(NAME), FetchReason.READ)
    await until(lambda: fetch.is_done)

    loader.single_flight.finish(fetch, SecretUnavailableError("late"))

    assert isinstance(fetch.secret, Secret)
    assert fetch.error is None


async def test_a_fetch_may_have_several_names(cache: SecretCache, source: InMemorySource) -> None:
    """Readers of different keys find the same fetch; once it has ended they find it by none."""
    source.rotate(NAME, '{"user": "u", "port": 1}')
    source.pause()
    readers = [asyncio.create_task(cache.get_secret(f"{NAME}:{key}")) for key in ("user", "port")]
    await until(lambda: source.calls)
    (fetch,) = observe.running(cache)

    assert fetch.names == (f"{NAME}:user", f"{NAME}:port")
    source.resume()
    assert await asyncio.gather(*readers) == ["u", "1"]
    assert fetch not in observe.loader(cache).store.records.values()


async def test_a_reader_with_a_deadline_never_waits_past_it(cache: SecretCache, source: InMemorySource) -> None:
    """Also where many readers join the short way."""
    source.pause()
    first = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)

    async def reader() -> str:
        observe.set_deadline(0)
        return await cache.get_secret(NAME)

    with pytest.raises(SecretUnavailableError, match="deadline"):
        await asyncio.create_task(reader())
    source.resume()
    assert await first == VALUE


async def test_a_failure_counts_though_a_prefetch_joined(cache: SecretCache, source: InMemorySource) -> None:
    """A reader came first, so the refusal is held for the next one."""
    source.fail(SecretAccessDeniedError("no"))
    source.pause()
    callers = [asyncio.ensure_future(each) for each in (cache.get(NAME), cache.prefetch(NAME))]
    await until(lambda: source.calls)
    source.resume()
    await asyncio.wait(callers)
    for caller in callers:
        assert caller.exception() is not None

    with pytest.raises(SecretAccessDeniedError):
        await cache.get(NAME)
    assert len(source.calls) == 1


async def test_a_source_sees_the_time_out_of_its_fetch(clock: ManualClock) -> None:
    """A source with slots stops it while a fetch waits for one."""
    seen: list[float] = []

    class Source(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            timeout = current_fetch_timeout.get()
            assert timeout is not None
            seen.append(timeout.seconds)
            return await super().fetch(request)

    await SecretCache(Source({NAME: VALUE}), fetch_timeout=7.0).get(NAME)

    assert seen == [7.0]
