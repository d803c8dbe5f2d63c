"""SecretCache: what each method gives, and what it costs."""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
import threading
from typing import Any

import anyio
import pytest

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretCache,
    SecretCacheError,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretRequest,
    SecretsManagerSource,
    SecretUnavailableError,
)
from asecretcache._cache import live_caches
from asecretcache._core.single_flight import READ
from asecretcache._core.timeouts import Deadline, FetchTimeout, current_fetch_timeout, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

TEXT, BINARY, JSON = "prod/db", "prod/key", "prod/config"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({TEXT: "hunter2", BINARY: b"\x00\x01", JSON: '{"user": "u", "ports": [1, 2]}'})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(source: InMemorySource, clock: ManualClock) -> SecretCache:
    return SecretCache(source, clock=clock, ttl=100.0, jitter=0.0)


@pytest.mark.every_loop
async def test_the_second_get_costs_no_call(cache: SecretCache, source: InMemorySource) -> None:
    """A fresh value is read from memory by every method."""
    for _ in range(2):
        assert await cache.get_secret(TEXT) == "hunter2"
        assert (await cache.get(TEXT)).secret_string == "hunter2"
        assert await cache.get_secret_binary(BINARY) == b"\x00\x01"
        assert await cache.get_json(JSON) == {"user": "u", "ports": [1, 2]}
        assert await cache.get_json(JSON, "user") == "u"

    assert len(source.calls) == 3


async def test_a_value_is_fetched_anew_after_its_ttl(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """At the ttl, not before."""
    await cache.get_secret(TEXT)
    source.rotate(TEXT, "hunter3")
    clock.advance(99.9)
    assert await cache.get_secret(TEXT) == "hunter2"

    clock.advance(0.1)
    assert await cache.get_secret(TEXT) == "hunter3"


async def test_a_clock_set_back_makes_a_value_expired(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """Its age is unknown, so it isn't served."""
    await cache.get_secret(TEXT)
    clock.advance(-1)

    await cache.get_secret(TEXT)

    assert len(source.calls) == 2


async def test_versions_are_entries_of_their_own(cache: SecretCache, source: InMemorySource) -> None:
    """Stage and version id are part of the key; None and AWSCURRENT are the same."""
    first = await cache.get(TEXT)
    source.rotate(TEXT, "hunter3")
    await cache.refresh(TEXT)

    assert await cache.get_secret(TEXT, version_stage="AWSCURRENT") == "hunter3"
    assert await cache.get_secret(TEXT, version_stage="AWSPREVIOUS") == "hunter2"
    assert await cache.get_secret(TEXT, version_stage="AWSPREVIOUS") == "hunter2"
    assert await cache.get_secret(TEXT, version_id=first.version_id) == "hunter2"
    assert len(source.calls) == 4


async def test_a_version_named_by_its_id_never_expires(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """A version's value can't change."""
    version = (await cache.get(TEXT)).version_id
    await cache.get_secret(TEXT, version_id=version)
    clock.advance(1e9)

    assert await cache.get_secret(TEXT, version_id=version) == "hunter2"
    assert len(source.calls) == 2


async def test_parsed_json_is_nobody_elses(cache: SecretCache) -> None:
    """What one caller does to it doesn't reach the next."""
    (await cache.get_json(JSON))["ports"].append(3)

    assert await cache.get_json(JSON, "ports") == [1, 2]


async def test_the_wrong_kind_is_told_with_the_right_method(cache: SecretCache) -> None:
    """Text asked of a binary secret, and the other way round, also from memory."""
    for _ in range(2):
        with pytest.raises(SecretFormatError, match="get_secret_binary"):
            await cache.get_secret(BINARY)
        with pytest.raises(SecretFormatError, match=r"get_secret\(\)"):
            await cache.get_secret_binary(TEXT)


@pytest.mark.parametrize("secret_id", [None, "", [], "a:b", "x" * 3000])
async def test_a_bad_id_is_refused_by_every_method(cache: SecretCache, source: InMemorySource, secret_id: Any) -> None:
    """Before anything is sent."""
    for method in (cache.get_secret, cache.get, cache.get_json, cache.refresh, cache.prefetch, cache.get_secret_binary):
        with pytest.raises(ConfigurationError):
            await method(secret_id)
    with pytest.raises(ConfigurationError):
        cache.peek(secret_id)
    with pytest.raises(ConfigurationError):
        cache.invalidate(secret_id)
    assert not source.calls


async def test_peek_shows_what_is_stored_fresh_or_not(cache: SecretCache, clock: ManualClock) -> None:
    """Without a call, and without a loop."""
    assert cache.peek(TEXT) is None
    secret = await cache.get(TEXT)
    clock.advance(1e6)

    assert cache.peek(TEXT) is secret
    assert cache.peek(TEXT, version_stage="AWSCURRENT") is secret
    assert cache.peek(TEXT, version_stage="AWSPREVIOUS") is None
    assert not inspect.iscoroutinefunction(cache.peek)


async def test_a_failed_refresh_leaves_what_is_stored(cache: SecretCache, source: InMemorySource) -> None:
    """An error on the way takes nothing away."""
    await cache.get(TEXT)
    source.fail(SecretUnavailableError("down"), times=1)
    with pytest.raises(SecretUnavailableError, match="down"):
        await cache.refresh(TEXT)

    assert await cache.get_secret(TEXT) == "hunter2"


async def test_many_are_fetched_once_each_and_keyed_by_what_was_asked(
    cache: SecretCache, source: InMemorySource
) -> None:
    """Duplicates cost nothing, nor do secrets in memory."""
    await cache.get(TEXT)

    secrets = await cache.get_many([TEXT, JSON, TEXT])

    assert {name: secret.name for name, secret in secrets.items()} == {TEXT: TEXT, JSON: JSON}
    assert len(source.calls) == 2


async def test_failures_among_many_are_named_and_the_others_kept(cache: SecretCache, source: InMemorySource) -> None:
    """The group is one of our errors as well as an ExceptionGroup, and what succeeded is in memory."""
    with pytest.raises(SecretErrorGroup, match=r"2 of 3 secrets failed: .*'no'.*; .*'nor'") as caught:
        await cache.get_many(["no", TEXT, "nor"])

    assert isinstance(caught.value, SecretCacheError)
    assert [type(error) for error in caught.value.exceptions] == [SecretNotFoundError] * 2
    assert isinstance(caught.value.split(SecretNotFoundError)[0], SecretErrorGroup)
    assert cache.peek(TEXT)


async def test_an_error_that_names_no_secret_is_raised_with_the_name(
    cache: SecretCache, source: InMemorySource
) -> None:
    """A source of a user's own may leave it out, and the group would name None."""
    source.fail(SecretUnavailableError("down"))

    with pytest.raises(SecretUnavailableError) as caught:
        await cache.get(TEXT)
    assert caught.value.secret_id == TEXT
    with pytest.raises(SecretErrorGroup, match=f"failed: .*'{TEXT}'.*; .*'{JSON}'"):
        await cache.get_many([TEXT, JSON])


async def test_errors_can_stand_in_the_result(cache: SecretCache) -> None:
    """With return_exceptions nothing is raised."""
    outcomes = await cache.get_many(["no", TEXT], return_exceptions=True)

    assert isinstance(outcomes["no"], SecretNotFoundError)
    assert isinstance(outcomes[TEXT], Secret)


@pytest.mark.parametrize("wrong", [TEXT, b"a", None, 5])
async def test_one_id_is_not_many(cache: SecretCache, wrong: Any) -> None:
    """A str would be taken for its letters."""
    with pytest.raises(ConfigurationError, match=r"get_many\(\['a', 'b'\]\)"):
        await cache.get_many(wrong)


class Warm(InMemorySource):
    """A source that has work to do before its first fetch."""

    warmed = 0
    timer: FetchTimeout | None = None
    hangs = False
    raises: Exception | None = None

    async def warm(self) -> None:
        self.warmed += 1
        self.timer = current_fetch_timeout.get()
        if self.hangs:
            await asyncio.Event().wait()
        if self.raises:
            raise self.raises


async def test_prefetch_without_ids_prepares_the_source_and_with_ids_fills_the_memory() -> None:
    """A fetch does its source's preparations by itself, within its own time."""
    source = Warm({TEXT: "hunter2"})
    cache = SecretCache(source)
    await cache.prefetch()
    assert source.warmed == 1
    assert source.timer
    assert source.timer.seconds == 10.0, "a client that is made now has the time-outs of a fetch"
    assert not source.calls

    await cache.prefetch(TEXT)
    assert source.warmed == 1
    assert cache.peek(TEXT)


@pytest.mark.parametrize("deadline", [False, True])
async def test_preparing_a_source_takes_no_longer_than_a_fetch(*, deadline: bool) -> None:
    """Nor longer than the invocation; what it raises by itself is passed on."""
    source = Warm()
    source.hangs = True
    cache = SecretCache(source, fetch_timeout=60 if deadline else 0.01)
    if deadline:
        invocation_deadline.set(Deadline(asyncio.get_running_loop().time() + 0.01))
    with pytest.raises(SecretUnavailableError, match=r"preparing the source took longer than 0\.0"):
        await cache.prefetch()

    source.hangs, source.raises = False, TimeoutError("its own")
    with pytest.raises(TimeoutError, match="its own"):
        await cache.prefetch()


async def test_a_source_that_has_nothing_to_prepare_is_left_alone(cache: SecretCache, source: InMemorySource) -> None:
    """prefetch() without ids is for any source."""
    await cache.prefetch()

    assert not source.calls


async def test_never_more_than_max_size(source: InMemorySource) -> None:
    """The oldest goes when there is no room."""
    cache = SecretCache(source, max_size=2)
    for name in (TEXT, BINARY, JSON):
        await cache.get(name)

    assert [bool(cache.peek(name)) for name in (TEXT, BINARY, JSON)] == [False, True, True]


async def test_invalidate_and_clear_forget(cache: SecretCache, source: InMemorySource) -> None:
    """One secret with all its versions, or all secrets."""
    await cache.get_many([TEXT, JSON])
    await cache.get(TEXT, version_stage="AWSCURRENT", version_id=(await cache.get(TEXT)).version_id)
    cache.invalidate(TEXT)
    assert cache.peek(TEXT) is None
    assert cache.peek(JSON)

    cache.clear()
    assert cache.peek(JSON) is None
    assert len(source.calls) == 3


async def test_a_closed_cache_refuses_everything(source: InMemorySource) -> None:
    """After `async with` or aclose, which may be called twice, any use is an error that says so."""
    async with SecretCache(source) as cache:
        await cache.get(TEXT)
    await cache.aclose()

    for method in (cache.get_secret, cache.get, cache.get_json, cache.refresh, cache.prefetch):
        with pytest.raises(ConfigurationError, match="closed"):
            await method(TEXT)
    for call in (cache.peek, cache.invalidate):
        with pytest.raises(ConfigurationError, match="closed"):
            call(TEXT)
    with pytest.raises(ConfigurationError, match="closed"):
        async with cache:
            pass
    assert "closed" in repr(cache)
    assert not source.closed


async def test_a_cache_closes_the_source_that_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other."""
    closed: list[object] = []

    async def aclose(self: SecretsManagerSource) -> None:
        closed.append(self)

    monkeypatch.setattr(SecretsManagerSource, "aclose", aclose)
    async with SecretCache() as cache:
        pass

    assert closed == [cache._source]


async def test_a_cancelled_closing_closes_the_source_all_the_same(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections aren't left open because the caller is in a hurry."""
    cache = SecretCache(source)
    cache._owns_source = True
    source.pause()
    caller = asyncio.create_task(cache.get_secret(TEXT))
    await asyncio.sleep(0)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await cache.aclose()

    assert source.closed
    await asyncio.wait([caller])
    assert isinstance(caller.exception(), ConfigurationError)


async def test_closing_ends_the_fetches_under_way(cache: SecretCache, source: InMemorySource) -> None:
    """Their waiters are told that the cache is closed, and nothing is stored."""
    source.pause()
    caller = asyncio.create_task(cache.get_secret(TEXT))
    await asyncio.sleep(0)
    await cache.aclose()

    with pytest.raises(ConfigurationError, match="closed"):
        await caller
    assert not cache._entries


async def test_a_deadline_ends_the_wait_and_not_the_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """Who must answer is told in time; the fetch goes on, and the next caller finds its value."""
    source.pause()
    deadline = Deadline(asyncio.get_running_loop().time())
    token = invocation_deadline.set(deadline)
    with pytest.raises(SecretUnavailableError, match="deadline"):
        await cache.get_secret(TEXT)
    invocation_deadline.reset(token)
    source.resume()

    assert await cache.get_secret(TEXT) == "hunter2"
    assert len(source.calls) == 1


async def test_a_deadline_leaves_those_of_many_their_values_that_have_come(source: InMemorySource) -> None:
    """Only what hasn't is an error."""

    class Slow(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if request.secret_id == JSON:
                await asyncio.Event().wait()
            return await super().fetch(request)

    cache = SecretCache(Slow({TEXT: "hunter2"}))
    invocation_deadline.set(Deadline(asyncio.get_running_loop().time() + 0.02))
    outcomes = await cache.get_many([TEXT, JSON], return_exceptions=True)
    invocation_deadline.set(None)

    assert isinstance(outcomes[TEXT], Secret)
    assert "deadline" in str(outcomes[JSON])
    await cache.aclose()


async def test_what_nobody_waits_for_is_drained_and_then_cancelled(cache: SecretCache, source: InMemorySource) -> None:
    """Fetches left behind get a moment to land; those that somebody waits for are left alone."""
    source.pause()
    invocation_deadline.set(Deadline(asyncio.get_running_loop().time()))
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(TEXT)
    invocation_deadline.set(None)
    waiting = asyncio.create_task(cache.get_secret(JSON))
    await asyncio.sleep(0)

    await cache._flights.drain(0.0)
    source.resume()

    assert (await waiting).startswith("{")
    assert cache.peek(TEXT) is None
    await cache._flights.drain(0.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ttl": -1}, "ttl"),
        ({"ttl": math.nan}, "ttl"),
        ({"jitter": 2}, "jitter"),
        ({"fetch_timeout": 0}, "fetch_timeout"),
        ({"fetch_timeout": None}, "fetch_timeout"),
        ({"max_size": 0}, "max_size"),
        ({"max_size": 1.5}, "max_size"),
        ({"max_size": True}, "max_size"),
        ({"clock": 12}, "clock"),
        ({"source": "prod/db"}, "source"),
        ({"source": InMemorySource}, "source"),
    ],
)
def test_a_bad_argument_is_refused_at_construction(arguments: dict[str, Any], says: str) -> None:
    """Not at the first get."""
    with pytest.raises(ConfigurationError, match=says):
        SecretCache(**arguments)


async def test_the_public_getters_are_real_coroutine_functions(cache: SecretCache) -> None:
    """So create_task, gather and anyio take them."""
    assert inspect.iscoroutinefunction(cache.get_secret)
    assert await asyncio.create_task(cache.get_secret(TEXT)) == "hunter2"


async def test_no_repr_shows_a_value(cache: SecretCache, source: InMemorySource) -> None:
    """Neither the cache's nor the source's."""
    await cache.get_secret(TEXT)

    assert "hunter2" not in repr(cache) + repr(source) + repr(cache.__dict__)


async def test_a_fetch_that_lands_after_the_closing_stores_nothing(cache: SecretCache, source: InMemorySource) -> None:
    """Whoever passed the check in another thread just before finds no value later."""
    (flight,) = cache._flights.board([SecretRequest.of(TEXT)], READ)
    cache._reader.is_closed = True
    await until(lambda: flight.landed)

    assert not cache._entries


def test_caches_can_be_listed_while_others_are_made() -> None:
    """The end of an invocation lists them, whatever other threads do."""
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            SecretCache(InMemorySource())

    kept = [SecretCache(InMemorySource()) for _ in range(50)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=make)
    thread.start()
    try:
        for _ in range(300):
            assert len(live_caches()) >= len(kept)
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()


@pytest.mark.parametrize("key", [["password"], 5, b"password"])
async def test_a_key_of_json_is_a_str(cache: SecretCache, source: InMemorySource, key: Any) -> None:
    """It is refused before the document is anywhere to be seen."""
    with pytest.raises(ConfigurationError, match="key of get_json is a str"):
        await cache.get_json(JSON, key)
    assert not source.calls
