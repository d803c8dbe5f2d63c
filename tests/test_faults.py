"""Whatever goes wrong on the way to Secrets Manager: the typed error or the stale value, in time, and no harm done."""

from __future__ import annotations

import asyncio
import gc
import traceback
from typing import Any

import aioboto3
import pytest
from aiobotocore.config import AioConfig
from botocore.retries.standard import ExponentialBackoff

from asecretcache import SecretCache, SecretCacheError, SecretsManagerSource
from asecretcache.testing import ManualClock
from fault_server import FAULTS, Fault, FaultServer

OLD, NEW = "canary-old", "canary-new"
# What hangs is given up after fetch_timeout; of all else the three attempts are to end before it. Whatever isn't given
# up at all is ended by the guard.
SHORT, LONG, GUARD = 0.9, 20.0, 15.0

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


@pytest.fixture(autouse=True)
def _hasty_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK makes its attempts as ever, but doesn't wait for seconds between them."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.01)


@pytest.fixture(scope="module")
def session() -> aioboto3.Session:
    """What all tests share: it loads the SDK's models but once."""
    return aioboto3.Session()


@pytest.fixture
def source(fault_server: FaultServer, session: aioboto3.Session) -> SecretsManagerSource:
    """A source that looks the server's name up for each connection, so that its loss is noticed at once."""
    fault_server.hold(OLD)
    return SecretsManagerSource(session, config=AioConfig({"use_dns_cache": False}))


def timeout(fault: Fault) -> float:
    return SHORT if fault.hangs else LONG


async def value(cache: SecretCache) -> str:
    async with asyncio.timeout(GUARD):
        return await cache.get_secret("name")


async def failure(cache: SecretCache) -> SecretCacheError:
    with pytest.raises(SecretCacheError) as caught:
        await value(cache)
    return caught.value


def struck(server: FaultServer, fault: Fault) -> bool:
    """Whether what hung was the server, and not the client before it got there."""
    return server.broken > 0 or not fault.hangs


def check(error: SecretCacheError, fault: Fault) -> None:
    """It is of the type that the fault calls for, and neither value is in it or in our frames."""
    assert type(error) is fault.error
    assert error.secret_id == "name"
    printed = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    # The test's own frames hold the values, so of the frames only the package's are looked at.
    frames = [part for part in printed.split('  File "') if "asecretcache" in part.partition(",")[0]]
    assert frames
    for told in (*frames, *traceback.format_exception(error), repr(error.args)):
        assert OLD not in told
        assert NEW not in told


@every_fault
async def test_without_a_value_it_is_a_typed_error_until_the_fault_is_over(
    fault_server: FaultServer, source: SecretsManagerSource, fault: Fault
) -> None:
    """The error comes in time, and the first call after the fault brings the value."""
    clock = ManualClock()
    async with SecretCache(source, fetch_timeout=timeout(fault), clock=clock) as cache:
        fault.befall(fault_server)
        check(await failure(cache), fault)
        assert struck(fault_server, fault)

        fault_server.recover()
        clock.advance(2.0)  # The answer that there are too many calls is held for a second.
        assert await value(cache) == OLD
    await source.aclose()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.hangs], ids=str)
def test_a_loop_that_ends_while_the_server_hangs_leaves_nothing_behind(
    fault_server: FaultServer, source: SecretsManagerSource, fault: Fault
) -> None:
    """Neither a socket that waits for its peer nor a warning; and on the next loop the first call brings the value."""
    clock = ManualClock()
    cache = SecretCache(source, fetch_timeout=timeout(fault), clock=clock)
    fault.befall(fault_server)
    check(asyncio.run(failure(cache)), fault)
    assert struck(fault_server, fault)
    gc.collect()

    fault_server.recover()
    clock.advance(2.0)  # As above.
    assert asyncio.run(value(cache)) == OLD


@every_fault
async def test_a_stale_value_is_served_while_a_transient_fault_lasts(
    fault_server: FaultServer, source: SecretsManagerSource, fault: Fault
) -> None:
    """In time; what isn't transient is a typed error. The first call after the fault brings the new value."""
    clock = ManualClock()
    options: dict[str, Any] = {"ttl": 10.0, "jitter": 0.0, "stale_if_error": 1000.0, "clock": clock}
    async with SecretCache(source, fetch_timeout=timeout(fault), **options) as cache:
        assert await value(cache) == OLD
        clock.advance(11.0)
        fault_server.hold(NEW)
        fault.befall(fault_server)
        if fault.is_transient:
            assert await value(cache) == OLD
        else:
            check(await failure(cache), fault)
        assert struck(fault_server, fault)

        fault_server.recover()
        clock.advance(61.0)  # The longest that it waits, while it serves what is stale, before it tries again.
        assert await value(cache) == NEW
    await source.aclose()
