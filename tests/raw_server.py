"""An HTTP server that answers canned bytes, counting connections and requests; a pytest plugin."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf"
GOOD: dict[str, Any] = {
    "ARN": ARN,
    "Name": "name",
    "VersionId": "11111111-2222-3333-4444-555555555555",
    "SecretString": "the value",
    "VersionStages": ["AWSCURRENT"],
    "CreatedDate": 1700000000.5,
}


class RawServer(socketserver.ThreadingTCPServer):
    """Give it an answer, or make it hang; it keeps connections alive."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"
        self.connections = 0
        self.requests: list[bytes] = []
        self.arrived = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()
        self.answer(GOOD)

    def answer(self, body: Any, status: int = 200, *, content_type: str = "application/x-amz-json-1.1") -> None:
        """Answer this from now on: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
        self.bytes = head.encode() + data

    def refuse(self, code: Any, message: Any = "no", status: int = 400) -> None:
        """Answer with an error from now on."""
        self.answer({"__type": code, "message": message}, status)

    def hang(self) -> None:
        """Answer nothing until ``let_go`` is set."""
        self.let_go.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet about clients that went away."""


class _Handler(socketserver.StreamRequestHandler):
    server: RawServer

    def setup(self) -> None:
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        self.server.connections += 1
        while head := self.rfile.readline():
            length = 0
            while line := self.rfile.readline().strip():
                head += line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.server.requests.append(head + self.rfile.read(length))
            self.server.arrived.set()
            self.server.let_go.wait()
            self.wfile.write(self.server.bytes)

    def finish(self) -> None:
        super().finish()
        self.request.close()


def serve(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Run a server for as long as the generator lives."""
    server = RawServer(tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A server over plain HTTP."""
    yield from serve()


@pytest.fixture
def aws_raw(credentials: pytest.MonkeyPatch, raw_server: RawServer) -> RawServer:
    """The same, standing for Secrets Manager in the environment."""
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raw_server.url)
    return raw_server


@pytest.fixture
def tls_server(credentials: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """A server over TLS, standing for Secrets Manager in the environment, CA bundle included."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    credentials.setenv("AWS_CA_BUNDLE", str(bundle))
    for server in serve(context):
        credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.url)
        yield server
