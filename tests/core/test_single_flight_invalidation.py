"""Secrets that are invalidated while they are fetched: callers keep their results, nothing old is stored or joined."""

from __future__ import annotations

import asyncio

import pytest

import observe
from asecretcache import Secret, SecretCache, SecretRequest, SecretThrottledError
from asecretcache.testing import InMemorySource
from turns import until

NAME, VALUE = "prod/db", "hunter2"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-000001"
PARTIAL_ARN = ARN[:-7]
OTHER_ARN = "arn:aws:secretsmanager:us-east-1:999999999999:secret:prod/db-GhIjKl"


class AliasSource:
    """Calls one secret by any id, as a source of a user's may."""

    def __init__(self, arn: str = ARN) -> None:
        self.arn = arn
        self.value = VALUE
        self.gates: list[asyncio.Event] = []

    async def fetch(self, request: SecretRequest) -> Secret:
        secret = Secret(name=NAME, arn=self.arn, version_id="v", secret_string=self.value)
        self.gates.append(gate := asyncio.Event())
        await gate.wait()
        return secret

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("everything", [False, True])
async def test_a_fetch_invalidated_in_mid_flight_answers_and_is_not_stored(
    cache: SecretCache, source: InMemorySource, *, everything: bool
) -> None:
    """A caller from before the invalidation gets what was true then; a caller from after it gets a new fetch."""
    source.pause()
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    if everything:
        cache.clear()
    else:
        cache.invalidate("other")
        cache.invalidate(NAME)
    after = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)

    cache.invalidate(NAME)
    source.resume()

    assert list(await asyncio.gather(before, after)) == [VALUE, VALUE]
    assert cache.peek(NAME) is None


async def test_invalidating_another_secret_leaves_a_fetch_alone(cache: SecretCache, source: InMemorySource) -> None:
    """It can be joined, and its value is stored."""
    source.pause()
    callers = [asyncio.create_task(cache.get(NAME))]
    await until(lambda: source.calls)
    cache.invalidate("other")
    callers.append(asyncio.create_task(cache.get(NAME)))
    await asyncio.sleep(0)
    source.resume()

    assert await callers[0] is await callers[1] is cache.peek(NAME)
    assert len(source.calls) == 1


@pytest.mark.parametrize("version", ["AWSPREVIOUS", "AWSPENDING"])
async def test_all_versions_of_a_secret_are_invalidated_in_mid_flight(version: str) -> None:
    """Whatever the label, its fetch may be of a value from before."""
    cache = SecretCache(source := AliasSource())
    caller = asyncio.create_task(cache.get(NAME, version_stage=version))
    await until(lambda: source.gates)

    cache.invalidate(NAME)
    source.gates[0].set()

    assert (await caller).secret_string == VALUE
    assert cache.peek(NAME, version_stage=version) is None


@pytest.mark.parametrize("invalidated", [NAME, ARN])
@pytest.mark.parametrize("requested", [NAME, ARN, PARTIAL_ARN, "alias"])
async def test_the_result_tells_whose_fetch_it_is(requested: str, invalidated: str) -> None:
    """A running fetch whose result has the name or ARN that was invalidated is not stored, whatever its own id."""
    cache = SecretCache(source := AliasSource())
    caller = asyncio.create_task(cache.get(requested))
    await until(lambda: source.gates)

    cache.invalidate(invalidated)
    source.gates[0].set()

    assert (await caller).secret_string == VALUE
    assert cache.peek(requested) is None


@pytest.mark.parametrize("requested", [NAME, PARTIAL_ARN])
@pytest.mark.parametrize("invalidated", [NAME, ARN])
async def test_a_fetch_that_may_be_of_the_secret_is_not_joined(requested: str, invalidated: str) -> None:
    """Its value may be from before the invalidation, so a later caller starts a fetch of its own."""
    cache = SecretCache(source := AliasSource())
    before = asyncio.create_task(cache.get(requested))
    await until(lambda: source.gates)
    cache.invalidate(invalidated)
    source.value = "new"
    after = asyncio.create_task(cache.get(requested))
    await until(lambda: len(source.gates) == 2)
    for gate in source.gates:
        gate.set()

    assert [(await each).secret_string for each in (before, after)] == [VALUE, "new"]
    assert cache.peek(requested) is await after


async def test_another_accounts_secret_of_the_same_name_is_stored() -> None:
    """It may have been the invalidated one, but its ARN shows that it is not."""
    cache = SecretCache(source := AliasSource(OTHER_ARN))
    caller = asyncio.create_task(cache.get(OTHER_ARN))
    await until(lambda: source.gates)

    cache.invalidate(ARN)
    source.gates[0].set()

    assert await caller is cache.peek(OTHER_ARN)


async def test_by_name_other_accounts_secrets_are_invalidated_too() -> None:
    """A name may stand for the secret of that name in any account."""
    cache = SecretCache(source := AliasSource(OTHER_ARN))
    caller = asyncio.create_task(cache.get(OTHER_ARN))
    await until(lambda: source.gates)

    cache.invalidate(NAME)
    source.gates[0].set()

    assert (await caller).arn == OTHER_ARN
    assert cache.peek(OTHER_ARN) is None


async def test_a_partial_arn_that_is_of_another_secret_is_stored() -> None:
    """The name that a partial ARN seems to end in may be the beginning of another one."""
    cache = SecretCache(source := AliasSource("arn:aws:secretsmanager:us-east-1:1:secret:prod/db-backup-AbCdEf"))
    caller = asyncio.create_task(cache.get("arn:aws:secretsmanager:us-east-1:1:secret:prod/db-backup"))
    await until(lambda: source.gates)

    cache.invalidate("arn:aws:secretsmanager:us-east-1:1:secret:prod/db-backup-ZzZzZz")
    source.gates[0].set()

    assert await caller is cache.peek("arn:aws:secretsmanager:us-east-1:1:secret:prod/db-backup")


@pytest.mark.parametrize(("invalidated", "calls"), [(NAME, 2), (ARN, 2), ("other", 1)])
async def test_a_failure_from_before_an_invalidation_is_not_held(
    cache: SecretCache, source: InMemorySource, invalidated: str, calls: int
) -> None:
    """A caller that invalidates wants a fetch, also where the running one will fail."""
    source.fail(SecretThrottledError("slow down"))
    source.pause()
    caller = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    cache.invalidate(invalidated)
    source.resume()

    for each in (caller, cache.get(NAME)):
        with pytest.raises(SecretThrottledError):
            await each
    assert len(source.calls) == calls


@pytest.mark.parametrize("secret_id", [NAME, ARN])
async def test_invalidating_leaves_no_name_of_a_running_fetch(
    cache: SecretCache, source: InMemorySource, secret_id: str
) -> None:
    """Neither its key nor the references by which readers found it."""
    source.rotate(NAME, '{"user": "u"}')
    source.pause()
    reader = asyncio.create_task(cache.get_secret(f"{NAME}:user"))
    await until(lambda: source.calls)
    records = observe.loader(cache).store.records
    assert set(records) == {NAME, f"{NAME}:user"}

    cache.invalidate(secret_id)

    assert not records
    source.resume()
    assert await reader == "u"
    assert not records


async def test_a_fetch_is_kept_from_the_store_by_each_invalidated_id() -> None:
    """A later invalidation doesn't make up for an earlier one."""
    cache = SecretCache(source := AliasSource())
    reader = asyncio.create_task(cache.get(PARTIAL_ARN))
    await until(lambda: source.gates)

    cache.invalidate(ARN)
    cache.invalidate("other")
    source.gates[0].set()
    await reader

    assert observe.entries(cache) == {}


async def test_an_invalidated_fetch_that_fails_logs_nothing(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no value that it could hide, and nobody is told but its waiters."""
    source.fail(SecretThrottledError("slow down"))
    source.pause()
    caller = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    cache.invalidate(NAME)
    source.resume()

    with pytest.raises(SecretThrottledError):
        await caller
    assert caplog.records == []
