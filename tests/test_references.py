"""Secret references: the syntax of an ECS task definition, and the parts that may be given apart from it."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

import pytest

from asecretcache import ConfigurationError, SecretFormatError
from asecretcache._references import check_parser, parse_reference, parse_several, parse_text

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf"


@pytest.mark.parametrize("secret_id", ["prod/db", ARN])
@pytest.mark.parametrize(
    ("suffix", "key", "stage", "version"),
    [
        ("", None, None, None),
        (":password", "password", None, None),
        (":password:AWSPREVIOUS", "password", "AWSPREVIOUS", None),
        (":password:AWSPREVIOUS:v1", "password", "AWSPREVIOUS", "v1"),
        ("::AWSPREVIOUS", None, "AWSPREVIOUS", None),
        (":::v1", None, None, "v1"),
        (":password::", "password", None, None),
        (":::", None, None, None),
    ],
)
def test_a_reference_is_taken_apart(
    secret_id: str, suffix: str, key: str | None, stage: str | None, version: str | None
) -> None:
    """Trailing parts are optional and empty parts mean the default, after a name as after an ARN."""
    reference = parse_reference(secret_id + suffix)

    request = reference.request
    assert (request.secret_id, request.version_stage, request.version_id) == (secret_id, stage, version)
    assert (reference.secret_id, reference.json_key, reference.text) == (secret_id, key, secret_id + suffix)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "must be a str such as 'prod/db:password', not NoneType"),
        (b"db", "not bytes"),
        ("", "names no secret; the syntax is name-or-arn:json-key:version-stage:version-id"),
        (" :password", "names no secret"),
        (":password", "names no secret"),
        ("db:a:b:c:d", "has 5 parts; the syntax is name-or-arn:json-key:version-stage:version-id"),
        (ARN + ":a:b:c:d", "has 5 parts"),
        ("arn:aws:secretsmanager:eu-west-1", "is no ARN of a secret: write arn:aws:secretsmanager:REGION:"),
        ("db::" + "s" * 257, "version_stage must be"),
    ],
)
def test_bad_syntax_is_refused_with_the_syntax(text: Any, says: str) -> None:
    """What can't be a reference is refused before anything is fetched."""
    with pytest.raises(ConfigurationError, match=says):
        parse_reference(text)


def test_parts_may_be_given_apart_from_the_reference() -> None:
    """A key, a stage and a version by keyword mean what they mean inside the reference."""
    parsed = parse_reference("db", "blue", "v1", "password")
    mixed = parse_reference("db:password", None, "v1")

    assert (parsed.request, parsed.json_key) == (parse_reference("db:password:blue:v1").request, "password")
    assert (mixed.request, mixed.json_key) == (parse_reference("db:password::v1").request, "password")
    assert (parsed.text, parsed.version_stage) == ("db", "blue")
    assert parse_reference("db::blue", None, "v1").request == parse_reference("db::blue:v1").request
    assert parse_reference("db:::v1", "blue").request == parse_reference("db::blue:v1").request
    assert parse_reference("db", json_key="a:b").json_key == "a:b"
    assert parse_reference("db", json_key="").json_key == ""


@pytest.mark.parametrize(
    ("text", "given", "says"),
    [
        ("db::blue", {"version_stage": "green"}, "has a version stage already: leave out version_stage="),
        ("db::blue", {"version_stage": "blue"}, "has a version stage already: leave out version_stage="),
        ("db::AWSCURRENT", {"version_stage": "AWSPREVIOUS"}, "has a version stage already"),
        ("db:::v1", {"version_id": "v2"}, "has a version id already: leave out version_id="),
        ("db:user", {"json_key": "user"}, "has a key already: leave out key="),
    ],
)
def test_a_part_given_twice_is_refused(text: str, given: dict[str, str], says: str) -> None:
    """One of the two would be ignored, even where both are the same."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_reference(text, **given)
    assert caught.value.secret_id == "db"


def test_what_reads_look_up_is_unique_to_the_reference() -> None:
    """References that select different things are never looked up by the same name."""
    parsed = [
        parse_reference("db"),
        parse_reference("db:a"),
        parse_reference("db", json_key="a"),
        parse_reference("db::blue"),
        parse_reference("db", "blue"),
        parse_reference("db", None, "blue"),
        parse_reference("db:a", "blue"),
    ]

    assert len({each.name for each in parsed}) == len(parsed)
    assert parse_reference("db").name == parse_reference("db").request.key == "db"
    assert parse_reference("db", "blue").name == parse_reference("db", "blue").request.key
    assert parse_reference("db", "blue", json_key="a").name is None, "nothing looks it up by all three"


def test_a_member_of_a_str_enum_is_its_value() -> None:
    """References are often kept in an enum."""

    class Names(str, enum.Enum):  # noqa: UP042 - StrEnum has the value for its str() already
        DB = "prod/db:user"

    assert parse_reference(Names.DB).text == "prod/db:user"
    assert type(parse_reference(Names.DB).text) is str


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), ("", ""), (5432, "5432"), (1.5, "1.5"), (True, "true"), ({"c": [1, None]}, '{"c": [1, null]}')],
)
def test_a_value_that_is_no_string_is_given_as_json(value: object, text: str) -> None:
    """A string comes as it is, and anything else as the JSON that it was."""
    assert parse_reference("db:key").to_text(value) == text


def test_null_is_refused_as_text() -> None:
    """The text ``null`` would be taken for a value."""
    with pytest.raises(SecretFormatError, match="'db' has null at key 'key': store a value there") as caught:
        parse_reference("db:key").to_text(None)
    assert caught.value.secret_id == "db"


def test_a_method_of_whole_secrets_refuses_a_json_key() -> None:
    """The error names the method, the key and get_secret(), which takes keys."""
    assert parse_reference("db::blue").whole_request("peek") == parse_reference("db::blue").request
    with pytest.raises(
        ConfigurationError, match=r"peek takes a whole secret.*JSON key 'user'.*get_secret\(\)"
    ) as caught:
        parse_reference("db:user").whole_request("peek")
    assert caught.value.secret_id == "db"


@pytest.mark.parametrize("whole", [["a"], ("a", "b"), {"a"}, frozenset("a")])
def test_references_that_are_passed_as_one_list_are_refused(whole: Any) -> None:
    """The error shows how to pass them."""
    with pytest.raises(ConfigurationError, match=r"write get_many\('a', 'b'\) or get_many\(\*names\)$"):
        parse_several("get_many", [whole])


class _AsyncCall:
    async def __call__(self, text: str) -> str:
        return text


@pytest.mark.parametrize(
    ("parse", "kind"),
    [(None, "NoneType"), ("int", "str"), (asyncio.sleep, "an async function"), (_AsyncCall(), "an async function")],
)
def test_a_parser_must_be_a_plain_function(parse: Any, kind: str) -> None:
    """The error names what was given, and two functions that would do."""
    with pytest.raises(ConfigurationError) as caught:
        check_parser(parse)

    examples = "json.loads or a pydantic model's model_validate_json"
    assert str(caught.value) == f"parse must be a function of the secret's text, such as {examples}, not {kind}"


class _Parser:
    def __call__(self, text: str) -> None:
        raise KeyError(text)


@pytest.mark.parametrize(("parse", "name"), [(int, "int"), (_Parser(), "_Parser"), (str.index, "str.index")])
def test_a_failing_parser_is_named(parse: Any, name: str) -> None:
    """By its qualified name, or its class if it has none; what it raised by its type alone."""
    with pytest.raises(SecretFormatError) as caught:
        parse_text("canary", "prod/db:key", parse)

    assert str(caught.value).startswith(f"secret 'prod/db:key' can't be read by {name}: it raised ")
    assert "canary" not in str(caught.value)
    assert caught.value.secret_id == "prod/db"
