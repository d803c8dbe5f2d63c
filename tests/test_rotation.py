"""call_with_secret: one call with what is in memory, and one more with what has replaced it."""

from __future__ import annotations

import asyncio
import itertools
import traceback
from typing import Any

import pytest

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretFormatError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME = "prod/db"


class RefusedError(Exception):
    """The database's."""


class Database:
    """Accepts one password at a time, and knows how often it was asked."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.asked: list[str | None] = []

    async def connect(self, secret: Secret) -> str:
        self.asked.append(secret.secret_string)
        await asyncio.sleep(0)
        if secret.secret_string != self.password:
            raise RefusedError
        return f"connected with {secret.version_id[-1]}"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: "one"})


@pytest.fixture
def database() -> Database:
    return Database("one")


@pytest.fixture
def cache(source: InMemorySource) -> SecretCache:
    return SecretCache(source)


def sped_up(cache: SecretCache, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Let waiting take no time, on a clock that waiting moves."""
    clock = ManualClock(0.0)
    cache._flights.monotonic = clock
    sleep = asyncio.sleep

    async def pass_quickly(seconds: float) -> None:
        clock.advance(seconds)
        await sleep(0)

    monkeypatch.setattr("asecretcache._core.rotation.asyncio.sleep", pass_quickly)
    return clock


async def test_what_works_is_called_once(cache: SecretCache, source: InMemorySource, database: Database) -> None:
    """With the secret in memory."""
    for _ in range(2):
        assert await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError) == "connected with 1"

    assert len(source.calls) == 1
    assert database.asked == ["one", "one"]


@pytest.mark.every_loop
async def test_after_a_rotation_it_is_called_once_more_with_the_new_version(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """One refresh; from then on the new version is in memory."""
    await cache.get(NAME)
    source.rotate(NAME, "two")
    database.password = "two"

    for _ in range(2):
        assert await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError) == "connected with 2"

    assert database.asked == ["one", "two", "two"]
    assert len(source.calls) == 2


async def test_all_whose_call_fails_at_the_same_time_share_one_refresh(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """However many they are, and also those that fail a little later."""
    await cache.get(NAME)
    source.rotate(NAME, "two")
    database.password = "two"
    source.pause()
    callers = [
        asyncio.create_task(cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)) for _ in range(200)
    ]
    await until(lambda: len(source.calls) == 2)
    late = asyncio.create_task(cache.call_with_secret(NAME, database.connect, refresh_on=(RefusedError, OSError)))
    await until(lambda: len(database.asked) == 201)
    source.resume()

    assert set(await asyncio.gather(*callers, late)) == {"connected with 2"}
    assert len(source.calls) == 2


async def test_a_newer_version_in_memory_costs_no_refresh(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """Somebody else has fetched it while this call was under way."""

    async def overtaken(secret: Secret) -> str:
        if not database.asked:
            source.rotate(NAME, "two")
            database.password = "two"
            await cache.refresh(NAME)
        return await database.connect(secret)

    assert await cache.call_with_secret(NAME, overtaken, refresh_on=RefusedError) == "connected with 2"
    assert len(source.calls) == 2


async def test_while_the_label_is_behind_it_is_refreshed_less_and_less_often(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has the new password already; the label follows a second later, and nobody sees a failure."""
    clock = sped_up(cache, monkeypatch)
    await cache.get(NAME)
    database.password = "two"
    fetch = source.fetch

    async def fetch_with_label(request: Any) -> Secret:
        if clock.now >= 1.0 and len(source._versions[NAME]) == 1:
            source.rotate(NAME, "two")
        return await fetch(request)

    cache._flights.fetches.one = fetch_with_label
    callers = [cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError) for _ in range(50)]

    assert set(await asyncio.gather(*callers)) == {"connected with 2"}
    assert len(source.calls) <= 1 + 6


async def test_patience_ends_with_the_functions_own_error(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new version comes: what the function raised is raised, as it was, and no pause goes on beyond it."""
    clock = sped_up(cache, monkeypatch)
    database.password = "something else"
    raised = RefusedError("as it was")

    async def refuse(secret: Secret) -> None:
        raise raised

    with pytest.raises(RefusedError) as caught:
        await cache.call_with_secret(NAME, refuse, refresh_on=RefusedError, patience=0.35)

    assert caught.value is raised
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert clock.now == pytest.approx(0.35)
    # At once, and after 0.1 and 0.2 s more.
    assert len(source.calls) == 1 + 3


async def test_patience_ends_though_each_refresh_takes_longer_than_the_pause_after_it(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Secrets Manager that hangs keeps nobody for ever."""
    clock = sped_up(cache, monkeypatch)
    await cache.get(NAME)
    database.password = "something else"

    async def hang(request: Any) -> Secret:
        source.calls.append(request)
        clock.advance(3.0)
        raise SecretUnavailableError("it took too long")

    cache._flights.fetches.one = hang
    async with asyncio.timeout(5):
        with pytest.raises(RefusedError):
            await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=5.0)

    # The last one that begins within the patience ends after it.
    assert len(source.calls) == 1 + 2


async def test_what_has_come_by_another_way_is_seen_when_the_patience_ends(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """A plain fetch has brought the new version, while the refresh that was waited for hung."""
    arn = (await cache.get(NAME)).arn
    source.rotate(NAME, "two")
    database.password = "two"
    source.pause()
    caller = asyncio.create_task(cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=0.05))
    await until(lambda: len(source.calls) == 2)
    source._paused = False
    cache._store.drop(NAME)
    # By the ARN, because a read by the name would join the refresh; and then it is shown to be the name's.
    await cache.get(arn)
    await cache.get(NAME, version_stage="AWSPREVIOUS")

    assert await caller == "connected with 2"
    source.resume()


async def test_without_patience_there_is_one_refresh(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """patience=0 is for those who can't wait."""
    database.password = "something else"
    with pytest.raises(RefusedError):
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=0)

    assert len(source.calls) == 2
    assert database.asked == ["one"]


async def test_no_wait_outlasts_the_invocation(cache: SecretCache, database: Database) -> None:
    """Then there is no time for more refreshes."""
    await cache.get(NAME)
    database.password = "something else"
    invocation_deadline.set(Deadline(asyncio.get_running_loop().time() + 0.05))

    async with asyncio.timeout(2):
        with pytest.raises(RefusedError):
            await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=60)


async def test_a_second_refusal_is_raised(cache: SecretCache, source: InMemorySource, database: Database) -> None:
    """Once more means once."""
    await cache.get(NAME)
    source.rotate(NAME, "two")
    database.password = "three"

    with pytest.raises(RefusedError):
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)
    assert database.asked == ["one", "two"]


async def test_any_other_error_is_raised_at_once(cache: SecretCache, source: InMemorySource) -> None:
    """Only refresh_on speaks of the secret."""

    async def fail(secret: Secret) -> None:
        raise OSError

    with pytest.raises(OSError):
        await cache.call_with_secret(NAME, fail, refresh_on=RefusedError)
    assert len(source.calls) == 1


@pytest.mark.parametrize("error", [SecretUnavailableError("down"), SecretThrottledError("slow down")])
async def test_a_refresh_that_fails_for_a_moment_is_tried_again(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    """It may come to be within the patience."""
    sped_up(cache, monkeypatch)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    database.password = "two"
    source.fail(error, times=2)

    assert await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError) == "connected with 2"
    assert len(source.calls) == 4


@pytest.mark.parametrize("error", [SecretAccessDeniedError("no"), SecretNotFoundError("gone")])
async def test_a_refresh_that_is_refused_ends_with_the_functions_own_error(
    cache: SecretCache, source: InMemorySource, database: Database, error: Any
) -> None:
    """That is what the caller can handle."""
    await cache.get(NAME)
    database.password = "two"
    source.fail(error)

    with pytest.raises(RefusedError):
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)
    assert len(source.calls) == 2


async def test_no_secret_at_all_is_the_caches_error(cache: SecretCache, database: Database) -> None:
    """As by get."""
    with pytest.raises(SecretNotFoundError):
        await cache.call_with_secret("missing", database.connect, refresh_on=RefusedError)


async def test_callers_that_come_later_keep_the_pace_and_after_a_minute_begin_anew(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that is wrong for good costs a refresh every two seconds at most, whoever asks."""
    clock = sped_up(cache, monkeypatch)
    database.password = "something else"

    async def call(patience: float) -> None:
        with pytest.raises(RefusedError):
            await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=patience)

    await call(10)
    calls = len(source.calls)
    for _ in range(20):
        await call(0)
    assert len(source.calls) <= calls + 1

    clock.advance(70)
    calls = len(source.calls)
    await call(0.35)
    assert len(source.calls) == calls + 3


async def test_a_name_and_its_arn_share_the_pace(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks by the other id refreshes no more often for it."""
    sped_up(cache, monkeypatch)
    arn = (await cache.get(NAME)).arn
    database.password = "something else"

    async def call(secret_id: str, patience: float) -> None:
        with pytest.raises(RefusedError):
            await cache.call_with_secret(secret_id, database.connect, refresh_on=RefusedError, patience=patience)

    await call(NAME, 10)
    calls = len(source.calls)
    await call(arn, 0)

    assert len(source.calls) == calls


async def test_no_pause_is_longer_than_a_second(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is patient gets the new version soon after it has come."""
    clock = sped_up(cache, monkeypatch)
    await cache.get(NAME)
    database.password = "something else"
    asked: list[float] = []

    async def fetch(request: Any) -> Secret:
        asked.append(clock.now)
        return await source.fetch(request)

    cache._flights.fetches.one = fetch
    with pytest.raises(RefusedError):
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=30.0)

    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, *[1.0] * (len(pauses) - 4)])
    assert len(pauses) > 25


async def test_a_refresh_that_slept_through_a_freeze_is_none_to_join(source: InMemorySource) -> None:
    """Who would join it starts another, and keeps the pace as anybody who does."""
    clock = ManualClock()
    cache = SecretCache(source, clock=clock, fetch_timeout=10)
    source.pause()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: source.calls)
    assert cache._reader.is_refreshing(SecretRequest(NAME))

    clock.advance(11)

    assert not cache._reader.is_refreshing(SecretRequest(NAME))
    source.resume()
    await refresh


async def test_after_a_new_version_the_pace_begins_anew(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation that follows another at once is met without a pause."""
    clock = sped_up(cache, monkeypatch)
    await cache.get(NAME)
    for password in ("two", "three", "four"):
        source.rotate(NAME, password)
        database.password = password
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)

    assert clock.now == 0.0


def test_what_is_left_of_a_pause_may_be_too_little_to_wait_for(cache: SecretCache) -> None:
    """No clock may move for less than a microsecond, and who waited for it would ask for ever."""
    now = 0.0
    cache._flights.monotonic = lambda: now
    assert cache._rotations._claim(NAME) == 0.0

    now = 0.1 - 1e-7

    assert cache._rotations._claim(NAME) == 0.0
    assert cache._rotations._claim(NAME) > 0.1


async def test_what_is_remembered_of_paces_is_bounded(source: InMemorySource) -> None:
    """The oldest is forgotten."""
    cache = SecretCache(source, max_size=2)
    for name in "abcd":
        cache._rotations._claim(name)

    assert list(cache._rotations._paces) == ["c", "d"]


async def test_an_arn_is_its_names(cache: SecretCache, source: InMemorySource, database: Database) -> None:
    """Refreshes by either are the same refreshes."""
    arn = (await cache.get(NAME)).arn
    source.rotate(NAME, "two")
    database.password = "two"
    source.pause()
    callers = [
        asyncio.create_task(cache.call_with_secret(each, database.connect, refresh_on=RefusedError))
        for each in (NAME, arn)
    ]
    await until(lambda: len(source.calls) == 2)
    await until(lambda: len(database.asked) == 2)
    source.resume()

    assert set(await asyncio.gather(*callers)) == {"connected with 2"}
    assert len(source.calls) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"function": "connect"}, "function is called"),
        ({"refresh_on": "RefusedError"}, "refresh_on is"),
        ({"refresh_on": ()}, "refresh_on is"),
        ({"refresh_on": BaseException}, "refresh_on is"),
        ({"refresh_on": RefusedError("x")}, "refresh_on is"),
        ({"patience": -1}, "patience"),
        ({"secret_id": "a:b"}, "colon"),
    ],
)
async def test_a_mistake_is_told_before_anything_is_done(
    cache: SecretCache, source: InMemorySource, arguments: dict[str, Any], says: str
) -> None:
    """Not when the database refuses."""
    right: dict[str, Any] = {"secret_id": NAME, "function": Database("x").connect, "refresh_on": RefusedError}
    with pytest.raises(ConfigurationError, match=says):
        await cache.call_with_secret(**(right | arguments))
    assert not source.calls


async def test_no_frame_shows_the_value(source: InMemorySource) -> None:
    """The function's error passes through ours."""
    source.rotate(NAME, "canary-hunter2")
    cache = SecretCache(source)

    async def refuse(secret: Secret) -> None:
        raise SecretFormatError

    with pytest.raises(SecretFormatError) as caught:
        await cache.call_with_secret(NAME, refuse, refresh_on=SecretFormatError, patience=0)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "canary" not in shown


async def test_the_patience_is_used_to_its_end(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that comes shortly before it is over is not missed."""
    clock = sped_up(cache, monkeypatch)
    await cache.get(NAME)
    database.password = "two"
    fetch = source.fetch

    async def fetch_with_label(request: Any) -> Secret:
        if clock.now >= 4.0 and len(source._versions[NAME]) == 1:
            source.rotate(NAME, "two")
        return await fetch(request)

    cache._flights.fetches.one = fetch_with_label
    assert await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError) == "connected with 2"


async def test_what_an_earlier_caller_has_learnt_costs_the_next_no_failure(
    cache: SecretCache, source: InMemorySource, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the pause that the other left, and then asks itself."""
    sped_up(cache, monkeypatch)
    await cache.get(NAME)
    database.password = "two"
    with pytest.raises(RefusedError):
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=2)
    source.rotate(NAME, "two")

    call = cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=1.0)
    assert await call == "connected with 2"


async def test_a_refresh_that_hangs_lasts_no_longer_than_the_patience(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """Nor than the invocation, in which it mustn't be asked for again and again."""
    await cache.get(NAME)
    database.password = "two"
    source.pause()
    async with asyncio.timeout(5):
        with pytest.raises(RefusedError):
            await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=0.05)

    invocation_deadline.set(Deadline(asyncio.get_running_loop().time() + 0.05))
    async with asyncio.timeout(5):
        with pytest.raises(RefusedError):
            await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, patience=60)
    assert len(source.calls) <= 4


@pytest.mark.parametrize("forget", ["invalidate", "clear"])
async def test_forgetting_a_secret_forgets_its_pace(cache: SecretCache, forget: str) -> None:
    """Who invalidates wants to begin anew."""
    await cache.get(NAME)
    assert cache._rotations._claim(NAME) == 0.0
    assert cache._rotations._claim(NAME) > 0.0
    if forget == "invalidate":
        cache.invalidate(NAME)
    else:
        cache.clear()

    assert cache._rotations._claim(NAME) == 0.0
