"""The source without the SDK: when it does the work itself, its credentials, its signatures' time, its connections."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import trustme
from botocore.awsrequest import AWSResponse
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.credentials import EnvProvider
from botocore.httpsession import DEFAULT_CA_BUNDLE, get_cert_path

from asecretcache import ConfigurationError, DirectSource, SecretsManagerSource, SecretUnavailableError
from asecretcache._models import SecretRequest
from asecretcache._sources import retry_quota as _retries
from asecretcache._sources.direct import environment as _plain_case
from asecretcache._sources.direct import http_message as _http_message
from asecretcache._sources.direct import tls as _trust
from asecretcache._sources.direct.client import DirectClient
from asecretcache._sources.direct.connection_pool import Connections
from asecretcache._sources.direct.credentials import ContainerCredentials
from asecretcache._sources.direct.environment import ELSEWHERE, PlainCase, find_plain_case
from asecretcache._sources.direct.http_message import Request, Response
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.direct.tls import Trust
from asecretcache._sources.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    SSLError,
    TransportError,
)
from raw_server import ARN, GOOD, RawServer, http

NAME = SecretRequest("name")


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def case(region: str | None = None, endpoint: str | None = None) -> PlainCase:
    """The plain case that this environment is."""
    found = find_plain_case(region, endpoint)
    assert isinstance(found, PlainCase), found
    return found


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between attempts, without waiting."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(delay: float) -> None:
        if delay:
            taken.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    return taken


# When it isn't the plain case


@pytest.mark.parametrize("name", [*ELSEWHERE, "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "Https_Proxy"])
def test_a_variable_that_it_does_not_interpret_is_named(credentials: pytest.MonkeyPatch, name: str) -> None:
    """Profiles, roles, proxies, FIPS and whatever else the SDK reads are the SDK's business."""
    credentials.setenv(name, "x")

    assert find_plain_case(None, None) == f"{name} is set"


def test_every_variable_that_botocore_reads_is_decided_on() -> None:
    """A version of botocore that reads another variable fails here: is it interpreted, left to the SDK, or harmless?"""
    interpreted = {
        "AWS_DEFAULT_REGION",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        EnvProvider.ACCESS_KEY,
        EnvProvider.SECRET_KEY,
        *EnvProvider.TOKENS,
    }
    harmless = {
        # SecretsManagerSource sets mode and attempts itself, which wins.
        "AWS_RETRY_MODE",
        "AWS_MAX_ATTEMPTS",
        # Of other services, and without AWS_CSM_ENABLED of none.
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_CSM_HOST",
        "AWS_CSM_PORT",
        "AWS_CSM_CLIENT_ID",
        # No call to Secrets Manager is compressed.
        "AWS_DISABLE_REQUEST_COMPRESSION",
        # Nobody asks an instance for its metadata.
        "AWS_EC2_METADATA_V1_DISABLED",
        # Secrets Manager's endpoints don't depend on the account.
        EnvProvider.ACCOUNT_ID,
    }
    read = {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY, EnvProvider.EXPIRY_TIME, EnvProvider.ACCOUNT_ID}
    for _, names, _, _ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        read |= {names} if isinstance(names, str) else set(names or ())

    assert read - interpreted - harmless - set(ELSEWHERE) == set()


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_file_with_settings_is_named(credentials: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    """One that has only blanks and comments, or isn't there, changes nothing."""
    file = tmp_path / "file"
    credentials.setenv(variable, str(file))
    case()
    file.write_text("# a comment\n\n  ; another\n")
    case()

    file.write_text("[default]\n")

    assert find_plain_case(None, None) == f"{file} has settings"


def test_a_file_that_cannot_be_read_may_have_settings(credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When in doubt the SDK does it."""
    credentials.setenv("AWS_CONFIG_FILE", str(tmp_path))

    assert find_plain_case(None, None) == f"{tmp_path} has settings"


def test_files_at_their_usual_places_are_found(credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the home directory, and models of one's own there, too."""
    credentials.setenv("HOME", str(tmp_path))
    credentials.delenv("AWS_CONFIG_FILE")
    case()

    (tmp_path / ".aws" / "models").mkdir(parents=True)
    assert find_plain_case(None, None) == "~/.aws/models is there"
    (tmp_path / ".aws" / "config").write_text("[default]")
    assert find_plain_case(None, None) == "~/.aws/config has settings"


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_where_the_system_may_have_a_proxy_the_sdk_looks(credentials: pytest.MonkeyPatch, platform: str) -> None:
    """Python asks Windows and macOS for proxies that no variable names."""
    credentials.setattr(sys, "platform", platform)

    assert find_plain_case(None, None) == "the system may have a proxy set"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("AWS_DEFAULT_REGION", None, "no region is set"),
        ("AWS_DEFAULT_REGION", "", "no region is set"),
        ("AWS_DEFAULT_REGION", "us-east-1-fips", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "fips-us-east-1", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "aws-global", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "local", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "eu-west", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "eu-wést-1", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "zz-west-1", "the region is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host/path", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://user:password@host", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://under_score", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://-host", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host-.example", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host..example", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://" + 64 * "a", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://\u212aelvin", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host:99999", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "host", "the endpoint's URL is an unusual one"),
        ("AWS_CA_BUNDLE", "", "the CA bundle is empty"),
        ("AWS_SECRET_ACCESS_KEY", "", "AWS_SECRET_ACCESS_KEY is missing"),
        ("AWS_ACCESS_KEY_ID", None, "there are no credentials in the environment"),
    ],
)
def test_what_is_missing_or_unusual_is_told(
    credentials: pytest.MonkeyPatch, name: str, value: str | None, reason: str
) -> None:
    """The SDK does it, or says what is wrong; values aren't told."""
    credentials.delenv(name, raising=False)
    if value is not None:
        credentials.setenv(name, value)

    assert find_plain_case(None, None) == reason


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/credentials",  # botocore takes only a few hosts.
        "http://128.0.0.1/",
        "http://127.0.0.1.example.com/",
        "http://127.0.0.999/",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
    ],
)
def test_credentials_from_an_unusual_place_are_left_to_the_sdk(credentials: pytest.MonkeyPatch, url: str) -> None:
    """It refuses those hosts itself."""
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)

    assert find_plain_case(None, None) == "the credentials' URL is an unusual one"


def test_files_of_boto_2_come_before_a_container(credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in the chain of the SDK."""
    file = tmp_path / "boto"
    file.write_text("[Credentials]")
    credentials.setattr(_plain_case, "_BOTO2_FILES", (str(file),))
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")
    case()

    credentials.delenv("AWS_ACCESS_KEY_ID")

    assert find_plain_case(None, None) == f"{file} has settings"


async def test_a_case_that_is_not_plain_goes_to_the_sdk_and_is_logged_once(
    credentials: pytest.MonkeyPatch, raw_server: RawServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A profile is used as the SDK uses it."""
    caplog.set_level(logging.INFO, "asecretcache")
    config = tmp_path / "config"
    config.write_text(f"[profile p]\nregion = us-west-1\nendpoint_url = {raw_server.url}\n")
    credentials.setenv("AWS_CONFIG_FILE", str(config))
    credentials.setenv("AWS_PROFILE", "p")
    credentials.delenv("AWS_DEFAULT_REGION")
    source = DirectSource()

    await source.warm()
    secret = await source.fetch(NAME)
    await source.aclose()

    assert secret.secret_string == "the value"
    assert b"/us-west-1/secretsmanager" in raw_server.requests[0]
    assert [record.getMessage() for record in caplog.records] == ["DirectSource uses the AWS SDK: AWS_PROFILE is set"]


async def test_the_case_is_looked_at_again_for_the_next_client(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, however often it changes."""
    caplog.set_level(logging.INFO, "asecretcache")
    source, clock = DirectSource(), Clock()
    source._source._clients._clock = clock
    agents = []
    for app in (None, "app", None, "app"):
        credentials.setenv("AWS_SDK_UA_APP_ID", app) if app else credentials.delenv("AWS_SDK_UA_APP_ID", raising=False)
        await source.fetch(NAME)
        agents.append(b"md/direct" in aws_raw.requests[-1])
        clock.now += 21
    await source.aclose()

    assert agents == [True, False, True, False]
    assert len(caplog.records) == 1


# When it is


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, "https://secretsmanager.eu-west-1.amazonaws.com:443"),
        ("http://Host.Example:80/", "http://host.example:80"),
        ("https://host.example:8443", "https://host.example:8443"),
        ("http://[FD00::1]:8080", "http://fd00::1:8080"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
    ],
)
def test_an_endpoint_is_a_plain_one(credentials: pytest.MonkeyPatch, endpoint: str | None, url: str) -> None:
    """A name or an address, and perhaps a port."""
    origin = case(None, endpoint).origin

    assert f"{'https' if origin.tls else 'http'}://{origin.host}:{origin.port}" == url
    assert case(None, endpoint).is_regional == (endpoint is None)


@pytest.mark.parametrize(
    ("origin", "header"),
    [
        (Origin(True, "host", 443), "host"),
        (Origin(False, "host", 443), "host:443"),
        (Origin(False, "::1", 80), "[::1]"),
        (Origin(True, "::1", 80), "[::1]:80"),
    ],
)
def test_the_host_header_has_the_port_unless_it_is_the_usual_one(origin: Origin, header: str) -> None:
    """It is signed, so it must be what the server makes of it."""
    assert origin.header == header


def test_the_endpoint_of_the_service_goes_before_that_of_all(credentials: pytest.MonkeyPatch) -> None:
    """The argument before both; and both can be switched off."""
    credentials.setenv("AWS_ENDPOINT_URL", "http://all")
    assert case().origin.host == "all"
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://service")
    assert case().origin.host == "service"
    assert case(None, "http://argument").origin.host == "argument"

    credentials.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True")
    assert case().is_regional
    assert case(None, "http://argument").origin.host == "argument"


def test_the_region_argument_goes_before_the_environment(credentials: pytest.MonkeyPatch) -> None:
    """As with the SDK, which doesn't read AWS_REGION."""
    credentials.setenv("AWS_REGION", "eu-west-3")

    assert case().region == "eu-west-1"
    assert case("us-west-2").region == "us-west-2"


def test_the_bundle_is_found_as_the_sdk_finds_it(credentials: pytest.MonkeyPatch) -> None:
    """AWS_CA_BUNDLE, else REQUESTS_CA_BUNDLE, else none of one's own."""
    assert case().ca_bundle is None
    credentials.setenv("REQUESTS_CA_BUNDLE", "requests.pem")
    assert case().ca_bundle == "requests.pem"
    credentials.setenv("AWS_CA_BUNDLE", "aws.pem")
    assert case().ca_bundle == "aws.pem"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("RELATIVE", "/v2/x?id=1", (Origin(False, "169.254.170.2", 80), "/v2/x?id=1")),
        ("FULL", "http://127.0.0.1:9001/2021/credentials", (Origin(False, "127.0.0.1", 9001), "/2021/credentials")),
        ("FULL", "http://127.1.2.3", (Origin(False, "127.1.2.3", 80), "/")),
        ("FULL", "HTTP://LocalHost/Xy", (Origin(False, "localhost", 80), "/Xy")),
        ("FULL", "http://169.254.170.23/v1", (Origin(False, "169.254.170.23", 80), "/v1")),
        ("FULL", "http://[fd00:ec2::23]/v1", (Origin(False, "fd00:ec2::23", 80), "/v1")),
        ("FULL", "http://[::1]/v1", (Origin(False, "::1", 80), "/v1")),
    ],
)
def test_a_container_names_where_its_credentials_are(
    credentials: pytest.MonkeyPatch, variable: str, value: str, expected: Any
) -> None:
    """The relative URI goes before the full one, and keys in the environment before both."""
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/")
    credentials.setenv(f"AWS_CONTAINER_CREDENTIALS_{variable}_URI", value)
    assert case().container is None

    credentials.delenv("AWS_ACCESS_KEY_ID")
    assert case().container == expected


def test_every_region_has_the_endpoint_that_the_sdk_has(credentials: pytest.MonkeyPatch) -> None:
    """In all partitions that botocore knows, host and signing region are the same."""
    session = botocore.session.get_session()
    seen: list[Any] = []

    def instead(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, {}, _Nothing())

    class _Nothing:
        def stream(self, **_: Any) -> Any:
            return iter(())

    partitions = session.get_available_partitions()
    regions = {
        region for partition in partitions for region in session.get_available_regions("secretsmanager", partition)
    }
    for region in regions:
        client = session.create_client("secretsmanager", region_name=region)
        client.meta.events.register("before-send", instead)
        client.get_secret_value(SecretId="x")
        client.close()

    assert len(regions) > 40
    assert len(partitions) >= 8
    for region, request in zip(regions, seen, strict=True):
        found = case(region)
        assert f"https://{found.origin.host}/" == request.url
        assert f"/{found.region}/secretsmanager/".encode() in request.headers["Authorization"]


def test_a_plain_fetch_imports_nothing_of_the_sdk(aws_raw: RawServer) -> None:
    """And nothing heavy is imported before a source is made."""
    code = """
import asyncio, sys
from asecretcache import DirectSource, SecretRequest
assert "httptools" not in sys.modules
async def main():
    source = DirectSource()
    await source.warm()
    await source.fetch(SecretRequest("name"))
    await source.aclose()
asyncio.run(main())
assert "httptools" in sys.modules
heavy = {"aioboto3", "aiobotocore", "aiohttp", "boto3", "botocore", "certifi", "urllib3", "datetime", "importlib.util"}
print(*heavy & sys.modules.keys())
"""

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_without_httptools_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, whatever the case will be."""
    for name in list(sys.modules):
        if name == "httptools" or name.startswith(("httptools.", "asecretcache._sources.direct.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httptools", None)  # How Python marks what can't be imported.

    with pytest.raises(ConfigurationError, match=r"pip install asecretcache\[direct\]"):
        DirectSource()


@pytest.mark.parametrize(
    "arguments", [{"region_name": "eu west"}, {"endpoint_url": "localhost:2773"}, {"max_concurrency": 0}]
)
def test_wrong_arguments_are_refused_at_construction(arguments: dict[str, Any]) -> None:
    """Each wrong argument is a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        DirectSource(**arguments)


# What it sends


async def test_credentials_are_read_anew_for_each_call(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """Those that are gone are kept, as the SDK does; the old name of the token goes first."""
    source = DirectSource()
    await source.fetch(NAME)
    credentials.setenv("AWS_ACCESS_KEY_ID", "AKIASECOND")
    credentials.setenv("AWS_SECURITY_TOKEN", "older-token")
    await source.fetch(NAME)
    credentials.delenv("AWS_SECURITY_TOKEN")
    credentials.delenv("AWS_SESSION_TOKEN")
    await source.fetch(NAME)
    credentials.delenv("AWS_ACCESS_KEY_ID")
    await source.fetch(NAME)
    await source.aclose()

    first, second, third, fourth = aws_raw.requests
    assert b"Credential=AKIAFAKE" in first
    assert b"canary-session-token" in first
    assert b"Credential=AKIASECOND" in second
    assert b"older-token" in second
    assert b"x-amz-security-token" not in third
    assert b"Credential=AKIASECOND" in fourth
    assert aws_raw.connections == 1


async def test_the_user_agent_names_library_python_and_environment(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch
) -> None:
    """In the style of botocore's; characters that it can't have are replaced."""
    credentials.setenv("AWS_EXECUTION_ENV", "AWS_Lambda_python3.13\r\nx")
    source = DirectSource()
    await source.fetch(NAME)
    await source.aclose()

    assert b"asecretcache md/direct" in aws_raw.requests[0]
    assert f"lang/python#{sys.version_info[0]}.{sys.version_info[1]}".encode() in aws_raw.requests[0]
    assert b" exec-env/AWS_Lambda_python3.13--x " in aws_raw.requests[0]


@pytest.mark.parametrize(
    ("trace", "sent"),
    [("Root=1-5759e988;Parent=5359;Sampled=1", "Root=1-5759e988;Parent=5359;Sampled=1"), ("a\nb", "a%0Ab"), ("", None)],
)
async def test_lambda_s_trace_is_passed_on(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, trace: str, sent: str | None
) -> None:
    """As the SDK does, so that Lambda notices functions that call each other in a circle."""
    credentials.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    credentials.setenv("_X_AMZN_TRACE_ID", trace)
    source = DirectSource()
    await source.fetch(NAME)
    await source.aclose()

    assert (f"x-amzn-trace-id: {sent}".encode() in aws_raw.requests[0]) == (sent is not None)


async def test_a_token_that_no_header_can_hold_is_not_told(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """An error that quoted it would tell it."""
    credentials.setenv("AWS_SESSION_TOKEN", "canary\ntoken")
    source = DirectSource()

    with pytest.raises(SecretUnavailableError) as caught:
        await source.fetch(NAME)
    await source.aclose()

    assert caught.value.__cause__ is caught.value.__context__ is None
    assert aws_raw.requests == []


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
async def test_a_wrong_clock_is_corrected_by_the_server_s(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, pauses: list[float], code: str, date: str, attempts: int
) -> None:
    """A signature that was refused is made again with the server's time, once and at once."""
    refused = http({"__type": code, "message": "Signature expired"}, 400, f"Date: {date}")
    aws_raw.first(refused)
    clock = Clock()
    async with DirectClient(case(), clock=clock) as client:
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
    assert pauses == []


async def test_a_clock_is_corrected_once_in_a_call(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """A server that can't make up its mind is given up."""
    aws_raw.bytes = http({"__type": "InvalidSignatureException"}, 400, "Date: Tue, 14 Nov 2023 23:13:20 GMT")
    clock = Clock()
    async with DirectClient(case(), clock=clock) as client:
        with pytest.raises(ClientError):
            await client.get_secret_value(SecretId="name")
        clock.now += 3600
        with pytest.raises(ClientError):
            await client.get_secret_value(SecretId="name")

    assert len(aws_raw.requests) == 4


# Attempts


def test_retries_are_paid_for_until_there_is_nothing_left() -> None:
    """As botocore's quota has it: 500 tokens, 10 for a time-out, 5 for another failure, given back by a success."""
    retries = _retries.Retries()

    assert [retries.pay(ConnectTimeoutError(), attempt=1) for _ in range(51)] == [10] * 50 + [0]
    retries.refund(0)
    assert retries.pay(TransportError(), attempt=1) == 0
    retries.refund(10)
    assert retries.pay(TransportError(), attempt=2) == 5
    assert retries.pay(TransportError(), attempt=3) == 0
    for _ in range(3):
        retries.refund(400)
    assert [retries.pay(TransportError(), attempt=1) for _ in range(101)] == [5] * 100 + [0]


def test_pauses_are_random_and_double_up_to_20_seconds() -> None:
    """The first is at most a second long."""
    drawn = [[_retries.pause(attempt) for _ in range(200)] for attempt in (1, 2, 9)]

    for pauses, longest in zip(drawn, (1, 2, 20), strict=True):
        assert min(pauses) >= 0
        assert longest / 2 < max(pauses) <= longest


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"__type": "aws.protocols#AccessDeniedException:http://x", "Message": "m"}', "AccessDeniedException"),
        (500, b"<html>", "500"),
        (500, b'{"__type": "InternalServiceError"}', "InternalServiceError"),
        (400, b"[]", "400"),
        (403, b"", "403"),
    ],
)
async def test_a_refusal_is_read_as_botocore_reads_it(
    aws_raw: RawServer, pauses: list[float], status: int, body: bytes, code: str
) -> None:
    """Code, status and request id, in all forms that the JSON protocol has."""
    aws_raw.bytes = http(body, status, "x-amzn-RequestId: 12345678-aaaa")
    async with DirectClient(case()) as client:
        with pytest.raises(ClientError) as caught:
            await client.get_secret_value(SecretId="name")

    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["ResponseMetadata"]["RequestId"] == "12345678-aaaa"


async def test_a_batch_s_answer_has_the_sdk_s_types(aws_raw: RawServer) -> None:
    """Dates and binary values of each secret."""
    aws_raw.answer({"SecretValues": [GOOD, {"ARN": ARN, "SecretBinary": "AP8="}], "NextToken": "next"})
    async with DirectClient(case()) as client:
        page = await client.batch_get_secret_value(SecretIdList=["name"])
        aws_raw.answer({"Errors": []})
        empty = await client.batch_get_secret_value(SecretIdList=["name"], NextToken="next")

    first, second = page["SecretValues"]
    assert first["CreatedDate"] == GOOD["CreatedDate"]
    assert second["SecretBinary"] == b"\x00\xff"
    assert empty == {"Errors": [], "SecretValues": []}
    assert b'{"SecretIdList": ["name"]}' in aws_raw.requests[0]
    assert b"x-amz-target: secretsmanager.BatchGetSecretValue" in aws_raw.requests[0]


# Credentials of a container


def served(clock: Clock, seconds: float = 3600, key: str = "AKIACONTAINER", **change: Any) -> bytes:
    """What the endpoint of a container answers."""
    end = datetime.fromtimestamp(clock.now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {"AccessKeyId": key, "SecretAccessKey": "canary-key", "Token": "canary-token", "Expiration": end}
    return http({name: value for name, value in (answer | change).items() if value is not None})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def container(raw_server: RawServer, clock: Clock) -> ContainerCredentials:
    """Credentials that the raw server serves, for an hour."""
    raw_server.bytes = served(clock)
    return container_at(raw_server, clock)


def container_at(server: RawServer, clock: Clock) -> ContainerCredentials:
    """Credentials that a server serves."""
    parsed = Origin.parse(f"{server.url}/v2/credentials?id=1")
    assert parsed is not None
    return ContainerCredentials(*parsed, clock=clock)


async def test_a_container_s_credentials_sign(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, clock: Clock, pauses: list[float]
) -> None:
    """They are fetched before the first call, and kept."""
    aws_raw.first(served(clock))
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws_raw.url}/v2/x")
    async with DirectClient(case(), clock=clock) as client:
        for _ in range(2):
            assert (await client.get_secret_value(SecretId="name"))["SecretString"] == "the value"

    fetch, *calls = aws_raw.requests
    assert fetch.startswith(b"GET /v2/x HTTP/1.1")
    assert b"accept: application/json" in fetch
    assert b"authorization" not in fetch
    assert [b"Credential=AKIACONTAINER/" in call and b"canary-token" in call for call in calls] == [True, True]


async def test_the_sdk_s_credentials_of_a_container_are_the_same(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, clock: Clock
) -> None:
    """SecretsManagerSource asks with the same path and token, and signs with the same key."""
    clock.now = time.time()
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws_raw.url}/v2/x")
    credentials.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-1")
    for source in (SecretsManagerSource(), DirectSource()):
        aws_raw.first(served(clock))
        await source.fetch(NAME)
        await source.aclose()

    sdk, sdk_call, direct, direct_call = aws_raw.requests
    for request in (sdk, direct):
        assert request.startswith(b"GET /v2/x HTTP/1.1")
        assert b"authorization: token-1" in request.replace(b"Authorization", b"authorization")
    for request in (sdk_call, direct_call):
        assert b"Credential=AKIACONTAINER/" in request


async def test_the_token_of_a_container_is_read_for_each_fetch(
    raw_server: RawServer,
    container: ContainerCredentials,
    bare_environment: pytest.MonkeyPatch,
    tmp_path: Path,
    clock: Clock,
) -> None:
    """The file goes before the variable."""
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-1")
    await container.get()
    token = tmp_path / "token"
    token.write_text("token-2")
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    clock.now += 3000
    await container.get()

    first, second = raw_server.requests
    assert b"token-1" in first
    assert b"token-2" in second


@pytest.mark.parametrize("token", [b"line\n", b"line\r", b"\xff", None])
async def test_a_token_that_cannot_be_sent_is_no_token(
    raw_server: RawServer,
    container: ContainerCredentials,
    bare_environment: pytest.MonkeyPatch,
    tmp_path: Path,
    token: bytes | None,
) -> None:
    """A file that isn't there, isn't text or has a line's end gives no credentials."""
    file = tmp_path / "token"
    if token is not None:
        file.write_bytes(token)
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(file))

    with pytest.raises(CredentialRetrievalError):
        await container.get()

    assert raw_server.requests == []


async def test_what_a_fetch_of_credentials_was_ended_with_shows_no_token(
    raw_server: RawServer, container: ContainerCredentials, bare_environment: pytest.MonkeyPatch
) -> None:
    """It is no local of our frames in plain text."""
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-authorization")
    raw_server.hang()
    task = asyncio.create_task(container.get())
    await asyncio.to_thread(raw_server.arrived.wait)
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    printed = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "credentials.py" in printed
    assert "canary" not in printed


async def test_concurrent_callers_share_one_fetch(raw_server: RawServer, container: ContainerCredentials) -> None:
    """All wait for the first."""
    found = await asyncio.gather(*(container.get() for _ in range(10)))

    assert {each.access_key for each in found} == {"AKIACONTAINER"}
    assert len(raw_server.requests) == 1


async def test_credentials_are_renewed_a_quarter_of_an_hour_before_they_end(
    raw_server: RawServer, container: ContainerCredentials, clock: Clock
) -> None:
    """By the wall clock."""
    await container.get()
    clock.now += 3600 - 901
    await container.get()
    assert len(raw_server.requests) == 1

    clock.now += 2
    raw_server.bytes = served(clock, key="AKIASECOND")
    assert (await container.get()).access_key == "AKIASECOND"
    assert len(raw_server.requests) == 2


async def test_while_one_renews_the_others_use_what_there_is(
    raw_server: RawServer, container: ContainerCredentials, clock: Clock
) -> None:
    """Until ten minutes before the end, when they have to wait."""
    await container.get()
    raw_server.arrived.clear()
    raw_server.hang()
    clock.now += 3600 - 800
    renewing = asyncio.create_task(container.get())
    await asyncio.to_thread(raw_server.arrived.wait)

    assert (await container.get()).access_key == "AKIACONTAINER"
    clock.now += 300
    waiting = asyncio.create_task(container.get())
    await asyncio.sleep(0)
    assert not waiting.done()

    raw_server.bytes = served(clock, key="AKIASECOND")
    raw_server.let_go.set()
    assert (await renewing).access_key == (await waiting).access_key == "AKIASECOND"
    assert len(raw_server.requests) == 2


async def test_what_cannot_be_renewed_is_used_until_ten_minutes_before_its_end(
    raw_server: RawServer, container: ContainerCredentials, clock: Clock, pauses: list[float]
) -> None:
    """Then there are none; each renewal has three attempts, a second apart."""
    await container.get()
    raw_server.bytes = http(b"", 500)
    clock.now += 3600 - 800
    assert (await container.get()).access_key == "AKIACONTAINER"
    assert pauses == [1, 1]

    clock.now += 300
    with pytest.raises(CredentialRetrievalError):
        await container.get()
    assert len(raw_server.requests) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"AccessKeyId": None},
        {"AccessKeyId": ""},
        {"SecretAccessKey": 5},
        {"Token": None},
        {"Expiration": "soon"},
        {"Expiration": 5},
        {"Expiration": "2020-01-01T00:00:00Z"},
    ],
)
async def test_an_answer_without_usable_credentials_is_a_failure(
    raw_server: RawServer, container: ContainerCredentials, clock: Clock, pauses: list[float], change: dict[str, Any]
) -> None:
    """Incomplete, unreadable, or over."""
    raw_server.bytes = served(clock, **change)

    with pytest.raises(CredentialRetrievalError):
        await container.get()

    assert len(raw_server.requests) == 3


@pytest.mark.parametrize("answer", [b"", http(b"canary-token"), http(["canary-token"]), http({}, 403)])
async def test_credentials_that_cannot_be_had_are_told_as_unavailable(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, pauses: list[float], answer: bytes
) -> None:
    """As with the SDK, and nothing of the answer is told."""
    aws_raw.bytes = answer
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws_raw.url}/v2/x")
    source = DirectSource()

    with pytest.raises(SecretUnavailableError, match="credentials could not be retrieved") as caught:
        await source.fetch(NAME)
    await source.aclose()

    assert caught.value.__cause__ is caught.value.__context__ is None


# Connections


def connections_to(server: RawServer, clock: Callable[[], float]) -> Connections:
    """Connections without a client."""
    parsed = Origin.parse(server.url)
    assert parsed is not None
    return Connections(parsed[0], None, clock=clock)


async def sent(connections: Connections, **change: float) -> Response:
    """The answer to a request."""
    request = Request("POST", "/", {"host": "h", "content-length": "2"}, b"{}")
    return await connections.send(request, **({"connect_timeout": 5, "read_timeout": 5} | change))


async def body_of(connections: Connections, **change: float) -> bytes:
    """The body of an answer."""
    return (await sent(connections, **change)).body


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok", 1),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 1),
        (b"HTTP/1.0 200 X\r\nContent-Length: 2\r\n\r\nok", 2),
        (b"HTTP/1.1 200 X\r\n\r\nok", 2),
        (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok and more", 2),
        (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\nbad", 2),
        (b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 2),
        (b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Status: 500\r\n\r\n", 1),
        (b"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 X\r\n\r\nok", 2),
    ],
    ids=range(9),
)
async def test_answers_of_all_forms_are_read(
    raw_server: RawServer, clock: Clock, answer: bytes, connections: int
) -> None:
    """What says so, or is followed by what nobody asked for, is the last of its connection."""
    raw_server.bytes = answer
    raw_server.is_patient = not answer.endswith(b"200 X\r\n\r\nok")
    pool = connections_to(raw_server, clock)

    first = await sent(pool)
    assert not pool._open if connections > 1 else pool._open
    second = await sent(pool)
    pool.close()
    assert first.body == second.body == b"ok"
    assert first.headers.keys() <= {"content-length", "transfer-encoding", "connection"}

    assert raw_server.connections == connections


@pytest.mark.parametrize(
    "answer",
    [
        b"220 smtp.example ESMTP\r\n",
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 X\r\nX: " + 66_000 * b"x",
    ],
    ids=range(8),
)
async def test_what_is_no_whole_answer_is_none(raw_server: RawServer, clock: Clock, answer: bytes) -> None:
    """Another protocol, one that ends too early, or says two things of its length, or never comes to its body."""
    raw_server.bytes = answer
    raw_server.is_patient = len(answer) > 65536
    pool = connections_to(raw_server, clock)

    with pytest.raises(ConnectionClosedError) as caught:
        await body_of(pool)

    assert type(caught.value) is ConnectionClosedError
    assert not pool._open


@pytest.mark.parametrize("status", [b"099", b"000"])
async def test_what_is_no_status_is_no_answer(raw_server: RawServer, clock: Clock, status: bytes) -> None:
    """Nothing of it becomes part of the next."""
    raw_server.bytes = b"HTTP/1.1 " + status + b" X\r\nContent-Length: 2\r\n\r\nok" + http({})
    pool = connections_to(raw_server, clock)

    with pytest.raises(ConnectionClosedError):
        await body_of(pool)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 X\r\n\r\n" + 200 * b"x",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: " + 100_000 * b"x",
    ],
    ids=["until the end", "trailers"],
)
async def test_what_is_too_long_is_no_answer(
    raw_server: RawServer, clock: Clock, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """Nor is the first part of it, though the connection may end with it."""
    monkeypatch.setattr(_http_message, "_MAX_BODY", 100)
    raw_server.bytes = answer
    raw_server.is_patient = b"chunked" in answer
    pool = connections_to(raw_server, clock)

    with pytest.raises(ConnectionClosedError):
        await body_of(pool)


def test_what_is_too_long_does_not_end_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end may be heard of in the same turn of the loop."""
    monkeypatch.setattr(_http_message, "_MAX_BODY", 100)
    answer = _http_message.Answer()
    answer.feed(b"HTTP/1.1 200 X\r\n\r\n" + 50 * b"x")

    answer.feed(51 * b"x")
    answer.end()

    assert answer.is_broken
    assert not answer.is_complete


@pytest.mark.parametrize("answer", [http({"a": 1}), b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nok"], ids=range(2))
async def test_nothing_is_left_of_an_answer(raw_server: RawServer, clock: Clock, answer: bytes) -> None:
    """Not even until the garbage collector runs, as the value in it would be."""
    raw_server.bytes = answer
    pool = connections_to(raw_server, clock)
    gc.collect()
    gc.disable()
    try:
        with suppress(ConnectionClosedError):
            await body_of(pool)
        left = [type(each).__name__ for each in gc.get_objects() if isinstance(each, _http_message.Answer)]
    finally:
        gc.enable()
    pool.close()

    assert left == []


@pytest.mark.parametrize("value", ["a\r\nx-b: c", "a\nb", "a\0b", "a\x7f", "\u00e9"])
async def test_what_no_header_can_hold_is_not_sent(raw_server: RawServer, clock: Clock, value: str) -> None:
    """It would begin another header, or be read in two ways; it isn't told, for it may be a token."""
    pool = connections_to(raw_server, clock)

    with pytest.raises(ValueError, match="header") as caught:
        await pool.send(Request("GET", "/", {"host": "h", "x": value}), connect_timeout=5, read_timeout=5)

    assert value not in str(caught.value)
    with pytest.raises(ValueError, match="header"):
        await pool.send(Request("GET", f"/{value}", {"host": "h"}), connect_timeout=5, read_timeout=5)
    assert not pool._open
    assert raw_server.requests == []


async def test_an_idle_connection_that_is_spoken_to_is_not_used_again(raw_server: RawServer, clock: Clock) -> None:
    """What nobody asked for must not become the next answer."""
    pool = connections_to(raw_server, clock)
    await body_of(pool)
    next(iter(raw_server._open)).request.sendall(http({"not": "asked for"}))
    async with asyncio.timeout(10):
        while not pool._idle[0].is_over:
            await asyncio.sleep(0.001)

    assert b"the value" in await body_of(pool)
    pool.close()
    assert raw_server.connections == 2


async def test_a_dead_idle_connection_costs_neither_attempt_nor_pause(
    aws_raw: RawServer, clock: Clock, pauses: list[float]
) -> None:
    """All that were idle are dropped with it, for they died of the same."""
    async with DirectClient(case(), clock=clock) as client:
        await asyncio.gather(*(client.get_secret_value(SecretId="name") for _ in range(3)))
        assert aws_raw.connections == 3
        aws_raw.first(b"")
        await client.get_secret_value(SecretId="name")
        assert client._connections._idle == list(client._connections._open)

    assert aws_raw.connections == 4
    assert [b"attempt=1; max=3" in request for request in aws_raw.requests] == [True] * 5
    assert pauses == []


@pytest.mark.parametrize("step", [21.0, -30.0])
async def test_each_idle_connection_grows_old_by_itself(raw_server: RawServer, clock: Clock, step: float) -> None:
    """After 20 s by the wall clock, or when it is set back, a connection isn't trusted any more."""
    pool = connections_to(raw_server, clock)
    await asyncio.gather(body_of(pool), body_of(pool))
    clock.now += step
    await body_of(pool)
    assert raw_server.connections == 3
    await body_of(pool)
    pool.close()

    assert raw_server.connections == 3
    assert not pool._open


async def test_an_answer_without_an_end_is_given_up(
    raw_server: RawServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server may fill the memory."""
    monkeypatch.setattr(_http_message, "_MAX_BODY", 10)
    pool = connections_to(raw_server, clock)

    with pytest.raises(TransportError):
        await body_of(pool)

    assert not pool._open


async def test_a_server_that_does_not_take_connections_is_given_up(clock: Clock) -> None:
    """After the time that connecting may take."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fill = [socket.socket() for _ in range(3)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(address)
        pool = Connections(Origin(False, *address), None, clock=clock)

        with pytest.raises(ConnectTimeoutError, match="to 127"):
            await body_of(pool, connect_timeout=0.05)
        for each in fill:
            each.close()


def test_a_fetch_that_its_loop_left_behind_says_nothing(
    raw_server: RawServer, clock: Clock, recwarn: pytest.WarningsRecorder
) -> None:
    """The connection of a task that never goes on is ended when the task is collected."""
    raw_server.hang()
    loop = asyncio.new_event_loop()
    pool = connections_to(raw_server, clock)
    left = body_of(pool)
    task = loop.create_task(left)
    loop.run_until_complete(asyncio.to_thread(raw_server.arrived.wait))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own word on it isn't of interest here
    left.close()
    del task
    gc.collect()

    assert not pool._open
    assert [str(warning.message) for warning in recwarn if "asyncio" not in str(warning.filename)] == []


# Trust


def labelled(pem: bytes, label: str) -> str:
    """A certificate as bundles have it."""
    return f'\n# Subject: CN=x\n# Label: "{label}"\n{pem.decode()}'


async def test_of_the_usual_bundle_amazon_s_roots_are_enough_at_first() -> None:
    """A few of its certificates instead of all, and none that isn't in it."""
    narrow, whole = Trust(None, is_regional=True), Trust(None, is_regional=False)
    few = (await narrow.context()).get_ca_certs(binary_form=True)
    all_of_them = (await whole.context()).get_ca_certs(binary_form=True)

    assert 4 <= len(few) <= 8
    assert set(few) < set(all_of_them)
    assert narrow.widen()
    assert set((await narrow.context()).get_ca_certs(binary_form=True)) == set(all_of_them)
    assert not narrow.widen()
    assert not whole.widen()


async def test_a_bundle_of_one_s_own_is_trusted_as_a_whole(tmp_path: Path) -> None:
    """Whoever names one means all that is in it, whatever the labels say."""
    bundle = tmp_path / "cacert.pem"
    amazon, other = (trustme.CA().cert_pem.bytes() for _ in range(2))
    bundle.write_text(labelled(amazon, "Amazon Root CA 1") + labelled(other, "Other"), encoding="utf-8")

    context = await Trust(str(bundle), is_regional=True).context()

    assert len(context.get_ca_certs()) == 2


async def test_contexts_verify_certificates_and_names() -> None:
    """Both are on, and no protocol is older than TLS 1.2."""
    context = await Trust(None, is_regional=True).context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("labels", [("Amazon Root CA 1", "Other"), ("Other", "Amazon Root CA 1"), ("Other", "Others")])
async def test_what_amazon_s_roots_do_not_vouch_for_the_whole_bundle_may(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, tmp_path: Path, clock: Clock, labels: tuple[str, str]
) -> None:
    """The server's authority is found wherever it stands in the bundle."""
    ours, other = Path(os.environ["AWS_CA_BUNDLE"]).read_bytes(), trustme.CA().cert_pem.bytes()
    bundle = tmp_path / "cacert.pem"
    bundle.write_text(labelled(ours, labels[0]) + labelled(other, labels[1]), encoding="utf-8")
    credentials.setattr(_trust, "default_bundle", lambda: str(bundle))
    pool = Connections(case().origin, Trust(None, is_regional=True), clock=clock)

    assert b"the value" in await body_of(pool)
    pool.close()

    assert len(tls_server.requests) == 1


async def test_what_the_whole_bundle_does_not_vouch_for_is_refused(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Widening ends with the bundle."""
    pool = Connections(case().origin, Trust(None, is_regional=True), clock=clock)

    for _ in range(2):
        with pytest.raises(SSLError, match="in 127"):
            await body_of(pool)

    assert tls_server.requests == []


async def test_a_long_bundle_is_parsed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop isn't held up by it, and is by a short one for less than a thread would cost."""
    threads: list[str] = []
    make = _trust._context

    def context(*arguments: Any) -> ssl.SSLContext:
        threads.append(threading.current_thread().name)
        return make(*arguments)

    monkeypatch.setattr(_trust, "_context", context)
    await Trust(None, is_regional=True).context()
    await Trust(None, is_regional=False).context()

    assert threads[0] == "MainThread"
    assert threads[1] != "MainThread"


def test_the_usual_bundle_is_the_sdk_s() -> None:
    """certifi's, where it is installed."""
    assert _trust.default_bundle() == get_cert_path(True)


def test_without_certifi_the_bundle_is_botocore_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the SDK falls back to it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "certifi" else find(name))

    assert _trust.default_bundle() == DEFAULT_CA_BUNDLE


def test_a_distribution_s_certifi_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no package has a bundle of its own."""
    elsewhere = ModuleSpec("certifi", None, is_package=True)
    elsewhere.submodule_search_locations = ["nowhere"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: elsewhere if name == "certifi" else None)

    assert _trust.default_bundle() == get_cert_path(True)
