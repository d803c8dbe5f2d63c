"""A stand-in for AWS's local providers of secrets, in a thread or as a process; a pytest plugin.

It answers as the Workload Credentials Provider does, by its source, or as the Parameters and Secrets Lambda extension
does, by its documentation. ``python agent_server.py provider TOKEN`` serves one secret, and prints the port. In
Lambda's environment ``extension`` and ``provider`` without a token are external extensions, as AWS's layers are.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

ACCOUNT = "arn:aws:secretsmanager:eu-west-1:123456789012:secret"
DENIED_ROLE = "arn:aws:iam::123456789012:role/denied"
TOKEN = "canary-token"
NOT_READY = "not ready to serve traffic, please wait"
_PARAMETERS = ("secretId", "versionId", "versionStage", "refreshNow", "roleArn")


class AgentServer(ThreadingHTTPServer):
    """One of the two, with a cache whose entries don't expire.

    Attributes:
        kind: ``"provider"`` or ``"extension"``.
        token: what a request must have.
        calls: the ids for which AWS was called.
        queries: the parameters of each request for a secret.
        unready: how many requests the extension refuses before it is ready.
        connections: how many connections are open.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, kind: str = "provider", token: str = TOKEN, *, port: int = 0, max_connections: int = 800
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.kind = kind
        self.token = token
        self.max_connections = max_connections
        self.calls: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.unready = 0
        self.connections = 0
        self.lock = threading.Lock()
        self._versions: dict[str, list[str | bytes]] = {}
        self._cache: dict[tuple[str | None, ...], bytes] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def put(self, name: str, value: str | bytes) -> None:
        """Store a new version of a secret in AWS."""
        self._versions.setdefault(name, []).append(value)

    def called(self, name: str) -> None:
        """Note a call of AWS."""
        self.calls.append(name)

    def respond(self, target: str, token: str | None) -> tuple[int, bytes]:
        """Return the status and body of a GET."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path == "/ping" and self.kind == "provider":
            return 200, b"healthy"
        if self.connections > self.max_connections:
            return 429, b"Connection limit exceeded"
        if token != self.token:
            return 403, b"Bad Token"
        if parts.path != "/secretsmanager/get":
            return 404, b"Not found"
        with self.lock:
            if self.unready:
                self.unready -= 1
                return 400, NOT_READY.encode()
            self.queries.append(query)
            return self._get(query)

    def _get(self, query: dict[str, str]) -> tuple[int, bytes]:
        if self.kind == "provider":
            unknown = [name for name in query if name not in _PARAMETERS]
            if unknown:
                return 400, f"unknown parameter: {unknown[0]}".encode()
            if not query.get("secretId"):
                return 400, b"missing parameter secretId"
            if query.get("roleArn") == DENIED_ROLE:
                text = f"Failed to create caching client from role: {DENIED_ROLE}"
                return _error(403, "AccessDeniedException", text)
        key = tuple(query.get(name) for name in (*_PARAMETERS[:3], "roleArn"))
        if key not in self._cache or query.get("refreshNow") == "true":
            name = query["secretId"]
            self.called(name)
            versions = self._versions.get(name)
            if versions is None:
                return _error(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
            self._cache[key] = json.dumps(_secret(name, versions, query)).encode()
        return 200, self._cache[key]


def _secret(name: str, versions: list[str | bytes], query: dict[str, str]) -> dict[str, Any]:
    number = len(versions) - (2 if query.get("versionStage") == "AWSPREVIOUS" else 1)
    value = versions[number]
    return {
        "ARN": f"{ACCOUNT}:{name}-AbCdEf",
        "Name": name,
        "VersionId": f"00000000-0000-0000-0000-{number:012}",
        "SecretString": value if isinstance(value, str) else None,
        "SecretBinary": base64.b64encode(value).decode() if isinstance(value, bytes) else None,
        "VersionStages": ["AWSCURRENT" if number == len(versions) - 1 else "AWSPREVIOUS"],
        "CreatedDate": "1700000000.5",
    }


def _error(status: int, code: str, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"__type": code, "message": message}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: AgentServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def finish(self) -> None:
        super().finish()
        with self.server.lock:
            self.server.connections -= 1

    def do_GET(self) -> None:
        if "X-Forwarded-For" in self.headers:
            self._send(400, b"Forwarded")
        else:
            self._send(*self.server.respond(self.path, self.headers.get("X-Aws-Parameters-Secrets-Token")))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


def serve(kind: str) -> Iterator[AgentServer]:
    """Run a server in a thread as long as the generator lives."""
    with AgentServer(kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _fixture(kind: str, environment: pytest.MonkeyPatch) -> Iterator[AgentServer]:
    for server in serve(kind):
        environment.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(server.port))
        environment.setenv("AWS_TOKEN", TOKEN)
        if kind == "extension":
            environment.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
        server.put("name", "the value")
        yield server


@pytest.fixture
def provider(bare_environment: pytest.MonkeyPatch) -> Iterator[AgentServer]:
    """The Workload Credentials Provider; the environment has its port and token."""
    yield from _fixture("provider", bare_environment)


@pytest.fixture
def extension(bare_environment: pytest.MonkeyPatch) -> Iterator[AgentServer]:
    """The Lambda extension; the environment is that of a function, with its port and a token."""
    yield from _fixture("extension", bare_environment)


def main(kind: str, token: str) -> None:
    """Serve a secret until standard input ends, then print how often AWS was called for it."""
    with AgentServer(kind, token) as server:
        server.put("prod/db", '{"password": "the value"}')
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()
        sys.stdout.write(f"{len(server.calls)}\n")
        server.shutdown()


class _Extension(AgentServer):
    """Prints each call, into the function's log."""

    def called(self, name: str) -> None:
        super().called(name)
        sys.stdout.write(f"AWS was called for {name}\n")
        sys.stdout.flush()


def run_extension(kind: str) -> None:
    """Serve a secret as an external extension of Lambda, as AWS's layers do.

    The Parameters and Secrets extension listens from the start, and isn't ready before the first invocation. The
    provider's script starts it with the first invocation; here, only once the function was refused a connection, of
    which the file REFUSED tells, so that it always is.
    """

    def start() -> AgentServer:
        port = int(os.environ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"])
        server = _Extension(kind, os.environ["AWS_SESSION_TOKEN"], port=port)
        server.put("prod/api", "the value")
        server.unready = sys.maxsize if kind == "extension" else 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    server = start() if kind == "extension" else None
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    headers = {"Lambda-Extension-Name": kind, "Content-Type": "application/json"}
    api.request("POST", "/2020-01-01/extension/register", '{"events": ["INVOKE"]}', headers)
    registered = api.getresponse()
    registered.read()
    headers = {"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}
    while True:
        api.request("GET", "/2020-01-01/extension/event/next", headers=headers)
        api.getresponse().read()
        if server is None:
            while not Path(os.environ["REFUSED"]).exists():
                time.sleep(0.01)
            server = start()
        server.unready = 0


if __name__ == "__main__":
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:
        run_extension(*sys.argv[1:])
    else:
        main(*sys.argv[1:])
