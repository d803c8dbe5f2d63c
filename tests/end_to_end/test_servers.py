"""Applications under a real server: one lifespan per worker."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from moto_server import MotoServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HANDLERS = Path(__file__).parent / "lambda_handlers"


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    moto_server.create("prod/db", '{"user": "app", "password": "hunter2"}')
    moto_server.create("prod/api", "key-1")
    return moto_server


class Server(NamedTuple):
    """A server in a process of its own, and a client, which has a connection for each request."""

    process: subprocess.Popen[str]
    client: httpx.Client

    def end(self) -> str:
        """End it as Lambda and all others do, and return what it has printed."""
        self.process.send_signal(signal.SIGTERM)
        printed, _ = self.process.communicate(timeout=60)
        return printed


@contextmanager
def serve(folder: Path, app: str, *options: str) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    # uvicorn itself leaves the socket open that its workers share.
    warnings = ["-W", "error", "-W", "ignore:unclosed <socket.socket fd=3:ResourceWarning"]
    command = [sys.executable, "-P", *warnings, "-m", "uvicorn", "--app-dir", str(folder), app, *address, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=limits) as client:
            yield Server(process, client)
    finally:
        process.kill()
        process.communicate()


def wait_until_it_answers(server: Server) -> None:
    for _ in range(600):
        try:
            server.client.get("/docs")
        except httpx.TransportError:
            assert server.process.poll() is None, server.process.communicate()
            time.sleep(0.05)
        else:
            return


def test_each_worker_fetches_at_its_start(moto: MotoServer) -> None:
    """Requests make no call; SIGTERM ends both workers quietly."""
    with serve(EXAMPLES, "fastapi_lifespan:app", "--workers", "2") as server:
        wait_until_it_answers(server)
        for _ in range(600):
            if moto.calls() == 4:
                break
            time.sleep(0.05)
        responses = [server.client.get("/").json() for _ in range(10)]
        assert responses == [{"user": "app", "has_key": True}] * 10
        assert moto.calls() == 4, "two secrets, two workers"
        assert server.end() == ""


def test_sixty_four_first_requests_at_once_share_one_call(moto: MotoServer) -> None:
    """As on a Lambda Web Function, which has one server and sends it 64 at a time."""
    with serve(HANDLERS, "web_function:app") as server:
        wait_until_it_answers(server)
        with ThreadPoolExecutor(64) as clients:
            found = list(clients.map(lambda _: server.client.get("/?together=64").json(), range(64)))
        assert found == ["key-1"] * 64
        assert moto.calls() == 1
        assert server.end() == ""


def test_a_required_secret_that_is_missing_ends_the_start(moto: MotoServer, tmp_path: Path) -> None:
    """The server tells what is missing."""
    text = "from fastapi import FastAPI\nfrom asecretcache import asgi_lifespan\n"
    text += "app = FastAPI(lifespan=asgi_lifespan(prefetch=['prod/missing'], required=True))\n"
    (tmp_path / "strict.py").write_text(text, encoding="utf-8")
    with serve(tmp_path, "strict:app") as server:
        printed, _ = server.process.communicate(timeout=60)

    assert server.process.returncode == 3
    assert "secret 'prod/missing'" in printed
