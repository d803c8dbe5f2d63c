"""Faults on the way to Secrets Manager: a typed error or the stale value, in time, and nothing left behind."""

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
from source_helpers import shown_locals

OLD, NEW = "canary-old", "canary-new"
# A fault that hangs ends with the fetch's time-out, and with any other the three attempts must end before it. The guard
# fails a test that doesn't end.
SHORT, LONG, GUARD = 0.9, 20.0, 15.0

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK make its attempts without waiting for seconds between them."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.01)


@pytest.fixture(scope="module")
def session() -> aioboto3.Session:
    """The session of all tests, so that the SDK's models are loaded once."""
    return aioboto3.Session()


@pytest.fixture
def source(fault_server: FaultServer, session: aioboto3.Session) -> SecretsManagerSource:
    """A source that resolves the server's name for each connection."""
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


def has_struck(server: FaultServer, fault: Fault) -> bool:
    """Whether it was the server that hung, not the client before it got there."""
    return server.broken > 0 or not fault.hangs


def check(error: SecretCacheError, fault: Fault) -> None:
    """The error must have the fault's type, and neither value may be in it or in the package's frames."""
    assert type(error) is fault.error
    assert error.secret_id == "name"
    for shown in (shown_locals(error), *traceback.format_exception(error), repr(error.args)):
        assert OLD not in shown
        assert NEW not in shown


@every_fault
async def test_without_a_value_it_is_a_typed_error_until_the_fault_is_over(
    fault_server: FaultServer, source: SecretsManagerSource, fault: Fault
) -> None:
    """The error is raised in time, and the first call after the fault returns the value."""
    clock = ManualClock()
    async with SecretCache(source, fetch_timeout=timeout(fault), clock=clock) as cache:
        fault.inject(fault_server)
        check(await failure(cache), fault)
        assert has_struck(fault_server, fault)

        fault_server.recover()
        clock.advance(2.0)  # A throttled response is held for a second.
        assert await value(cache) == OLD
    await source.aclose()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.hangs], ids=str)
def test_a_loop_that_ends_while_the_server_hangs_leaves_nothing_behind(
    fault_server: FaultServer, source: SecretsManagerSource, fault: Fault
) -> None:
    """No socket waits for its peer, nothing warns, and the first call on the next loop returns the value."""
    clock = ManualClock()
    cache = SecretCache(source, fetch_timeout=timeout(fault), clock=clock)
    fault.inject(fault_server)
    check(asyncio.run(failure(cache)), fault)
    assert has_struck(fault_server, fault)
    gc.collect()

    fault_server.recover()
    clock.advance(2.0)  # As above.
    assert asyncio.run(value(cache)) == OLD


@every_fault
async def test_a_stale_value_is_served_while_a_transient_fault_lasts(
    fault_server: FaultServer, source: SecretsManagerSource, fault: Fault
) -> None:
    """It is served in time, and the first call after the fault returns the new value."""
    clock = ManualClock()
    options: dict[str, Any] = {"ttl": 10.0, "jitter": 0.0, "stale_if_error": 1000.0, "clock": clock}
    async with SecretCache(source, fetch_timeout=timeout(fault), **options) as cache:
        assert await value(cache) == OLD
        clock.advance(11.0)
        fault_server.hold(NEW)
        fault.inject(fault_server)
        assert await value(cache) == OLD
        assert has_struck(fault_server, fault)

        fault_server.recover()
        clock.advance(61.0)  # The longest back-off between retries while a stale value is served.
        assert await value(cache) == NEW
    await source.aclose()
