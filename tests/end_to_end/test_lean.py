"""The lean package: the wheel, anyio and httptools alone, without the SDK."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moto_server import MotoServer

#: What is installed besides asecretcache; idna and typing_extensions are anyio's own.
MODULES = ("asecretcache", "anyio", "httptools", "idna", "typing_extensions")

HANDLER = """
import asyncio
from asecretcache import SecretCache, SecretsManagerSource, async_handler, get_secret, get_secrets
from asecretcache.emf import CacheMetrics
from asecretcache.testing import use_secrets

metrics = CacheMetrics(interval=0.0)


@async_handler(prefetch=["prod/db"])
@metrics.log_metrics
async def lambda_handler(event, context):
    secrets = await get_secrets("prod/db:user", "prod/api")
    return secrets["prod/db:user"]


print(lambda_handler({}, None), lambda_handler({}, None))
with use_secrets({"prod/db": {"user": "other"}, "prod/api": "x"}):
    print(lambda_handler({}, None))
"""
WITH_SDK = """
import asyncio
from asecretcache import SecretCache
asyncio.run(SecretCache().get_secret("prod/db"))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with these modules alone, as Lambda's package has them."""
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (tmp_path / origin.name).symlink_to(origin)
    return tmp_path


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python without its site-packages."""
    command = [sys.executable, "-S", "-P", "-W", "error", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_function_without_the_sdk(
    package: Path, moto_server: MotoServer, aws_environment: pytest.MonkeyPatch
) -> None:
    """DirectSource, the test kit and metrics work; one call for each secret."""
    moto_server.create("prod/db", '{"user": "app"}')
    moto_server.create("prod/api", "key")
    aws_environment.setenv("ASECRETCACHE_SOURCE", "direct")

    ended = run(package, "-c", HANDLER)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line for line in ended.stdout.splitlines() if not line.startswith("{")] == ["app app", "other"]
    assert moto_server.calls() == 2


def test_what_needs_the_sdk_says_so(package: Path, aws_environment: pytest.MonkeyPatch) -> None:
    """The default source, or a configuration that DirectSource leaves to the SDK."""
    ended = run(package, "-c", WITH_SDK)
    assert "ConfigurationError: secret 'prod/db': the AWS SDK can't be imported: install aioboto3" in ended.stderr

    aws_environment.setenv("AWS_PROFILE", "mine")
    ended = run(
        package,
        "-c",
        WITH_SDK.replace("SecretCache()", "SecretCache(DirectSource())").replace("import SecretCache", "import *"),
    )
    assert "the AWS SDK can't be imported: install aioboto3" in ended.stderr


def test_the_command_line_without_the_sdk(package: Path, aws_environment: pytest.MonkeyPatch) -> None:
    """``policy`` needs none; ``doctor`` says what it could not check."""
    assert '"secretsmanager:GetSecretValue"' in run(package, "-m", "asecretcache", "policy", "prod/db").stdout
    ended = run(package, "-m", "asecretcache", "doctor", "prod/db")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "Traceback" not in ended.stdout
