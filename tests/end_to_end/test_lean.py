"""The lean package: the wheel, anyio and httptools alone, without the SDK."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from lean_package import DISTRIBUTIONS, Workshop
from moto_server import MotoServer
from runtime_emulator import Emulator

#: How each recipe is run.
RECIPES: dict[str, Callable[[Workshop], Path]] = {
    "pip": lambda workshop: workshop.zipped("pip", "package.zip"),
    "uv": lambda workshop: workshop.zipped("uv", "package.zip"),
    "SAM": Workshop.built_by_sam,
    "Container image": Workshop.built_by_docker,
    "Lambda layer": lambda workshop: workshop.zipped("Lambda layer", "layer.zip") / "python",
}

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


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python without its site-packages."""
    command = [sys.executable, "-S", "-P", "-W", "error", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_function_without_the_sdk(
    lean_package: Path, moto_server: MotoServer, aws_environment: pytest.MonkeyPatch
) -> None:
    """DirectSource, the test kit and metrics work; one call for each secret."""
    moto_server.create("prod/db", '{"user": "app"}')
    moto_server.create("prod/api", "key")
    aws_environment.setenv("ASECRETCACHE_SOURCE", "direct")

    ended = run(lean_package, "-c", HANDLER)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line for line in ended.stdout.splitlines() if not line.startswith("{")] == ["app app", "other"]
    assert moto_server.calls() == 2


def test_what_needs_the_sdk_says_so(lean_package: Path, aws_environment: pytest.MonkeyPatch) -> None:
    """The default source, or a configuration that DirectSource leaves to the SDK."""
    ended = run(lean_package, "-c", WITH_SDK)
    assert "ConfigurationError: secret 'prod/db': the AWS SDK can't be imported: install aioboto3" in ended.stderr

    aws_environment.setenv("AWS_PROFILE", "mine")
    ended = run(
        lean_package,
        "-c",
        WITH_SDK.replace("SecretCache()", "SecretCache(DirectSource())").replace("import SecretCache", "import *"),
    )
    assert "AWS_PROFILE is set, so DirectSource needs the AWS SDK, which isn't installed" in ended.stderr


def test_the_command_line_without_the_sdk(
    lean_package: Path, moto_server: MotoServer, aws_environment: pytest.MonkeyPatch
) -> None:
    """``policy`` needs none; ``doctor`` reads by DirectSource, if that is chosen, and says what it could not check."""
    assert '"secretsmanager:GetSecretValue"' in run(lean_package, "-m", "asecretcache", "policy", "prod/db").stdout
    ended = run(lean_package, "-m", "asecretcache", "doctor", "prod/db")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "Traceback" not in ended.stdout
    moto_server.create("prod/db", "x")
    aws_environment.setenv("ASECRETCACHE_SOURCE", "direct")
    ended = run(lean_package, "-m", "asecretcache", "doctor", "prod/db")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_function_without_the_sdk_in_the_emulator(
    lean_package: Path,
    lambda_runtime: Path,
    emulator_program: Path,
    moto_server: MotoServer,
    aws_environment: pytest.MonkeyPatch,
) -> None:
    """The package as it is deployed, with Lambda's runtime client and nothing else; one call, in INIT."""
    moto_server.create("prod/db", '{"user": "app", "password": "hunter2"}')
    environ = {"ASECRETCACHE_SOURCE": "direct", "PYTHONPATH": f"{lean_package}{os.pathsep}{lambda_runtime}"}

    with Emulator(
        emulator_program, "app.lambda_handler", lean_package, environ=environ, python_options=("-S", "-P")
    ) as emulator:
        assert [emulator.invoke() for _ in range(2)] == [{"length": 7}] * 2

    assert moto_server.calls() == 1
    assert "prefetch failed" not in emulator.log


# The recipes


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_packs_what_is_needed_with_its_bytecode(recipe: str, tmp_path: Path, lean_wheels: Path) -> None:
    """Exactly these distributions. The bytecode is read whatever the files' times are."""
    workshop = Workshop(tmp_path, lean_wheels, pip="pip") if recipe == "pip" else Workshop(tmp_path, lean_wheels)
    folder = RECIPES[recipe](workshop)

    found = importlib.metadata.distributions(path=[str(folder)])
    assert sorted(each.name for each in found) == DISTRIBUTIONS
    assert (folder / "app.py").exists() == (recipe != "Lambda layer")
    sources = list(folder.rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        # The flags of a .pyc with the hash of its source that isn't checked: PEP 552.
        assert Path(cache_from_source(str(source))).read_bytes()[4:8] == b"\x01\0\0\0"
