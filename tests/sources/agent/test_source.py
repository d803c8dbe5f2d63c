"""AgentSource with a cache, against a stand-in for AWS's local providers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import agent_server
from agent_server import DENIED_ROLE, AgentServer
from asecretcache import (
    AgentSource,
    BatchSource,
    ConfigurationError,
    CredentialsError,
    SecretCache,
    SecretNotFoundError,
    SecretRequest,
    get_default_cache,
    get_secret,
    set_default_cache,
)
from source_helpers import NAME, fetch_error, fetch_value

# Construction


def test_without_httptools_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes at construction."""
    for name in list(sys.modules):
        if name == "httptools" or name.startswith(("httptools.", "asecretcache._sources.direct.")):
            monkeypatch.delitem(sys.modules, name)
        if name.startswith("asecretcache._sources.agent."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httptools", None)  # Python's mark for a module that can't be imported

    with pytest.raises(
        ConfigurationError, match=r"^AgentSource needs httptools: pip install 'asecretcache\[direct\]'$"
    ):
        AgentSource()


def test_it_takes_no_part_in_batches(bare_environment: object) -> None:
    """Neither provider serves one, and a cache that is told to use them says so."""
    source = AgentSource()

    assert not isinstance(source, BatchSource)
    with pytest.raises(ConfigurationError, match="AgentSource has none"):
        SecretCache(source, batch=True)


# Fetching


@pytest.mark.parametrize("kind", ["provider", "extension"])
@pytest.mark.parametrize("value", ["text", b"\x00\xff"])
async def test_both_kinds_serve_text_and_bytes(request: pytest.FixtureRequest, kind: str, value: str | bytes) -> None:
    """Within a record that has null for the other of the two."""
    server: AgentServer = request.getfixturevalue(kind)
    server.put("prod/db", value)
    source = AgentSource()

    found = await fetch_value(source, SecretRequest("prod/db"))
    await source.aclose()

    assert found == value


async def test_versions_are_read_by_their_stage(provider: AgentServer) -> None:
    """The provider keeps each version under its own key."""
    provider.put("name", "the new value")
    source = AgentSource()

    assert await fetch_value(source) == "the new value"
    assert await fetch_value(source, SecretRequest("name", "AWSPREVIOUS")) == "the value"
    await source.aclose()


async def test_an_unknown_secret_is_not_found(provider: AgentServer) -> None:
    """AWS's error comes through the provider."""
    error = await fetch_error(AgentSource(), SecretRequest("missing", "blue"))

    assert type(error) is SecretNotFoundError
    assert "version_stage='blue' was asked for" in str(error)


async def test_the_role_is_assumed_by_the_provider(provider: AgentServer) -> None:
    """Or can't be, which is an error of credentials."""
    source = AgentSource(role_arn="arn:aws:iam::123456789012:role/name")
    assert await fetch_value(source) == "the value"
    await source.aclose()

    error = await fetch_error(AgentSource(role_arn=DENIED_ROLE))

    assert provider.queries[0]["roleArn"] == "arn:aws:iam::123456789012:role/name"
    assert type(error) is CredentialsError


async def test_a_wrong_token_is_refused(provider: AgentServer, bare_environment: pytest.MonkeyPatch) -> None:
    """The error names the variable that was used."""
    bare_environment.delenv("AWS_TOKEN")
    bare_environment.setenv("AWS_SESSION_TOKEN", "another")

    error = await fetch_error(AgentSource())

    assert type(error) is CredentialsError
    assert "refused the token of AWS_SESSION_TOKEN" in str(error)


async def test_no_token_is_an_error_before_any_request(
    provider: AgentServer, bare_environment: pytest.MonkeyPatch
) -> None:
    """The error names the secret and the variables."""
    bare_environment.delenv("AWS_TOKEN")

    error = await fetch_error(AgentSource())

    assert type(error) is CredentialsError
    assert str(error).startswith("secret 'name': no token for the provider at 127.0.0.1:")
    assert provider.queries == []


# With a cache


async def test_a_refresh_passes_the_providers_cache(provider: AgentServer) -> None:
    """A read is served from it; after a rotation refresh() gets the new version."""
    source = AgentSource()
    cache = SecretCache(source)
    await cache.get_secret("name")
    provider.put("name", "the new value")
    cache.clear()
    old = await cache.get_secret("name")
    new = (await cache.refresh("name")).text
    await cache.aclose()
    await source.aclose()

    assert (old, new) == ("the value", "the new value")
    assert [query.get("refreshNow") for query in provider.queries] == [None, None, "true"]


async def test_a_refused_password_is_refreshed(provider: AgentServer) -> None:
    """call_with_secret gets the new version in the middle of the provider's ttl."""
    source = AgentSource()
    cache = SecretCache(source)
    await cache.get_secret("name")
    provider.put("name", "the new value")

    async def connect(secret: object) -> str:
        text: str = secret.text  # type: ignore[attr-defined]  # it is a Secret
        if text == "the value":
            raise PermissionError
        return text

    assert await cache.call_with_secret("name", connect, refresh_on=PermissionError) == "the new value"
    await cache.aclose()
    await source.aclose()


async def test_the_environment_gives_it_to_the_default_cache(
    extension: AgentServer, bare_environment: pytest.MonkeyPatch
) -> None:
    """ASECRETCACHE_SOURCE=agent; in a function it waits until the extension is ready."""
    bare_environment.setenv("ASECRETCACHE_SOURCE", "agent")
    extension.unready = 1
    set_default_cache(None)

    assert await get_secret("name") == "the value"
    assert extension.calls == ["name"]

    await get_default_cache().aclose()
    set_default_cache(None)


async def test_warm_connects_and_asks_for_nothing(provider: AgentServer) -> None:
    """The first fetch has a connection."""
    source = AgentSource()
    source.prepare()
    await source.warm()
    assert provider.queries == []

    assert await fetch_value(source) == "the value"
    await source.close_connections()
    assert await fetch_value(source, NAME) == "the value"
    await source.aclose()


# Processes

CLIENT = """
import asyncio, sys
import asecretcache
assert "asecretcache._sources.agent.client" not in sys.modules
value = asyncio.run(asecretcache.get_secret("prod/db:password"))
assert value == "the value", value
heavy = {"aioboto3", "aiobotocore", "aiohttp", "boto3", "botocore", "certifi", "anyio"}
print(*heavy & sys.modules.keys())
"""


def run_client(environment: Mapping[str, str]) -> str:
    """Read the secret in a process of its own, and return what it prints: the SDK's modules that it has imported."""
    command = [sys.executable, "-c", CLIENT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_processes_of_a_host_share_one_call(bare_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The provider runs as a process, its token is in a file, and each client imports nothing of the SDK."""
    token = tmp_path / "token"
    token.write_text("token-of-the-host\n")
    command = [sys.executable, agent_server.__file__, "provider", "token-of-the-host"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        environment = os.environ | {
            "ASECRETCACHE_SOURCE": "agent",
            "AWS_TOKEN": f"file://{token}",
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": server.stdout.readline().strip(),
        }
        imported = [run_client(environment) for _ in range(2)]
        server.stdin.close()
        calls = server.stdout.read().strip()

    assert imported == ["", ""]
    assert calls == "1"
