"""Credentials of the SDK's sessions: kept over clients, and renewed on any loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aioboto3
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from aiobotocore.utils import AioContainerMetadataFetcher

from asecretcache import CredentialsError, DirectSource, SecretsManagerSource
from raw_server import RawServer, http, serve
from source_helpers import SourceClass, fetch_error, fetch_value


def keys(number: int = 1, minutes: float = 600) -> dict[str, Any]:
    """Return what a container's endpoint responds."""
    expiration = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": f"AKIA{number}", "SecretAccessKey": "s", "Token": "t", "Expiration": expiration}


class Servers(NamedTuple):
    """Secrets Manager, and the endpoint of the container's credentials."""

    secrets: RawServer
    container: RawServer

    def signed_with(self) -> list[str]:
        """Return the access key of each request to Secrets Manager."""
        return [each.partition(b"Credential=")[2].split(b"/")[0].decode() for each in self.secrets.requests]


@pytest.fixture
def servers(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Both; the environment names them, and has no keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        credentials.delenv(name, raising=False)
    credentials.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0)
    for container in serve():
        container.answer(keys())
        credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/c")
        yield Servers(aws_raw, container)


BOTH = pytest.mark.parametrize("kind", [SecretsManagerSource, DirectSource])


@BOTH
def test_temporary_credentials_are_kept_over_loops(servers: Servers, kind: SourceClass) -> None:
    """Each loop has a client of its own, and the next client needs no new ones."""
    source = kind()

    assert [asyncio.run(fetch_value(source)) for _ in range(3)] == ["the value"] * 3

    assert servers.signed_with() == ["AKIA1"] * 3
    assert len(servers.container.requests) == 1


@BOTH
def test_a_moment_without_the_endpoint_costs_nothing(servers: Servers, kind: SourceClass) -> None:
    """The last credentials are good for hours."""
    source = kind()
    assert asyncio.run(fetch_value(source)) == "the value"
    servers.container.answer({}, 500)

    assert asyncio.run(fetch_value(source)) == "the value"


@BOTH
def test_credentials_that_expire_soon_are_not_kept(servers: Servers, kind: SourceClass) -> None:
    """They are got anew from 15 minutes before."""
    source = kind()
    servers.container.answer(keys(1, minutes=14))
    assert asyncio.run(fetch_value(source)) == "the value"
    servers.container.answer(keys(2))
    assert asyncio.run(fetch_value(source)) == "the value"

    assert servers.signed_with() == ["AKIA1", "AKIA2"]


@BOTH
def test_a_snapshot_holds_no_credentials(servers: Servers, credentials: pytest.MonkeyPatch, kind: SourceClass) -> None:
    """Many environments are cloned from it."""
    credentials.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    source = kind()
    assert asyncio.run(fetch_value(source)) == "the value"
    servers.container.answer(keys(2))
    assert asyncio.run(fetch_value(source)) == "the value"

    assert servers.signed_with() == ["AKIA1", "AKIA2"]


def test_kept_credentials_are_renewed_by_their_client(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they come to expire while a client that was made of them lives; the new ones are kept."""
    source = SecretsManagerSource()
    assert asyncio.run(fetch_value(source)) == "the value"
    is_needed = AioRefreshableCredentials.refresh_needed

    async def use() -> None:
        assert await fetch_value(source) == "the value"
        monkeypatch.setattr(
            AioRefreshableCredentials,
            "refresh_needed",
            lambda found, refresh_in=None: found._access_key == "AKIA1" or is_needed(found, refresh_in),
        )
        servers.container.answer(keys(2))
        assert await fetch_value(source) == "the value"

    asyncio.run(use())
    assert asyncio.run(fetch_value(source)) == "the value"

    assert servers.signed_with() == ["AKIA1", "AKIA1", "AKIA2", "AKIA2"]
    assert len(servers.container.requests) == 2


def test_keys_of_the_environment_are_looked_up_by_each_client(
    servers: Servers, credentials: pytest.MonkeyPatch
) -> None:
    """As for keys in the environment or a file, which cost no call; there they may have an end, too."""
    source = SecretsManagerSource()
    credentials.setenv("AWS_CREDENTIAL_EXPIRATION", keys()["Expiration"])
    for key in ("AKIAONE", "AKIATWO"):
        credentials.setenv("AWS_ACCESS_KEY_ID", key)
        credentials.setenv("AWS_SECRET_ACCESS_KEY", "s")
        assert asyncio.run(fetch_value(source)) == "the value"

    assert servers.signed_with() == ["AKIAONE", "AKIATWO"]


def test_a_users_session_may_renew_keys_of_the_environment(servers: Servers, credentials: pytest.MonkeyPatch) -> None:
    """They have an end there, too, and are read again without a call."""
    credentials.setenv("AWS_SECRET_ACCESS_KEY", "s")
    credentials.setenv("AWS_CREDENTIAL_EXPIRATION", keys(minutes=5)["Expiration"])
    credentials.setenv("AWS_ACCESS_KEY_ID", "AKIAONE")
    source = SecretsManagerSource(AioSession())

    async def fetch_twice() -> None:
        assert await fetch_value(source) == "the value"
        credentials.setenv("AWS_ACCESS_KEY_ID", "AKIATWO")
        assert await fetch_value(source) == "the value"

    asyncio.run(fetch_twice())

    assert servers.signed_with()[-1] == "AKIATWO"


@BOTH
def test_a_role_is_assumed_once(
    servers: Servers, credentials: pytest.MonkeyPatch, tmp_path: Path, kind: SourceClass
) -> None:
    """STS throttles; its credentials are kept as those of a container."""
    credentials.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    config = tmp_path / "config"
    config.write_text(
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = x\n"
    )
    credentials.setenv("AWS_CONFIG_FILE", str(config))
    role = keys(1)
    fields = {"SessionToken": role.pop("Token"), **role}
    parts = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    result = f"<AssumeRoleResult><Credentials>{parts}</Credentials></AssumeRoleResult>"
    body = f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode()
    servers.container.bytes = http(body, content_type="text/xml")
    credentials.setenv("AWS_ENDPOINT_URL_STS", servers.container.url)
    source = kind()

    assert [asyncio.run(fetch_value(source)) for _ in range(5)] == ["the value"] * 5

    assert servers.signed_with() == ["AKIA1"] * 5
    assert len(servers.container.requests) == 1


@BOTH
def test_a_failure_to_get_them_after_a_success_is_transient(servers: Servers, kind: SourceClass) -> None:
    """So a stale value is served."""
    source = kind()
    servers.container.answer(keys(1, minutes=1))
    assert asyncio.run(fetch_value(source)) == "the value"
    servers.container.answer({}, 500)

    error = asyncio.run(fetch_error(source))

    assert type(error) is CredentialsError
    assert error.is_transient


@pytest.mark.parametrize("make", [aioboto3.Session, AioSession])
def test_a_users_session_renews_its_credentials_on_any_loop(servers: Servers, make: Any) -> None:
    """Its lock belongs to the first loop, so that most of the concurrent calls of the next ones failed."""
    source = SecretsManagerSource(make())

    async def fetch_several() -> list[Any]:
        return await asyncio.gather(*(fetch_value(source) for _ in range(10)))

    for number in range(1, 4):
        servers.container.answer(keys(number, minutes=5))
        assert asyncio.run(fetch_several()) == ["the value"] * 10
    assert servers.signed_with()[-1] == "AKIA3"


def test_a_users_session_may_serve_several_sources(servers: Servers) -> None:
    """What is changed of it for the first one does for the others."""
    session = AioSession()
    assert asyncio.run(fetch_value(SecretsManagerSource(session))) == "the value"
    create_client = session.create_client

    assert asyncio.run(fetch_value(SecretsManagerSource(session))) == "the value"

    assert session.create_client is create_client
    assert len(servers.container.requests) == 1
