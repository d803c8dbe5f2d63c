"""SecretCache: the methods that take several references, get_many, get_secrets and prefetch."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import observe
from asecretcache import (
    CacheStats,
    ConfigurationError,
    Secret,
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

JSON, TEXT, BINARY = "prod/db", "prod/api", "prod/key"


async def test_get_many_is_keyed_by_the_text_as_given(cache: SecretCache, source: InMemorySource) -> None:
    """Each secret is fetched once, in the order of the references, and what is in memory costs nothing."""
    await cache.get(TEXT)

    secrets = await cache.get_many(TEXT, JSON, TEXT + "::AWSCURRENT", TEXT)

    assert list(secrets) == [TEXT, JSON, TEXT + "::AWSCURRENT"]
    assert [secret.name for secret in secrets.values()] == [TEXT, JSON, TEXT]
    assert len(source.calls) == 2
    assert await cache.get_many() == {}


async def test_get_secrets_is_keyed_by_reference(cache: SecretCache, source: InMemorySource) -> None:
    """Several keys of one secret are one call, and the second time none."""
    wanted = {TEXT: "key-1", JSON + ":user": "app", JSON + ":port": "5432", JSON + ":hosts": '["a", "b"]'}
    for _ in range(2):
        assert await cache.get_secrets(*wanted) == wanted
        assert list(await cache.get_secrets(*wanted)) == list(wanted)
    assert len(source.calls) == 2
    assert await cache.get_secrets() == {}


async def test_several_are_fetched_concurrently(cache: SecretCache, source: InMemorySource) -> None:
    """No fetch waits for another one."""
    source.pause()
    readers = [
        asyncio.create_task(cache.get_many(TEXT, JSON)),
        asyncio.create_task(cache.get_secrets(TEXT, JSON)),
        asyncio.create_task(cache.prefetch(TEXT, BINARY)),
    ]
    await until(lambda: len(source.calls) == 3)
    source.resume()

    await asyncio.gather(*readers)
    assert len(source.calls) == 3


async def test_failures_of_get_many_are_named_and_the_others_kept(cache: SecretCache) -> None:
    """The group has an error for each secret that failed, and what was fetched is stored."""
    with pytest.raises(SecretErrorGroup, match=r"2 of 3 secrets failed: .*'no'.*; .*'nor'") as caught:
        await cache.get_many("no", TEXT, "nor")

    assert [type(error) for error in caught.value.exceptions] == [SecretNotFoundError] * 2
    assert cache.peek(TEXT)


async def test_failures_of_get_secrets_are_told_together(cache: SecretCache, source: InMemorySource) -> None:
    """Fetches that failed, keys that are missing, null and binary secrets are in one group, from memory too."""
    for _ in range(2):
        with pytest.raises(SecretErrorGroup) as caught:
            await cache.get_secrets("no", TEXT, JSON + ":nope", JSON + ":none", BINARY)

        kinds = {type(error): str(error) for error in caught.value.exceptions}
        assert [type(error) for error in caught.value.exceptions] == [SecretNotFoundError, *[SecretFormatError] * 3]
        assert set(kinds) == {SecretNotFoundError, SecretFormatError}
        text = str(caught.value)
        assert text.startswith("4 of 5 secrets failed: ")
        for says in ("'no'", "no key 'nope'", "has null at key 'none'", "get_secret_binary()"):
            assert says in text
    assert cache.peek(TEXT)


async def test_errors_can_stand_in_the_result_of_get_many(cache: SecretCache) -> None:
    """With return_exceptions nothing is raised."""
    results = await cache.get_many("no", TEXT, return_exceptions=True)

    assert isinstance(results["no"], SecretNotFoundError)
    assert isinstance(results[TEXT], Secret)


async def test_prefetch_fetches_what_is_not_fresh(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """JSON keys are ignored, also those that the secret doesn't have; reads afterwards are hits."""
    await cache.get(TEXT)
    await cache.prefetch(TEXT, JSON + ":nope", JSON + ":user")
    assert [request.secret_id for request in source.calls] == [TEXT, JSON]
    assert await cache.get_secret(JSON + ":user") == "app"
    assert cache.stats() == CacheStats(hits=1, misses=1, get_calls=2)

    clock.advance(100)
    await cache.prefetch(TEXT)
    assert len(source.calls) == 3


async def test_a_failed_prefetch_names_the_secrets(cache: SecretCache, source: InMemorySource) -> None:
    """The group is as that of get_many, and the failure has no bearing on the next read."""
    source.fail(SecretUnavailableError("down"), TEXT, times=1)
    with pytest.raises(SecretErrorGroup, match=f"1 of 2 secrets failed: secret '{TEXT}': down"):
        await cache.prefetch(TEXT, JSON)

    assert await cache.get_secret(TEXT) == "key-1"


@pytest.mark.parametrize("whole", [[TEXT, JSON], (TEXT, JSON), {TEXT, JSON}])
@pytest.mark.parametrize("method", ["get_many", "get_secrets", "prefetch"])
async def test_a_list_that_is_passed_whole_is_refused(
    cache: SecretCache, source: InMemorySource, method: str, whole: Any
) -> None:
    """The error shows how references are passed."""
    with pytest.raises(ConfigurationError, match=rf"{method}\('a', 'b'\) or"):
        await getattr(cache, method)(whole)
    assert not source.calls


@pytest.mark.parametrize("wrong", [b"a", None, 5])
@pytest.mark.parametrize("method", ["get_many", "get_secrets", "prefetch"])
async def test_a_reference_of_several_is_a_str(cache: SecretCache, method: str, wrong: Any) -> None:
    """One that isn't is refused before anything is fetched."""
    with pytest.raises(ConfigurationError, match="must be a str"):
        await getattr(cache, method)(TEXT, wrong)
    assert not observe.running(cache)


async def test_reads_of_several_are_counted_once_each(cache: SecretCache) -> None:
    """A reference that is given twice is one read, whether all are in memory, some or none."""
    await cache.get_secrets(TEXT, TEXT)
    assert cache.stats() == CacheStats(misses=1, get_calls=1)
    await cache.get_secrets(TEXT, TEXT)
    assert cache.stats() == CacheStats(hits=1, misses=1, get_calls=1)
    await cache.get_secrets(TEXT, TEXT, JSON)
    assert cache.stats() == CacheStats(hits=2, misses=2, get_calls=2)


async def test_a_binary_secret_among_several_is_counted_once(cache: SecretCache) -> None:
    """It has no text, so the short way through memory is left; that counts no read twice."""
    await cache.get_many(TEXT, BINARY)
    before = cache.stats().hits
    with pytest.raises(SecretErrorGroup):
        await cache.get_secrets(TEXT, BINARY)

    assert cache.stats().hits == before + 2


async def test_several_are_served_stale_as_one_is(source: InMemorySource, clock: ManualClock) -> None:
    """An expired value within stale_if_error is served while the source is down, keys of it too."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    wanted = {TEXT: "key-1", JSON + ":user": "app"}
    assert await cache.get_secrets(*wanted) == wanted
    clock.advance(11)
    source.fail(SecretUnavailableError("down"))

    assert await cache.get_secrets(*wanted) == wanted
    assert cache.stats().stale_served == 2


class _RotatedWhenRead(str):
    """A reference whose look-up takes so long that another thread replaces the secret meanwhile."""

    __slots__ = ("cache",)
    cache: SecretCache | None

    def __hash__(self) -> int:
        cache = getattr(self, "cache", None)
        if cache is not None:
            self.cache = None
            thread = threading.Thread(target=asyncio.run, args=(_refresh_and_read(cache),))
            thread.start()
            thread.join()
        return super().__hash__()


async def _refresh_and_read(cache: SecretCache) -> None:
    await cache.refresh(JSON)
    await cache.get_secrets(JSON + ":user", JSON + ":port")


async def test_several_keys_of_one_secret_are_of_one_version(cache: SecretCache, source: InMemorySource) -> None:
    """Also while another thread replaces it: a user's name and another user's password don't go together."""
    user, port = JSON + ":user", _RotatedWhenRead(JSON + ":port")
    await cache.get_secrets(user, port)
    source.rotate(JSON, '{"user": "app_clone", "port": 1}')
    port.cache = cache

    assert list((await cache.get_secrets(user, port)).values()) == ["app_clone", "1"]
