"""BatchGetSecretValue: what is sent, what the answers mean, and what is made of a refusal."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asecretcache import (
    BatchSource,
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretsManagerSource,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._sources.error_mapping import to_batch
from moto_server import MotoServer
from raw_server import RawServer

CANARY = "canary-value"


def arn(name: str, account: str = "123456789012", suffix: str = "AbCdEf") -> str:
    return f"arn:aws:secretsmanager:eu-west-1:{account}:secret:{name}-{suffix}"


def value(name: str, text: str = CANARY, **more: Any) -> dict[str, Any]:
    return {"ARN": arn(name), "Name": name, "VersionId": "v1", "SecretString": text, **more}


def error(secret_id: str, code: str = "ResourceNotFoundException", message: str = "no") -> dict[str, Any]:
    return {"SecretId": secret_id, "ErrorCode": code, "Message": message}


class Pages:
    """A client that answers with these pages, and a source over it."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []
        self.source = SecretsManagerSource(client_factory=self.open)

    async def batch_get_secret_value(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments)
        return self.pages.pop(0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Pages]:
        yield self


async def test_twenty_secrets_are_one_call(aws_environment: Any, moto_server: MotoServer) -> None:
    """Of text and of bytes, by name and by ARN, over HTTP."""
    arns = [moto_server.create(f"s{number}", f"value {number}") for number in range(18)]
    moto_server.create("binary", b"\x00\xff")
    source = SecretsManagerSource()
    assert isinstance(source, BatchSource)

    outcomes = await source.fetch_batch([*arns[:9], *(f"s{number}" for number in range(9, 18)), "binary", "missing"])
    await source.aclose()

    found = [outcome for outcome in outcomes.values() if isinstance(outcome, Secret)]
    assert [secret.secret_string for secret in found[:18]] == [f"value {number}" for number in range(18)]
    assert outcomes["binary"].secret_binary == b"\x00\xff"  # type: ignore[union-attr]  # it is a Secret
    assert isinstance(outcomes["missing"], SecretNotFoundError)
    assert moto_server.calls("BatchGetSecretValue") == 1
    assert moto_server.calls("GetSecretValue") == 0


async def test_ids_are_sent_as_a_list_without_filters(aws_raw: RawServer) -> None:
    """A filter by name would return whatever begins with it."""
    aws_raw.answer({"SecretValues": [value("a"), value("b")]})
    source = SecretsManagerSource()

    await source.fetch_batch(("a", "b"))
    await source.aclose()

    (request,) = aws_raw.requests
    assert json.loads(request[request.index(b"{") :]) == {"SecretIdList": ["a", "b"]}
    assert b"secretsmanager.BatchGetSecretValue" in request


async def test_next_tokens_are_followed() -> None:
    """Also where a page has no values."""
    client = Pages(
        {"SecretValues": [value("a")], "NextToken": "1"},
        {"SecretValues": [], "NextToken": "2"},
        {"SecretValues": [value("b")], "Errors": [error("c")]},
    )

    outcomes = await client.source.fetch_batch(["a", "b", "c"])
    await client.source.aclose()

    assert [type(outcomes[name]) for name in "abc"] == [Secret, Secret, SecretNotFoundError]
    assert [asked.get("NextToken") for asked in client.asked] == [None, "1", "2"]
    assert all(asked["SecretIdList"] == ["a", "b", "c"] for asked in client.asked)


async def test_a_token_that_comes_back_leads_round_no_circle() -> None:
    """What was had by then is the answer."""
    client = Pages(
        {"SecretValues": [value("a")], "NextToken": "1"},
        {"SecretValues": [value("b")], "NextToken": "1"},
    )

    assert set(await client.source.fetch_batch(["a", "b"])) == {"a", "b"}
    await client.source.aclose()


def test_errors_belong_to_their_ids() -> None:
    """Each has the class that a single get would have raised, and never AWS's message."""
    codes = {
        "a": ("AccessDeniedException", SecretAccessDeniedError),
        "b": ("DecryptionFailure", SecretDecryptionError),
        "c": ("InternalServiceError", SecretUnavailableError),
        "d": ("InvalidRequestException", SecretNotFoundError),
        "e": ("BrandNewException", SecretCacheError),
    }
    message = f"You can't do this because it was marked for deletion. {CANARY}"

    outcomes = to_batch([{"Errors": [error(name, code, message) for name, (code, _) in codes.items()]}], list(codes))

    assert outcomes
    for name, (code, kind) in codes.items():
        outcome = outcomes[name]
        assert type(outcome) is kind
        assert (outcome.secret_id, outcome.code) == (name, code)
        assert CANARY not in str(outcome)


def test_arns_are_matched_before_names() -> None:
    """Another account's secret of the same name isn't served for the name."""
    mine = value("db", "mine")
    theirs = {**value("db", "theirs"), "ARN": arn("db", "999999999999", "GhIjKl")}
    for values in ([mine, theirs], [theirs, mine]):
        for ids in (["db", theirs["ARN"]], [theirs["ARN"], "db"]):
            outcomes = to_batch([{"SecretValues": values}], ids)
            assert outcomes
            assert {each: getattr(outcomes[each], "secret_string", None) for each in ids} == {
                "db": "mine",
                theirs["ARN"]: "theirs",
            }


def test_a_name_is_not_answered_by_what_an_arn_asked_for() -> None:
    """If the answer holds the other account's secret alone, the name has no answer, and is fetched by itself."""
    theirs = {**value("db", "theirs"), "ARN": arn("db", "999999999999")}

    outcomes = to_batch([{"SecretValues": [theirs]}], ["db", theirs["ARN"]])

    assert outcomes
    assert set(outcomes) == {theirs["ARN"]}


def test_a_partial_arn_is_matched_by_what_it_begins() -> None:
    """It lacks the hyphen and the characters after it."""
    partial = arn("db").removesuffix("-AbCdEf")
    outcomes = to_batch([{"SecretValues": [value("db")]}], [partial])

    assert outcomes
    assert isinstance(outcomes[partial], Secret)


def test_a_partial_arn_is_not_answered_by_what_only_begins_like_it() -> None:
    """prod is not prod-db, though its ARN begins with prod's partial one."""
    partial = arn("prod").removesuffix("-AbCdEf")
    outcomes = to_batch([{"SecretValues": [value("prod-db"), value("prod")]}], [partial, "prod-db"])

    assert outcomes
    assert {each: getattr(outcomes[each], "name", None) for each in outcomes} == {partial: "prod", "prod-db": "prod-db"}


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
def test_an_answer_that_makes_no_sense_is_none(page: Any) -> None:
    """botocore makes {} of a body that was cut off, and what nobody asked for answers nothing."""
    assert to_batch([page], ["a"]) is None


async def test_an_answer_that_makes_no_sense_is_unavailable() -> None:
    """As for a single get."""
    with pytest.raises(SecretUnavailableError, match="no sense"):
        await Pages({}).source.fetch_batch(["a", "b"])


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("AccessDeniedException", SecretAccessDeniedError, "allow secretsmanager:BatchGetSecretValue"),
        ("ThrottlingException", SecretThrottledError, "throttles"),
        ("ValidationException", SecretCacheError, "refused the batch"),
        ("InvalidParameterException", SecretCacheError, "refused the batch"),
        ("InvalidRequestException", SecretCacheError, "refused the call"),
        ("InvalidNextTokenException", SecretCacheError, "refused the call"),
        ("ExpiredTokenException", ConfigurationError, "expired"),
        ("InternalServiceError", SecretUnavailableError, "can't answer"),
    ],
)
async def test_a_refusal_of_the_whole_says_what_was_refused(
    aws_raw: RawServer, code: str, kind: type[SecretCacheError], says: str
) -> None:
    """The remedy is the batch's, and what is wrong with its arguments is no caller's fault."""
    aws_raw.refuse(code, CANARY)
    source = SecretsManagerSource(config=_one_attempt())

    with pytest.raises(SecretCacheError, match=says) as caught:
        await source.fetch_batch(["a", "b"])
    await source.aclose()

    assert type(caught.value) is kind
    assert caught.value.code == code
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "botocore" not in type(caught.value).__module__
    assert f"SecretString': '{CANARY}" not in shown


def _one_attempt() -> Any:
    from aiobotocore.config import AioConfig

    return AioConfig(retries={"total_max_attempts": 1})


@pytest.mark.parametrize("error", [ValueError(CANARY), asyncio.CancelledError()])
async def test_no_frame_shows_a_value(error: BaseException) -> None:
    """Of what goes wrong between an answer and the next one, the traceback holds no page."""

    class Broken(Pages):
        async def batch_get_secret_value(self, **arguments: Any) -> Any:
            if self.pages:
                return await super().batch_get_secret_value(**arguments)
            raise error

    source = Broken({"SecretValues": [value("a")], "NextToken": "1"}).source
    with pytest.raises((SecretUnavailableError, asyncio.CancelledError)) as caught:
        await source.fetch_batch(["a", "b"])
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    frames = [frame for frame in frames if "asecretcache" in frame.f_code.co_filename]
    assert frames
    assert CANARY not in "".join(repr(frame.f_locals) for frame in frames)
    await source.aclose()
