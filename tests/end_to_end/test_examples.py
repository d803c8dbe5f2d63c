"""The examples run as they stand, against a Secrets Manager over HTTP, and make as many calls as they should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lambda_local import LambdaEnvironment

from http_event import REQUEST
from moto_server import MotoServer
from warm_python import WarmPython

HANDLERS = Path(__file__).parent / "lambda_handlers"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

INVOKE = """
from {module} import lambda_handler
for _ in range(3):
    print(lambda_handler({{}}, None))
"""

WITH_HTTPX = """
import sys
sys.path = [folder for folder in sys.path if not folder.endswith("without_httpx")]
"""
SERVE = (
    WITH_HTTPX
    + """
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
)


@pytest.fixture
def run(warm_python: WarmPython) -> Callable[[str], list[str]]:
    """Run a script in the examples' folder, quietly, and return the lines that it printed."""

    def run(script: str) -> list[str]:
        ended = warm_python.run(script, EXAMPLES)
        assert (ended.status, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    return run


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    moto_server.create("prod/db", '{"user": "app", "password": "hunter2"}')
    moto_server.create("prod/api", "key-1")
    aws_environment.setenv("SECRET_ID", "prod/api")
    return moto_server


def test_the_articles_port_fetches_once(moto: MotoServer, run: Callable[[str], list[str]]) -> None:
    """Three invocations, one call."""
    assert run(INVOKE.format(module="article_port")) == ["{'characters': 5}"] * 3
    assert moto.calls() == 1


@pytest.mark.parametrize("module", ["several_secrets", "asyncio_run", "typed_settings"])
def test_a_handler_with_several_secrets_fetches_each_once(
    moto: MotoServer, run: Callable[[str], list[str]], module: str
) -> None:
    """Three invocations of two secrets, two calls, on one loop or on a loop for each."""
    assert run(INVOKE.format(module=module)) == ["{'user': 'app', 'has_key': True}"] * 3
    assert moto.calls() == 2


def test_the_server_fetches_at_its_start(moto: MotoServer, run: Callable[[str], list[str]]) -> None:
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


SERVE_DOWN = (
    WITH_HTTPX
    + """
import asyncio, httpx
from asecretcache import SecretAccessDeniedError, SecretCache, SecretErrorGroup, SecretUnavailableError
from asecretcache import set_default_cache
from asecretcache.testing import InMemorySource
from fastapi_lifespan import app

async def main():
    source = InMemorySource()
    set_default_cache(SecretCache(source))
    source.fail(SecretUnavailableError("down"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://example") as client:
            down = SecretUnavailableError("down")
            for error in down, SecretErrorGroup("two", [down, down]), SecretAccessDeniedError("no"):
                source.fail(error)
                response = await client.get("/")
                print(response.status_code, response.headers.get("retry-after"))

asyncio.run(main())
"""
)


def test_a_server_starts_and_answers_503_while_secrets_are_unavailable() -> None:
    """Of one secret or of several; what has to be mended is an error of the server."""
    command = [sys.executable, "-W", "error", "-c", SERVE_DOWN]
    ended = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=60, check=True)

    assert ended.stdout.splitlines() == ["503 5", "503 5", "500 None"]
    assert ended.stderr.startswith("prefetch failed; the handler will fetch what it needs: ")


@pytest.mark.parametrize(
    ("handler", "folder"),
    [
        ("fastapi_mangum.lambda_handler", EXAMPLES),
        ("powertools_handler.lambda_handler", EXAMPLES),
        ("lifespan_behind_mangum.lambda_handler", HANDLERS),
    ],
)
def test_an_api_fetches_each_secret_once(moto: MotoServer, handler: str, folder: Path, tmp_path: Path) -> None:
    """In AWS's runtime client: during INIT, or where the lifespan runs in each invocation, in the first one."""
    (tmp_path / "sitecustomize.py").write_text("import time_for_init\n")
    path = f"{tmp_path}:{folder}:{EXAMPLES}:{HANDLERS}"
    with LambdaEnvironment(handler, folder, {"PYTHONPATH": path}) as environment:
        environment.wait_for_init()
        assert moto.calls() == (0 if folder == HANDLERS else 2)
        bodies = [json.loads(environment.invoke(REQUEST).payload["body"]) for _ in range(3)]

    assert bodies == [{"user": "app", "has_key": True}] * 3
    assert moto.calls() == 2
    if "powertools" in handler:
        lines = [json.loads(line) for line in environment.log.splitlines() if line.startswith("{")]
        assert [line["function_request_id"] for line in lines if line.get("message") == "a request"] == [
            "request-1",
            "request-2",
            "request-3",
        ]
        assert [line["Requests"] for line in lines if "Requests" in line] == [[1.0]] * 3


def test_the_worker_does_its_jobs_with_one_call(moto: MotoServer, run: Callable[[str], list[str]]) -> None:
    """Twenty jobs, four at a time."""
    assert run("import asyncio, worker; print(len(asyncio.run(worker.main())))") == ["20"]
    assert moto.calls() == 1
