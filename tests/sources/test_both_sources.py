"""What the sources fetch, and how they fail: against moto, and against a server with canned responses."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest

import agent_server
from asecretcache import (
    BatchSource,
    CacheClosedError,
    ConfigurationError,
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from moto_server import SESSION_TOKEN, MotoServer
from raw_server import ARN, GOOD, RawServer, http
from source_helpers import CANARY, NAME, Served, SourceClass, bodies, fetch_error, fetch_value, refusal, shown_locals

BAD_BASE64 = {field: value for field, value in GOOD.items() if field != "SecretString"} | {"SecretBinary": f"!{CANARY}"}

# Fetching


@pytest.mark.parametrize("value", ["text", b"\x00\xff"])
async def test_a_secret_is_fetched_with_one_call(
    aws_environment: pytest.MonkeyPatch, moto_server: MotoServer, value: Any, source_class: SourceClass
) -> None:
    """Text and binary secrets are each fetched with one GetSecretValue and nothing else."""
    arn = moto_server.create("name", value)
    source = source_class()

    secret = await source.fetch(NAME)
    await source.aclose()

    assert value in (secret.secret_string, secret.secret_binary)
    assert (secret.name, secret.arn, secret.version_stages) == ("name", arn, ("AWSCURRENT",))
    assert moto_server.calls("GetSecretValue") == 1
    assert moto_server.calls("DescribeSecret") == 0


async def test_version_id_and_stage_are_sent_only_if_requested(aws_raw: RawServer, source_class: SourceClass) -> None:
    """VersionId and VersionStage are in the request when they are set, and only then."""
    source = source_class()

    await source.fetch(NAME)
    await source.fetch(SecretRequest("name", "AWSPREVIOUS"))
    await source.fetch(SecretRequest("name", None, GOOD["VersionId"]))
    await source.aclose()

    assert bodies(aws_raw.requests) == [
        b'{"SecretId": "name"}',
        b'{"SecretId": "name", "VersionStage": "AWSPREVIOUS"}',
        b'{"SecretId": "name", "VersionId": "%s"}' % GOOD["VersionId"].encode(),
    ]
    assert b"asecretcache" in aws_raw.requests[0]


async def test_the_created_date_is_aware_and_local(aws_raw: RawServer, source_class: SourceClass) -> None:
    """CreatedDate, in seconds since the epoch, becomes a datetime in local time."""
    source = source_class()

    secret = await source.fetch(NAME)
    await source.aclose()

    expected = datetime.fromtimestamp(GOOD["CreatedDate"]).astimezone()
    assert secret.created_date is not None
    assert (secret.created_date, secret.created_date.isoformat()) == (expected, expected.isoformat())


async def test_a_batch_is_fetched_with_one_call(
    aws_environment: pytest.MonkeyPatch, moto_server: MotoServer, source_class: SourceClass
) -> None:
    """Twenty text and binary secrets, by name and by ARN, take one call; a missing one has its error."""
    arns = [moto_server.create(f"s{number}", f"value {number}") for number in range(18)]
    moto_server.create("binary", b"\x00\xff")
    source = source_class()
    assert isinstance(source, BatchSource)

    results = await source.fetch_batch([*arns[:9], *(f"s{number}" for number in range(9, 18)), "binary", "missing"])
    await source.aclose()

    found = [result for result in results.values() if isinstance(result, Secret)]
    assert {secret.secret_string for secret in found if secret.name != "binary"} == {f"value {n}" for n in range(18)}
    assert results["binary"].secret_binary == b"\x00\xff"  # type: ignore[union-attr]  # it is a Secret
    assert isinstance(results["missing"], SecretNotFoundError)
    assert moto_server.calls("BatchGetSecretValue") == 1
    assert moto_server.calls("GetSecretValue") == 0


async def test_a_batch_is_a_list_of_ids_and_its_pages_are_followed(
    aws_raw: RawServer, source_class: SourceClass
) -> None:
    """A batch has no filters, and NextToken is followed even if a page has no values."""
    aws_raw.first(
        http({"NextToken": "1"}), http({"SecretValues": [GOOD], "NextToken": "2"}), http({"SecretValues": []})
    )
    source = source_class()

    results = await source.fetch_batch(("name", "other"))
    await source.aclose()

    assert set(results) == {"name"}
    assert bodies(aws_raw.requests) == [
        b'{"SecretIdList": ["name", "other"]}',
        b'{"SecretIdList": ["name", "other"], "NextToken": "1"}',
        b'{"SecretIdList": ["name", "other"], "NextToken": "2"}',
    ]
    assert all(b"secretsmanager.BatchGetSecretValue" in request for request in aws_raw.requests)


async def test_warm_makes_the_client_and_no_call(served: Served) -> None:
    """After warm() no call has been made, and the first fetch works."""
    source = served.source_class()

    await source.warm()
    await source.warm()

    assert served.server.requests == []
    assert await fetch_value(source) == "the value"
    await source.aclose()


async def test_after_aclose_a_source_refuses(served: Served) -> None:
    """A fetch or warm() after aclose() is a CacheClosedError; closing again does nothing."""
    source = served.source_class()
    await source.aclose()
    await source.aclose()

    with pytest.raises(CacheClosedError, match="make a new one"):
        await source.fetch(NAME)
    with pytest.raises(CacheClosedError):
        await source.warm()


# Failing


async def test_warm_raises_the_error_of_a_fetch(bare_environment: Any, any_source: SourceClass) -> None:
    """A failed warm() is a ConfigurationError that names the variable to set."""
    source = any_source()

    with pytest.raises(ConfigurationError, match="AWS_DEFAULT_REGION") as caught:
        await source.warm()
    await source.aclose()

    assert type(caught.value.__cause__).__name__ == "NoRegionError"
    assert caught.value.__context__ is None


async def test_no_region(bare_environment: pytest.MonkeyPatch, any_source: SourceClass) -> None:
    """Without a region the error names where to set one."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "a")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "b")

    error = await fetch_error(any_source())

    assert type(error) is ConfigurationError
    assert "AWS_DEFAULT_REGION or give region_name=" in str(error)
    assert type(error.__cause__).__name__ == "NoRegionError"


async def test_no_credentials(bare_environment: Any, any_source: SourceClass) -> None:
    """Without credentials the error is a CredentialsError, which isn't transient at the start of a process."""
    error = await fetch_error(any_source(region_name="eu-west-1"))

    assert type(error) is CredentialsError
    assert "no credentials" in str(error)
    assert not error.is_transient


async def test_no_such_profile(bare_environment: pytest.MonkeyPatch, any_source: SourceClass) -> None:
    """A profile that doesn't exist is a ConfigurationError."""
    bare_environment.setenv("AWS_PROFILE", "nobody")

    error = await fetch_error(any_source())

    assert type(error) is ConfigurationError
    assert "AWS_PROFILE" in str(error)


async def test_unknown_and_deleted_secrets_are_not_found(
    aws_environment: pytest.MonkeyPatch, moto_server: MotoServer, source_class: SourceClass
) -> None:
    """A secret that doesn't exist and one that is marked for deletion are both SecretNotFoundError."""
    moto_server.create("gone", "x")
    moto_server.client.delete_secret(SecretId="gone")

    unknown = await fetch_error(source_class(), SecretRequest("unknown"))
    deleted = await fetch_error(source_class(), SecretRequest("gone"))

    assert type(unknown) is type(deleted) is SecretNotFoundError
    assert (unknown.code, deleted.code) == ("ResourceNotFoundException", "InvalidRequestException")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDeniedException", SecretAccessDeniedError),
        ("ExpiredTokenException", CredentialsError),
        ("UnrecognizedClientException", CredentialsError),
        ("DecryptionFailure", SecretDecryptionError),
        ("InvalidParameterException", ConfigurationError),
    ],
)
async def test_a_refusal_is_the_cause_without_its_traceback(
    aws_raw: RawServer, code: str, expected: type, source_class: SourceClass
) -> None:
    """AWS's refusal is chained; the frames of the client, which hold the session token, are not."""
    aws_raw.refuse(code)

    error = await fetch_error(source_class())

    assert type(error) is expected
    assert type(error.__cause__).__name__.endswith(("ClientError", code))
    assert error.__cause__.__traceback__ is None  # type: ignore[union-attr]  # asserted above
    assert len(aws_raw.requests) == 1


@pytest.mark.parametrize(
    ("code", "is_transient"),
    [("ExpiredTokenException", True), ("UnrecognizedClientException", False), ("AccessDeniedException", False)],
)
async def test_expired_credentials_are_transient_after_a_success(
    aws_raw: RawServer, source_class: SourceClass, code: str, is_transient: bool
) -> None:
    """Credentials that were good are likely to be renewed; those that AWS refuses are not."""
    aws_raw.first(refusal(code), http(GOOD), refusal(code))
    source = source_class()

    with pytest.raises(SecretCacheError) as before:
        await source.fetch(NAME)
    await source.fetch(NAME)
    after = await fetch_error(source)

    assert not before.value.is_transient
    assert after.is_transient is is_transient


@pytest.mark.parametrize(
    ("code", "expected", "says"),
    [
        ("AccessDeniedException", SecretAccessDeniedError, "allow secretsmanager:BatchGetSecretValue"),
        ("ValidationException", SecretCacheError, "refused the batch"),
        ("InvalidParameterException", SecretCacheError, "refused the batch"),
        ("InvalidRequestException", SecretCacheError, "refused the call"),
        ("InvalidNextTokenException", SecretCacheError, "refused the call"),
        ("ExpiredTokenException", CredentialsError, "expired"),
        ("ThrottlingException", SecretThrottledError, "too many calls"),
        ("InternalServiceError", SecretUnavailableError, "unavailable"),
    ],
)
async def test_a_refusal_of_a_whole_batch_names_its_own_remedy(
    aws_raw: RawServer, source_class: SourceClass, delays: list[float], code: str, expected: type, says: str
) -> None:
    """The permission is the batch's, and a batch's wrong arguments are no ConfigurationError of the caller."""
    aws_raw.refuse(code, CANARY)
    source = source_class()

    with pytest.raises(SecretCacheError, match=says) as caught:
        await source.fetch_batch(["a", "b"])
    await source.aclose()

    assert type(caught.value) is expected
    assert caught.value.code == code
    assert CANARY not in str(caught.value) + shown_locals(caught.value)


async def test_what_the_request_may_have_wrong_is_told(aws_raw: RawServer, source_class: SourceClass) -> None:
    """The stage, and the region that was asked."""
    aws_raw.refuse("ResourceNotFoundException")
    request = SecretRequest(ARN.replace("eu-west-1", "us-east-1"), "blue")

    error = await fetch_error(source_class(), request)

    assert "version_stage='blue' was asked for; us-east-1 was asked" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        f'{{"SecretString": "{CANARY}"'.encode(),
        f"<html>{CANARY}</html>".encode(),
        [CANARY],
        CANARY,
        None,
        BAD_BASE64,
        GOOD | {"SecretString": [CANARY]},
        b"[" * 100_000,
        GOOD | {"SecretString": CANARY, "Name": "other"},
        GOOD | {"SecretString": CANARY, "CreatedDate": CANARY},
        f'{{"SecretString": "{CANARY}\xff"}}'.encode("latin-1"),
    ],
)
async def test_a_malformed_response_is_transient_and_shows_nothing(served: Served, body: Any) -> None:
    """Nothing of the response is in the error, its chain or the package's frames."""
    served.server.answer(body)

    assert_shows_nothing(await fetch_error(served.source_class()))


@pytest.mark.parametrize(
    "body",
    [
        CANARY.encode(),
        {"__type": CANARY, "message": CANARY},
        {"__type": 5, "message": CANARY},
        [CANARY],
        f"{CANARY}\xff".encode("latin-1"),
    ],
)
async def test_a_malformed_refusal_is_transient_and_shows_nothing(
    aws_raw: RawServer, body: Any, source_class: SourceClass
) -> None:
    """What isn't one of AWS's refusals is treated like another malformed response."""
    aws_raw.answer(body, 400)

    assert_shows_nothing(await fetch_error(source_class()))


def assert_shows_nothing(error: SecretCacheError) -> None:
    """The error is transient, and has nothing of the response."""
    assert type(error) is SecretUnavailableError
    assert error.__cause__ is error.__context__ is None
    assert CANARY not in str(error) + repr(error.args) + shown_locals(error)


@pytest.mark.parametrize("body", [b"", b"[]", {"SecretValues": [BAD_BASE64]}, {"SecretValues": CANARY}, {"Errors": {}}])
async def test_a_malformed_batch_shows_nothing(aws_raw: RawServer, source_class: SourceClass, body: Any) -> None:
    """A malformed response to a batch is treated like that to a single call."""
    aws_raw.answer(body)
    source = source_class()

    with pytest.raises(SecretUnavailableError, match="malformed response") as caught:
        await source.fetch_batch(["a", "b"])
    await source.aclose()

    assert caught.value.__cause__ is caught.value.__context__ is None
    assert CANARY not in shown_locals(caught.value)


async def test_an_endpoint_that_hangs_is_given_up(aws_raw: RawServer, source_class: SourceClass) -> None:
    """After three attempts, each with a third of the fetch's time, the error is a SecretUnavailableError."""
    aws_raw.hang()
    token = current_fetch_timeout.set(FetchTimeout(0.15, time.time, time.monotonic))

    error = await fetch_error(source_class())

    current_fetch_timeout.reset(token)
    assert type(error) is SecretUnavailableError
    assert type(error.__cause__).__name__ == "ReadTimeoutError"
    assert len(aws_raw.requests) == 3


async def test_a_cancelled_fetch_frees_its_slot_and_client(served: Served) -> None:
    """CancelledError passes through, and the next fetch gets slot and client."""
    served.server.hang()
    source = served.source_class(max_concurrency=1)
    task = asyncio.create_task(source.fetch(NAME))
    await asyncio.to_thread(served.server.arrived.wait)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    served.server.let_go.set()
    assert await fetch_value(source) == "the value"
    await source.aclose()


@pytest.mark.parametrize("end", ["cancelled", "timed out"])
async def test_a_fetch_that_is_ended_shows_no_keys(served: Served, end: str) -> None:
    """While a call runs, no token, key or signature is a visible local of the package's frames."""
    served.server.hang()
    source = served.source_class()
    task = asyncio.create_task(source.fetch(NAME))
    await asyncio.to_thread(served.server.arrived.wait)

    raised: BaseException
    try:
        if end == "cancelled":
            task.cancel()
            await task
        async with asyncio.timeout(0):
            await task
    except (asyncio.CancelledError, TimeoutError) as exc:
        raised = exc
    served.server.let_go.set()
    await source.aclose()

    shown = shown_locals(raised)
    assert SESSION_TOKEN not in shown
    assert agent_server.TOKEN not in shown
    assert "Signature=" not in shown
    assert "fake-secret-key" not in shown
