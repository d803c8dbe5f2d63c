"""DirectSource: its arguments, its imports, and when it uses the SDK."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from asecretcache import ConfigurationError, CredentialsError, DirectSource, SecretRequest, SecretsManagerSource
from asecretcache._sources import tls_context
from asecretcache._sources.tls_context import tls_contexts
from asecretcache.testing import ManualClock
from container_endpoint import container_response
from raw_server import RawServer, http
from source_helpers import NAME, assert_quiet, fetch_error, fetch_value

# Construction


@pytest.mark.parametrize(
    "arguments", [{"region_name": "eu west"}, {"endpoint_url": "localhost:2773"}, {"max_concurrency": 0}]
)
def test_wrong_arguments_are_refused_at_construction(arguments: dict[str, Any]) -> None:
    """Each wrong argument is a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        DirectSource(**arguments)


def test_without_httptools_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes at construction, even if the environment needs the SDK."""
    for name in list(sys.modules):
        if name == "httptools" or name.startswith(("httptools.", "asecretcache._sources.direct.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httptools", None)  # Python's mark for a module that can't be imported

    with pytest.raises(
        ConfigurationError, match=r"^DirectSource needs httptools: pip install 'asecretcache\[direct\]'$"
    ):
        DirectSource()


async def test_without_the_sdk_the_error_names_the_setting(aws_environment: pytest.MonkeyPatch) -> None:
    """Of a package without the SDK the import's own error would say to install it, where a region is missing."""
    aws_environment.setitem(sys.modules, "aiobotocore", None)
    aws_environment.delenv("AWS_DEFAULT_REGION")
    source = DirectSource()

    with pytest.raises(ConfigurationError, match=r"^no region is set, so DirectSource needs the AWS SDK, which isn't"):
        await source.fetch(SecretRequest("name"))
    await source.aclose()


def test_a_fetch_imports_nothing_of_the_sdk(aws_raw: RawServer) -> None:
    """Nor does it import other slow modules, and httptools isn't imported before a source is made."""
    code = """
import asyncio, sys
from asecretcache import DirectSource, SecretRequest
assert "httptools" not in sys.modules
assert "asecretcache._sources.direct.client" not in sys.modules
async def main():
    source = DirectSource()
    await source.warm()
    await source.fetch(SecretRequest("name"))
    await source.aclose()
asyncio.run(main())
assert "httptools" in sys.modules
slow = {"aioboto3", "aiobotocore", "aiohttp", "boto3", "botocore", "certifi", "urllib3", "datetime", "importlib.util",
        "dataclasses", "pathlib", "gzip"}
print(*slow & sys.modules.keys())
"""

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


# With the SDK


async def test_an_environment_that_needs_the_sdk_is_logged_once(
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


def test_each_loop_decides_anew(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells once that the SDK is used, however often that changes."""
    caplog.set_level(logging.INFO, "asecretcache")
    source = DirectSource()
    are_direct = []
    for app in (None, "app", None, "app"):
        credentials.setenv("AWS_SDK_UA_APP_ID", app) if app else credentials.delenv("AWS_SDK_UA_APP_ID", raising=False)
        asyncio.run(fetch_value(source))
        are_direct.append(b"md/direct" in aws_raw.requests[-1])

    assert are_direct == [True, False, True, False]
    assert len(caplog.records) == 1


def test_the_sdks_client_of_a_dead_loop_is_closed(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next loop closes its connections as it closes those of a direct client."""
    credentials.setenv("AWS_SDK_UA_APP_ID", "app")
    source = DirectSource()

    def script() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(source.fetch(NAME))
        loop.close()
        asyncio.run(fetch_value(source))

    assert_quiet(script, caplog)
    aws_raw.wait_for_open(0)


# Credentials


async def test_both_sources_use_the_same_credentials_of_a_container(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch
) -> None:
    """SecretsManagerSource sends the same path and authorization token, and signs with the same key."""
    clock = ManualClock(time.time())
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws_raw.url}/v2/x")
    credentials.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-1")
    for source in (SecretsManagerSource(), DirectSource()):
        aws_raw.first(container_response(clock))
        await source.fetch(NAME)
        await source.aclose()

    sdk, sdk_call, direct, direct_call = aws_raw.requests
    for request in (sdk, direct):
        assert request.startswith(b"GET /v2/x HTTP/1.1")
        assert b"authorization: token-1" in request.replace(b"Authorization", b"authorization")
    for request in (sdk_call, direct_call):
        assert b"Credential=AKIACONTAINER/" in request


@pytest.mark.parametrize("response", [b"", http(b"canary-token"), http(["canary-token"]), http({}, 403)])
async def test_credentials_that_cant_be_retrieved_are_an_error(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, delays: list[float], response: bytes
) -> None:
    """The error is a CredentialsError, and nothing of the response is in it."""
    aws_raw.bytes = response
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws_raw.url}/v2/x")

    error = await fetch_error(DirectSource())

    assert type(error) is CredentialsError
    assert "could not be retrieved" in str(error)
    assert error.__cause__ is error.__context__ is None


async def test_a_token_that_no_header_can_have_is_not_shown(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch
) -> None:
    """The error quotes nothing of it, and nothing is sent."""
    credentials.setenv("AWS_SESSION_TOKEN", "canary\ntoken")

    error = await fetch_error(DirectSource())

    assert type(error) is ConfigurationError
    assert "the call failed on this side" in str(error)
    assert error.__cause__ is error.__context__ is None
    assert aws_raw.requests == []


async def test_the_tls_context_is_prepared(tls_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is a loop; the first fetch makes no other one."""
    tls_contexts.clear()
    source = DirectSource()
    source.prepare()
    monkeypatch.setattr(tls_context, "verifying_context", None)

    assert await fetch_value(source) == "the value"
    await source.aclose()
