"""The fakes for users' own tests behave as Secrets Manager and a clock do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from asecretcache import (
    BatchSource,
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretNotFoundError,
    SecretRequest,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource, ManualClock
from turns import until


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"a": "1", "b": b"2"})


async def test_it_is_a_source_that_counts(source: InMemorySource) -> None:
    """Calls and batches are listed in order, those that fail too, and its repr has their number."""
    assert isinstance(source, BatchSource)
    await source.fetch(SecretRequest("a"))
    with pytest.raises(SecretNotFoundError, match="'c'"):
        await source.fetch(SecretRequest("c"))

    assert source.calls == [SecretRequest("a"), SecretRequest("c")]
    await source.fetch_batch(["a", "b"])
    assert source.batches == [("a", "b")]
    assert repr(source) == "<InMemorySource 2 secrets, 3 calls>"


async def test_a_rotation_moves_the_labels(source: InMemorySource) -> None:
    """The new version is current, the one before it previous, and older ones have no label but their id."""
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
    """By exactly its own ARN, or by all of it but the random end; the account in ARNs can be chosen."""
    arn = (await source.fetch(SecretRequest("a"))).arn
    assert (await source.fetch(SecretRequest(arn))).name == "a"
    assert (await source.fetch(SecretRequest(arn[:-7]))).name == "a"
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest(arn.replace("123456789012", "999999999999")))
    other = InMemorySource({"a": "1"}, account_id="999999999999")
    assert (await other.fetch(SecretRequest("a"))).arn == arn.replace("123456789012", "999999999999")


async def test_a_deleted_secret_is_not_found(source: InMemorySource) -> None:
    """As with AWS; when it is created again it is another secret, with another ARN."""
    arn = (await source.fetch(SecretRequest("a"))).arn
    source.delete("a")
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest("a"))

    again = source.rotate("a", "2")
    assert again.arn != arn
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest("a", "AWSPREVIOUS"))


async def test_failures_are_of_one_secret_or_of_all_and_end(source: InMemorySource) -> None:
    """A failure lasts as often as it was told to, or until recover(); each call raises an instance of its own."""
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


@pytest.mark.parametrize("wrong", [SecretNotFoundError, ValueError("down")])
def test_it_fails_with_an_error_of_this_package_alone(source: InMemorySource, wrong: Any) -> None:
    """A class, or what a source may not raise, would fail the test in another place."""
    with pytest.raises(ConfigurationError, match=f"not {getattr(wrong, '__name__', 'ValueError')}"):
        source.fail(wrong)


async def test_a_batch_has_an_error_for_each_id_that_fails(source: InMemorySource) -> None:
    """A batch may also be refused as a whole, until recover()."""
    source.fail(SecretUnavailableError("down"), "b", times=1)
    results = await source.fetch_batch(["a", "b", "c"])
    assert isinstance(results["a"], Secret)
    assert [type(results[name]) for name in "bc"] == [SecretUnavailableError, SecretNotFoundError]

    refused = SecretAccessDeniedError("no batches")
    source.fail_batches(refused)
    for _ in range(2):
        with pytest.raises(SecretAccessDeniedError) as caught:
            await source.fetch_batch(["a"])
        assert caught.value is not refused
    source.recover()
    assert isinstance((await source.fetch_batch(["a"]))["a"], Secret)


def test_paused_fetches_are_released_on_whichever_loop_they_are(source: InMemorySource) -> None:
    """Also when one of those loops is closed by then, or a fetch was cancelled."""
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
        await until(lambda: len(source.calls) == 3)
        source.resume()
        other.cancel()
        await asyncio.wait([other])
        return await caller

    assert asyncio.run(wait()) == "1"


async def test_it_notes_that_it_was_closed(source: InMemorySource) -> None:
    """Tests of code that owns its source can look at ``closed``."""
    await source.aclose()

    assert source.closed


def test_a_clock_stands_until_it_is_moved() -> None:
    """It can be moved either way."""
    clock = ManualClock(100.0)
    clock.advance(5)
    assert clock() == 105.0
    clock.advance(-10)
    assert clock() == 95.0


async def test_a_missing_secret_is_refused_as_aws_does(source: InMemorySource) -> None:
    """With the id and AWS's code."""
    with pytest.raises(SecretNotFoundError) as caught:
        await source.fetch(SecretRequest("missing"))

    assert (caught.value.secret_id, caught.value.code) == ("missing", "ResourceNotFoundException")


async def test_a_version_has_the_time_of_its_rotation(source: InMemorySource) -> None:
    """In UTC, as the SDK gives it."""
    before = datetime.now(UTC)
    source.rotate("prod/db", "new")

    created = (await source.fetch(SecretRequest("prod/db"))).created_date

    assert created is not None
    assert before <= created <= datetime.now(UTC)
    assert created.tzinfo is UTC
