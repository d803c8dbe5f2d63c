"""The fakes for users' own tests behave as what they stand for."""

from __future__ import annotations

import asyncio

import pytest

from asecretcache import SecretCache, SecretNotFoundError, SecretRequest, SecretSource, SecretUnavailableError
from asecretcache.testing import InMemorySource, ManualClock


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"a": "1", "b": b"2"})


async def test_it_is_a_source_that_counts(source: InMemorySource) -> None:
    """Calls are listed in order, those that fail too."""
    assert isinstance(source, SecretSource)
    await source.fetch(SecretRequest("a"))
    with pytest.raises(SecretNotFoundError, match="'c'"):
        await source.fetch(SecretRequest("c"))

    assert source.calls == [("a", None, None), ("c", None, None)]


async def test_a_rotation_moves_the_labels(source: InMemorySource) -> None:
    """The new version is current, the one before it previous, and older ones are had by their id alone."""
    first = await source.fetch(SecretRequest("a"))
    for value in ("2", "3"):
        source.rotate("a", value)

    async def text(*version: str | None) -> str | None:
        return (await source.fetch(SecretRequest("a", *version))).secret_string

    assert (await text(), await text("AWSPREVIOUS"), await text(None, first.version_id)) == ("3", "2", "1")
    assert (await source.fetch(SecretRequest("a", "AWSPREVIOUS"))).version_stages == ("AWSPREVIOUS",)
    for version in (("AWSPENDING", None), ("AWSCURRENT", first.version_id), (None, "nope")):
        with pytest.raises(SecretNotFoundError):
            await text(*version)


async def test_a_secret_is_found_by_its_arn_too(source: InMemorySource) -> None:
    """By its own, not by one that only ends alike."""
    arn = (await source.fetch(SecretRequest("a"))).arn
    assert (await source.fetch(SecretRequest(arn))).name == "a"
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest(arn.replace("123456789012", "999999999999")))


async def test_a_deleted_secret_is_not_found(source: InMemorySource) -> None:
    """As with AWS."""
    source.delete("a")
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest("a"))


async def test_failures_are_of_one_secret_or_of_all_and_end(source: InMemorySource) -> None:
    """They last as often as told, or until recover()."""
    error = SecretUnavailableError("down")
    source.fail(error, "a", times=1)
    with pytest.raises(SecretUnavailableError) as caught:
        await source.fetch(SecretRequest("a"))
    assert caught.value is not error
    await source.fetch(SecretRequest("a"))

    source.fail(error)
    for _ in range(2):
        with pytest.raises(SecretUnavailableError):
            await source.fetch(SecretRequest("b"))
    source.recover()
    await source.fetch(SecretRequest("b"))


def test_fetches_that_wait_are_released_on_whichever_loop_they_are(source: InMemorySource) -> None:
    """Also when one of those loops is gone by then, or the fetch was cancelled."""
    source.pause()
    cache = SecretCache(source)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(source.fetch(SecretRequest("b")))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()

    async def wait() -> str:
        caller = asyncio.create_task(cache.get_secret("a"))
        other = asyncio.create_task(source.fetch(SecretRequest("b")))
        while len(source.calls) < 3:
            await asyncio.sleep(0)
        source.resume()
        other.cancel()
        await asyncio.wait([other])
        return await caller

    assert asyncio.run(wait()) == "1"


async def test_it_notes_that_it_was_closed(source: InMemorySource) -> None:
    """For tests of code that owns its source."""
    await source.aclose()

    assert source.closed


def test_a_clock_stands_until_it_is_moved() -> None:
    """Either way."""
    clock = ManualClock(100.0)
    clock.advance(5)
    assert clock() == 105.0
    clock.advance(-10)
    assert clock() == 95.0
