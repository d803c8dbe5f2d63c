"""How many calls things cost, counted at the server: the figures of the README's table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from asecretcache import SecretCache, async_handler, bootstrap, get_secrets, set_default_cache
from asecretcache.testing import ManualClock
from moto_server import MotoServer

NAMES = [f"app/secret-{number:03}" for number in range(100)]


@pytest.fixture(scope="module")
def filled_server(_moto_session: MotoServer) -> MotoServer:
    # pytest-xdist may run tests of other modules in between, and then fill it once more.
    _moto_session.reset()
    for name in NAMES:
        _moto_session.create(name, f"value of {name}")
    return _moto_session


@pytest.fixture
def moto(filled_server: MotoServer, credentials: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", filled_server.url)
    yield filled_server
    set_default_cache(None)


def calls(moto: MotoServer) -> tuple[int, int]:
    """The calls of both kinds since the last time; nothing else is ever called."""
    counted = moto.calls("GetSecretValue"), moto.calls("BatchGetSecretValue")
    assert moto.all_calls() - sum(counted) == 0
    moto.forget_calls()
    return counted


@pytest.mark.parametrize(("batch", "expected"), [(False, (100, 0)), (True, (0, 5))])
async def test_a_hundred_secrets(moto: MotoServer, *, batch: bool, expected: tuple[int, int]) -> None:
    """A call each, or five in batches; a second time none; after the ttl the same again."""
    clock = ManualClock()
    moto.forget_calls()
    async with SecretCache(batch=batch, clock=clock) as cache:
        for costs in (expected, (0, 0)):
            secrets = await cache.get_many(*NAMES)
            assert [secret.secret_string for secret in secrets.values()] == [f"value of {name}" for name in NAMES]
            assert calls(moto) == costs
        clock.advance(3600)
        await cache.get_many(*NAMES)
        assert calls(moto) == expected
        assert cache.stats().calls_saved == 300 - 2 * sum(expected)


async def test_a_first_get_a_warm_get_and_one_after_the_ttl(moto: MotoServer) -> None:
    """One call, none, and one again."""
    clock = ManualClock()
    moto.forget_calls()
    async with SecretCache(clock=clock) as cache:
        for seconds, costs in ((0, 1), (0, 0), (3600, 1)):
            clock.advance(seconds)
            await cache.get_secret(NAMES[0])
            assert calls(moto) == (costs, 0)


async def test_a_thousand_concurrent_first_gets(moto: MotoServer) -> None:
    """One call."""
    moto.forget_calls()
    async with SecretCache() as cache:
        await asyncio.gather(*(cache.get_secret(NAMES[0]) for _ in range(1000)))

    assert calls(moto) == (1, 0)


def test_a_loop_for_each_of_a_hundred_invocations(moto: MotoServer) -> None:
    """One call in all."""
    cache = SecretCache()
    moto.forget_calls()
    for _ in range(100):
        asyncio.run(cache.get_secret(NAMES[0]))

    assert calls(moto) == (1, 0)


@pytest.mark.parametrize(("batch", "costs"), [(False, (6, 0)), (True, (0, 1))])
async def test_a_name_and_an_arn_are_two_reads(moto: MotoServer, *, batch: bool, costs: tuple[int, int]) -> None:
    """Real ARNs, as the server makes them, cost calls of their own; in a batch they share one call."""
    arns = [moto.client.describe_secret(SecretId=name)["ARN"] for name in NAMES[:3]]
    moto.forget_calls()
    async with SecretCache(batch=batch) as cache:
        secrets = await cache.get_many(*arns, *NAMES[:3])
        assert calls(moto) == costs
        for arn, name in zip(arns, NAMES, strict=False):
            assert secrets[arn] == secrets[name]
            assert await cache.get(arn) is secrets[arn]
            cache.invalidate(name)
            assert cache.peek(arn) is None
        assert calls(moto) == (0, 0)


async def test_keys_stages_and_versions_of_one_secret(moto: MotoServer) -> None:
    """All keys of one version are one call, however they are read; each version is a call."""
    moto.create("json", '{"a": 1, "b": 2}')
    moto.client.put_secret_value(SecretId="json", SecretString='{"a": 3, "b": 4}')
    moto.forget_calls()
    async with SecretCache() as cache:
        for costs in (2, 0):
            assert await cache.get_secrets("json:a", "json:b", "json:a:AWSPREVIOUS", "json:b:AWSPREVIOUS") == {
                "json:a": "3",
                "json:b": "4",
                "json:a:AWSPREVIOUS": "1",
                "json:b:AWSPREVIOUS": "2",
            }
            assert (await cache.get_json("json"), await cache.get_as("json:b", int)) == ({"a": 3, "b": 4}, 4)
            assert calls(moto) == (costs, 0)


def test_what_is_built_on_get_many_has_its_batches(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """get_secrets, bootstrap with a mapping and an async_handler's prefetch are batches too."""
    variables = {f"ASECRETCACHE_TEST_{number}": name for number, name in enumerate(NAMES[40:60])}
    for variable in variables:
        monkeypatch.setenv(variable, "")

    @async_handler(prefetch=NAMES[:20], cache=SecretCache(batch=True))
    async def handler(event: object, context: object) -> None:
        assert calls(moto) == (0, 1)
        await get_secrets(*NAMES[:40])
        assert calls(moto) == (0, 1)
        await bootstrap(variables)
        assert calls(moto) == (0, 1)

    moto.forget_calls()
    handler({}, None)
