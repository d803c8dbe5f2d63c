"""batch=True: several secrets with one call, each of them one flight as any other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretErrorGroup,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
    _cache,
)
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAMES = [f"s{number:03}" for number in range(45)]


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({name: f"value of {name}" for name in NAMES})


@pytest.fixture
def cache(source: InMemorySource) -> SecretCache:
    return SecretCache(source, batch=True)


def values(secrets: Mapping[str, Secret]) -> dict[str, str | None]:
    return {name: secret.secret_string for name, secret in secrets.items()}


def expected(names: Sequence[str]) -> dict[str, str]:
    return {name: f"value of {name}" for name in names}


@pytest.mark.every_loop
async def test_misses_are_fetched_in_batches_of_twenty(cache: SecretCache, source: InMemorySource) -> None:
    """45 secrets are three calls, and a second time none."""
    for _ in range(2):
        assert values(await cache.get_many(NAMES)) == expected(NAMES)

    assert [len(batch) for batch in source.batches] == [20, 20, 5]
    assert not source.calls


async def test_a_single_secret_and_one_left_over_are_single_gets(cache: SecretCache, source: InMemorySource) -> None:
    """A batch of one would cost another permission for nothing."""
    await cache.get(NAMES[0])
    await cache.get_many(NAMES[:2])
    await cache.get_many(NAMES[:23])

    assert [call.secret_id for call in source.calls] == [NAMES[0], NAMES[1], NAMES[22]]
    assert source.batches == [tuple(NAMES[2:22])]


async def test_only_what_isnt_fresh_is_in_the_batch(cache: SecretCache, source: InMemorySource) -> None:
    """What is in memory, or on its way already, costs no place in it."""
    await cache.get(NAMES[0])
    source.pause()
    alone = asyncio.create_task(cache.get(NAMES[1]))
    await until(lambda: len(source.calls) == 2)
    many = asyncio.create_task(cache.get_many(NAMES[:5]))
    await until(lambda: source.batches)
    source.resume()

    assert values(await many) == expected(NAMES[:5])
    assert (await alone).name == NAMES[1]
    assert source.batches == [tuple(NAMES[2:5])]


async def test_prefetch_and_secrets_with_references_come_in_batches(cache: SecretCache, source: InMemorySource) -> None:
    """All that is built on get_many has its batches."""
    await cache.prefetch(*NAMES[:3])

    assert source.batches == [tuple(NAMES[:3])]


async def test_versions_go_single(cache: SecretCache, source: InMemorySource) -> None:
    """A batch can ask for current versions alone."""
    requests = [SecretRequest.of(NAMES[0], "AWSCURRENT", (await cache.get(NAMES[0])).version_id)]
    requests += [SecretRequest.of(name) for name in NAMES[1:3]]

    await cache._reader.read_many(requests)

    assert source.calls[-1] == requests[0]
    assert source.batches == [tuple(NAMES[1:3])]


async def test_an_error_of_one_id_reaches_those_who_asked_for_it(cache: SecretCache, source: InMemorySource) -> None:
    """The others have their values, which are kept; a concurrent single get of the failing id fails likewise."""
    source.fail(SecretAccessDeniedError("no", secret_id=NAMES[1]), NAMES[1])
    source.pause()
    many = asyncio.create_task(cache.get_many([*NAMES[:3], "missing"], return_exceptions=True))
    await until(lambda: source.batches)
    single = [asyncio.create_task(cache.get_secret(name)) for name in NAMES[:3]]
    other = asyncio.create_task(cache.get_many([NAMES[0], NAMES[1]]))
    await asyncio.sleep(0)
    source.resume()

    outcomes = await many
    assert [type(outcomes[name]) for name in [*NAMES[:3], "missing"]] == [
        Secret,
        SecretAccessDeniedError,
        Secret,
        SecretNotFoundError,
    ]
    assert await single[0] == f"value of {NAMES[0]}"
    with pytest.raises(SecretAccessDeniedError) as caught:
        await single[1]
    assert caught.value is not outcomes[NAMES[1]]
    with pytest.raises(SecretErrorGroup, match="1 of 2"):
        await other
    assert len(source.batches) == 1
    assert not source.calls


@pytest.mark.every_loop
async def test_cancelling_the_caller_that_came_first_harms_no_other(cache: SecretCache, source: InMemorySource) -> None:
    """Single gets and other get_manys that joined its batch have their values, with no further call."""
    source.pause()
    first = asyncio.create_task(cache.get_many(NAMES[:20]))
    await until(lambda: source.batches)
    single = asyncio.create_task(cache.get_secret(NAMES[3]))
    other = asyncio.create_task(cache.get_many(NAMES[5:7]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    source.resume()

    assert first.cancelled()
    assert await single == f"value of {NAMES[3]}"
    assert values(await other) == expected(NAMES[5:7])
    assert len(source.batches) == 1
    assert not source.calls


async def test_a_batch_that_nobody_wants_is_cancelled(cache: SecretCache, source: InMemorySource) -> None:
    """And the next caller starts afresh."""
    source.pause()
    callers: list[asyncio.Task[Any]] = [
        asyncio.create_task(cache.get_many(NAMES[:20])),
        asyncio.create_task(cache.get_secret(NAMES[3])),
    ]
    await until(lambda: source.batches)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert not cache._flights._all()
    source.resume()

    await cache.get_many(NAMES[:20])
    assert len(source.batches) == 2


async def test_a_batch_that_nobody_wants_falls_back_to_nothing() -> None:
    """Not even where the source doesn't heed its cancellation, and refuses the batch instead."""

    class Stubborn(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
            self.batches.append(tuple(secret_ids))
            try:
                await asyncio.Event().wait()
            finally:
                raise SecretThrottledError("slow down")

    source = Stubborn(dict.fromkeys(NAMES, "value"))
    cache = SecretCache(source, batch=True)
    caller = asyncio.create_task(cache.get_many(NAMES[:2]))
    await until(lambda: source.batches)
    caller.cancel()
    await asyncio.wait([caller])
    await until(lambda: not cache._flights._all())

    assert caller.cancelled()
    assert not source.calls


async def test_a_refresh_joins_no_batch(cache: SecretCache, source: InMemorySource) -> None:
    """It began before whatever made the caller ask for a refresh; the other way round a get_many joins the refresh."""
    source.pause()
    many = asyncio.create_task(cache.get_many(NAMES[:2]))
    await until(lambda: source.batches)
    refresh = asyncio.create_task(cache.refresh(NAMES[0]))
    await until(lambda: source.calls)
    later = asyncio.create_task(cache.get_many(NAMES[:2]))
    await asyncio.sleep(0)
    source.resume()

    await asyncio.gather(many, refresh, later)
    assert len(source.batches) == len(source.calls) == 1


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
    """Whoever joined has the value as if nothing had been."""
    source.fail_batches(error)
    source.pause()
    many = asyncio.create_task(cache.get_many(NAMES[:20]))
    await until(lambda: source.batches)
    joined = asyncio.create_task(cache.get_secret(NAMES[7]))
    await asyncio.sleep(0)
    source.resume()

    assert values(await many) == expected(NAMES[:20])
    assert await joined == f"value of {NAMES[7]}"
    assert len(source.batches) == 1
    assert sorted(call.secret_id for call in source.calls) == NAMES[:20]


async def test_a_denied_batch_is_not_tried_again_and_says_what_to_allow(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """A permission doesn't come within the life of an environment; the log tells it once."""
    source.fail_batches(SecretAccessDeniedError("allow secretsmanager:BatchGetSecretValue"))
    with caplog.at_level(logging.INFO, "asecretcache"):
        await cache.get_many(NAMES)
        await cache.get_many([*NAMES, "missing"], return_exceptions=True)

    # The batches that were sent at the same time are denied too.
    assert len(source.batches) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "BatchGetSecretValue" in caplog.text


async def test_a_throttled_batch_is_tried_again_next_time(cache: SecretCache, source: InMemorySource) -> None:
    """That passes."""
    source.fail_batches(SecretThrottledError("slow down"))
    await cache.get_many(NAMES[:3])
    source.recover()
    cache.clear()

    await cache.get_many(NAMES[:3])
    assert len(source.batches) == 2


@pytest.mark.parametrize("error", [SecretUnavailableError("timed out"), ConfigurationError("no region")])
async def test_what_is_down_or_not_set_up_gets_no_single_calls(
    cache: SecretCache, source: InMemorySource, error: SecretCacheError
) -> None:
    """They would multiply the load for the same failure; each caller has an error that names its secret."""
    source.fail_batches(error)

    outcomes = await cache.get_many(NAMES[:3], return_exceptions=True)

    assert not source.calls
    for name, outcome in outcomes.items():
        assert isinstance(outcome, type(error))
        assert outcome.secret_id == name
        assert repr(name) in str(outcome)
        assert str(error) in str(outcome)


async def test_an_error_that_names_its_secret_is_passed_on_as_it_is(cache: SecretCache, source: InMemorySource) -> None:
    """A source may raise what it raises for one."""
    group = SecretErrorGroup("two", [SecretUnavailableError("a"), SecretUnavailableError("b")])
    for error in (SecretUnavailableError("its own", secret_id="x"), group):
        source.fail_batches(error)
        source.fail(SecretUnavailableError("single"), times=float("inf"))
        with pytest.raises(SecretErrorGroup) as caught:
            await cache.get_many(NAMES[:2])
        assert len(caught.value.exceptions) == 2


async def test_an_id_that_the_answer_lacks_is_fetched_by_itself() -> None:
    """What a batch leaves out isn't lost."""

    class Forgetful(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
            return await super().fetch_batch(secret_ids[1:])

    source = Forgetful({name: f"value of {name}" for name in NAMES})

    assert values(await SecretCache(source, batch=True).get_many(NAMES[:3])) == expected(NAMES[:3])
    assert [call.secret_id for call in source.calls] == NAMES[:1]


@pytest.mark.parametrize("answer", [None, ["a"], "value of s000", {NAMES[0]: "value of s000", NAMES[1]: None}])
async def test_a_source_that_returns_nonsense_is_told_without_the_value(answer: Any) -> None:
    """Its author's mistake is an error for each id, and shows no value."""

    class Broken(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Any:
            return answer

    outcomes = await SecretCache(Broken(), batch=True).get_many(NAMES[:2], return_exceptions=True)

    for name, outcome in outcomes.items():
        assert isinstance(outcome, SecretUnavailableError)
        assert outcome.secret_id == name
        assert "value of" not in str(outcome)


async def test_what_a_source_raises_in_a_batch_is_told_by_type_alone() -> None:
    """It may hold the values."""

    class Broken(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Any:
            raise ValueError("canary")

    outcomes = await SecretCache(Broken(), batch=True).get_many(NAMES[:2], return_exceptions=True)

    for name, outcome in outcomes.items():
        assert f"{name!r}" in str(outcome)
        assert "2 secrets raised ValueError at" in str(outcome)
        assert "canary" not in str(outcome)


async def test_a_batch_and_its_single_gets_share_one_time_out(source: InMemorySource) -> None:
    """Falling back doesn't start the clock anew."""
    cache = SecretCache(source, batch=True, fetch_timeout=0.05)
    source.fail_batches(SecretThrottledError("slow down"))
    source.pause()
    many = asyncio.create_task(cache.get_many(NAMES[:2], return_exceptions=True))
    await until(lambda: source.batches)
    timer = cache._flights._all()[0].carrier.timer
    due = timer._timeout.when()
    source.resume()
    source.pause()
    await until(lambda: len(source.calls) == 2)
    timers = {flight.carrier.timer for flight in cache._flights._all()}

    assert [each._timeout.when() for each in timers] == [due, due]
    # A source that counts the time in line for a slot apart changes nothing of it.
    for each in timers:
        each.pause()
        each.resume()
        assert each._timeout.when() == due
    for outcome in (await many).values():
        assert isinstance(outcome, SecretUnavailableError)
        assert "took longer than" in str(outcome)


async def test_each_caller_has_its_own_deadline(cache: SecretCache, source: InMemorySource) -> None:
    """The deadline of one invocation ends its wait, not the batch."""
    source.pause()
    invocation_deadline.set(Deadline(asyncio.get_running_loop().time()))
    outcomes = await cache.get_many(NAMES[:3], return_exceptions=True)
    invocation_deadline.set(None)
    assert all("deadline" in str(outcome) for outcome in outcomes.values())
    source.resume()

    assert values(await cache.get_many(NAMES[:3])) == expected(NAMES[:3])
    assert len(source.batches) == 1


async def test_a_batch_that_slept_through_a_freeze_is_not_joined(source: InMemorySource) -> None:
    """All its waiters come back for a new one."""
    clock = ManualClock()
    cache = SecretCache(source, batch=True, clock=clock)
    source.pause()
    before = asyncio.create_task(cache.get_many(NAMES[:3]))
    await until(lambda: source.batches)
    clock.advance(3600)
    after = asyncio.create_task(cache.get_secret(NAMES[0]))
    await until(lambda: len(source.calls) == 1 and len(source.batches) == 2)
    source.resume()

    assert values(await before) == expected(NAMES[:3])
    assert await after == f"value of {NAMES[0]}"


def test_a_batch_of_a_closed_loop_is_never_awaited(cache: SecretCache, source: InMemorySource) -> None:
    """The next loop fetches anew."""
    source.pause()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.get_many(NAMES[:3]))
    loop.run_until_complete(until(lambda: source.batches))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own task
    loop.close()
    source.resume()

    assert values(asyncio.run(cache.get_many(NAMES[:3]))) == expected(NAMES[:3])
    assert len(source.batches) == 2


async def test_a_batch_that_needs_one_of_its_secrets_fails_instead_of_hanging() -> None:
    """A source whose batch asks the cache for what it is to fetch would wait for itself."""

    class Reentrant(InMemorySource):
        async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
            if NAMES[1] in secret_ids:
                await its_own.get(NAMES[5])
                await its_own.get_many(NAMES[:1])
            return await super().fetch_batch(secret_ids)

    its_own = SecretCache(Reentrant({name: f"value of {name}" for name in NAMES}), batch=True)

    outcomes = await asyncio.wait_for(its_own.get_many(NAMES[:3], return_exceptions=True), 5)

    assert all(isinstance(outcome, ConfigurationError) for outcome in outcomes.values())
    assert all("wait for itself" in str(outcome) for outcome in outcomes.values())


async def test_many_fetches_that_need_each_other_are_told_without_a_trace() -> None:
    """A get_many that is refused has started none of its fetches."""

    class Reentrant(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if request.secret_id == NAMES[0]:
                await its_own.get_many([NAMES[1], NAMES[0]])
            return await super().fetch(request)

    its_own = SecretCache(source := Reentrant(dict.fromkeys(NAMES, "v")))
    with pytest.raises(ConfigurationError, match="wait for itself"):
        await its_own.get(NAMES[0])

    assert not its_own._flights._all()
    assert not source.calls


def test_a_source_without_batches_is_refused_with_batch() -> None:
    """At construction, as is what isn't a bool."""

    class Single:
        async def fetch(self, request: SecretRequest) -> Secret:
            raise NotImplementedError

        async def aclose(self) -> None:
            pass

    SecretCache(Single())
    with pytest.raises(ConfigurationError, match="fetch_batch, which Single lacks"):
        SecretCache(Single(), batch=True)
    with pytest.raises(ConfigurationError, match="batch"):
        SecretCache(InMemorySource(), batch=20)  # type: ignore[arg-type]  # the mistake


async def test_a_refused_batch_fetches_only_what_is_still_wanted(cache: SecretCache, source: InMemorySource) -> None:
    """Those who left are no reason for calls, least of all when there are too many."""
    source.fail_batches(SecretThrottledError("slow down"))
    source.pause()
    many = asyncio.create_task(cache.get_many(NAMES[:20]))
    await until(lambda: source.batches)
    one = asyncio.create_task(cache.get_secret(NAMES[3]))
    await asyncio.sleep(0)
    many.cancel()
    await asyncio.wait([many])
    source.resume()

    assert await one == f"value of {NAMES[3]}"
    assert [call.secret_id for call in source.calls] == [NAMES[3]]
    assert not cache._flights._all()


async def test_all_waiters_of_a_batch_are_woken_whatever_happens_in_storing(source: InMemorySource) -> None:
    """A clock of a user's that raises hangs nobody."""
    is_broken = False

    def clock() -> float:
        if is_broken:
            raise ArithmeticError
        return 0.0

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    cache = SecretCache(source, batch=True, clock=clock)
    source.pause()
    many = asyncio.create_task(cache.get_many(NAMES[:5]))
    await until(lambda: source.batches)
    is_broken = True
    source.resume()

    assert values(await asyncio.wait_for(many, 5)) == expected(NAMES[:5])


def test_a_fork_doesnt_forget_that_batches_are_denied(cache: SecretCache, source: InMemorySource) -> None:
    """The child has the permissions of the parent."""
    source.fail_batches(SecretAccessDeniedError("no batches"))
    asyncio.run(cache.get_many(NAMES[:2]))
    _cache._after_fork()
    asyncio.run(cache.get_many(NAMES[2:4]))

    assert len(source.batches) == 1
