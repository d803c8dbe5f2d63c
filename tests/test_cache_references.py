"""SecretCache: one syntax of references in all methods, and what is refused where."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import observe
from asecretcache import ConfigurationError, Secret, SecretCache, SecretFormatError
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

JSON, TEXT, BINARY = "prod/db", "prod/api", "prod/key"

Call = Callable[[SecretCache, str], Awaitable[object]]


async def _name(secret: Secret) -> str:
    return secret.version_id


async def _get_many(cache: SecretCache, reference: str) -> Secret:
    return (await cache.get_many(reference))[reference]


async def _peek(cache: SecretCache, reference: str) -> Secret | None:
    return cache.peek(reference)


async def _invalidate(cache: SecretCache, reference: str) -> None:
    cache.invalidate(reference)


async def _call_with_secret(cache: SecretCache, reference: str) -> str:
    return await cache.call_with_secret(reference, _name, refresh_on=LookupError)


async def _inject(cache: SecretCache, reference: str) -> str:
    @cache.inject(value=reference)
    async def function(value: str = "") -> str:
        return value

    return await function()


async def _get_secrets(cache: SecretCache, reference: str) -> str:
    return (await cache.get_secrets(reference))[reference]


async def _get_as(cache: SecretCache, reference: str) -> str:
    return await cache.get_as(reference, str)


TEXTS: dict[str, Call] = {
    "get_secret": SecretCache.get_secret,
    "get_secrets": _get_secrets,
    "get_as": _get_as,
    "inject": _inject,
}
WHOLE: dict[str, Call] = {
    "get": SecretCache.get,
    "get_many": _get_many,
    "refresh": SecretCache.refresh,
    "peek": _peek,
    "invalidate": _invalidate,
    "call_with_secret": _call_with_secret,
}


@pytest.mark.parametrize("method", TEXTS)
async def test_texts_are_read_by_all_parts_of_a_reference(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """Key, stage and version id select what is returned, the second time from memory."""
    version = (await cache.get(JSON)).version_id
    arn = (await cache.get(JSON)).arn
    source.rotate(JSON, '{"user": "next"}')
    cache.clear()
    expected = {
        f"{JSON}:user": "next",
        f"{JSON}:user:AWSCURRENT": "next",
        f"{JSON}:user:AWSPREVIOUS": "app",
        f"{JSON}:user::{version}": "app",
        f"{arn}:user": "next",
        f"{arn}:user:AWSPREVIOUS": "app",
        f"{JSON}:": '{"user": "next"}',
        f"{JSON}::AWSCURRENT": '{"user": "next"}',
    }
    for _ in range(2):
        for reference, text in expected.items():
            assert await TEXTS[method](cache, reference) == text
    # Of the name: the current version, the previous one and that of the id; of the ARN: two.
    assert len(source.calls) == 1 + 5


@pytest.mark.parametrize("stage", ["AWSCURRENT", "AWSPREVIOUS"])
async def test_whole_secrets_are_read_by_stage_and_version(
    cache: SecretCache, source: InMemorySource, stage: str
) -> None:
    """A stage inside a reference means what version_stage= means."""
    source.rotate(TEXT, "key-2")
    secret = await cache.get(TEXT, version_stage=stage)
    reference = f"{TEXT}::{stage}"

    assert await cache.get(reference) is secret
    assert await cache.get_many(reference) == {reference: secret}
    assert cache.peek(reference) is secret
    assert await _call_with_secret(cache, reference) == secret.version_id
    assert len(source.calls) == 1
    assert await cache.refresh(reference) == secret
    assert len(source.calls) == 2
    binary = await cache.get(BINARY)
    assert await cache.get_secret_binary(f"{BINARY}:::{binary.version_id}") == b"\x00\x01"


@pytest.mark.parametrize("method", WHOLE)
async def test_a_json_key_is_refused_where_it_has_no_sense(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """Before and after the field is in memory, by an error that names get_secret()."""
    reference, says = f"{JSON}:user", rf"{method} takes a whole secret.*'user'.*get_secret\(\)"
    with pytest.raises(ConfigurationError, match=says):
        await WHOLE[method](cache, reference)
    assert not source.calls
    assert await cache.get_secret(reference) == "app"
    with pytest.raises(ConfigurationError, match=says):
        await WHOLE[method](cache, reference)
    assert len(source.calls) == 1
    assert cache.peek(JSON)


async def test_a_json_key_is_refused_while_its_fetch_runs(cache: SecretCache, source: InMemorySource) -> None:
    """A running fetch may be found by the reference; get() doesn't take it for a whole secret's."""
    source.pause()
    reader = asyncio.create_task(cache.get_secret(f"{JSON}:user"))
    joiner = asyncio.create_task(cache.get_secret(f"{JSON}:user"))
    await asyncio.sleep(0)
    assert len(observe.running(cache)) == 1
    with pytest.raises(ConfigurationError, match="get takes a whole secret"):
        await cache.get(f"{JSON}:user")
    source.resume()
    assert (await reader, await joiner) == ("app", "app")
    assert len(source.calls) == 1


@pytest.mark.parametrize(
    ("reference", "given"),
    [
        (f"{JSON}::AWSPREVIOUS", {"version_stage": "AWSCURRENT"}),
        (f"{JSON}::AWSCURRENT", {"version_stage": "AWSPREVIOUS"}),
        (f"{JSON}:::v1", {"version_id": "v1"}),
    ],
)
async def test_a_part_given_twice_is_refused_by_every_method(
    cache: SecretCache, source: InMemorySource, reference: str, given: dict[str, Any]
) -> None:
    """Inside the reference and by keyword, whether the value is in memory or not."""
    await cache.get(JSON)
    reads = (cache.get_secret, cache.get, cache.get_json, cache.refresh, cache.get_secret_binary)
    for method in reads:
        with pytest.raises(ConfigurationError, match="already: leave out version_"):
            await method(reference, **given)
    with pytest.raises(ConfigurationError, match="already: leave out version_"):
        await cache.get_as(reference, str, **given)
    with pytest.raises(ConfigurationError, match="already: leave out version_"):
        cache.peek(reference, **given)
    assert len(source.calls) == 1


async def test_a_key_given_twice_is_refused(cache: SecretCache, source: InMemorySource) -> None:
    """Inside the reference and as an argument of get_json, even if both are the same."""
    with pytest.raises(ConfigurationError, match="has a key already: leave out key="):
        await cache.get_json(f"{JSON}:user", "user")
    assert not source.calls


@pytest.mark.parametrize("suffix", ["::AWSPREVIOUS", "::AWSCURRENT", ":::v1"])
async def test_invalidate_refuses_stages_and_versions(cache: SecretCache, suffix: str) -> None:
    """It forgets all versions of a secret, so one of them can't be named."""
    await cache.get(JSON)
    with pytest.raises(ConfigurationError, match=r"invalidate takes all versions .* names one") as caught:
        cache.invalidate(JSON + suffix)

    assert caught.value.secret_id == JSON
    assert cache.peek(JSON)


@pytest.mark.parametrize("method", TEXTS)
async def test_null_is_refused_as_text(cache: SecretCache, method: str) -> None:
    """The text ``null`` would be taken for a value; get_json returns None."""
    for _ in range(2):
        with pytest.raises(Exception, match="has null at key 'none': store a value there"):
            await TEXTS[method](cache, f"{JSON}:none")
    assert await cache.get_json(f"{JSON}:none") is None
    assert await cache.get_json(JSON, "none") is None


@pytest.mark.parametrize("method", TEXTS)
async def test_values_that_are_no_strings_are_given_as_json(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """Numbers, booleans, objects and arrays, from the fetch and from memory."""
    source.rotate("kinds", '{"number": 1.50, "flag": true, "zero": 0, "list": [1, null], "empty": "", "map": {"a": 1}}')
    texts = {"number": "1.5", "flag": "true", "zero": "0", "list": "[1, null]", "empty": "", "map": '{"a": 1}'}
    for _ in range(2):
        for key, text in texts.items():
            assert await TEXTS[method](cache, f"kinds:{key}") == text


async def test_a_key_with_a_colon_is_read_by_get_json_only(cache: SecretCache, source: InMemorySource) -> None:
    """Inside a reference a colon parts key and stage."""
    source.rotate("odd", '{"a:b": 1, "a": 2, "": 3}')

    for _ in range(2):
        assert await cache.get_json("odd", "a:b") == 1
        assert await cache.get_json("odd", "a") == 2
        assert await cache.get_json("odd", "") == 3
    assert len(source.calls) == 1


async def test_scalars_are_kept_beside_their_entry(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """They go with the entry: when it expires, is refreshed or invalidated."""
    password = f"{JSON}:password"
    assert await cache.get_secret(password) == "hunter2"
    entry = observe.entry(cache, JSON)
    assert entry
    assert list(entry.fields or ()) == [password]

    source.rotate(JSON, '{"password": "hunter3"}')
    assert await cache.get_secret(password) == "hunter2"
    clock.advance(100)
    assert await cache.get_secret(password) == "hunter3"
    source.rotate(JSON, '{"password": "hunter4"}')
    await cache.refresh(JSON)
    assert await cache.get_secret(password) == "hunter4"
    source.rotate(JSON, '{"password": "hunter5"}')
    cache.invalidate(JSON)
    assert await cache.get_secret(password) == "hunter5"
    assert await cache.get_json(password) == "hunter5"
    cache.clear()
    source.delete(JSON)
    with pytest.raises(Exception, match="has no such secret"):
        await cache.get_secret(password)


async def test_what_is_no_scalar_is_parsed_for_each_caller(cache: SecretCache) -> None:
    """A list or an object that one caller changes doesn't reach the next one, and isn't kept."""
    for _ in range(2):
        for read in (cache.get_json(f"{JSON}:hosts"), cache.get_json(JSON, "hosts")):
            hosts = await read
            assert hosts == ["a", "b"]
            hosts.append("c")
        (await cache.get_json(JSON))["hosts"].append("c")
    entry = observe.entry(cache, JSON)
    assert entry
    assert not entry.fields


async def test_get_json_parses_a_text_that_is_kept(cache: SecretCache, source: InMemorySource) -> None:
    """The text that get_secret keeps for a stage isn't the document, which each caller gets parsed."""
    reference = f"{JSON}::AWSCURRENT"
    for _ in range(2):
        assert (await cache.get_secret(reference)).startswith("{")
        assert (await cache.get_json(reference))["user"] == "app"
        assert (await cache.get(reference)).name == JSON
    assert len(source.calls) == 1
    assert cache.stats().hits == 5


async def test_fields_do_not_count_as_values(source: InMemorySource) -> None:
    """max_size counts secrets, not what references select of them."""
    cache = SecretCache(source, max_size=1)
    for key in ("user", "password", "port"):
        await cache.get_secret(f"{JSON}:{key}")

    assert cache.stats().evictions == 0
    await cache.get(TEXT)
    assert cache.stats().evictions == 1
    await cache.get_secret(f"{JSON}:user")
    assert len(source.calls) == 3


async def test_a_missing_key_is_reported_from_memory_too(cache: SecretCache, source: InMemorySource) -> None:
    """The error has the secret's id, not the reference, and lists the keys that there are."""
    says = "no key 'nope': check its spelling; the object has 5 keys"
    for _ in range(2):
        for read in (cache.get_secret(f"{JSON}:nope"), cache.get_json(JSON, "nope"), cache.get_json(f"{JSON}:nope")):
            with pytest.raises(SecretFormatError, match=says) as caught:
                await read
            assert caught.value.secret_id == JSON
    assert len(source.calls) == 1


async def test_errors_of_form_have_the_secrets_id(cache: SecretCache) -> None:
    """secret_id is the name or ARN in the reference, whichever method it was given to."""
    with pytest.raises(SecretFormatError) as parsed:
        await cache.get_as(f"{JSON}:user", int)
    with pytest.raises(SecretFormatError) as text:
        await cache.get_secret_binary(f"{TEXT}::AWSCURRENT")
    with pytest.raises(SecretFormatError) as binary:
        await cache.get_secret(f"{BINARY}::AWSCURRENT")

    assert [each.value.secret_id for each in (parsed, text, binary)] == [JSON, TEXT, BINARY]


@pytest.mark.parametrize("key", [["password"], 5, b"password"])
async def test_the_key_of_get_json_must_be_a_str(cache: SecretCache, source: InMemorySource, key: Any) -> None:
    """It is refused before anything is fetched."""
    with pytest.raises(ConfigurationError, match="the key of get_json must be a str or None"):
        await cache.get_json(JSON, key)
    assert not source.calls


async def test_get_json_parses_what_get_secret_has_kept_as_text(cache: SecretCache, source: InMemorySource) -> None:
    """A reference without a key is kept as text alone."""
    text = await cache.get_secret(f"{JSON}::AWSCURRENT")

    assert await cache.get_json(f"{JSON}::AWSCURRENT") == json.loads(text)
    assert len(source.calls) == 1


async def test_get_json_reads_versions(cache: SecretCache, source: InMemorySource) -> None:
    """By stage and by id, with a key and without."""
    version = (await cache.get(JSON)).version_id
    source.rotate(JSON, '{"user": "next"}')

    for _ in range(2):
        assert await cache.get_json(JSON, "user", version_stage="AWSPREVIOUS") == "app"
        assert (await cache.get_json(JSON, version_id=version))["user"] == "app"
        assert await cache.get_json(f"{JSON}:user", version_id=version) == "app"
        assert await cache.get_json(f"{JSON}::AWSPREVIOUS", "user") == "app"
        assert await cache.get_json(JSON, "user") == "app", "the current version is in memory"


async def test_readers_of_a_stage_who_join_get_their_own_text(cache: SecretCache, source: InMemorySource) -> None:
    """Also while the value of the current version is in memory by the same reference."""
    source.rotate("prod/db", '{"password": "new"}')
    assert await cache.get_secret("prod/db:password") == "new"
    source.pause()
    readers = [asyncio.create_task(cache.get_secret("prod/db:password", version_stage="AWSPREVIOUS")) for _ in range(3)]
    await until(lambda: len(source.calls) == 2)
    source.resume()

    assert await asyncio.gather(*readers) == ["hunter2"] * 3


async def test_readers_who_join_a_binary_secret_are_refused(cache: SecretCache, source: InMemorySource) -> None:
    """The error names the secret and the method to read it with."""
    source.pause()
    readers = [asyncio.create_task(cache.get_secret("prod/key")) for _ in range(3)]
    await until(lambda: source.calls)
    source.resume()
    await asyncio.wait(readers)

    told = "secret 'prod/key' is binary, not text: read it with get_secret_binary()"
    assert [str(reader.exception()) for reader in readers] == [told] * 3


async def test_a_wrong_key_of_get_json_is_named_by_its_type(cache: SecretCache) -> None:
    """It may be a value that was passed by mistake."""
    with pytest.raises(ConfigurationError) as caught:
        await cache.get_json("prod/db", 5)  # type: ignore[arg-type]  # the mistake

    assert str(caught.value) == "the key of get_json must be a str or None, not int"


async def test_json_that_is_none_names_the_secret(cache: SecretCache) -> None:
    """As the caller named it."""
    with pytest.raises(SecretFormatError) as caught:
        await cache.get_json("prod/api")

    assert str(caught.value) == "secret 'prod/api' isn't JSON: read it whole with get_secret()"
    assert caught.value.secret_id == "prod/api"
