"""SecretsManagerSource: its arguments, and the clients that it uses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import aioboto3
import boto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.config import Config

from asecretcache import ConfigurationError, SecretRequest, SecretsManagerSource
from raw_server import ARN, RawServer
from source_helpers import NAME, FakeClient, fetch_value


@pytest.mark.parametrize(
    "arguments",
    [
        {"session": boto3.Session(region_name="eu-west-1")},
        {"session": "profile"},
        {"region_name": ""},
        {"region_name": "eu west"},
        {"region_name": 1},
        {"endpoint_url": "localhost:2773"},
        {"endpoint_url": "http://"},
        {"endpoint_url": "http://[x"},
        {"endpoint_url": 5},
        {"config": {"retries": 1}},
        {"client_factory": object()},
        {"client_factory": dict, "region_name": "eu-west-1"},
        {"max_concurrency": 0},
    ],
)
def test_wrong_arguments_are_refused_at_construction(arguments: dict[str, Any]) -> None:
    """Each wrong argument is a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        SecretsManagerSource(**arguments)


@pytest.mark.parametrize("url", ["http://localhost:2773", "https://localhost"])
def test_an_endpoint_may_have_tls_or_not(url: str) -> None:
    """Plain http is for local stand-ins."""
    assert SecretsManagerSource(endpoint_url=url) is not None


SESSION = (
    "session= must be an aioboto3.Session or an aiobotocore AioSession; for other clients there is client_factory="
)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"session": "x"}, SESSION),
        ({"region_name": ""}, "region_name= must be the name of a region, such as 'eu-west-1'"),
        ({"endpoint_url": 5}, "endpoint_url= must be a URL that begins with https:// or http://"),
        ({"config": 5}, "config= must be a botocore.config.Config or an aiobotocore.config.AioConfig"),
    ],
)
def test_a_wrong_argument_is_told_what_it_must_be(arguments: dict[str, Any], says: str) -> None:
    """By its name, and without what was given."""
    with pytest.raises(ConfigurationError) as caught:
        SecretsManagerSource(**arguments)

    assert str(caught.value) == says


async def test_session_region_and_endpoint_are_used(credentials: Any, raw_server: RawServer) -> None:
    """The constructor's arguments go before the environment."""
    credentials.delenv("AWS_REGION")
    credentials.delenv("AWS_DEFAULT_REGION")
    session = aioboto3.Session(aws_access_key_id="AKIAEXPLICIT", aws_secret_access_key="x")  # a fake
    source = SecretsManagerSource(session, region_name="us-west-2", endpoint_url=raw_server.url)

    assert await fetch_value(source) == "the value"
    await source.aclose()

    assert b"AKIAEXPLICIT" in raw_server.requests[0]
    assert b"/us-west-2/secretsmanager/" in raw_server.requests[0]


async def test_a_profile_is_used(bare_environment: Any, raw_server: RawServer, tmp_path: Path) -> None:
    """AWS_PROFILE gives region, credentials and endpoint, as with boto3."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile p]\nregion = us-west-1\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"
        f"services = s\n[services s]\nsecrets_manager =\n  endpoint_url = {raw_server.url}\n"
    )
    bare_environment.setenv("AWS_CONFIG_FILE", str(config))
    bare_environment.setenv("AWS_PROFILE", "p")
    source = SecretsManagerSource()

    assert await fetch_value(source) == "the value"
    await source.aclose()

    assert b"AKIAPROFILE" in raw_server.requests[0]


@pytest.mark.parametrize("secret_id", ["name", ARN])
async def test_a_sessions_profile_that_is_missing(bare_environment: Any, secret_id: str) -> None:
    """It is told, by whichever id a secret is asked for; and a FallbackSource that has the source isn't hindered."""
    source = SecretsManagerSource(AioSession(profile="missing"))

    with pytest.raises(ConfigurationError, match="the AWS profile or config file can't be used"):
        await source.fetch(SecretRequest(secret_id))
    assert source.region_name is None
    await source.aclose()


@pytest.mark.parametrize(
    "config", [Config(user_agent_extra="mine"), AioConfig({"keepalive_timeout": 5}, user_agent_extra="mine")]
)
async def test_the_users_config_overrides_the_sources(aws_raw: RawServer, config: Any) -> None:
    """Settings in config= win, in botocore's class or in aiobotocore's."""
    source = SecretsManagerSource(config=config)

    await source.fetch(NAME)
    await source.aclose()

    assert b" mine" in aws_raw.requests[0]
    assert b"asecretcache" not in aws_raw.requests[0]


def test_a_wrong_client_factory_is_told_what_it_must_be() -> None:
    """Or that it can't be had with the rest."""
    wrong: Any = object()
    with pytest.raises(ConfigurationError) as caught:
        SecretsManagerSource(client_factory=wrong)
    assert str(caught.value) == "client_factory= must return an async context manager of a client when called"

    with pytest.raises(ConfigurationError) as caught:
        SecretsManagerSource(client_factory=FakeClient(), region_name="eu-west-1")
    assert str(caught.value) == "client_factory= must be given without the arguments that it replaces"


async def test_a_client_factory_is_used() -> None:
    """client_factory= gives the client, which is closed with the source."""
    client = FakeClient()
    source = SecretsManagerSource(client_factory=client)

    assert await fetch_value(source) == "the value"
    await source.aclose()

    assert client.calls == [{"SecretId": "name"}]
    assert (client.opened, client.closed) == (1, 1)


async def test_a_client_of_a_plain_session_can_be_given(aws_raw: RawServer) -> None:
    """aioboto3's own context manager of a client is a valid client_factory=."""
    source = SecretsManagerSource(client_factory=lambda: aioboto3.Session().client("secretsmanager"))

    assert await fetch_value(source) == "the value"
    await source.aclose()


def test_a_plain_client_of_a_dead_loop_is_closed(
    aws_raw: RawServer, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """The next loop closes the connections of a client that the user's factory made."""
    source = SecretsManagerSource(client_factory=lambda: aioboto3.Session().client("secretsmanager"))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(source.fetch(NAME))
    loop.close()

    asyncio.run(fetch_value(source))

    aws_raw.wait_for_open(0)
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.records == []


def test_construction_imports_nothing_of_the_sdk() -> None:
    """The module and its construction are free of aioboto3, botocore and aiohttp."""
    code = (
        "import sys; from asecretcache._sources.sdk.source import SecretsManagerSource as S; "
        "S(region_name='eu-west-1', endpoint_url='http://x'); "
        "sys.exit(bool({'aioboto3', 'aiobotocore', 'boto3', 'botocore', 'aiohttp'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fetch_imports_aiobotocore_alone(aws_raw: RawServer) -> None:
    """boto3 and aioboto3 around aiobotocore's session would only cost a cold start their time."""
    code = (
        "import asyncio, sys; from asecretcache import SecretsManagerSource as S, SecretRequest as R\n"
        "async def main():\n"
        "    source = S(); await source.fetch(R('name')); await source.aclose()\n"
        "asyncio.run(main()); print(*{'aioboto3', 'boto3', 'aiobotocore'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["aiobotocore"]
