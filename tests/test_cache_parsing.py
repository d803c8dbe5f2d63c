"""get_as and get_json: typed values, and errors without the text where a text can't be parsed."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_type

import msgspec
import pydantic
import pytest

import asecretcache
from asecretcache import ConfigurationError, SecretCache, SecretFormatError
from asecretcache.testing import InMemorySource

CANARY = "canary-hunter2"
GOOD = '{"user": "app", "port": 5432}'


class PydanticDb(pydantic.BaseModel):
    user: str
    port: int


class MsgspecDb(msgspec.Struct):
    user: str
    port: int


@dataclasses.dataclass
class PlainDb:
    user: str
    port: int

    @classmethod
    def of(cls, text: str) -> PlainDb:
        return cls(**json.loads(text))


def of_msgspec(text: str) -> MsgspecDb:
    return msgspec.json.decode(text, type=MsgspecDb)


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"db": GOOD, "binary": b"\x00", "number": "42"})


async def test_each_library_makes_its_own_type(cache: SecretCache, source: InMemorySource) -> None:
    """The result has the parser's type, for type checkers too: assert_type is checked by mypy."""
    of_pydantic = await cache.get_as("db", PydanticDb.model_validate_json)
    of_struct = await cache.get_as("db", of_msgspec)
    of_dataclass = await cache.get_as("db", PlainDb.of)
    number = await cache.get_as("number", int)
    assert_type(of_pydantic, PydanticDb)
    assert_type(of_struct, MsgspecDb)
    assert_type(of_dataclass, PlainDb)
    assert_type(number, int)

    for each in (of_pydantic, of_struct, of_dataclass):
        assert (each.user, each.port) == ("app", 5432)
    assert number == 42
    assert len(source.calls) == 2


async def test_each_caller_has_an_object_of_its_own(cache: SecretCache) -> None:
    """A change that one caller makes doesn't reach the next one."""
    first = await cache.get_as("db", PlainDb.of)
    first.user = "somebody else"

    assert (await cache.get_as("db", PlainDb.of)).user == "app"


async def test_versions_can_be_read_as_well(cache: SecretCache, source: InMemorySource) -> None:
    """get_as takes a stage and a version id, by keyword and inside the reference."""
    version = (await cache.get("number")).version_id
    source.rotate("number", "43")

    assert await cache.get_as("number", int, version_stage="AWSCURRENT", version_id=None) == 42
    assert await cache.get_as("number", int, version_id=version) == 42
    cache.invalidate("number")
    assert await cache.get_as("number", int, version_stage="AWSPREVIOUS") == 42
    assert await cache.get_as("number::AWSPREVIOUS", int) == 42
    assert await cache.get_as(f"number:::{version}", int) == 42
    assert await cache.get_as("db:port", int) == 5432


def _fail(text: str) -> None:
    held = text
    raise RuntimeError(held)


def _fail_in_kind(text: str) -> None:
    raise SecretFormatError(text)


PARSERS: list[tuple[Callable[[str], Any], str]] = [
    (PydanticDb.model_validate_json, r"PydanticDb.*ValidationError|model_validate_json: it raised ValidationError"),
    (of_msgspec, "of_msgspec: it raised ValidationError"),
    (PlainDb.of, r"PlainDb\.of: it raised TypeError"),
    (json.loads, "loads: it raised JSONDecodeError"),
    (int, "int: it raised ValueError"),
    (_fail, "_fail: it raised RuntimeError"),
    (_fail_in_kind, "_fail_in_kind: it raised SecretFormatError"),
]


@pytest.mark.parametrize(("parse", "says"), PARSERS, ids=[says.partition(":")[0] for _, says in PARSERS])
async def test_of_what_a_parser_raises_only_the_type_is_told(
    cache: SecretCache, source: InMemorySource, parse: Callable[[str], Any], says: str
) -> None:
    """With its function and the secret's id; what it raised is neither cause nor context."""
    text = json.dumps({"user": CANARY, "port": CANARY, "more": CANARY})
    source.rotate("bad", text[:-1] if parse is json.loads else text)

    with pytest.raises(SecretFormatError, match=says) as caught:
        await cache.get_as("bad", parse)

    error = caught.value
    assert error.secret_id == "bad"
    assert error.__cause__ is error.__context__ is None


async def test_a_parsers_error_shows_the_text_nowhere(cache: SecretCache, source: InMemorySource) -> None:
    """pydantic's errors print the input, those of json and msgspec keep the document; locals are looked at too."""
    for parse, _ in PARSERS:
        await _check_what_is_shown(cache, source, parse)


async def _check_what_is_shown(cache: SecretCache, source: InMemorySource, parse: Callable[[str], Any]) -> None:
    text = json.dumps({"user": CANARY, "port": CANARY, "more": CANARY})
    source.rotate("bad", text[:-1] if parse is json.loads else text)
    cache.invalidate("bad")

    with pytest.raises(SecretFormatError) as caught:
        await cache.get_as("bad", parse)

    error = caught.value
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert CANARY not in shown.replace(f"text = {text!r}", "")
    package = str(Path(asecretcache.__file__).parent)
    ours = [frame for frame in traceback.walk_tb(error.__traceback__) if package in frame[0].f_code.co_filename]
    assert ours
    assert all(CANARY not in repr(frame.f_locals) for frame, _ in ours)


async def test_a_callable_object_is_named_by_its_class(cache: SecretCache) -> None:
    """A parser need not be a function."""

    class Parser:
        def __call__(self, text: str) -> int:
            return int(text)

    assert await cache.get_as("number", Parser()) == 42
    with pytest.raises(SecretFormatError, match="by Parser: it raised ValueError"):
        await cache.get_as("db", Parser())


async def test_a_binary_secret_is_not_parsed(cache: SecretCache) -> None:
    """The error names the method for binary secrets."""
    with pytest.raises(SecretFormatError, match="get_secret_binary"):
        await cache.get_as("binary", str)


async def test_a_parser_must_be_a_plain_function_of_the_text(cache: SecretCache, source: InMemorySource) -> None:
    """Anything else is refused before a fetch; of a coroutine function the result would be thrown away."""

    async def parse(text: str) -> str:
        return text

    for wrong in (parse, "json", None):
        with pytest.raises(ConfigurationError, match="function of the secret's text"):
            await cache.get_as("db", wrong)  # type: ignore[arg-type,unused-coroutine]  # the mistake
    assert not source.calls


async def test_what_ends_the_program_is_passed_on(cache: SecretCache) -> None:
    """KeyboardInterrupt and the like are no errors of the value."""

    def interrupted(text: str) -> str:
        del text
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await cache.get_as("number", interrupted)


async def test_a_missing_key_lists_the_keys_and_no_value(cache: SecretCache, source: InMemorySource) -> None:
    """So a misspelt key is seen at once."""
    source.rotate("keys", json.dumps({"user": CANARY, "password": CANARY}))

    with pytest.raises(
        SecretFormatError, match=r"no key 'pasword': check its spelling; the object has 2 keys"
    ) as caught:
        await cache.get_json("keys", "pasword")
    assert CANARY not in str(caught.value)
