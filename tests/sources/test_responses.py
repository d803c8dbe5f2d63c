"""Responses of GetSecretValue and BatchGetSecretValue, as secrets."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from asecretcache import (
    Secret,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretRequest,
    SecretUnavailableError,
)
from asecretcache._sources.responses import to_batch, to_secret
from source_helpers import CANARY

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf"
RESPONSE: dict[str, Any] = {
    "ARN": ARN,
    "Name": "name",
    "VersionId": "v1",
    "SecretString": CANARY,
    "VersionStages": ["AWSCURRENT"],
    "CreatedDate": datetime(2026, 1, 1, tzinfo=UTC),
}

# A single secret


@pytest.mark.parametrize("secret_id", ["name", ARN, ARN.removesuffix("-AbCdEf")])
def test_a_response_becomes_a_secret(secret_id: str) -> None:
    """The secret may be requested by its name, its ARN or a partial ARN."""
    secret = to_secret(RESPONSE, SecretRequest(secret_id))

    assert secret is not None
    assert (secret.name, secret.arn, secret.version_id, secret.secret_string) == ("name", ARN, "v1", CANARY)
    assert secret.version_stages == ("AWSCURRENT",)
    assert secret.created_date == RESPONSE["CreatedDate"]


def test_stages_and_date_may_be_missing() -> None:
    """A binary secret without labels and date is well-formed."""
    response = {"ARN": ARN, "Name": "name", "VersionId": "v1", "SecretBinary": b"b"}

    secret = to_secret(response, SecretRequest("name", None, "v1"))

    assert secret is not None
    assert (secret.secret_binary, secret.version_stages, secret.created_date) == (b"b", (), None)


@pytest.mark.parametrize(
    "change",
    [
        {"ARN": None},
        {"Name": 1},
        {"Name": ""},
        {"Name": "other"},
        {"VersionId": None},
        {"VersionId": "v2"},
        {"SecretString": None},
        {"SecretString": 5},
        {"SecretBinary": b"both"},
        {"SecretString": None, "SecretBinary": "text"},
        {"VersionStages": "AWSCURRENT"},
        {"VersionStages": [1]},
        {"CreatedDate": "yesterday"},
        {"CreatedDate": math.inf},
        {"CreatedDate": math.nan},
        {"CreatedDate": -6e10},
        {"CreatedDate": 2.5e11},
    ],
)
def test_a_malformed_response_is_none(change: dict[str, Any]) -> None:
    """A response that lacks a part, or is for another request, gives no secret."""
    assert to_secret(RESPONSE | change, SecretRequest("name", None, "v1")) is None


@pytest.mark.parametrize("version_id", [1, None, "", b"v1"])
def test_a_version_must_be_text_whichever_was_asked_for(version_id: Any) -> None:
    """Also where any version is right."""
    assert to_secret(RESPONSE | {"VersionId": version_id}, SecretRequest("name")) is None


@pytest.mark.parametrize("response", [None, [], "text", {}])
def test_a_response_of_another_type_is_none(response: Any) -> None:
    """A response that isn't a dict with the fields gives no secret."""
    assert to_secret(response, SecretRequest("name")) is None


def test_the_arn_of_another_secret_is_none() -> None:
    """The response to an ARN must have that ARN."""
    assert to_secret(RESPONSE, SecretRequest(ARN.replace("name", "nam"))) is None


# Batches


def arn(name: str, account: str = "123456789012", suffix: str = "AbCdEf") -> str:
    return f"arn:aws:secretsmanager:eu-west-1:{account}:secret:{name}-{suffix}"


def value(name: str, text: str = CANARY, **more: Any) -> dict[str, Any]:
    return {"ARN": arn(name), "Name": name, "VersionId": "v1", "SecretString": text, **more}


def error(secret_id: str, code: str = "ResourceNotFoundException", message: str = "no") -> dict[str, Any]:
    return {"SecretId": secret_id, "ErrorCode": code, "Message": message}


def texts(results: dict[str, Secret | SecretCacheError] | None) -> dict[str, str | None]:
    """The values of a batch by id."""
    assert results
    return {secret_id: getattr(result, "secret_string", None) for secret_id, result in results.items()}


def test_the_pages_of_a_batch_are_put_together() -> None:
    """Values and errors may come on any page."""
    pages = [
        {"SecretValues": [value("a")]},
        {"SecretValues": []},
        {"SecretValues": [value("b")], "Errors": [error("c")]},
    ]

    results = to_batch(pages, ["a", "b", "c"])

    assert results
    assert [type(results[name]) for name in "abc"] == [Secret, Secret, SecretNotFoundError]


def test_errors_in_a_batch_belong_to_their_ids() -> None:
    """Each error has the class that a single call would raise, and nothing of AWS's message."""
    codes = {
        "a": ("AccessDeniedException", SecretAccessDeniedError),
        "b": ("DecryptionFailure", SecretDecryptionError),
        "c": ("InternalServiceError", SecretUnavailableError),
        "d": ("InvalidRequestException", SecretNotFoundError),
        "e": ("BrandNewException", SecretCacheError),
    }
    message = f"You can't do this because it was marked for deletion. {CANARY}"

    results = to_batch([{"Errors": [error(name, code, message) for name, (code, _) in codes.items()]}], list(codes))

    assert results
    for name, (code, expected) in codes.items():
        result = results[name]
        assert type(result) is expected
        assert (result.secret_id, result.code) == (name, code)
        assert CANARY not in str(result)


def test_arns_are_matched_before_names() -> None:
    """A secret of another account with the same name isn't returned for the name."""
    mine = value("db", "mine")
    theirs = {**value("db", "theirs"), "ARN": arn("db", "999999999999", "GhIjKl")}
    for values in ([mine, theirs], [theirs, mine]):
        for ids in (["db", theirs["ARN"]], [theirs["ARN"], "db"]):
            assert texts(to_batch([{"SecretValues": values}], ids)) == {"db": "mine", theirs["ARN"]: "theirs"}


@pytest.mark.parametrize("name", ["db", "a-name-that-sorts-before-arns"])
def test_a_name_doesnt_get_the_secret_of_an_arn(name: str) -> None:
    """If the response has only the other account's secret, the name has no result and is fetched by itself."""
    theirs = {**value(name, "theirs"), "ARN": arn(name, "999999999999")}

    assert texts(to_batch([{"SecretValues": [theirs]}], [name, theirs["ARN"]])) == {theirs["ARN"]: "theirs"}


def test_a_partial_arn_lacks_the_suffix_alone() -> None:
    """The partial ARN of prod isn't prod-db's, though prod-db's ARN begins with it."""
    partial = arn("prod").removesuffix("-AbCdEf")

    results = to_batch([{"SecretValues": [value("prod-db", "2"), value("prod", "1")]}], [partial, "prod-db"])

    assert texts(results) == {partial: "1", "prod-db": "2"}


@pytest.mark.parametrize(
    "page",
    [
        {},
        None,
        "page",
        {"SecretValues": None, "Errors": "x"},
        {"SecretValues": [None, {}, {"Name": "a"}, {**value("a"), "SecretString": None}], "Errors": [None, {}, 5]},
        {"SecretValues": [value("another")], "Errors": [error("another")]},
    ],
)
def test_a_malformed_batch_is_none(page: Any) -> None:
    """A page that is empty, malformed or about other secrets gives no results."""
    assert to_batch([page], ["a"]) is None
