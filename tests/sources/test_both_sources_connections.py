"""Attempts, connections, TLS and credentials of both sources."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aioboto3
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.credentials import SSOProvider

from asecretcache import (
    CredentialsError,
    DirectSource,
    SecretsManagerSource,
    SecretSource,
    SecretThrottledError,
    SecretUnavailableError,
)
from moto_server import REGION, MotoServer
from raw_server import GOOD, RawServer, http
from source_helpers import LOOP_FACTORIES, Served, SourceClass, fetch_error, fetch_value, refusal

# Attempts


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n",
        b"SMTP\r\n\r\n",
        http(b"<html>busy</html>", 503),
        http(b"", 500),
        refusal("InternalServiceError", 500),
        refusal("ThrottlingException"),
        refusal("RequestTimeout"),
    ],
    ids=range(8),
)
async def test_a_transient_failure_is_tried_again(
    aws_raw: RawServer, source_class: SourceClass, delays: list[float], response: bytes
) -> None:
    """The third attempt succeeds, after delays of up to one second and up to two."""
    aws_raw.first(response, response)
    source = source_class()

    assert await fetch_value(source) == "the value"
    await source.aclose()

    assert len(aws_raw.requests) == 3
    assert len(delays) == 2
    assert delays[0] <= 1
    assert delays[1] <= 2


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"", SecretUnavailableError),
        (http(b"", 503), SecretUnavailableError),
        (refusal("ThrottlingException"), SecretThrottledError),
    ],
)
async def test_a_call_has_three_attempts(
    aws_raw: RawServer, source_class: SourceClass, delays: list[float], response: bytes, expected: type
) -> None:
    """A failure that goes on is raised after the third attempt."""
    aws_raw.bytes = response

    error = await fetch_error(source_class())

    assert type(error) is expected
    assert len(aws_raw.requests) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_MAX_ATTEMPTS", "5"),
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "legacy"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"),
        ("AWS_EC2_METADATA_V1_DISABLED", "true"),
        ("SSL_CERT_FILE", "nowhere"),
        ("AWS_REGION", "us-west-2"),
    ],
)
async def test_variables_of_other_services_change_nothing(
    aws_raw: RawServer,
    credentials: pytest.MonkeyPatch,
    source_class: SourceClass,
    delays: list[float],
    name: str,
    value: str,
) -> None:
    """Attempts and region stay as they are, whatever the environment says of other calls."""
    credentials.setenv(name, value)
    aws_raw.bytes = http(b"", 503)

    await fetch_error(source_class())

    assert len(aws_raw.requests) == 3
    assert b"/eu-west-1/secretsmanager/aws4_request" in aws_raw.requests[0]


async def test_a_refused_connection_is_unavailable(
    credentials: pytest.MonkeyPatch, source_class: SourceClass, delays: list[float]
) -> None:
    """If no server listens, the cause names the endpoint."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{bound.getsockname()[1]}")

        error = await fetch_error(source_class())

    assert type(error) is SecretUnavailableError
    assert type(error.__cause__).__name__ == "EndpointConnectionError"
    assert "127.0.0.1" in str(error.__cause__)
    assert len(delays) == 2


# Connections


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 X\nContent-Length: {}\n\n",
        b"HTTP/1.1 200 X\r\nX: a\r\n b\r\nContent-Length: {}\r\n\r\n",
        b"HTTP/1.1 200 X\r\nX: a\x01b\r\nContent-Length: {}\r\n\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 X\r\n\r\n",
    ],
    ids=["LF", "folded", "control", "identity", "until the end"],
)
async def test_lenient_http_is_understood(served: Served, head: bytes) -> None:
    """AWS's servers are strict, but mocks may not be: all sources understand the same."""
    body = json.dumps(GOOD).encode()
    served.server.bytes = head.replace(b"{}", str(len(body)).encode()) + body
    source = served.source_class()

    assert await fetch_value(source) == "the value"
    await source.aclose()


@pytest.mark.parametrize("factory", LOOP_FACTORIES)
def test_an_idle_connection_that_died_is_replaced(
    served: Served, delays: list[float], factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The next fetch succeeds on a new connection, even if the loop had no iteration to notice."""
    source = served.source_class()
    with asyncio.Runner(loop_factory=factory) as runner:
        for _ in range(3):
            assert runner.run(fetch_value(source)) == "the value"
            served.server.drop()
        runner.run(source.aclose())

    assert served.server.connections == 3


async def test_connection_close_is_obeyed(served: Served) -> None:
    """After a response with "Connection: close" there is a new connection."""
    served.server.bytes = http(GOOD, 200, "Connection: close")
    source = served.source_class()

    assert await fetch_value(source) == await fetch_value(source) == "the value"
    await source.aclose()

    assert served.server.connections == 2


async def test_concurrent_calls_share_connections(served: Served) -> None:
    """There are no more connections than calls at the same time."""
    source = served.source_class(max_concurrency=3)
    for _ in range(2):
        assert await asyncio.gather(*(fetch_value(source) for _ in range(9))) == ["the value"] * 9
    await source.aclose()

    assert served.server.connections <= 3


# TLS


async def test_a_ca_bundle_is_trusted(tls_server: RawServer, source_class: SourceClass) -> None:
    """A server whose authority is in AWS_CA_BUNDLE is trusted."""
    source = source_class()

    assert await fetch_value(source) == "the value"
    await source.aclose()


async def test_the_bundle_of_requests_is_trusted(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, source_class: SourceClass
) -> None:
    """REQUESTS_CA_BUNDLE is used if AWS_CA_BUNDLE isn't set."""
    credentials.setenv("REQUESTS_CA_BUNDLE", os.environ["AWS_CA_BUNDLE"])
    credentials.delenv("AWS_CA_BUNDLE")
    source = source_class()

    assert await fetch_value(source) == "the value"
    await source.aclose()


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_certificates_are_verified(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, source_class: SourceClass, delays: list[float], wrong: str
) -> None:
    """A certificate of an unknown authority or for another host is refused, and nothing is sent."""
    if wrong == "authority":
        # OpenSSL's own setting isn't trusted.
        credentials.setenv("SSL_CERT_FILE", os.environ["AWS_CA_BUNDLE"])
        credentials.delenv("AWS_CA_BUNDLE")
    else:
        credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", tls_server.url.replace("127.0.0.1", "localhost"))

    error = await fetch_error(source_class())

    assert type(error) is SecretUnavailableError
    assert tls_server.requests == []


# Credentials


def test_each_client_finds_its_credentials_anew(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, source_class: SourceClass
) -> None:
    """Credentials that were found before a snapshot, or by a loop that died, aren't used by another loop."""
    source = source_class()
    for key in ("AKIAFIRST", "AKIASECOND"):
        credentials.setenv("AWS_ACCESS_KEY_ID", key)
        asyncio.run(fetch_value(source))

    first, second = aws_raw.requests
    assert b"AKIAFIRST" in first
    assert b"AKIASECOND" in second


@pytest.fixture
def identity(bare_environment: pytest.MonkeyPatch, tmp_path: Path, moto_server: MotoServer) -> pytest.MonkeyPatch:
    """An environment with the web identity of a role, whose token is in a file; moto is STS."""
    (tmp_path / "token").write_text("token")
    bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
    bare_environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    bare_environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    bare_environment.setenv("AWS_ENDPOINT_URL", moto_server.url)
    return bare_environment


async def test_a_web_identity_is_exchanged_for_a_role(
    identity: pytest.MonkeyPatch, moto_server: MotoServer, any_source: SourceClass
) -> None:
    """As on EKS, the SDK makes a client of STS by itself."""
    moto_server.create("name", "the value")
    source = any_source()

    assert await fetch_value(source) == "the value"
    await source.aclose()


async def test_the_role_of_a_profile_is_assumed(
    bare_environment: pytest.MonkeyPatch, moto_server: MotoServer, tmp_path: Path, any_source: SourceClass
) -> None:
    """The role is assumed with the credentials of its source profile."""
    moto_server.create("name", "the value")
    (tmp_path / "config").write_text(
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = x\n"
    )
    bare_environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
    bare_environment.setenv("AWS_ENDPOINT_URL", moto_server.url)
    source = any_source()

    assert await fetch_value(source) == "the value"
    await source.aclose()


@pytest.fixture
def single_sign_on(bare_environment: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[timedelta], pytest.MonkeyPatch]:
    """Set up a single sign-on session that ends in so much time; its endpoint refuses connections."""

    def set_up(lifetime: timedelta) -> pytest.MonkeyPatch:
        url, end = "https://x.awsapps.com/start", (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        login = tmp_path / ".aws" / "sso" / "cache" / f"{hashlib.sha1(url.encode()).hexdigest()}.json"
        login.parent.mkdir(parents=True)
        login.write_text(json.dumps({"startUrl": url, "region": REGION, "accessToken": "t", "expiresAt": end}))
        (tmp_path / "config").write_text(
            f"[default]\nsso_start_url = {url}\nsso_region = {REGION}\n"
            "sso_account_id = 123456789012\nsso_role_name = reader\n"
        )
        bare_environment.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(login.parent))
        bare_environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
        bare_environment.setenv("AWS_MAX_ATTEMPTS", "1")
        return bare_environment

    return set_up


async def test_single_sign_on_is_asked_for_credentials(
    single_sign_on: Callable[[timedelta], pytest.MonkeyPatch], any_source: SourceClass
) -> None:
    """The SDK makes a client of the portal, which can't connect here."""
    environment = single_sign_on(timedelta(hours=5))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")

        error = await fetch_error(any_source())

    assert type(error) is SecretUnavailableError
    assert type(error.__cause__).__name__ == "EndpointConnectionError"
    assert "/federation/credentials" in str(error.__cause__)


async def test_an_ended_single_sign_on_session_is_named(
    single_sign_on: Callable[[timedelta], pytest.MonkeyPatch], any_source: SourceClass
) -> None:
    """The error says how to log in again."""
    single_sign_on(timedelta(hours=-5))

    error = await fetch_error(any_source())

    assert type(error) is CredentialsError
    assert "aws sso login" in str(error)


@pytest.mark.parametrize(
    "make",
    [
        SecretsManagerSource,
        DirectSource,
        lambda: SecretsManagerSource(AioSession()),
        lambda: SecretsManagerSource(aioboto3.Session()),
    ],
    ids=["SecretsManagerSource", "DirectSource", "AioSession", "aioboto3.Session"],
)
async def test_clients_that_get_credentials_verify_host_names_too(
    tls_server: RawServer, identity: pytest.MonkeyPatch, make: Callable[[], SecretSource]
) -> None:
    """A certificate for another host is refused by the client of STS, and nothing is sent."""
    identity.setenv("AWS_ENDPOINT_URL_STS", tls_server.url.replace("127.0.0.1", "localhost"))
    identity.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        identity.delenv(name, raising=False)

    error = await fetch_error(make())

    assert type(error.__cause__).__name__ == "SSLError"
    assert tls_server.requests == []


async def test_a_users_session_renews_its_credentials_verified(
    tls_server: RawServer, identity: pytest.MonkeyPatch, moto_server: MotoServer
) -> None:
    """Also those that it has found before, by connections of its own."""
    moto_server.create("name", "the value")
    identity.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto_server.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        identity.delenv(name, raising=False)
    session = AioSession()
    found = await session.get_credentials()
    await found.get_frozen_credentials()
    source = SecretsManagerSource(session)
    assert await fetch_value(source) == "the value"
    identity.setenv("AWS_ENDPOINT_URL_STS", tls_server.url.replace("127.0.0.1", "localhost"))
    identity.setenv("AWS_MAX_ATTEMPTS", "1")
    identity.setattr(AioRefreshableCredentials, "refresh_needed", lambda found, refresh_in=None: True)
    identity.setattr("botocore.credentials.CachedCredentialFetcher._is_expired", lambda *_: True)

    error = await fetch_error(source)

    assert type(error.__cause__).__name__ == "SSLError"
    assert tls_server.requests == []
