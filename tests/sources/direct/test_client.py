"""The client without the SDK: what it sends, and its responses and errors in the SDK's form."""

from __future__ import annotations

import re
import sys

import pytest

import asecretcache
from asecretcache._sources.direct.client import DirectClient
from asecretcache._sources.direct.environment import Settings, resolve_settings
from asecretcache._sources.exceptions import ClientError
from asecretcache.testing import ManualClock
from container_endpoint import container_response
from moto_server import SESSION_TOKEN
from raw_server import ARN, GOOD, RawServer, http


def settings() -> Settings:
    """The settings in this environment, which must not need the SDK."""
    found = resolve_settings(None, None)
    assert isinstance(found, Settings), found
    return found


# Requests


async def test_credentials_are_read_again_for_each_call(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """Credentials that have gone from the environment are used on, as in the SDK."""
    async with DirectClient(settings()) as client:
        await client.get_secret_value(SecretId="name")
        credentials.setenv("AWS_ACCESS_KEY_ID", "AKIASECOND")
        credentials.delenv("AWS_SESSION_TOKEN")
        await client.get_secret_value(SecretId="name")
        credentials.delenv("AWS_ACCESS_KEY_ID")
        await client.get_secret_value(SecretId="name")

    first, second, third = aws_raw.requests
    assert b"Credential=AKIAFAKE" in first
    assert b"x-amz-security-token: canary-session-token" in first
    assert b"Credential=AKIASECOND" in second
    assert b"x-amz-security-token" not in second
    assert b"Credential=AKIASECOND" in third
    assert aws_raw.connections == 1


async def test_the_credentials_of_a_container_sign(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """They are fetched before the first call, and kept."""
    aws_raw.first(container_response(clock))
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws_raw.url}/v2/x")
    async with DirectClient(settings(), clock=clock) as client:
        for _ in range(2):
            assert (await client.get_secret_value(SecretId="name"))["SecretString"] == "the value"

    fetch, *calls = aws_raw.requests
    assert fetch.startswith(b"GET /v2/x HTTP/1.1")
    assert [b"Credential=AKIACONTAINER/" in call and b"canary-token" in call for call in calls] == [True, True]


async def test_a_request_has_the_headers_of_the_sdk(aws_raw: RawServer) -> None:
    """Names in lower case, each once; what differs between requests has its form."""
    async with DirectClient(settings()) as client:
        await client.get_secret_value(SecretId="name")

    body = '{"SecretId": "name"}'
    version = ".".join(map(str, sys.version_info[:3]))
    agent = f"ua/2.1 os/{sys.platform} lang/python#{version} md/pyimpl#cpython cfg/retry-mode#standard"
    forms = [
        rf"host: {re.escape(aws_raw.url.removeprefix('http://'))}",
        r"content-type: application/x-amz-json-1\.1",
        r"x-amz-date: \d{8}T\d{6}Z",
        r"x-amz-target: secretsmanager\.GetSecretValue",
        rf"x-amz-security-token: {SESSION_TOKEN}",
        r"authorization: AWS4-HMAC-SHA256 Credential=.*",
        r"accept-encoding: identity",
        rf"content-length: {len(body)}",
        rf"user-agent: asecretcache/{re.escape(asecretcache.__version__)} md/direct {re.escape(agent)}",
        r"amz-sdk-invocation-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
        r"amz-sdk-request: attempt=1; max=3",
    ]
    # The server leaves out the ends of the headers' lines.
    assert re.fullmatch("".join((r"POST / HTTP/1\.1\r\n", *forms, body)), aws_raw.requests[0].decode())


async def test_a_redirect_is_an_error(aws_raw: RawServer) -> None:
    """300 and all above are; nothing is followed."""
    aws_raw.answer(GOOD, 300)
    async with DirectClient(settings()) as client:
        with pytest.raises(ClientError) as caught:
            await client.get_secret_value(SecretId="name")

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 300


@pytest.mark.parametrize("body", [{"message": "the text"}, {"Message": "the text"}, {}])
async def test_the_message_of_an_error_has_two_names(aws_raw: RawServer, body: dict[str, str]) -> None:
    """As botocore reads it; without one it is empty."""
    aws_raw.answer({"__type": "AccessDenied", **body}, 400)
    async with DirectClient(settings()) as client:
        with pytest.raises(ClientError) as caught:
            await client.get_secret_value(SecretId="name")

    assert caught.value.response["Error"] == {"Code": "AccessDenied", "Message": "the text" if body else ""}


async def test_outside_of_lambda_no_trace_is_sent(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """A trace without a function isn't Lambda's."""
    credentials.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    credentials.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988")
    async with DirectClient(settings()) as client:
        await client.get_secret_value(SecretId="name")

    assert b"x-amzn-trace-id" not in aws_raw.requests[0]


async def test_the_user_agent_names_library_python_and_environment(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch
) -> None:
    """It has the form of botocore's, and characters that it must not have are replaced."""
    credentials.setenv("AWS_EXECUTION_ENV", "AWS_Lambda_python3.13\r\nx")
    async with DirectClient(settings()) as client:
        await client.get_secret_value(SecretId="name")

    assert f"asecretcache/{asecretcache.__version__} md/direct".encode() in aws_raw.requests[0]
    assert f"lang/python#{sys.version_info[0]}.{sys.version_info[1]}".encode() in aws_raw.requests[0]
    assert b" exec-env/AWS_Lambda_python3.13--x " in aws_raw.requests[0]


@pytest.mark.parametrize(
    ("trace", "sent"),
    [
        ("Root=1-5759e988;Parent=5359;Sampled=1", "Root=1-5759e988;Parent=5359;Sampled=1"),
        ("a\nb", "a%0Ab"),
        ("a&[b]", "a&[b]"),
        ("", None),
    ],
)
async def test_lambdas_trace_is_passed_on(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, trace: str, sent: str | None
) -> None:
    """The SDK does so too: Lambda detects functions that call each other in a loop by it."""
    credentials.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    credentials.setenv("_X_AMZN_TRACE_ID", trace)
    async with DirectClient(settings()) as client:
        await client.get_secret_value(SecretId="name")

    assert (f"x-amzn-trace-id: {sent}".encode() in aws_raw.requests[0]) == (sent is not None)


# The clock


@pytest.mark.parametrize(
    ("code", "date", "attempts"),
    [
        ("InvalidSignatureException", "Tue, 14 Nov 2023 23:13:20 GMT", 2),
        ("RequestTimeTooSkewed", "Tue, 14 Nov 2023 21:13:20 GMT", 2),
        ("InvalidSignatureException", "Tue, 14 Nov 2023 22:13:25 GMT", 1),
        ("InvalidSignatureException", "yesterday", 1),
        ("AccessDeniedException", "Tue, 14 Nov 2023 23:13:20 GMT", 1),
    ],
)
async def test_a_wrong_clock_is_corrected_by_the_servers(
    aws_raw: RawServer,
    credentials: pytest.MonkeyPatch,
    clock: ManualClock,
    delays: list[float],
    code: str,
    date: str,
    attempts: int,
) -> None:
    """A refused request is signed again by the server's time, once and without a delay."""
    refused = http({"__type": code, "message": "Signature expired"}, 400, f"Date: {date}")
    aws_raw.first(refused)
    async with DirectClient(settings(), clock=clock) as client:
        if attempts == 1:
            with pytest.raises(ClientError, match=code):
                await client.get_secret_value(SecretId="name")
        else:
            await client.get_secret_value(SecretId="name")
            await client.get_secret_value(SecretId="name")

    assert b"x-amz-date: 20231114T221320Z" in aws_raw.requests[0]
    if attempts == 2:
        hour = {"23": b"231320Z", "21": b"211320Z"}[date[17:19]]
        assert [b"x-amz-date: 20231114T" + hour in request for request in aws_raw.requests] == [False, True, True]
    else:
        assert len(aws_raw.requests) == 1
    assert delays == []


async def test_a_clock_that_was_corrected_is_kept(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """A refusal by the same time is no reason for another attempt, and one by another time is none within one call."""
    refused = [
        http({"__type": "InvalidSignatureException"}, 400, f"Date: Tue, 14 Nov 2023 {hour}:13:20 GMT")
        for hour in (23, 23, 21, 20)
    ]
    async with DirectClient(settings(), clock=clock) as client:
        aws_raw.first(refused[0])
        await client.get_secret_value(SecretId="name")
        aws_raw.first(refused[1])
        with pytest.raises(ClientError):
            await client.get_secret_value(SecretId="name")
        aws_raw.first(refused[2], refused[3])
        with pytest.raises(ClientError):
            await client.get_secret_value(SecretId="name")

    assert len(aws_raw.requests) == 2 + 1 + 2


async def test_a_clock_is_corrected_once_per_call(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """A server whose time changes from response to response doesn't keep a call going."""
    aws_raw.bytes = http({"__type": "InvalidSignatureException"}, 400, "Date: Tue, 14 Nov 2023 23:13:20 GMT")
    async with DirectClient(settings(), clock=clock) as client:
        with pytest.raises(ClientError):
            await client.get_secret_value(SecretId="name")
        clock.advance(3600)
        with pytest.raises(ClientError):
            await client.get_secret_value(SecretId="name")

    assert len(aws_raw.requests) == 4


# Responses


async def test_a_dead_idle_connection_costs_no_attempt(aws_raw: RawServer, delays: list[float]) -> None:
    """The request is sent again at once, and is still the first attempt."""
    async with DirectClient(settings()) as client:
        await client.get_secret_value(SecretId="name")
        aws_raw.first(b"")
        await client.get_secret_value(SecretId="name")

    assert aws_raw.connections == 2
    assert [b"attempt=1; max=3" in request for request in aws_raw.requests] == [True] * 3
    assert delays == []


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"__type": "aws.protocols#AccessDeniedException:http://x", "Message": "m"}', "AccessDeniedException"),
        (500, b"<html>", "500"),
        (500, b'{"__type": "InternalServiceError"}', "InternalServiceError"),
        (403, b"", "403"),
    ],
)
async def test_an_error_is_read_as_botocore_reads_it(
    aws_raw: RawServer, delays: list[float], status: int, body: bytes, code: str
) -> None:
    """Code, status and request id are found in all forms of the JSON protocol."""
    aws_raw.bytes = http(body, status, "x-amzn-RequestId: 12345678-aaaa")
    async with DirectClient(settings()) as client:
        with pytest.raises(ClientError) as caught:
            await client.get_secret_value(SecretId="name")

    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["ResponseMetadata"]["RequestId"] == "12345678-aaaa"


async def test_a_batch_has_the_sdks_types(aws_raw: RawServer) -> None:
    """Dates and binary values of each secret are converted, and a page without values has an empty list."""
    aws_raw.answer({"SecretValues": [GOOD, {"ARN": ARN, "SecretBinary": "AP8="}], "NextToken": "next"})
    async with DirectClient(settings()) as client:
        page = await client.batch_get_secret_value(SecretIdList=["name"])
        aws_raw.answer({"Errors": []})
        empty = await client.batch_get_secret_value(SecretIdList=["name"], NextToken="next")

    first, second = page["SecretValues"]
    assert first["CreatedDate"] == GOOD["CreatedDate"]
    assert second["SecretBinary"] == b"\x00\xff"
    assert empty == {"Errors": [], "SecretValues": []}
    assert b'{"SecretIdList": ["name"]}' in aws_raw.requests[0]
    assert b"x-amz-target: secretsmanager.BatchGetSecretValue" in aws_raw.requests[0]
