"""SecretCache: what each method that reads one secret returns, and how many calls it costs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import observe
from asecretcache import (
    CacheStats,
    ConfigurationError,
    Secret,
    SecretCache,
    SecretFormatError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

JSON, TEXT, BINARY = "prod/db", "prod/api", "prod/key"

Read = Callable[[SecretCache, str], Coroutine[Any, Any, Any]]
ONE_BY_ONE: list[Read] = [SecretCache.get_secret, SecretCache.get, SecretCache.get_json]


@pytest.mark.every_loop
async def test_a_fresh_value_is_read_from_memory_by_every_method(cache: SecretCache, source: InMemorySource) -> None:
    """The second read of each kind costs no call."""
    for _ in range(2):
        assert await cache.get_secret(TEXT) == "key-1"
        assert (await cache.get(TEXT)).secret_string == "key-1"
        assert await cache.get_secret_binary(BINARY) == b"\x00\x01"
        assert (await cache.get_json(JSON))["user"] == "app"
        assert await cache.get_json(JSON, "port") == 5432
        assert await cache.get_as(TEXT, len) == 5
        assert await cache.get_secrets(TEXT, JSON + ":user") == {TEXT: "key-1", JSON + ":user": "app"}

    assert len(source.calls) == 3


async def test_a_value_is_fetched_again_at_its_ttl(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """Until its ttl has passed the stored value is served, from then on a new one."""
    await cache.get_secret(TEXT)
    source.rotate(TEXT, "key-2")
    clock.advance(99.9)
    assert await cache.get_secret(TEXT) == "key-1"
    assert (await cache.get(TEXT)).text == "key-1"

    clock.advance(0.1)
    assert await cache.get_secret(TEXT) == "key-2"


@pytest.mark.parametrize("read", [*ONE_BY_ONE, SecretCache.get_secrets, SecretCache.get_many])
async def test_a_clock_that_is_set_back_makes_a_value_expired(
    cache: SecretCache, source: InMemorySource, clock: ManualClock, read: Read
) -> None:
    """Its age is unknown, so it isn't served."""
    await read(cache, JSON)
    clock.advance(-1)

    await read(cache, JSON)

    assert len(source.calls) == 2


async def test_each_version_is_an_entry_of_its_own(cache: SecretCache, source: InMemorySource) -> None:
    """Stage and version id are part of the key; None and AWSCURRENT share an entry."""
    first = await cache.get(TEXT)
    source.rotate(TEXT, "key-2")
    await cache.refresh(TEXT)

    for _ in range(2):
        assert await cache.get_secret(TEXT, version_stage="AWSCURRENT") == "key-2"
        assert await cache.get_secret(TEXT, version_stage="AWSPREVIOUS") == "key-1"
        assert (await cache.get(TEXT, version_stage="AWSPREVIOUS")).text == "key-1"
        assert await cache.get_secret(TEXT, version_id=first.version_id) == "key-1"
        assert await cache.get_as(TEXT, str, version_id=first.version_id) == "key-1"
    assert len(source.calls) == 4


async def test_a_name_and_an_arn_are_two_entries(cache: SecretCache, source: InMemorySource) -> None:
    """An id is its own key, so each costs a call; invalidating by one of them drops both."""
    secret = await cache.get(TEXT)
    assert cache.peek(secret.arn) is None
    assert await cache.get_secret(secret.arn) == "key-1"
    assert [request.secret_id for request in source.calls] == [TEXT, secret.arn]

    for secret_id in (TEXT, secret.arn):
        await cache.get_many(TEXT, secret.arn)
        cache.invalidate(secret_id)
        assert cache.peek(TEXT) is cache.peek(secret.arn) is None


async def test_a_version_that_its_id_names_never_expires(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """The value of a version doesn't change."""
    version = (await cache.get(TEXT)).version_id
    await cache.get_secret(TEXT, version_id=version)
    clock.advance(1e9)

    assert await cache.get_secret(TEXT, version_id=version) == "key-1"
    assert len(source.calls) == 2


async def test_the_wrong_kind_names_the_right_method(cache: SecretCache) -> None:
    """Text of a binary secret and bytes of a text secret are errors, also when read from memory."""
    for _ in range(2):
        for read in (cache.get_secret, cache.get_json, cache.get_secrets):
            with pytest.raises(Exception, match=r"get_secret_binary\(\)") as caught:
                await read(BINARY)
            error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
            assert isinstance(error, SecretFormatError)
            assert error.secret_id == BINARY
        with pytest.raises(SecretFormatError, match=r"get_secret\(\)") as wrong:
            await cache.get_secret_binary(TEXT)
        assert wrong.value.secret_id == TEXT
    assert (await cache.get(BINARY)).secret_binary == b"\x00\x01"


@pytest.mark.parametrize("secret_id", [None, "", [], b"prod/api", "x" * 3000])
async def test_a_bad_id_is_refused_by_every_method(cache: SecretCache, source: InMemorySource, secret_id: Any) -> None:
    """Before anything is sent."""
    reads = (cache.get_secret, cache.get, cache.get_json, cache.refresh, cache.get_secret_binary, cache.prefetch)
    for method in (*reads, cache.get_many, cache.get_secrets):
        with pytest.raises(ConfigurationError):
            await method(secret_id)
    with pytest.raises(ConfigurationError):
        await cache.call_with_secret(secret_id, _use, refresh_on=LookupError)
    for call in (cache.peek, cache.invalidate):
        with pytest.raises(ConfigurationError):
            call(secret_id)
    assert not source.calls


async def _use(secret: Secret) -> str:
    return secret.text


@pytest.mark.parametrize("read", ONE_BY_ONE)
async def test_an_error_has_no_context_from_the_look_up(cache: SecretCache, read: Read) -> None:
    """The KeyError by which a miss is noticed doesn't show in tracebacks."""
    with pytest.raises(SecretNotFoundError) as caught:
        await read(cache, "gone")
    assert caught.value.__context__ is None


async def test_peek_shows_what_is_stored_fresh_or_not(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """peek makes no call and is no coroutine; it shows expired values too, and takes stages and references."""
    assert cache.peek(TEXT) is None
    secret = await cache.get(TEXT)
    clock.advance(1e6)

    assert cache.peek(TEXT) is secret
    assert cache.peek(TEXT, version_stage="AWSCURRENT") is secret
    assert cache.peek(TEXT + "::AWSCURRENT") is secret
    assert cache.peek(TEXT, version_stage="AWSPREVIOUS") is None
    assert cache.peek(TEXT, version_id=secret.version_id) is None
    assert not inspect.iscoroutinefunction(cache.peek)
    assert len(source.calls) == 1


async def test_refresh_fetches_whatever_is_stored(cache: SecretCache, source: InMemorySource) -> None:
    """The fetched value is returned and stored."""
    await cache.get_secret(TEXT)
    source.rotate(TEXT, "key-2")

    refreshed = await cache.refresh(TEXT)

    assert refreshed.text == "key-2"
    assert cache.peek(TEXT) is refreshed


async def test_a_failed_refresh_leaves_what_is_stored(cache: SecretCache, source: InMemorySource) -> None:
    """The error is raised, and the stored value is served while it is fresh."""
    await cache.get(TEXT)
    source.fail(SecretUnavailableError("down"), times=1)
    with pytest.raises(SecretUnavailableError, match="down"):
        await cache.refresh(TEXT)

    assert await cache.get_secret(TEXT) == "key-1"


async def test_call_with_secret_refreshes_when_the_secret_is_refused(
    cache: SecretCache, source: InMemorySource
) -> None:
    """The function gets the stored version first, and the new one after it has refused that."""
    await cache.get(TEXT)
    source.rotate(TEXT, "key-2")
    tried: list[str] = []

    async def connect(secret: Secret) -> str:
        tried.append(secret.text)
        if secret.text == "key-1":
            raise PermissionError
        return "connected"

    assert await cache.call_with_secret(TEXT, connect, refresh_on=PermissionError) == "connected"
    assert tried == ["key-1", "key-2"]


async def test_refresh_timeout_bounds_the_wait_for_a_new_version(cache: SecretCache, source: InMemorySource) -> None:
    """With no time to wait, one refresh is made, and then the function's own error is raised."""

    async def refuse(secret: Secret) -> None:
        raise PermissionError(secret.version_id)

    with pytest.raises(PermissionError):
        await cache.call_with_secret(TEXT, refuse, refresh_on=PermissionError, refresh_timeout=0)
    assert len(source.calls) == 2
    with pytest.raises(ConfigurationError, match="refresh_timeout can't be -1"):
        await cache.call_with_secret(TEXT, refuse, refresh_on=PermissionError, refresh_timeout=-1)


async def test_the_oldest_value_goes_when_there_is_no_room(source: InMemorySource) -> None:
    """Never more than max_size values are kept."""
    cache = SecretCache(source, max_size=2)
    for name in (TEXT, BINARY, JSON):
        await cache.get(name)

    assert [bool(cache.peek(name)) for name in (TEXT, BINARY, JSON)] == [False, True, True]


async def test_invalidate_drops_all_versions_of_one_secret(cache: SecretCache) -> None:
    """The other secrets stay until clear()."""
    version = (await cache.get(TEXT)).version_id
    await cache.get(TEXT, version_stage="AWSCURRENT", version_id=version)
    await cache.get(JSON)
    cache.invalidate(TEXT)

    assert cache.peek(TEXT) is cache.peek(TEXT, version_stage="AWSCURRENT", version_id=version) is None
    assert cache.peek(JSON)
    cache.clear()
    assert cache.peek(JSON) is None


async def test_invalidate_forgets_the_answer_that_is_held(cache: SecretCache, source: InMemorySource) -> None:
    """A refusal holds for a second, but not past invalidate()."""
    source.fail(SecretThrottledError("slow"), times=1)
    for _ in range(2):
        with pytest.raises(SecretThrottledError):
            await cache.get(TEXT)
    assert len(source.calls) == 1

    cache.invalidate(TEXT)
    assert await cache.get_secret(TEXT) == "key-1"


async def test_the_readers_are_real_coroutine_functions(cache: SecretCache) -> None:
    """create_task, gather and anyio take what they return."""
    for method in (cache.get_secret, cache.get, cache.get_json, cache.get_secrets, cache.get_many, cache.get_as):
        assert inspect.iscoroutinefunction(method)
    assert await asyncio.create_task(cache.get_secret(TEXT)) == "key-1"


async def test_no_repr_shows_a_value(cache: SecretCache, source: InMemorySource) -> None:
    """The repr of a cache has its size and ttl, and neither it nor the source's has a value."""
    await cache.get_secret(TEXT)
    await cache.get_secret(JSON + ":password")

    assert repr(cache) == "<SecretCache 2 secrets ttl=100.0>"
    shown = repr(cache) + repr(source) + repr(vars(cache))
    assert "key-1" not in shown
    assert "hunter2" not in shown


async def test_an_error_that_names_no_secret_is_raised_with_the_name(
    cache: SecretCache, source: InMemorySource
) -> None:
    """A user's source may leave the name out."""
    source.fail(SecretUnavailableError("down"))

    with pytest.raises(SecretUnavailableError) as caught:
        await cache.get(TEXT)
    assert caught.value.secret_id == TEXT


@pytest.mark.every_loop
@pytest.mark.parametrize("read", ONE_BY_ONE)
async def test_readers_who_come_during_a_fetch_share_it(cache: SecretCache, source: InMemorySource, read: Read) -> None:
    """All of them get the value of one call, and are counted as misses."""
    source.pause()
    readers = [asyncio.create_task(read(cache, JSON)) for _ in range(5)]
    await until(lambda: observe.running(cache) and len(observe.running(cache)[0].waiters) == 5)
    source.resume()

    first, *others = await asyncio.gather(*readers)
    assert others == [first] * 4
    assert len(source.calls) == 1
    assert cache.stats() == CacheStats(misses=5, coalesced=4, get_calls=1)


@pytest.mark.parametrize("read", ONE_BY_ONE)
async def test_readers_of_a_failed_fetch_get_an_error_each(
    cache: SecretCache, source: InMemorySource, read: Read
) -> None:
    """One call, and an exception instance for each reader."""
    source.pause()
    source.fail(SecretUnavailableError("down"), times=1)
    readers = [asyncio.create_task(read(cache, JSON)) for _ in range(3)]
    await until(lambda: observe.running(cache) and len(observe.running(cache)[0].waiters) == 3)
    source.resume()

    await asyncio.wait(readers)
    errors = [reader.exception() for reader in readers]
    assert [str(error) for error in errors] == ["down"] * 3
    assert len({id(error) for error in errors}) == 3
    assert len(source.calls) == 1


@pytest.mark.parametrize("read", ONE_BY_ONE)
async def test_a_reader_who_is_cancelled_leaves_the_others_the_fetch(
    cache: SecretCache, source: InMemorySource, read: Read
) -> None:
    """The fetch goes on for who still waits, and is cancelled with the last one."""
    source.pause()
    first, second, third = (asyncio.create_task(read(cache, JSON)) for _ in range(3))
    await until(lambda: observe.running(cache) and len(observe.running(cache)[0].waiters) == 3)
    for reader in (third, second):
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
    assert len(observe.running(cache)) == 1
    first.cancel()
    await asyncio.wait([first])
    await until(lambda: not observe.running(cache))
    source.resume()

    await read(cache, JSON)
    assert len(source.calls) == 2


async def test_a_fetch_on_another_loop_is_not_joined(cache: SecretCache, source: InMemorySource) -> None:
    """A running fetch belongs to one loop, so a thread with a loop of its own makes its own call."""
    source.pause()
    reader = asyncio.create_task(cache.get_secret(TEXT))
    await until(lambda: source.calls)

    def read_elsewhere() -> list[Any]:
        async def read() -> list[Any]:
            found = [asyncio.create_task(cache.get(TEXT)), asyncio.create_task(cache.get_secret(TEXT))]
            await until(lambda: len(source.calls) == 2)
            source.resume()
            return await asyncio.gather(*found)

        return asyncio.run(read())

    secret, text = await asyncio.to_thread(read_elsewhere)
    assert (secret.text, text, await reader) == ("key-1",) * 3
    assert len(source.calls) == 2


async def test_reads_are_counted_by_their_answers(cache: SecretCache, clock: ManualClock) -> None:
    """A fresh answer is a hit, whichever method asked; an entry's fields count as it does."""
    await cache.get_secret(JSON)
    assert cache.stats() == CacheStats(misses=1, get_calls=1)
    await cache.get_secret(JSON)
    await cache.get(JSON)
    await cache.get_json(JSON)
    await cache.get_json(JSON, "user")
    await cache.get_json(JSON, "user")
    await cache.get_secret(JSON + ":port")
    await cache.get_secret(JSON + ":port")
    await cache.get_as(JSON + ":port", int)
    assert cache.stats() == CacheStats(hits=8, misses=1, get_calls=1)
    cache.peek(JSON)
    await cache.prefetch(JSON)
    assert cache.stats().hits == 8

    clock.advance(100)
    await cache.get_json(JSON, "user")
    assert cache.stats() == CacheStats(hits=8, misses=2, get_calls=2)
