"""FallbackSource: a second source stands in while the first one fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from unittest import mock

import pytest

from asecretcache import (
    BatchSource,
    ConfigurationError,
    DirectSource,
    FallbackSource,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretNotFoundError,
    SecretRequest,
    SecretsManagerSource,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource
from moto_server import REGION, MotoServer
from source_helpers import SourceClass
from turns import until

NAME, REQUEST = "prod/db", SecretRequest("prod/db")
OTHER = "eu-central-1"


@pytest.fixture
def first() -> InMemorySource:
    return InMemorySource({NAME: "first", "only": "first"})


@pytest.fixture
def second() -> InMemorySource:
    return InMemorySource({NAME: "second"})


@pytest.fixture
def monotonic() -> Iterator[mock.Mock]:
    """The clock of the spacing, which is moved by hand."""
    with mock.patch("asecretcache._sources.fallback.time.monotonic", return_value=100.0) as monotonic:
        yield monotonic


async def text(source: FallbackSource, name: str = NAME) -> str:
    return (await source.fetch(SecretRequest(name))).text


@pytest.mark.parametrize("error", [SecretUnavailableError("down"), SecretThrottledError("slow down")])
async def test_the_second_stands_in(first: InMemorySource, second: InMemorySource, error: SecretCacheError) -> None:
    """As long as the first can't be reached, fails or throttles."""
    source = FallbackSource(first, second)
    assert await text(source) == "first"
    assert not second.calls

    first.fail(error)
    assert await text(source) == "second"


@pytest.mark.parametrize(
    "error", [SecretAccessDeniedError("denied"), SecretNotFoundError("no"), SecretCacheError("no")]
)
async def test_a_refusal_is_an_answer(first: InMemorySource, second: InMemorySource, error: SecretCacheError) -> None:
    """The second isn't asked, or it would give what the first denies."""
    first.fail(error)
    with pytest.raises(type(error)):
        await text(FallbackSource(first, second))
    assert not second.calls


async def test_the_first_is_tried_again_with_a_spacing(
    first: InMemorySource, second: InMemorySource, monotonic: mock.Mock, caplog: pytest.LogCaptureFixture
) -> None:
    """After 5 seconds, doubling up to a minute; each change is logged once."""
    caplog.set_level(logging.INFO, "asecretcache")
    source = FallbackSource(first, second)
    with first.outage():
        for pause in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            tried = len(first.calls)
            assert await text(source) == "second"
            assert len(first.calls) == tried + 1
            monotonic.return_value += pause - 0.1
            assert await text(source) == "second"
            assert len(first.calls) == tried + 1
            monotonic.return_value += 0.2
    assert await text(source) == "first"
    assert await text(source) == "first"

    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "the second source is asked from now on, since the first one fails: Secrets Manager can't" in caplog.text
    assert "the first source answers again, and is asked from now on" in caplog.text
    # It begins anew.
    with first.outage():
        assert await text(source) == "second"
    monotonic.return_value += 5.1
    assert await text(source) == "first"


async def test_both_fail(
    first: InMemorySource, second: InMemorySource, monotonic: mock.Mock, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is the first's; what the second lacks is no answer. The first is tried, whatever the spacing."""
    source = FallbackSource(first, second)
    with first.outage():
        for error in (SecretNotFoundError("none here"), SecretUnavailableError("down too")):
            second.fail(error, times=1)
            monotonic.return_value += 100
            with pytest.raises(SecretUnavailableError, match="a test's outage"):
                await text(source)
            assert f"the second source fails too: {error}" in caplog.text
    second.fail(SecretUnavailableError("down too"))
    assert await text(source) == "first"


async def test_while_it_stands_in_a_refusal_of_the_second_is_an_answer(
    first: InMemorySource, second: InMemorySource, monotonic: mock.Mock
) -> None:
    """Between two attempts at the first, the second alone is asked."""
    source = FallbackSource(first, second)
    with first.outage():
        await text(source)
        with pytest.raises(SecretNotFoundError):
            await text(source, "only")
    monotonic.return_value += 5.1
    assert await text(source, "only") == "first"


async def test_fetches_that_fail_together(first: InMemorySource, second: InMemorySource, monotonic: mock.Mock) -> None:
    """They are one failure: the first source is tried again as soon as after a single one."""
    source = FallbackSource(first, second)
    with first.outage():
        assert await asyncio.gather(*[text(source) for _ in range(6)]) == ["second"] * 6
    monotonic.return_value += 5.1
    assert await text(source) == "first"


async def test_one_fetch_tries_the_first_again(
    first: InMemorySource, second: InMemorySource, monotonic: mock.Mock
) -> None:
    """Those that come meanwhile don't wait for a source that may still hang."""
    source = FallbackSource(first, second)
    with first.outage():
        await text(source)
    monotonic.return_value += 5.1
    first.pause()
    before = len(first.calls)

    probe = asyncio.create_task(text(source))
    await asyncio.sleep(0)
    others = [asyncio.create_task(text(source)) for _ in range(5)]
    await until(lambda: len(first.calls) + len(second.calls) >= before + 7)
    assert len(first.calls) == before + 1
    first.resume()
    assert await probe == "first"
    assert await asyncio.gather(*others) == ["second"] * 5
    assert await text(source) == "first"


async def test_a_refresh_is_one_for_the_second_too(first: InMemorySource, second: InMemorySource) -> None:
    """A source with a cache of its own has to pass that."""
    cache = SecretCache(FallbackSource(first, second))
    with first.outage():
        await cache.get(NAME)
        await cache.refresh(NAME)

    assert [call.is_refresh for call in second.calls] == [False, True]


@pytest.mark.virtual_time
async def test_a_wait_for_a_slot_that_is_given_up(second: InMemorySource) -> None:
    """The time of the fetch runs on: the second source may hang as well."""

    class Hanging:
        async def get_secret_value(self, **_: str) -> None:
            await asyncio.Event().wait()

    first = SecretsManagerSource(client_factory=lambda: contextlib.nullcontext(Hanging()), max_concurrency=1)
    cache = SecretCache(FallbackSource(first, second, timeout=1.0), fetch_timeout=10.0)
    second.pause()
    results = await cache.get_many(NAME, "other", return_exceptions=True)

    assert [str(result) for result in results.values()] == [
        f"the fetch of secret {name!r} took longer than 10 s" for name in (NAME, "other")
    ]
    await first.aclose()


@pytest.mark.virtual_time
async def test_a_first_source_that_hangs(first: InMemorySource, second: InMemorySource) -> None:
    """The second is asked in time for the fetch; another time-out isn't ours."""
    cache = SecretCache(FallbackSource(first, second, timeout=2.0), fetch_timeout=10.0)
    with first.slow(1e6):
        assert await cache.get_secret(NAME) == "second"
    assert asyncio.get_running_loop().time() == pytest.approx(2.0)

    class Raising(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await FallbackSource(Raising(), second).fetch(REQUEST)


async def test_batches(first: InMemorySource, second: InMemorySource, monotonic: mock.Mock) -> None:
    """Of both sources, if both have them."""
    source = FallbackSource(first, second)
    cache = SecretCache(source, batch=True)
    first.fail_batches(SecretThrottledError("slow down"))
    results = await cache.get_many(NAME, "only", return_exceptions=True)
    found = results[NAME]
    assert isinstance(found, Secret)
    assert found.text == "second"
    assert isinstance(results["only"], SecretNotFoundError)
    assert (len(first.batches), len(second.batches)) == (1, 1)

    class Single:
        async def fetch(self, request: SecretRequest) -> Secret:
            raise NotImplementedError

        async def aclose(self) -> None:
            """Nothing to close."""

    assert not isinstance(FallbackSource(first, Single()), BatchSource)
    with pytest.raises(ConfigurationError, match="batch=True needs a source with"):
        SecretCache(FallbackSource(Single(), second), batch=True)


@pytest.mark.parametrize("is_second_down", [False, True])
async def test_a_batch_that_fails_in_part(first: InMemorySource, second: InMemorySource, is_second_down: bool) -> None:
    """The second is asked for that part, such as the secrets of a region that is down; its refusals are no answers."""
    second.rotate("only", "second")
    cache = SecretCache(FallbackSource(first, second), batch=True)
    down = SecretUnavailableError("down")
    first.fail(down, NAME)
    first.fail(down, "none")
    if is_second_down:
        second.fail_batches(down)
    results = await cache.get_many(NAME, "only", "none", return_exceptions=True)

    texts = [result.text if isinstance(result, Secret) else str(result) for result in results.values()]
    assert texts == ["down" if is_second_down else "second", "first", "down"]
    assert (first.calls, second.batches) == ([], [(NAME, "none")])


async def test_closing_closes_both(first: InMemorySource, second: InMemorySource) -> None:
    """They belong to it; what sources of other kinds lack isn't asked of them."""
    source = FallbackSource(first, second)
    source.prepare()
    await source.warm()
    await source.close_connections()
    await source.aclose()
    assert (first.closed, second.closed) == (True, True)


def test_wrong_arguments_are_refused(first: InMemorySource, second: InMemorySource) -> None:
    """At once, with the remedy."""
    with pytest.raises(ConfigurationError, match="with the coroutine methods fetch and aclose, not str"):
        FallbackSource(first, "eu-central-1")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="must be two sources, not one and the same"):
        FallbackSource(first, first)
    with pytest.raises(ConfigurationError, match="timeout can't be 0: give seconds above zero"):
        FallbackSource(first, second, timeout=0)


@pytest.mark.parametrize("source_class", [SecretsManagerSource, DirectSource])
async def test_a_region_that_is_down(
    source_class: SourceClass, moto_server: MotoServer, aws_environment: pytest.MonkeyPatch
) -> None:
    """Two servers, of which one is stopped: names and ARNs are fetched from the replica, alone and in batches."""
    broken = MotoServer()
    arns = []
    for server, region in ((broken, REGION), (moto_server, OTHER)):
        import boto3

        client = boto3.client("secretsmanager", region_name=region, endpoint_url=server.url)
        arns.append(client.create_secret(Name=NAME, SecretString=region)["ARN"])
        client.close()
    aws_environment.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    source = FallbackSource(
        source_class(region_name=REGION, endpoint_url=broken.url),
        source_class(region_name=OTHER, endpoint_url=moto_server.url),
        timeout=1.0,
    )
    source.prepare()
    await source.warm()
    assert (await source.fetch(SecretRequest(arns[0]))).text == REGION
    broken.stop()

    # moto's replicas have random characters of their own; a partial ARN does without.
    arn = arns[0][:-7]
    secret = await source.fetch(SecretRequest(arn))
    assert (secret.text, secret.arn.split(":")[3], secret.name) == (OTHER, REGION, NAME)
    results = await source.fetch_batch([NAME, arn])
    assert {key: value.text for key, value in results.items() if isinstance(value, Secret)} == {NAME: OTHER, arn: OTHER}
    assert source_class(region_name=OTHER).region_name == OTHER
    await source.close_connections()
    await source.aclose()
