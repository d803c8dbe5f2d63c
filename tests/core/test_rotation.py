"""call_with_secret: one call with the secret in memory, and one more with the version that has replaced it."""

from __future__ import annotations

import asyncio
import itertools
import math
import traceback
from typing import Any
from unittest import mock

import pytest

import observe
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
from asecretcache._core.entries import Entry
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME = "prod/db"


class RefusedError(Exception):
    """The database's."""


class Database:
    """Accepts one password at a time, and remembers what it was asked with."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.asked: list[str | None] = []

    async def connect(self, secret: Secret) -> str:
        self.asked.append(secret.secret_string)
        await asyncio.sleep(0)
        if secret.secret_string != self.password:
            raise RefusedError
        return f"connected with {secret.version_id[-1]}"


class TimedSource(InMemorySource):
    """Remembers by the loop's clock when it was called, and takes some time for each call but the first."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        super().__init__({NAME: "one"})
        self.seconds = seconds
        self.error = error
        self.called_at: list[float] = []

    async def fetch(self, request: SecretRequest) -> Secret:
        self.called_at.append(asyncio.get_running_loop().time())
        if len(self.called_at) > 1:
            await asyncio.sleep(self.seconds)
            if self.error is not None:
                self.calls.append(request)
                raise self.error
        return await super().fetch(request)


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: "one"})


@pytest.fixture
def database() -> Database:
    return Database("one")


@pytest.fixture
def cache(source: InMemorySource) -> SecretCache:
    return SecretCache(source)


def timed_cache(source: InMemorySource, **options: Any) -> SecretCache:
    """Make a cache whose monotonic clock is the running loop's."""
    return observe.new_cache(source, monotonic=asyncio.get_running_loop().time, **options)


async def is_refused(cache: SecretCache, database: Database, refresh_timeout: float, secret_id: str = NAME) -> None:
    """Call with a secret that the database refuses for good."""
    with pytest.raises(RefusedError):
        await cache.call_with_secret(
            secret_id, database.connect, refresh_on=RefusedError, refresh_timeout=refresh_timeout
        )


# One call, and one more


async def test_a_function_that_succeeds_is_called_once(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
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


async def test_a_name_and_its_arn_are_refreshed_apart(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """An id is its own key, so each has a refresh of its own."""
    arn = (await cache.get(NAME)).arn
    await cache.get(arn)
    source.rotate(NAME, "two")
    database.password = "two"

    callers = [cache.call_with_secret(each, database.connect, refresh_on=RefusedError) for each in (NAME, arn)]

    assert set(await asyncio.gather(*callers)) == {"connected with 2"}
    assert [call.secret_id for call in source.calls] == [NAME, arn, NAME, arn]


async def test_a_newer_version_in_memory_costs_no_refresh(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """Another caller has fetched it while this call was running."""

    async def overtaken(secret: Secret) -> str:
        if not database.asked:
            source.rotate(NAME, "two")
            database.password = "two"
            await cache.refresh(NAME)
        return await database.connect(secret)

    assert await cache.call_with_secret(NAME, overtaken, refresh_on=RefusedError) == "connected with 2"
    assert len(source.calls) == 2


async def test_a_second_refusal_is_raised(cache: SecretCache, source: InMemorySource, database: Database) -> None:
    """Once more means once."""
    await cache.get(NAME)
    source.rotate(NAME, "two")
    database.password = "three"

    with pytest.raises(RefusedError):
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)
    assert database.asked == ["one", "two"]


async def test_any_other_error_is_raised_at_once(cache: SecretCache, source: InMemorySource) -> None:
    """Only refresh_on says that the secret is refused."""

    async def fail(secret: Secret) -> None:
        raise OSError

    with pytest.raises(OSError):
        await cache.call_with_secret(NAME, fail, refresh_on=RefusedError)
    assert len(source.calls) == 1


async def test_without_a_secret_it_is_the_caches_error(cache: SecretCache, database: Database) -> None:
    """As by get."""
    with pytest.raises(SecretNotFoundError):
        await cache.call_with_secret("missing", database.connect, refresh_on=RefusedError)
    assert not database.asked


async def test_no_frame_shows_the_value(cache: SecretCache, source: InMemorySource) -> None:
    """The function's error passes through the package's frames."""
    source.rotate(NAME, "canary-hunter2")

    async def refuse(secret: Secret) -> None:
        raise SecretFormatError

    with pytest.raises(SecretFormatError) as caught:
        await cache.call_with_secret(NAME, refuse, refresh_on=SecretFormatError, refresh_timeout=0)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "canary" not in shown


# While no new version comes


@pytest.mark.virtual_time
async def test_while_the_label_is_behind_all_callers_share_few_refreshes(
    source: InMemorySource, database: Database
) -> None:
    """The database has the new password already; the label follows a second later, and no caller sees a failure."""
    cache = timed_cache(source)
    await cache.get(NAME)
    database.password = "two"
    asyncio.get_running_loop().call_later(1.0, source.rotate, NAME, "two")

    callers = [cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError) for _ in range(50)]

    assert set(await asyncio.gather(*callers)) == {"connected with 2"}
    assert len(source.calls) == 1 + 5
    assert asyncio.get_running_loop().time() == pytest.approx(1.5)


@pytest.mark.virtual_time
async def test_the_refresh_timeout_ends_with_the_functions_own_error(source: InMemorySource) -> None:
    """No new version comes: what the function raised is raised, as it was, and no pause goes on beyond the time."""
    cache = timed_cache(source)
    raised = RefusedError("as it was")

    async def refuse(secret: Secret) -> None:
        raise raised

    with pytest.raises(RefusedError) as caught:
        await cache.call_with_secret(NAME, refuse, refresh_on=RefusedError, refresh_timeout=0.35)

    assert caught.value is raised
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert asyncio.get_running_loop().time() == pytest.approx(0.35)
    # At once, and after 0.1 and 0.2 s more.
    assert len(source.calls) == 1 + 3


@pytest.mark.virtual_time
async def test_no_pause_is_longer_than_a_second(database: Database) -> None:
    """A caller that waits gets the new version soon after it has come."""
    cache = timed_cache(source := TimedSource())
    await cache.get(NAME)
    database.password = "something else"

    await is_refused(cache, database, 30.0)

    pauses = [after - before for before, after in itertools.pairwise(source.called_at[1:])]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, *[1.0] * (len(pauses) - 4)])
    assert len(pauses) > 25


async def test_a_cache_closed_meanwhile_ends_with_the_functions_own_error(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """The next refresh isn't made any more."""
    await cache.get(NAME)
    database.password = "two"
    source.pause()
    calling = asyncio.create_task(is_refused(cache, database, 60.0))
    await until(lambda: len(source.calls) == 2)
    closing = asyncio.create_task(cache.aclose())
    source.resume()

    await closing
    await calling

    assert len(source.calls) == 2


@pytest.mark.virtual_time
async def test_the_refresh_timeout_is_used_to_its_end(source: InMemorySource, database: Database) -> None:
    """A version that comes shortly before it is over is not missed."""
    cache = timed_cache(source)
    await cache.get(NAME)
    database.password = "two"
    asyncio.get_running_loop().call_later(4.0, source.rotate, NAME, "two")

    call = cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)

    assert await call == "connected with 2"
    assert asyncio.get_running_loop().time() < 5.0


async def test_without_any_time_there_is_one_refresh(
    cache: SecretCache, source: InMemorySource, database: Database
) -> None:
    """refresh_timeout=0 is for callers that can't wait."""
    database.password = "something else"

    await is_refused(cache, database, 0)

    assert len(source.calls) == 2
    assert database.asked == ["one"]


@pytest.mark.virtual_time
async def test_slow_refreshes_end_with_the_refresh_timeout(database: Database) -> None:
    """A refresh that takes longer than the pause after it doesn't prolong the wait, nor does one that fails."""
    cache = timed_cache(source := TimedSource(3.0, SecretUnavailableError("it took too long")))
    await cache.get(NAME)
    database.password = "something else"

    await is_refused(cache, database, 5.0)

    assert asyncio.get_running_loop().time() == pytest.approx(5.0)
    assert source.called_at == pytest.approx([0.0, 0.0, 3.0])


@pytest.mark.virtual_time
async def test_a_refresh_that_hangs_keeps_no_caller_longer(database: Database) -> None:
    """Than the refresh timeout, nor than the invocation, in which it must not be asked for again and again."""
    cache = timed_cache(source := TimedSource(1000.0))
    await cache.get(NAME)
    database.password = "two"
    await is_refused(cache, database, 2.0)
    assert asyncio.get_running_loop().time() == pytest.approx(2.0)

    invocation_deadline.set(Deadline(3.0, asyncio.get_running_loop().time))
    await is_refused(cache, database, 60.0)
    assert asyncio.get_running_loop().time() == pytest.approx(5.0)
    assert len(source.called_at) <= 4


@pytest.mark.virtual_time
async def test_no_wait_outlasts_the_invocation(source: InMemorySource, database: Database) -> None:
    """Then there is no time for more refreshes."""
    cache = timed_cache(source)
    await cache.get(NAME)
    database.password = "something else"
    invocation_deadline.set(Deadline(0.5, asyncio.get_running_loop().time))

    await is_refused(cache, database, 60.0)

    assert asyncio.get_running_loop().time() == pytest.approx(0.5)
    assert len(source.calls) == 1 + 3


@pytest.mark.virtual_time
async def test_a_version_that_came_by_another_way_is_seen_at_the_end(
    source: InMemorySource, database: Database
) -> None:
    """A fetch on another loop has brought the new version, while the refresh that was waited for hung."""
    cache = timed_cache(source)
    await cache.get(NAME)
    version = source.rotate(NAME, "two")
    database.password = "two"
    source.pause()
    call = cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, refresh_timeout=2.0)
    caller = asyncio.create_task(call)
    await until(lambda: len(source.calls) == 2)
    loader = observe.loader(cache)
    assert loader.store.put(NAME, Entry(version, 10**9, loader.options.clock(), math.inf))

    assert await caller == "connected with 2"
    assert asyncio.get_running_loop().time() == pytest.approx(2.0)
    assert len(source.calls) == 2


@pytest.mark.parametrize(
    ("error", "passwords"), [(SecretNotFoundError("gone"), ["one"]), (SecretUnavailableError("down"), ["one", "two"])]
)
async def test_another_version_in_memory_is_used_if_it_may_be_served(
    source: InMemorySource, database: Database, clock: ManualClock, error: Any, passwords: list[str]
) -> None:
    """One that has expired is refreshed first; it is used on while AWS is down, and not once AWS has refused it."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    secret = await cache.get(NAME)
    database.password = "two"

    async def connect(given: Secret) -> str:
        if given is secret:
            # While it is tried, another task fetches the new version, and that one expires.
            source.rotate(NAME, "two")
            await cache.refresh(NAME)
            clock.advance(11.0)
            source.fail(error)
        return await database.connect(given)

    call = cache.call_with_secret(NAME, connect, refresh_on=RefusedError, refresh_timeout=0.0)
    if len(passwords) == 1:
        with pytest.raises(RefusedError):
            await call
    else:
        assert await call == "connected with 2"

    assert database.asked == passwords
    assert len(source.calls) == 3


@pytest.mark.virtual_time
async def test_a_caller_whose_time_is_up_starts_no_refresh(source: InMemorySource, database: Database) -> None:
    """It has waited for the refreshes of another caller, which an invalidation has ended."""
    cache = timed_cache(source)
    await cache.get(NAME)
    database.password = "two"
    other = asyncio.create_task(is_refused(cache, database, 60.0))
    await asyncio.sleep(0.75)  # Its refreshes were at 0, 0.1, 0.3 and 0.7 s.
    caller = asyncio.create_task(is_refused(cache, database, 0.5))
    await asyncio.sleep(0.1)
    calls = len(source.calls)
    cache.invalidate(NAME)
    source.pause()

    await caller

    assert asyncio.get_running_loop().time() == pytest.approx(1.25)
    assert len(source.calls) == calls
    other.cancel()


@pytest.mark.virtual_time
@pytest.mark.parametrize("error", [SecretUnavailableError("down"), SecretThrottledError("slow down")])
async def test_a_refresh_that_fails_for_a_moment_is_tried_again(
    source: InMemorySource, database: Database, error: Any
) -> None:
    """A later one may succeed within the refresh timeout."""
    cache = timed_cache(source)
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

    await is_refused(cache, database, 5.0)
    assert len(source.calls) == 2


# The schedule that callers share


@pytest.mark.virtual_time
async def test_later_callers_keep_the_schedule_for_a_minute(source: InMemorySource, database: Database) -> None:
    """A password that is wrong for good costs at most a refresh a second, however many callers there are."""
    cache = timed_cache(source)
    database.password = "something else"
    await is_refused(cache, database, 10)
    calls = len(source.calls)
    for _ in range(20):
        await is_refused(cache, database, 0)
    assert len(source.calls) <= calls + 1

    await asyncio.sleep(70)
    calls = len(source.calls)
    await is_refused(cache, database, 0.35)
    assert len(source.calls) == calls + 3


@pytest.mark.virtual_time
async def test_a_later_caller_waits_for_the_next_slot(source: InMemorySource, database: Database) -> None:
    """It waits for the pause that another caller left, and then refreshes itself."""
    cache = timed_cache(source)
    await cache.get(NAME)
    database.password = "two"
    await is_refused(cache, database, 2)
    source.rotate(NAME, "two")

    call = cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError, refresh_timeout=1.0)
    assert await call == "connected with 2"


@pytest.mark.virtual_time
async def test_a_new_version_starts_the_schedule_over(source: InMemorySource, database: Database) -> None:
    """A rotation that follows another at once is met without a pause."""
    cache = timed_cache(source)
    await cache.get(NAME)
    for password in ("two", "three", "four"):
        source.rotate(NAME, password)
        database.password = password
        await cache.call_with_secret(NAME, database.connect, refresh_on=RefusedError)

    assert asyncio.get_running_loop().time() == 0.0


@pytest.mark.virtual_time
@pytest.mark.parametrize("forget", ["invalidate", "invalidate by arn", "clear"])
async def test_invalidating_starts_the_schedule_over(source: InMemorySource, database: Database, forget: str) -> None:
    """Its caller knows that something has changed; another secret's invalidation changes nothing."""
    cache = timed_cache(source)
    arn = (await cache.get(NAME)).arn
    database.password = "something else"
    await is_refused(cache, database, 0)
    cache.invalidate("other")
    await is_refused(cache, database, 0)
    assert cache.stats().refreshes == 1

    if forget == "clear":
        cache.clear()
    else:
        cache.invalidate(NAME if forget == "invalidate" else arn)
    await is_refused(cache, database, 0)

    assert cache.stats().refreshes == 2


async def test_a_pause_too_short_to_wait_for_is_over(source: InMemorySource, database: Database) -> None:
    """A loop's clock may not move for less than a microsecond, so waiting for that would never end."""
    monotonic = ManualClock(0.0)
    cache = observe.new_cache(source, monotonic=monotonic)
    database.password = "something else"
    for now, refreshes in ((0.0, 1), (0.1 - 1e-5, 1), (0.1 - 1e-7, 2), (0.1 + 1e-5, 2)):
        monotonic.now = now
        await is_refused(cache, database, 0)
        assert cache.stats().refreshes == refreshes


async def test_the_oldest_schedule_is_forgotten(database: Database) -> None:
    """At most max_size are remembered."""
    source = InMemorySource(dict.fromkeys("abc", "one"))
    cache = observe.new_cache(source, monotonic=ManualClock(0.0), max_size=2)
    database.password = "something else"
    for name in "abc":
        await is_refused(cache, database, 0, name)
    assert cache.stats().refreshes == 3

    await is_refused(cache, database, 0, "c")
    await is_refused(cache, database, 0, "b")
    assert cache.stats().refreshes == 3
    await is_refused(cache, database, 0, "a")
    assert cache.stats().refreshes == 4


# Arguments


async def test_a_plain_function_is_told_to_be_wrapped(cache: SecretCache) -> None:
    """What it returns can't be awaited; Python's own error names neither the rule nor the function's type."""
    with pytest.raises(ConfigurationError, match="return an awaitable, and it returned int: wrap it in an `async def`"):
        await cache.call_with_secret(NAME, lambda secret: len(secret.text), refresh_on=RefusedError)  # type: ignore[arg-type, return-value]  # the mistake


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"function": "connect"}, "function must be callable with the secret .* not str"),
        (
            {"refresh_on": "RefusedError"},
            r"\Arefresh_on must be the exception, a tuple of exceptions, or a plain function of the exception",
        ),
        ({"refresh_on": ()}, "refresh_on must be the exception"),
        ({"refresh_on": BaseException}, "refresh_on must be the exception"),
        ({"refresh_on": int}, "refresh_on must be the exception"),
        ({"refresh_on": asyncio.sleep}, "refresh_on must be the exception"),
        ({"refresh_on": mock.AsyncMock()}, "refresh_on must be the exception"),
        ({"refresh_on": RefusedError("x")}, "refresh_on must be the exception"),
        ({"refresh_on": (RefusedError, 5)}, "refresh_on must be the exception"),
        ({"refresh_timeout": -1}, "refresh_timeout can't be -1: give seconds, or 0 for one refresh"),
        ({"refresh_timeout": None}, "refresh_timeout must be a number"),
        ({"reference": "a:b"}, "call_with_secret takes a whole secret"),
    ],
)
async def test_a_wrong_argument_is_refused_before_anything_is_done(
    cache: SecretCache, source: InMemorySource, arguments: dict[str, Any], says: str
) -> None:
    """Not when the database refuses the secret."""
    right: dict[str, Any] = {"reference": NAME, "function": Database("x").connect, "refresh_on": RefusedError}

    with pytest.raises(ConfigurationError, match=says):
        await cache.call_with_secret(**(right | arguments))

    assert not source.calls
