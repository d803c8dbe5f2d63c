"""batch=True: several secrets with one call, each of them a fetch as any other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import observe
from asecretcache import (
    ConfigurationError,
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretErrorGroup,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.batch_fetch import into_batches
from asecretcache._core.fetch import Fetch, FetchReason
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAMES = [f"s{number:03}" for number in range(45)]
FIRST_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:s000-000001"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(dict(expected(NAMES)))


@pytest.fixture
def cache(source: InMemorySource) -> SecretCache:
    return SecretCache(source, batch=True)


def values(secrets: Mapping[str, Secret]) -> dict[str, str | None]:
    return {name: secret.secret_string for name, secret in secrets.items()}


def expected(names: Sequence[str]) -> dict[str, str | bytes]:
    return {name: f"value of {name}" for name in names}


class AnsweringSource(InMemorySource):
    """Returns from each batch what the test gives it, or raises it."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


# Batches


@pytest.mark.parametrize("answer", [[], None, "values"])
async def test_a_batch_that_returns_no_mapping_is_told(answer: object) -> None:
    """By its type alone, with each secret."""
    cache = SecretCache(AnsweringSource(answer), batch=True)

    results = await cache.get_many("s000", "s001", return_exceptions=True)

    told = f"returned {type(answer).__name__} instead of a mapping"
    assert [getattr(error, "secret_id", None) for error in results.values()] == ["s000", "s001"]
    assert all(told in str(error) for error in results.values())


async def test_current_versions_go_twenty_at_a_time_and_others_alone() -> None:
    """A batch can ask for current versions only."""
    requests = [SecretRequest(name) for name in NAMES[:21]]
    requests[3:3] = [SecretRequest("x", "AWSPREVIOUS"), SecretRequest("x", None, "v")]
    loop = asyncio.get_running_loop()
    fetches = [Fetch(request, FetchReason.READ, loop, 0.0) for request in requests]

    batches = [[fetch.request for fetch in batch] for batch in into_batches(fetches)]

    assert batches == [
        [SecretRequest(name) for name in NAMES[:20]],
        [SecretRequest(NAMES[20])],
        [requests[3]],
        [requests[4]],
    ]


@pytest.mark.every_loop
async def test_misses_are_fetched_in_batches_of_twenty(cache: SecretCache, source: InMemorySource) -> None:
    """45 secrets are three calls, and a second time none."""
    for _ in range(2):
        assert values(await cache.get_many(*NAMES)) == expected(NAMES)

    assert [len(batch) for batch in source.batches] == [20, 20, 5]
    assert not source.calls


async def test_a_single_secret_and_one_left_over_go_single(cache: SecretCache, source: InMemorySource) -> None:
    """A batch of one would need another permission for nothing."""
    await cache.get(NAMES[0])
    await cache.get_many(*NAMES[:2])
    await cache.get_many(*NAMES[:23])

    assert [call.secret_id for call in source.calls] == [NAMES[0], NAMES[1], NAMES[22]]
    assert source.batches == [tuple(NAMES[2:22])]


async def test_only_secrets_that_are_not_fresh_are_in_the_batch(cache: SecretCache, source: InMemorySource) -> None:
    """What is in memory, or on its way already, takes no place in it."""
    await cache.get(NAMES[0])
    source.pause()
    alone = asyncio.create_task(cache.get(NAMES[1]))
    await until(lambda: len(source.calls) == 2)
    many = asyncio.create_task(cache.get_many(*NAMES[:5]))
    await until(lambda: source.batches)
    source.resume()

    assert values(await many) == expected(NAMES[:5])
    assert (await alone).name == NAMES[1]
    assert source.batches == [tuple(NAMES[2:5])]


@pytest.mark.parametrize("method", ["get_many", "get_secrets", "prefetch"])
async def test_all_that_take_several_go_in_batches(cache: SecretCache, source: InMemorySource, method: str) -> None:
    """Each secret once, however many references name it."""
    await getattr(cache, method)(*NAMES[:3], NAMES[0])

    assert source.batches == [tuple(NAMES[:3])]
    assert not source.calls


async def test_a_name_and_its_arn_are_two_ids_of_a_batch(cache: SecretCache, source: InMemorySource) -> None:
    """Each is fetched and stored by itself."""
    secrets = await cache.get_many(NAMES[0], FIRST_ARN)

    assert source.batches == [(NAMES[0], FIRST_ARN)]
    assert secrets[NAMES[0]] == secrets[FIRST_ARN]
    assert cache.peek(NAMES[0]) is secrets[NAMES[0]]
    assert cache.peek(FIRST_ARN) is secrets[FIRST_ARN]


async def test_versions_go_single(cache: SecretCache, source: InMemorySource) -> None:
    """They are fetched concurrently with the batch."""
    texts = await cache.get_secrets(*NAMES[1:3], f"{NAMES[0]}::AWSCURRENT:00000000-0000-4000-8000-000000000001")

    assert list(texts.values()) == list(expected([NAMES[1], NAMES[2], NAMES[0]]).values())
    assert source.calls == [SecretRequest(NAMES[0], "AWSCURRENT", "00000000-0000-4000-8000-000000000001")]
    assert source.batches == [tuple(NAMES[1:3])]


async def test_an_error_of_one_id_reaches_its_callers_only(cache: SecretCache, source: InMemorySource) -> None:
    """The others get their values, which are stored; a concurrent single get of the failing id fails likewise."""
    source.fail(SecretAccessDeniedError("no", secret_id=NAMES[1]), NAMES[1])
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:3], "missing", return_exceptions=True))
    await until(lambda: source.batches)
    single = [asyncio.create_task(cache.get_secret(name)) for name in NAMES[:3]]
    other = asyncio.create_task(cache.get_many(NAMES[0], NAMES[1]))
    await asyncio.sleep(0)
    source.resume()

    results = await many
    assert [type(results[name]) for name in [*NAMES[:3], "missing"]] == [
        Secret,
        SecretAccessDeniedError,
        Secret,
        SecretNotFoundError,
    ]
    assert await single[0] == f"value of {NAMES[0]}"
    assert await single[2] == f"value of {NAMES[2]}"
    with pytest.raises(SecretAccessDeniedError) as caught:
        await single[1]
    assert caught.value is not results[NAMES[1]]
    with pytest.raises(SecretErrorGroup, match="1 of 2"):
        await other
    assert len(source.batches) == 1
    assert not source.calls


async def test_the_task_of_a_batch_tells_how_many_it_fetches(cache: SecretCache, source: InMemorySource) -> None:
    """A list of the loop's tasks shows what is fetched; the fetches of one batch share the task."""
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:3]))
    await until(lambda: source.batches)

    (task,) = {fetch.task.task for fetch in observe.running(cache)}
    assert task.get_name() == "fetch 3 secrets"
    source.resume()
    await many


# Cancellation


@pytest.mark.every_loop
async def test_cancelling_the_first_caller_of_a_batch_harms_no_other(
    cache: SecretCache, source: InMemorySource
) -> None:
    """Single gets and other calls that joined its batch get their values, with no further call."""
    source.pause()
    first = asyncio.create_task(cache.get_many(*NAMES[:20]))
    await until(lambda: source.batches)
    single = asyncio.create_task(cache.get_secret(NAMES[3]))
    other = asyncio.create_task(cache.get_many(*NAMES[5:7]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    source.resume()

    assert first.cancelled()
    assert await single == f"value of {NAMES[3]}"
    assert values(await other) == expected(NAMES[5:7])
    assert len(source.batches) == 1
    assert not source.calls


async def test_a_batch_that_no_caller_wants_is_cancelled(cache: SecretCache, source: InMemorySource) -> None:
    """And the next caller starts afresh."""
    source.pause()
    callers: list[asyncio.Task[Any]] = [
        asyncio.create_task(cache.get_many(*NAMES[:20])),
        asyncio.create_task(cache.get_secret(NAMES[3])),
    ]
    await until(lambda: source.batches)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    await until(lambda: not observe.running(cache))
    source.resume()

    await cache.get_many(*NAMES[:20])
    assert len(source.batches) == 2


async def test_an_unwanted_batch_that_is_refused_falls_back_to_no_call() -> None:
    """Also where the source ignores its cancellation, and refuses the batch instead."""

    class Stubborn(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
            self.batches.append(tuple(secret_ids))
            try:
                await asyncio.Event().wait()
            finally:
                raise SecretThrottledError("slow down")

    source = Stubborn(expected(NAMES))
    cache = SecretCache(source, batch=True)
    caller = asyncio.create_task(cache.get_many(*NAMES[:2]))
    await until(lambda: source.batches)
    caller.cancel()
    await asyncio.wait([caller])
    await until(lambda: not observe.running(cache))

    assert caller.cancelled()
    assert not source.calls


@pytest.mark.every_loop
async def test_a_batch_cancelled_by_a_third_party_is_retried_as_one(cache: SecretCache, source: InMemorySource) -> None:
    """Its waiters come back for another batch, which is not counted as further reads."""
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:3]))
    await until(lambda: source.batches)
    observe.running(cache)[0].task.task.cancel()
    source.resume()

    assert values(await many) == expected(NAMES[:3])
    assert source.batches == [tuple(NAMES[:3])] * 2
    assert cache.stats() == cache.stats()._replace(misses=3, coalesced=0, batch_calls=2)


async def test_a_refresh_joins_no_batch(cache: SecretCache, source: InMemorySource) -> None:
    """The batch began before what made the caller ask for a refresh; a later get_many joins the refresh."""
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:2]))
    await until(lambda: source.batches)
    refresh = asyncio.create_task(cache.refresh(NAMES[0]))
    await until(lambda: source.calls)
    later = asyncio.create_task(cache.get_many(*NAMES[:2]))
    await asyncio.sleep(0)
    source.resume()

    await asyncio.gather(many, refresh, later)
    assert len(source.batches) == len(source.calls) == 1


# Refused batches


@pytest.mark.parametrize(
    "error",
    [
        SecretAccessDeniedError("no batches", code="AccessDeniedException"),
        SecretThrottledError("slow down", code="ThrottlingException"),
        SecretCacheError("refused", code="InvalidRequestException"),
    ],
)
async def test_a_batch_refused_as_a_whole_falls_back_to_single_gets(
    cache: SecretCache, source: InMemorySource, error: SecretCacheError
) -> None:
    """Callers that joined get their values as well."""
    source.fail_batches(error)
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:20]))
    await until(lambda: source.batches)
    joined = asyncio.create_task(cache.get_secret(NAMES[7]))
    await asyncio.sleep(0)
    source.resume()

    assert values(await many) == expected(NAMES[:20])
    assert await joined == f"value of {NAMES[7]}"
    assert len(source.batches) == 1
    assert sorted(call.secret_id for call in source.calls) == NAMES[:20]


async def test_a_denied_batch_is_not_tried_again_and_logged_once(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """A permission doesn't come within the life of an environment; the log says what to allow."""
    source.fail_batches(SecretAccessDeniedError("allow secretsmanager:BatchGetSecretValue"))
    with caplog.at_level(logging.WARNING, "asecretcache"):
        await cache.get_many(*NAMES)
        await cache.get_many(*NAMES, "missing", return_exceptions=True)

    # The batches that were sent at the same time are denied too.
    assert len(source.batches) == 3
    assert caplog.messages == [
        "a batch was denied, so secrets are fetched singly from now on: allow secretsmanager:BatchGetSecretValue"
    ]


async def test_a_throttled_batch_is_tried_again_next_time(cache: SecretCache, source: InMemorySource) -> None:
    """Throttling passes."""
    source.fail_batches(SecretThrottledError("slow down"))
    await cache.get_many(*NAMES[:3])
    source.recover()
    cache.clear()

    await cache.get_many(*NAMES[:3])
    assert len(source.batches) == 2


@pytest.mark.parametrize(
    "error", [SecretUnavailableError("timed out"), ConfigurationError("no region"), CredentialsError("no credentials")]
)
async def test_what_is_down_or_not_set_up_gets_no_single_calls(
    cache: SecretCache, source: InMemorySource, error: SecretCacheError
) -> None:
    """They would multiply the load for the same failure; each caller gets an error that names its secret."""
    source.fail_batches(error)

    results = await cache.get_many(*NAMES[:3], return_exceptions=True)

    assert not source.calls
    for name, result in results.items():
        assert type(result) is type(error)
        assert result.secret_id == name
        assert str(result) == f"secret {name!r}, in a batch: {error}"


async def test_an_error_that_names_its_secret_is_passed_on_as_it_is(cache: SecretCache, source: InMemorySource) -> None:
    """A source may raise from a batch what it raises for one secret, or a group."""
    group = SecretErrorGroup("two", [SecretUnavailableError("a"), SecretUnavailableError("b")])
    for error in (SecretUnavailableError("its own", secret_id="x"), group):
        source.fail_batches(error)
        source.fail(SecretUnavailableError("single"))
        with pytest.raises(SecretErrorGroup) as caught:
            await cache.get_many(*NAMES[:2])
        assert len(caught.value.exceptions) == 2


async def test_a_refused_batch_fetches_only_what_is_still_wanted(cache: SecretCache, source: InMemorySource) -> None:
    """Callers that left are no reason for calls, least of all when there are too many."""
    source.fail_batches(SecretThrottledError("slow down"))
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:20]))
    await until(lambda: source.batches)
    one = asyncio.create_task(cache.get_secret(NAMES[3]))
    await asyncio.sleep(0)
    many.cancel()
    await asyncio.wait([many])
    source.resume()

    assert await one == f"value of {NAMES[3]}"
    assert [call.secret_id for call in source.calls] == [NAMES[3]]
    assert not observe.running(cache)


def test_a_fork_does_not_forget_that_batches_are_denied(cache: SecretCache, source: InMemorySource) -> None:
    """The child has the permissions of the parent."""
    source.fail_batches(SecretAccessDeniedError("no batches"))
    asyncio.run(cache.get_many(*NAMES[:2]))
    observe.loader(cache).reset_after_fork()
    asyncio.run(cache.get_many(*NAMES[2:4]))

    assert len(source.batches) == 1


# Responses


async def test_an_id_that_the_response_lacks_is_fetched_by_itself() -> None:
    """What a batch leaves out isn't lost."""

    class Forgetful(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
            return await super().fetch_batch(secret_ids[1:])

    source = Forgetful(expected(NAMES))

    assert values(await SecretCache(source, batch=True).get_many(*NAMES[:3])) == expected(NAMES[:3])
    assert [call.secret_id for call in source.calls] == NAMES[:1]


@pytest.mark.parametrize("answer", [None, ["a"], "value of s000", {NAMES[0]: "value of s000", NAMES[1]: 5}])
async def test_a_malformed_response_is_told_without_the_value(answer: Any) -> None:
    """A source's mistake is an error for each id, and shows no value."""
    cache = SecretCache(AnsweringSource(answer), batch=True)

    results = await cache.get_many(*NAMES[:2], return_exceptions=True)

    for name, result in results.items():
        assert isinstance(result, SecretUnavailableError)
        assert result.secret_id == name
        assert "returned" in str(result)
        assert "value of" not in str(result)


async def test_a_foreign_exception_of_a_batch_is_told_by_type_alone() -> None:
    """It may hold the values."""
    cache = SecretCache(AnsweringSource(ValueError("canary")), batch=True)

    results = await cache.get_many(*NAMES[:2], return_exceptions=True)

    for name, result in results.items():
        assert f"{name!r}" in str(result)
        assert "2 secrets raised ValueError at" in str(result)
        assert "canary" not in str(result)


async def test_an_id_whose_result_is_none_is_retried_and_then_an_error() -> None:
    """None means a cancelled fetch, which no caller may take for a value."""
    cache = SecretCache(AnsweringSource(dict.fromkeys(NAMES[:2])), batch=True)

    results = await cache.get_many(*NAMES[:2], return_exceptions=True)

    assert [type(result) for result in results.values()] == [SecretUnavailableError] * 2


# Time


@pytest.mark.virtual_time
async def test_a_batch_and_its_single_gets_share_one_time_out(source: InMemorySource) -> None:
    """Falling back doesn't start the clock anew, nor does a slot of the source for which they wait."""
    loop = asyncio.get_running_loop()
    cache = observe.new_cache(source, monotonic=loop.time, batch=True, fetch_timeout=10)
    source.fail_batches(SecretThrottledError("slow down"))
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:2], return_exceptions=True))
    await asyncio.sleep(6)
    source.resume()
    source.pause()
    await until(lambda: len(source.calls) == 2)
    for fetch in observe.running(cache):
        fetch.task.timeout.pause()
        fetch.task.timeout.resume()

    for result in (await many).values():
        assert isinstance(result, SecretUnavailableError)
        assert "took longer than 10 s" in str(result)
    assert loop.time() == pytest.approx(10)


@pytest.mark.virtual_time
async def test_each_caller_of_a_batch_has_its_own_deadline(cache: SecretCache, source: InMemorySource) -> None:
    """The deadline of one invocation ends its wait, not the batch."""
    source.pause()
    token = invocation_deadline.set(Deadline(0, asyncio.get_running_loop().time))
    results = await cache.get_many(*NAMES[:3], return_exceptions=True)
    invocation_deadline.reset(token)
    assert all("deadline" in str(result) for result in results.values())
    source.resume()

    assert values(await cache.get_many(*NAMES[:3])) == expected(NAMES[:3])
    assert len(source.batches) == 1


async def test_a_batch_that_slept_through_a_freeze_is_not_joined(source: InMemorySource, clock: ManualClock) -> None:
    """All its waiters come back for a new one."""
    cache = SecretCache(source, batch=True, clock=clock)
    source.pause()
    before = asyncio.create_task(cache.get_many(*NAMES[:3]))
    await until(lambda: source.batches)
    clock.advance(3600)
    after = asyncio.create_task(cache.get_secret(NAMES[0]))
    await until(lambda: len(source.calls) == 1 and len(source.batches) == 2)
    source.resume()

    assert values(await before) == expected(NAMES[:3])
    assert await after == f"value of {NAMES[0]}"


@pytest.mark.virtual_time
async def test_a_batch_that_needs_one_of_its_secrets_ends_with_its_time_out() -> None:
    """A source whose batch reads through the cache what it is to fetch waits for itself."""

    class Reentrant(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
            if NAMES[1] in secret_ids:
                await own.get(NAMES[5])
                await own.get_many(NAMES[0])
            return await super().fetch_batch(secret_ids)

    own = SecretCache(Reentrant(expected(NAMES)), batch=True)

    results = await own.get_many(*NAMES[:3], return_exceptions=True)

    assert all(isinstance(result, SecretUnavailableError) for result in results.values())
    assert all("3 secrets took longer than 10 s" in str(result) for result in results.values())
    assert asyncio.get_running_loop().time() == pytest.approx(10)


def test_a_batch_of_a_closed_loop_is_never_awaited(cache: SecretCache, source: InMemorySource) -> None:
    """The next loop fetches anew."""
    source.pause()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.get_many(*NAMES[:3]))
    loop.run_until_complete(until(lambda: source.batches))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own task
    loop.close()
    source.resume()

    assert values(asyncio.run(cache.get_many(*NAMES[:3]))) == expected(NAMES[:3])
    assert len(source.batches) == 2


# Clocks that raise


class FragileClock(ManualClock):
    """Raises while it is broken, or at the reading that the test names."""

    is_broken = False
    readings_left = -1

    def __call__(self) -> float:
        self.readings_left -= 1
        if self.is_broken or self.readings_left == 0:
            raise ArithmeticError
        return super().__call__()


@pytest.mark.parametrize("refusal", [None, SecretThrottledError("slow down")], ids=["answered", "refused"])
async def test_a_clock_that_raises_hangs_no_waiter_of_a_batch(
    source: InMemorySource, refusal: SecretCacheError | None
) -> None:
    """While the results are stored, and while a refused batch falls back to single gets."""
    cache = SecretCache(source, batch=True, clock=(clock := FragileClock()))
    if refusal is not None:
        source.fail_batches(refusal)
    source.pause()
    many = asyncio.create_task(cache.get_many(*NAMES[:5]))
    await until(lambda: source.batches)
    clock.is_broken = True
    source.resume()

    assert values(await asyncio.wait_for(many, 5)) == expected(NAMES[:5])


@pytest.mark.parametrize("readings", range(1, 5))
async def test_a_clock_that_raises_as_a_batch_starts_leaves_no_fetch_behind(
    source: InMemorySource, readings: int
) -> None:
    """A fetch without a task would be joined by later callers and never end."""
    cache = SecretCache(source, batch=True, clock=(clock := FragileClock()))
    source.pause()
    single = asyncio.create_task(cache.get(NAMES[2]))
    await until(lambda: source.calls)
    clock.readings_left = readings
    many = asyncio.create_task(cache.get_many(*NAMES[:3], return_exceptions=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.resume()
    await asyncio.wait([many, single], timeout=5)
    clock.readings_left = -1

    assert values(await asyncio.wait_for(cache.get_many(*NAMES[:3]), 5)) == expected(NAMES[:3])
    assert not observe.running(cache)
