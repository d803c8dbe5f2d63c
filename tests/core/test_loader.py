"""How secrets and their fields are loaded: from memory, or fetched; and how they are forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import observe
from asecretcache import (
    CacheClosedError,
    ConfigurationError,
    Secret,
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretRequest,
    SecretUnavailableError,
)
from asecretcache._core.entries import Record
from asecretcache._core.fetch import FetchReason
from asecretcache._core.selection import select
from asecretcache._core.timeouts import Deadline, current_fetch_timeout, invocation_deadline
from asecretcache._references import parse_reference
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME = "prod/db"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-000001"
JSON = '{"user": "u", "port": 5432, "ratio": 0.5, "tls": true, "none": null, "list": [1], "map": {}, "empty": ""}'


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: JSON, "other": "else", "binary": b"\x00"})


# Secrets


async def test_a_fresh_secret_is_loaded_from_memory(cache: SecretCache, source: InMemorySource) -> None:
    """The second load costs no call and gives the same record."""
    loader, request = observe.loader(cache), SecretRequest(NAME)

    secret = await loader.load(request)

    assert await loader.load(request) is secret
    assert await loader.load_all([request]) == {request: secret}
    assert len(source.calls) == 1
    assert loader.stats()[:2] == (2, 1)


async def test_several_are_loaded_in_the_order_of_the_requests(cache: SecretCache, source: InMemorySource) -> None:
    """Each once, errors in their places."""
    requests = [SecretRequest(name) for name in ("other", "missing", NAME, "other")]

    results = await observe.loader(cache).load_all(requests)

    assert [request.secret_id for request in results] == ["other", "missing", NAME]
    assert [type(result).__name__ for result in results.values()] == ["Secret", "SecretNotFoundError", "Secret"]
    assert len(source.calls) == 3


async def test_a_source_is_told_that_a_fetch_is_a_refresh(cache: SecretCache, source: InMemorySource) -> None:
    """A read and a prefetch aren't one; the version that is asked for is the same."""
    await cache.prefetch(NAME)
    await cache.get_secret(NAME, version_stage="AWSCURRENT", version_id=(await cache.get(NAME)).version_id)
    await cache.refresh(NAME)
    await cache.refresh(NAME, version_id=(await cache.get(NAME)).version_id)

    assert [call.is_refresh for call in source.calls] == [False, False, True, True]
    assert [call.version_id is None for call in source.calls] == [True, False, True, False]


async def test_a_refresh_fetches_what_is_fresh(cache: SecretCache, source: InMemorySource) -> None:
    """And replaces it; what it returns is what is stored."""
    loader, request = observe.loader(cache), SecretRequest(NAME)
    await loader.load(request)
    source.rotate(NAME, "new")

    secret = await loader.load(request, FetchReason.REFRESH)

    assert secret.secret_string == "new"
    assert cache.peek(NAME) is secret
    assert len(source.calls) == 2


async def test_ids_are_stored_apart(cache: SecretCache, source: InMemorySource) -> None:
    """A name and an ARN of one secret have two entries, each with its own expiry and its own refreshes."""
    await cache.get_secret(NAME)
    assert cache.peek(ARN) is None
    await cache.get_secret(ARN)
    source.rotate(NAME, "new")

    await cache.refresh(NAME)

    assert [await cache.get_secret(each) for each in (NAME, ARN)] == ["new", JSON]
    assert [call.secret_id for call in source.calls] == [NAME, ARN, NAME]


async def test_the_current_stage_is_the_plain_id(cache: SecretCache, source: InMemorySource) -> None:
    """AWSCURRENT is what is fetched without a stage, so both are one entry."""
    secret = await cache.get(NAME)

    assert await cache.get(NAME, version_stage="AWSCURRENT") is secret
    assert await cache.get(f"{NAME}::AWSCURRENT") is secret
    assert await cache.get(NAME, version_id=secret.version_id) is not secret
    assert len(source.calls) == 2


async def test_a_secret_created_again_is_another_secret(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """At its next fetch the name has the new value; the old ARN is asked for itself, and gone."""
    await cache.get_many(NAME, ARN)
    source.delete(NAME)
    source.rotate(NAME, "created again")
    clock.advance(100)

    assert await cache.get_secret(NAME) == "created again"
    with pytest.raises(SecretErrorGroup, match="000001"):
        await cache.get_many(NAME, ARN)


# Forgetting


@pytest.mark.parametrize("secret_id", [NAME, ARN])
async def test_invalidating_by_any_id_forgets_all_ids_and_versions(
    cache: SecretCache, source: InMemorySource, secret_id: str
) -> None:
    """Other secrets stay."""
    version_id = (await cache.get(NAME)).version_id
    source.rotate(NAME, "new")
    references = [NAME, ARN, f"{NAME}::AWSPREVIOUS", f"{ARN}::AWSPREVIOUS", f"{NAME}:::{version_id}"]
    await cache.get_many(*references, "other")

    cache.invalidate(secret_id)

    assert [cache.peek(each) for each in references] == [None] * 5
    assert cache.peek("other")


async def test_an_id_of_another_secret_forgets_nothing(cache: SecretCache) -> None:
    """Nothing goes by a prefix."""
    await cache.get_many(NAME, ARN)

    for secret_id in ("prod", ARN[:-1], ARN[:-7], ARN.replace("123456789012", "999999999999")):
        cache.invalidate(secret_id)

    assert cache.peek(NAME)
    assert cache.peek(ARN)


async def test_clearing_forgets_all(cache: SecretCache, source: InMemorySource) -> None:
    """Values, versions and fields."""
    await cache.get_secrets(NAME, f"{NAME}:user", "other")

    cache.clear()

    assert not observe.loader(cache).store.records
    assert cache.peek(NAME) is cache.peek("other") is None
    await cache.get_secret(NAME)
    assert len(source.calls) == 3


async def test_a_closed_loader_refuses_to_load(cache: SecretCache) -> None:
    """Whatever for."""
    loader, request = observe.loader(cache), SecretRequest(NAME)
    await loader.load(request)
    await cache.aclose()

    for reason in FetchReason:
        with pytest.raises(CacheClosedError, match="closed"):
            await loader.load(request, reason)
        with pytest.raises(CacheClosedError, match="closed"):
            await loader.load_all([request], reason)


# Fields


def field(cache: SecretCache, name: object) -> Record | None:
    """The kept field of a reference."""
    found = observe.loader(cache).store.records.get(name)
    return found if isinstance(found, Record) and not found.is_whole else None


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [("user", "u", "u"), ("port", 5432, "5432"), ("ratio", 0.5, "0.5"), ("tls", True, "true"), ("empty", "", "")],
)
async def test_a_scalar_of_the_json_is_kept_with_its_entry(
    cache: SecretCache, source: InMemorySource, key: str, value: object, text: str
) -> None:
    """Later reads of the reference parse nothing, by text and by value."""
    reference = f"{NAME}:{key}"
    assert await cache.get_secret(reference) == text

    kept = field(cache, reference)
    assert kept is not None
    assert (kept.value, kept.text, kept.secret) == (value, text, cache.peek(NAME))
    assert await cache.get_secret(reference) == text
    assert await cache.get_secrets(reference) == {reference: text}
    assert await cache.get_json(reference) == value
    assert kept.hits == 3
    assert len(source.calls) == 1


async def test_a_key_that_is_given_apart_is_kept_too(cache: SecretCache) -> None:
    """get_json(reference, key) looks up both."""
    for _ in range(3):
        assert await cache.get_json(NAME, "port") == 5432

    kept = field(cache, (NAME, "port"))
    assert kept is not None
    assert kept.hits == 2


@pytest.mark.parametrize(("key", "value", "text"), [("list", [1], "[1]"), ("map", {}, "{}")])
async def test_objects_and_arrays_are_not_kept(cache: SecretCache, key: str, value: Any, text: str) -> None:
    """Each caller gets its own, to change as it likes."""
    reference = f"{NAME}:{key}"
    for _ in range(2):
        (await cache.get_json(reference)).clear()
        assert await cache.get_json(reference) == value
        assert await cache.get_secret(reference) == text

    assert field(cache, reference) is None


async def test_null_is_no_text_and_is_not_kept(cache: SecretCache) -> None:
    """As JSON it is None."""
    for _ in range(2):
        assert await cache.get_json(f"{NAME}:none") is None
        with pytest.raises(SecretFormatError, match="null at key 'none'"):
            await cache.get_secret(f"{NAME}:none")

    assert field(cache, f"{NAME}:none") is None


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (f"{NAME}:missing", "no key 'missing'"),
        ("other:key", "isn't JSON"),
        ("binary:key", "is binary"),
        ("binary", "is binary"),
    ],
)
async def test_what_can_not_be_selected_is_an_error_and_not_kept(cache: SecretCache, reference: str, says: str) -> None:
    """Each time, named as the caller named the secret."""
    for _ in range(2):
        with pytest.raises(SecretFormatError, match=says):
            await cache.get_secret(reference)

    assert set(observe.loader(cache).store.records) == {reference.partition(":")[0]}


async def test_a_stage_in_the_reference_is_kept_by_the_reference(cache: SecretCache, source: InMemorySource) -> None:
    """So that a read of it is one look-up; by the keywords it is found as well."""
    source.rotate(NAME, "new")
    for _ in range(2):
        assert await cache.get_secret(f"{NAME}::AWSPREVIOUS") == JSON
        assert await cache.get_secret(f"{NAME}:user:AWSPREVIOUS") == "u"
        assert await cache.get_secret(f"{NAME}:user", version_stage="AWSPREVIOUS") == "u"
        assert await cache.get_secret(NAME, version_stage="AWSPREVIOUS") == JSON

    entry = observe.entry(cache, (NAME, "AWSPREVIOUS", None))
    assert entry is not None
    assert set(entry.fields or ()) == {
        f"{NAME}::AWSPREVIOUS",
        f"{NAME}:user:AWSPREVIOUS",
        (f"{NAME}:user", "AWSPREVIOUS", None),
    }
    assert len(source.calls) == 1


async def test_a_field_goes_with_the_value_that_it_is_of(cache: SecretCache, source: InMemorySource) -> None:
    """After a refresh the reference selects of the new value."""
    assert await cache.get_secret(f"{NAME}:user") == "u"
    source.rotate(NAME, '{"user": "new"}')
    await cache.refresh(NAME)

    assert field(cache, f"{NAME}:user") is None
    assert await cache.get_secret(f"{NAME}:user") == "new"
    kept = field(cache, f"{NAME}:user")
    assert kept is not None
    assert kept.secret is cache.peek(NAME)


async def test_a_field_expires_with_its_entry(cache: SecretCache, source: InMemorySource, clock: ManualClock) -> None:
    """Not a moment later, whenever it was selected."""
    await cache.get_secret(NAME)
    clock.advance(99)
    assert await cache.get_secret(f"{NAME}:user") == "u"
    source.rotate(NAME, '{"user": "new"}')

    clock.advance(1)

    assert await cache.get_secret(f"{NAME}:user") == "new"
    assert await cache.get_json(f"{NAME}:user") == "new"


@pytest.mark.parametrize("forget", ["invalidate", "clear", "evict"])
async def test_a_forgotten_secret_leaves_no_field(source: InMemorySource, forget: str) -> None:
    """Its values are gone from memory."""
    cache = SecretCache(source, max_size=1)
    await cache.get_secrets(f"{NAME}:user", f"{NAME}:port")
    if forget == "invalidate":
        cache.invalidate(ARN)
    elif forget == "clear":
        cache.clear()
    else:
        await cache.get("other")
        await cache.get("binary")

    assert not any(
        isinstance(each, Record) and not each.is_whole for each in observe.loader(cache).store.records.values()
    )


async def test_a_field_of_a_rotated_out_version_is_never_kept(cache: SecretCache, source: InMemorySource) -> None:
    """A reader that was given the old version selects of it what it asked for, but later readers don't get that."""
    loader, reference = observe.loader(cache), parse_reference(f"{NAME}:user")
    old = await cache.get(NAME)
    source.rotate(NAME, '{"user": "new"}')
    await cache.refresh(NAME)

    assert select(loader, reference, old).text == "u"

    assert field(cache, f"{NAME}:user") is None
    assert await cache.get_secret(f"{NAME}:user") == "new"
    # Nor is the old version's reader given the field of the new one.
    assert select(loader, reference, old).text == "u"


async def test_a_secret_that_was_forgotten_meanwhile_is_selected_of(cache: SecretCache) -> None:
    """The caller has its value, which is not kept."""
    loader = observe.loader(cache)
    secret = await cache.get(NAME)
    cache.clear()

    assert select(loader, parse_reference(f"{NAME}:user"), secret).text == "u"
    assert select(loader, parse_reference(NAME), secret).text == JSON
    assert not loader.store.records


async def test_fields_beyond_the_limit_are_read_all_the_same(cache: SecretCache, source: InMemorySource) -> None:
    """They are only not kept: an entry keeps 64."""
    source.rotate(NAME, "{" + ", ".join(f'"k{number}": {number}' for number in range(70)) + "}")
    for _ in range(2):
        for number in range(70):
            assert await cache.get_secret(f"{NAME}:k{number}") == str(number)

    entry = observe.entry(cache, NAME)
    assert entry is not None
    assert len(entry.fields or ()) == 64
    assert len(source.calls) == 1


async def test_a_selected_field_is_found_again(cache: SecretCache) -> None:
    """Selecting twice gives the same record."""
    loader, reference = observe.loader(cache), parse_reference(f"{NAME}:user")
    secret = await cache.get(NAME)

    assert select(loader, reference, secret) is select(loader, reference, secret)


async def test_get_refuses_a_key_before_and_after_its_field_is_kept(cache: SecretCache) -> None:
    """A record in memory must not change what a method takes."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="get takes a whole secret"):
            await cache.get(f"{NAME}:user")
        assert await cache.get_secret(f"{NAME}:user") == "u"


async def test_get_refuses_a_key_while_it_is_fetched(cache: SecretCache, source: InMemorySource) -> None:
    """A running fetch that is found by the reference isn't joined either."""
    source.pause()
    reader = asyncio.create_task(cache.get_secret(f"{NAME}:user"))
    await until(lambda: source.calls)

    with pytest.raises(ConfigurationError, match="get takes a whole secret"):
        await cache.get(f"{NAME}:user")
    source.resume()
    assert await reader == "u"


# Preparing the source


class WarmSource(InMemorySource):
    """Has work to do before its first fetch."""

    def __init__(self, *, seconds: float = 0.0, error: Exception | None = None) -> None:
        super().__init__({NAME: JSON})
        self.seconds = seconds
        self.error = error
        self.timeouts: list[float] = []

    async def warm(self) -> None:
        timeout = current_fetch_timeout.get()
        assert timeout is not None
        self.timeouts.append(timeout.seconds)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


@pytest.mark.virtual_time
async def test_the_source_prepares_within_the_time_of_a_fetch() -> None:
    """Without references prefetch prepares, with references the first fetch does."""
    cache = SecretCache(source := WarmSource(seconds=9))

    await cache.prefetch()
    await cache.prefetch(NAME)

    assert source.timeouts == [10.0]
    assert current_fetch_timeout.get() is None
    assert len(source.calls) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("deadline", [None, 3.0])
async def test_preparing_takes_no_longer_than_a_fetch(deadline: float | None) -> None:
    """Nor longer than the invocation has left."""
    cache = SecretCache(WarmSource(seconds=1000))
    seconds = 10.0
    if deadline is not None:
        invocation_deadline.set(Deadline(deadline, asyncio.get_running_loop().time))
        seconds = deadline

    with pytest.raises(SecretUnavailableError, match=f"preparing the source took longer than {seconds:g} s"):
        await cache.prefetch()

    assert asyncio.get_running_loop().time() == pytest.approx(seconds)
    assert current_fetch_timeout.get() is None


@pytest.mark.parametrize("error", [TimeoutError("its own"), ConfigurationError("no region")])
async def test_what_preparing_raises_is_passed_on(error: Exception) -> None:
    """A time-out of the source's own is not taken for the cache's."""
    cache = SecretCache(WarmSource(error=error))

    with pytest.raises(type(error), match=str(error)):
        await cache.prefetch()


async def test_a_prefetch_reads_nothing(cache: SecretCache, source: InMemorySource) -> None:
    """It fetches what isn't fresh, and counts no read."""
    await cache.prefetch(NAME, f"{NAME}:user")
    await cache.prefetch(NAME, "other")

    assert [call.secret_id for call in source.calls] == [NAME, "other"]
    assert cache.stats() == cache.stats()._replace(hits=0, misses=0, get_calls=2)
    assert isinstance(cache.peek(NAME), Secret)
