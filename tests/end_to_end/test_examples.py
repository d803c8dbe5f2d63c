"""The examples run as they stand, against a Secrets Manager over HTTP, and make as many calls as they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moto_server import MotoServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

INVOKE = """
from {module} import lambda_handler
for _ in range(3):
    print(lambda_handler({{}}, None))
"""

SERVE = """
import asyncio, httpx
from fastapi_lifespan import app

async def main():
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://example") as client:
            for _ in range(3):
                print((await client.get("/")).json())

asyncio.run(main())
"""


def run(script: str) -> list[str]:
    """Run a script in the examples' folder, quietly, and return the lines that it printed."""
    command = [sys.executable, "-W", "error", "-c", script]
    ended = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    moto_server.create("prod/db", '{"user": "app", "password": "hunter2"}')
    moto_server.create("prod/api", "key-1")
    aws_environment.setenv("SECRET_ID", "prod/api")
    return moto_server


def test_the_articles_port_fetches_once(moto: MotoServer) -> None:
    """Three invocations, one call."""
    assert run(INVOKE.format(module="article_port")) == ["{'characters': 5}"] * 3
    assert moto.calls() == 1


@pytest.mark.parametrize("module", ["several_secrets", "asyncio_run", "typed_settings"])
def test_a_handler_with_several_secrets_fetches_each_once(moto: MotoServer, module: str) -> None:
    """Three invocations of two secrets, two calls, on one loop or on a loop for each."""
    assert run(INVOKE.format(module=module)) == ["{'user': 'app', 'has_key': True}"] * 3
    assert moto.calls() == 2


def test_the_server_fetches_at_its_start(moto: MotoServer) -> None:
    """Three requests, no call but those of the lifespan."""
    assert run(SERVE) == ["{'user': 'app', 'has_key': True}"] * 3
    assert moto.calls() == 2


def test_a_wrong_input_is_a_clear_error(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SECRET_ID the article's port says what to set."""
    monkeypatch.delenv("SECRET_ID")
    command = [sys.executable, "-c", INVOKE.format(module="article_port")]
    ended = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "ConfigurationError: no secret is named: set the environment variable SECRET_ID" in ended.stderr


def test_a_server_answers_503_while_secrets_are_unavailable() -> None:
    """Of one secret or of several; what has to be mended is an error of the server."""
    script = """
import asyncio, httpx
from asecretcache import SecretAccessDeniedError, SecretCache, SecretErrorGroup, SecretUnavailableError
from asecretcache.testing import InMemorySource
from fastapi_lifespan import app

async def main():
    source = InMemorySource()
    app.state.secrets = SecretCache(source)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://example") as client:
        down = SecretUnavailableError("down")
        for error in down, SecretErrorGroup("two", [down, down]), SecretAccessDeniedError("no"):
            source.fail(error)
            response = await client.get("/")
            print(response.status_code, response.headers.get("retry-after"))

asyncio.run(main())
"""
    assert run(script) == ["503 5", "503 5", "500 None"]


@pytest.mark.parametrize(
    ("error", "ended"), [("SecretUnavailableError", "503"), ("SecretAccessDeniedError", "no start")]
)
def test_a_server_starts_while_secrets_are_unavailable(error: str, ended: str) -> None:
    """It answers 503 then; what has to be mended ends its start."""
    script = f"""
import asyncio, httpx, fastapi_lifespan
from asecretcache import SecretAccessDeniedError, SecretCache, SecretErrorGroup, SecretUnavailableError
from asecretcache.testing import InMemorySource

source = InMemorySource()
source.fail({error}("no"))
fastapi_lifespan.SecretCache = lambda ttl: SecretCache(source, ttl=ttl)
app = fastapi_lifespan.app

async def main():
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://example") as client:
            print((await client.get("/")).status_code)

try:
    asyncio.run(main())
except SecretErrorGroup:
    print("no start")
"""
    assert run(script) == [ended]
