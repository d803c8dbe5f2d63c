"""One secret, one entry: stages, names and ARNs; and never another secret's entry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asecretcache import (
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.entries import Entry, Store
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME, VALUE = "prod/db", "hunter2"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-000001"
OTHER_ARN = "arn:aws:secretsmanager:us-east-1:999999999999:secret:prod/db-GhIjKl"


class TwoAccounts(InMemorySource):
    """Secrets of the caller's account by name and ARN, and those of another by ARN."""

    def __init__(self, mine: dict[str, str | bytes]) -> None:
        super().__init__(mine)
        self.others: dict[str, str] = {}

    async def fetch(self, request: SecretRequest) -> Secret:
        if request.secret_id not in self.others:
            return await super().fetch(request)
        self.calls.append(request)
        await self._turn()
        return Secret(
            name=NAME, arn=request.secret_id, version_id="theirs", secret_string=self.others[request.secret_id]
        )


@pytest.fixture
def source() -> TwoAccounts:
    return TwoAccounts({NAME: VALUE, "other": "else"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(source: TwoAccounts, clock: ManualClock) -> SecretCache:
    return SecretCache(source, clock=clock, ttl=100.0, jitter=0.0)


async def test_an_arn_after_its_name_costs_no_call(cache: SecretCache, source: TwoAccounts) -> None:
    """It is the name's entry, for hits and for misses: after the ttl they are fetched together, by name."""
    secret = await cache.get(NAME)
    assert await cache.get_secret(ARN) == VALUE
    assert await cache.get(ARN) is secret

    assert [call.secret_id for call in source.calls] == [NAME]


async def test_name_and_arn_expire_together_and_are_fetched_together(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """One call for both, by whichever is asked first, and by name."""
    await cache.get(NAME)
    for first, second in ((ARN, NAME), (NAME, ARN)):
        source.calls.clear()
        clock.advance(100)
        source.pause()
        callers = [asyncio.create_task(cache.get_secret(each)) for each in (first, second)]
        await until(lambda: source.calls)
        await asyncio.sleep(0)
        source.resume()
        assert await asyncio.gather(*callers) == [VALUE, VALUE]
        assert [call.secret_id for call in source.calls] == [NAME]


async def test_a_name_never_takes_the_entry_of_an_arn(cache: SecretCache, source: TwoAccounts) -> None:
    """An ARN may be another account's, so a name is fetched as long as no fetch by name has been."""
    await cache.get_secret(ARN)
    assert cache.peek(NAME) is None
    await cache.get_secret(NAME)

    assert [call.secret_id for call in source.calls] == [ARN, NAME]
    # Now they are one.
    assert cache.peek(ARN) is cache.peek(NAME)
    assert len(cache._store) == 1


async def test_two_accounts_with_the_same_secret_name_are_two_secrets(cache: SecretCache, source: TwoAccounts) -> None:
    """In whichever order they are asked for, singly and together."""
    source.others[OTHER_ARN] = "theirs"
    for ids in ([NAME, OTHER_ARN], [OTHER_ARN, NAME], [ARN, OTHER_ARN, NAME]):
        cache.clear()
        expected = ["theirs" if each == OTHER_ARN else VALUE for each in ids]
        assert [await cache.get_secret(each) for each in ids] == expected
        cache.clear()
        assert [secret.secret_string for secret in (await cache.get_many(ids)).values()] == expected


async def test_get_many_with_a_name_and_its_arn_is_one_call(cache: SecretCache, source: TwoAccounts) -> None:
    """Also the first time, when nothing is known of them yet."""
    for ids in ([NAME, ARN], [ARN, NAME], [ARN, "other", NAME]):
        cache.clear()
        source.calls.clear()

        secrets = await cache.get_many(ids)

        assert list(secrets) == ids
        assert secrets[NAME] is secrets[ARN]
        assert len(source.calls) == len(ids) - 1


async def test_an_arn_alone_is_fetched_as_it_is_among_many(cache: SecretCache, source: TwoAccounts) -> None:
    """Its name isn't asked for, so it doesn't wait for it."""
    await cache.get_many([ARN, "other"])

    assert sorted(call.secret_id for call in source.calls) == sorted([ARN, "other"])


async def test_get_many_falls_back_to_the_arn_where_the_name_fails(cache: SecretCache, source: TwoAccounts) -> None:
    """A policy may allow one and not the other."""
    source.fail(SecretNotFoundError("no", secret_id=NAME), NAME)

    outcomes = await cache.get_many([NAME, ARN], return_exceptions=True)

    assert isinstance(outcomes[NAME], SecretNotFoundError)
    assert isinstance(outcomes[ARN], Secret)


async def test_versions_of_an_arn_are_those_of_its_name(cache: SecretCache, source: TwoAccounts) -> None:
    """Stage and version id stay part of the key."""
    version = (await cache.get(NAME)).version_id
    source.rotate(NAME, "hunter3")
    await cache.refresh(NAME)
    for each in (NAME, ARN):
        assert await cache.get_secret(each, version_stage="AWSPREVIOUS") == VALUE
        assert await cache.get_secret(each, version_id=version) == VALUE
        assert await cache.get_secret(each) == "hunter3"

    assert len(source.calls) == 4


async def test_a_secret_deleted_and_created_again_is_another_secret(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """At its next fetch the name has the new ARN; the old ARN is asked for itself again, and gone."""
    old_version = (await cache.get(NAME)).version_id
    await cache.get(NAME, version_id=old_version)
    source.delete(NAME)
    source.rotate(NAME, "reborn")
    clock.advance(100)
    source.calls.clear()

    assert await cache.get_secret(NAME) == "reborn"
    new_arn = (await cache.get(NAME)).arn
    assert await cache.get_secret(new_arn) == "reborn"
    assert len(source.calls) == 1
    # A version that only the old secret had isn't served by the new one's name.
    assert cache.peek(NAME, version_id=old_version) is None
    with pytest.raises(SecretNotFoundError):
        await cache.get_secret(ARN)


async def test_who_asks_by_the_old_arn_is_never_given_the_new_secret(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """Its fetch goes by the name that it had, sees another ARN, and then goes by the ARN asked for."""
    await cache.get(NAME)
    source.others[ARN] = "still there"
    source.delete(NAME)
    source.rotate(NAME, "reborn")
    clock.advance(100)
    source.calls.clear()

    assert await cache.get_secret(ARN) == "still there"
    assert [call.secret_id for call in source.calls] == [NAME, ARN]
    assert await cache.get_secret(NAME) == "reborn"
    assert len(source.calls) == 2


async def test_who_was_led_to_another_secret_looks_into_memory_before_it_fetches_its_own(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """Somebody else may have fetched it meanwhile."""
    await cache.get(NAME)
    source.others[ARN] = "still there"
    source.delete(NAME)
    source.rotate(NAME, "reborn")
    clock.advance(100)
    source.pause()
    led_astray = asyncio.create_task(cache.get_secret(ARN))
    await until(lambda: len(source.calls) == 2)
    cache.clear()
    other = asyncio.create_task(cache.get_secret(ARN))
    await until(lambda: len(source.calls) == 3)
    source.others[ARN] = "newer"
    before = cache.stats()
    source.resume()

    assert await other == "newer"
    assert await led_astray == "newer"
    assert [call.secret_id for call in source.calls] == [NAME, NAME, ARN]
    assert cache.stats().hits == before.hits


async def test_an_error_by_alias_names_what_was_asked_for(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """Though it was fetched by name."""
    await cache.get(NAME)
    clock.advance(5000)
    source.fail(SecretUnavailableError("down", secret_id=NAME))

    with pytest.raises(SecretUnavailableError) as caught:
        await cache.get_secret(ARN)
    assert caught.value.secret_id == ARN


async def test_a_throttled_answer_that_is_held_names_what_was_asked_for(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """Though it was the answer to who asked by name."""
    await cache.get(NAME)
    clock.advance(5000)
    source.fail(SecretThrottledError("slow down", secret_id=NAME))

    for secret_id in (NAME, ARN):
        with pytest.raises(SecretThrottledError) as caught:
            await cache.get_secret(secret_id)
        assert caught.value.secret_id == secret_id
    assert len(source.calls) == 2


@pytest.mark.parametrize("secret_id", [NAME, ARN])
async def test_invalidating_one_forgets_both(cache: SecretCache, source: TwoAccounts, secret_id: str) -> None:
    """All versions, by name and by ARN."""
    for each in (NAME, ARN):
        await cache.get(each, version_id=(await cache.get(each)).version_id)

    cache.invalidate(secret_id)

    assert cache.peek(NAME) is cache.peek(ARN) is None
    assert not cache._store._versions
    assert not cache._store._names
    assert not cache._store._arns


async def test_invalidating_an_arn_holds_for_the_fetch_by_name_under_way(
    cache: SecretCache, source: TwoAccounts
) -> None:
    """That fetch may be about to show that the ARN is the name's, with a value from before."""
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    cache.invalidate(ARN)
    source.resume()

    assert await caller == VALUE
    assert cache.peek(NAME) is cache.peek(ARN) is None


async def test_invalidating_a_name_holds_for_what_turns_out_to_be_its_own(
    cache: SecretCache, source: TwoAccounts
) -> None:
    """A value that was fetched by the ARN, before anybody knew whose that is, doesn't come back as the name's."""
    await cache.get(ARN)
    source.pause()
    caller = asyncio.create_task(cache.get(ARN, version_stage="AWSPREVIOUS"))
    await until(lambda: len(source.calls) == 2)
    source.rotate(NAME, "new")

    cache.invalidate(NAME)

    source.resume()
    assert (await caller).secret_string == VALUE
    assert cache.peek(ARN) is cache.peek(ARN, version_stage="AWSPREVIOUS") is None
    await cache.get(NAME, version_stage="AWSPREVIOUS")
    assert await cache.get_secret(NAME) == "new"


async def test_who_is_told_that_access_is_denied_gets_no_stale_value_by_another_id(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """A name and its ARN that were fetched at the same time are one entry as well."""
    await asyncio.gather(cache.get(NAME), cache.get(ARN))
    assert len(cache._store) == 1
    clock.advance(100)
    source.fail(SecretAccessDeniedError("no"))
    with pytest.raises(SecretAccessDeniedError):
        await cache.get(ARN)
    source.fail(SecretUnavailableError("down"))

    for each in (NAME, ARN):
        with pytest.raises(SecretUnavailableError):
            await cache.get(each)


async def test_a_failed_fetch_by_the_arn_spaces_those_by_the_name_too(
    cache: SecretCache, source: TwoAccounts, clock: ManualClock
) -> None:
    """It was found out meanwhile whose the ARN is, so it is the name's failure."""
    version_id = (await cache.get(ARN)).version_id
    clock.advance(100)
    source.pause()
    caller = asyncio.create_task(cache.get_secret(ARN))
    await until(lambda: len(source.calls) == 2)
    source._paused = False
    await cache.get(NAME, version_id=version_id)
    source.fail(SecretUnavailableError("down"))
    source.resume()
    assert await caller == VALUE
    calls = len(source.calls)

    assert await cache.get_secret(NAME) == await cache.get_secret(ARN) == VALUE
    assert len(source.calls) == calls


async def test_an_arn_whose_name_hangs_doesnt_wait_twice(source: TwoAccounts) -> None:
    """Nor does it put a second call on what is down; and with no ttl at all one call still serves both."""
    source.pause()
    cache = SecretCache(source, fetch_timeout=0.01)
    outcomes = await cache.get_many([NAME, ARN], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes.values()] == [SecretUnavailableError] * 2
    assert outcomes[ARN].secret_id == ARN  # type: ignore[union-attr]  # it is an error
    assert len(source.calls) == 1

    source.resume()
    source.calls.clear()
    secrets = await SecretCache(source, ttl=0).get_many([NAME, ARN])
    assert secrets[NAME] is secrets[ARN]
    assert len(source.calls) == 1


async def test_a_foreign_arn_that_another_caller_has_just_fetched_costs_no_call(
    cache: SecretCache, source: TwoAccounts
) -> None:
    """Both waited for the name first, which it might have been."""
    source.others[OTHER_ARN] = "theirs"
    await asyncio.gather(cache.get_many([NAME, OTHER_ARN]), cache.get_many([OTHER_ARN, NAME]))

    assert sorted(call.secret_id for call in source.calls) == sorted([NAME, OTHER_ARN])


def entry(started: int, arn: str = ARN) -> Entry:
    secret = Secret(name=NAME, arn=arn, version_id="v", secret_string=f"value {started}")
    return Entry(secret, started=started, born=0.0, expires_at=100.0)


def put(store: Store, secret_id: str, started: int, arn: str = ARN, stage: Any = None) -> bool:
    return store.put(SecretRequest(secret_id, stage), entry(started, arn), 0.0)


def test_what_was_fetched_by_the_arn_later_becomes_the_names() -> None:
    """A fetch by name doesn't overwrite the result of one by ARN that started after it, and takes it over."""
    store = Store(9)
    assert put(store, ARN, 2)
    assert not put(store, NAME, 1)
    assert store.entries[NAME] is store.entries[ARN]
    assert store.entries[NAME].started == 2
    assert len(store) == 1

    assert put(store, NAME, 3)
    assert store.entries[NAME] is store.entries[ARN]
    assert store.entries[ARN].started == 3
    assert len(store) == 1


def test_a_fetch_by_arn_that_lands_after_the_name_is_known_is_the_names() -> None:
    """The order is that of the starts, by whichever id."""
    store = Store(9)
    put(store, NAME, 2)
    assert not put(store, ARN, 1)
    assert put(store, ARN, 3)

    assert store.entries[NAME] is store.entries[ARN]
    assert store.entries[NAME].started == 3
    assert len(store) == 1


def test_all_that_was_fetched_by_the_arn_becomes_the_names() -> None:
    """Versions too, so that nothing of a secret has two entries, and their expiries go along."""
    store = Store(9)
    put(store, ARN, 1, stage="AWSPREVIOUS")
    put(store, NAME, 2)

    key = (NAME, "AWSPREVIOUS", None)
    assert store.entries[key] is store.entries[(ARN, "AWSPREVIOUS", None)]
    assert list(store._order) == [key, NAME]
    assert (100.0, 1, key) in store._expiries


def test_a_late_answer_about_the_old_secret_doesnt_replace_the_new_one() -> None:
    """A name whose ARN has changed stays with the fetch that started last."""
    store = Store(9)
    put(store, NAME, 2, OTHER_ARN)

    assert not put(store, NAME, 1, ARN, "AWSPREVIOUS")
    assert set(store.entries) == {NAME, OTHER_ARN}


def test_a_late_answer_about_another_secret_isnt_stored_after_a_refusal() -> None:
    """What was refused by its name, by a fetch that started later, may have been that other secret."""
    store = Store(9)
    put(store, NAME, 1, OTHER_ARN)
    store.entries[NAME].revoked_at = 3

    assert not put(store, NAME, 2)
    assert put(store, NAME, 4)


def test_two_names_that_show_the_same_arn_share_it_orderly() -> None:
    """Secrets Manager has no such thing; a source that does leaves nothing behind."""
    store = Store(9)
    put(store, "a", 1)
    put(store, "b", 2)
    assert store.entries[ARN].started == 2
    store.drop("a")
    assert store.entries[ARN].started == 2
    store.drop("b")
    assert not store.entries
    assert not store._arns
    assert not store._names


def test_nothing_is_left_of_what_was_fetched_by_the_arn_first() -> None:
    """What the store knows of names and ARNs goes with the last of their values."""
    store = Store(9)
    put(store, ARN, 1)
    put(store, NAME, 2, stage="AWSPREVIOUS")
    store.drop(NAME)

    assert not store._names
    assert not store._arns
    assert not store.entries


def test_evicting_a_name_evicts_its_arn() -> None:
    """An alias takes no place of its own, and keeps nothing alive."""
    store = Store(1)
    put(store, NAME, 1)
    put(store, "other", 2, "arn:other")
    assert set(store.entries) == {"other", "arn:other"}
