"""Secret references: the syntax of an ECS task definition."""

from __future__ import annotations

import traceback

import pytest

from asecretcache import ConfigurationError, Secret, SecretFormatError
from asecretcache._reading import read_json
from asecretcache._references import SecretReference

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf"
CANARY = "canary-hunter2"


def secret(text: str) -> Secret:
    return Secret(name="db", arn=ARN, version_id="v1", secret_string=text)


@pytest.mark.parametrize("secret_id", ["prod/db", ARN])
@pytest.mark.parametrize(
    ("suffix", "key", "stage", "version"),
    [
        ("", None, None, None),
        (":password", "password", None, None),
        (":password:AWSPREVIOUS", "password", "AWSPREVIOUS", None),
        ("::AWSPREVIOUS", None, "AWSPREVIOUS", None),
        (":::v1", None, None, "v1"),
        (":password::", "password", None, None),
        (":::", None, None, None),
    ],
)
def test_a_reference_is_taken_apart(
    secret_id: str, suffix: str, key: str | None, stage: str | None, version: str | None
) -> None:
    """Trailing parts may be left out and empty ones mean the default, after a name as after an ARN."""
    reference = SecretReference.parse(secret_id + suffix)

    assert reference.request == (secret_id, stage, version)
    assert reference.json_key == key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "not NoneType"),
        ("", "names no secret"),
        (":password", "names no secret"),
        ("db:a:b:c:d", "has 5 parts"),
        (ARN + ":a:b:c:d", "has 5 parts"),
        ("arn:aws:secretsmanager:eu-west-1", "incomplete ARN"),
    ],
)
def test_bad_syntax_is_refused_with_the_syntax(text: object, says: str) -> None:
    """What can't be a reference is refused before anything is fetched."""
    with pytest.raises(ConfigurationError, match=says):
        SecretReference.parse(text)


@pytest.mark.parametrize(
    ("reference", "value"), [("db", '{"a": "x", "b": {"c": [1, null]}}'), ("db:a", "x"), ("db:b", '{"c": [1, null]}')]
)
def test_a_value_that_is_no_string_is_given_as_json(reference: str, value: str) -> None:
    """A string comes as it is, and anything else as the JSON it was."""
    assert SecretReference.parse(reference).read(secret('{"a": "x", "b": {"c": [1, null]}}')) == value


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (f"not JSON: {CANARY}", None, "isn't JSON"),
        (f"not JSON: {CANARY}", "a", "isn't JSON"),
        ("[" * 100_000, "a", "isn't JSON"),
        (f'["{CANARY}"]', "a", "not an object"),
        (f'{{"user": "{CANARY}", "host": "{CANARY}"}}', "a", "it has 'host', 'user'"),
        ("{}", "a", "it has none"),
    ],
)
def test_unreadable_json_is_told_without_a_trace_of_it(text: str, key: str | None, says: str) -> None:
    """The error names the keys there are, and neither message, chain nor our frames' locals hold a value."""
    held = secret(text)
    with pytest.raises(SecretFormatError, match=says) as caught:
        read_json(held, "db", key)

    frames = caught.value.__traceback__.tb_next  # type: ignore[union-attr]  # it was raised; the first is this test's
    trace = traceback.TracebackException(type(caught.value), caught.value, frames, capture_locals=True)
    assert CANARY not in "".join(trace.format())
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_json_of_a_binary_secret_is_refused() -> None:
    """Bytes aren't guessed to be text."""
    binary = Secret(name="db", arn=ARN, version_id="v1", secret_binary=b"{}")
    with pytest.raises(SecretFormatError, match="get_secret_binary"):
        read_json(binary, "db", None)
