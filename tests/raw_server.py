"""An HTTP server with canned responses that counts connections and requests, and can break off; a pytest plugin."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum, auto
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


class Stage(Enum):
    """The point at which a connection is broken off, in the order of time."""

    ACCEPTED = auto()  # before the TLS handshake
    OPEN = auto()  # nothing has been read
    ASKED = auto()  # the request has been read, nothing has been sent
    IN_HEAD = auto()
    AFTER_HEAD = auto()
    IN_BODY = auto()

    def part(self, response: bytes) -> int:
        """Return how many bytes of the response are sent before it."""
        head = response.index(b"\r\n\r\n") + 4
        parts = {Stage.IN_HEAD: head // 2, Stage.AFTER_HEAD: head, Stage.IN_BODY: (head + len(response)) // 2}
        return parts.get(self, 0)


def http(body: Any, status: int = 200, *headers: str, content_type: str = "application/x-amz-json-1.1") -> bytes:
    """Return the bytes of a response: a body of bytes as it is, any other as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + data


def is_whole(response: bytes) -> bool:
    """Whether a response has the length that its header gives."""
    head, _, body = response.partition(b"\r\n\r\n")
    return f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"


class RawServer(socketserver.ThreadingTCPServer):
    """A server that responds, hangs, breaks off or refuses as it is told; it keeps connections alive."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://{host}:{self.server_address[1]}"
        self.connections = 0
        self.requests: list[bytes] = []
        self.arrived = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()
        self.broken = 0
        self._breaks: tuple[Stage, Break] | None = None
        self._held: socket.socket | None = None
        self._open: set[Connection] = set()
        self._changed = threading.Condition()
        self.script: list[bytes] = []
        self.is_patient = False  # Whether to keep a connection after a response that isn't whole.
        self.answer(GOOD)
        self.start()

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more connections, and release those that hang."""
        self.let_go.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        if self._held is not None:
            self._held.close()

    def answer(self, body: Any, status: int = 200, *, content_type: str = "application/x-amz-json-1.1") -> None:
        """Respond with this body from now on: bytes as they are, any other as JSON."""
        self.bytes = http(body, status, content_type=content_type)

    def refuse(self, code: Any, message: Any = "no", status: int = 400) -> None:
        """Respond with an error from now on."""
        self.answer({"__type": code, "message": message}, status)

    def first(self, *responses: bytes) -> None:
        """Send these responses first, each once; one that isn't whole ends the connection."""
        self.script += responses

    def hang(self) -> None:
        """Send no response until ``let_go`` is set."""
        self.let_go.clear()

    def break_off(self, stage: Stage, how: Break) -> None:
        """Break off every connection at this stage, until recover(); ``broken`` counts them."""
        self.let_go.clear()
        self._breaks = stage, how

    def breaks(self, stage: Stage) -> Break | None:
        """Return how to break off a connection at this stage, or None."""
        breaks = self._breaks
        return breaks[1] if breaks is not None and breaks[0] is stage else None

    def stop_listening(self) -> None:
        """Refuse connections until recover()."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        # Bound and not listening, so that no other socket gets the port.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(self.server_address)

    def recover(self) -> None:
        """Refuse and break off no more connections, and release those that hang."""
        self._breaks = None
        self.let_go.set()
        if self._held is not None:
            self._held.close()
            self._held = None
            self.socket = socket.socket()
            self.server_bind()
            self.server_activate()
            self.start()

    def drop(self, *, reset: bool = False) -> None:
        """Close all connections with a FIN or an RST, and return when that is sent."""
        with self._changed:
            for connection in self._open:
                connection.cut(reset=reset)
            if not self._changed.wait_for(lambda: not self._open, 30):
                raise TimeoutError("connections were not closed in time")

    def forget(self) -> None:
        """Send nothing more on the open connections, as if a gateway had forgotten them."""
        with self._changed:
            for connection in self._open:
                connection.forgotten = True

    def send_unrequested(self, data: bytes) -> None:
        """Send bytes on all open connections, without a request."""
        with self._changed:
            for connection in self._open:
                connection.request.sendall(data)

    def take(self, request: bytes) -> None:
        """Record a request."""
        with self._changed:
            self.requests.append(request)
            self.arrived.set()
            self._changed.notify_all()

    def wait_for_requests(self, count: int, seconds: float = 30) -> None:
        """Return when so many requests have arrived."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"{len(self.requests)} requests of {count} arrived")

    def wait_for_open(self, count: int, seconds: float = 30) -> None:
        """Return when so many connections are open."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._open) == count, seconds):
                raise TimeoutError(f"{len(self._open)} connections are open, not {count}")

    def note(self, connection: Connection, *, is_open: bool) -> None:
        """Record that a connection is open or closed."""
        with self._changed:
            (self._open.add if is_open else self._open.discard)(connection)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing about clients that have closed their connection."""


class Connection(socketserver.StreamRequestHandler):
    """A connection of a client."""

    server: RawServer
    request: socket.socket
    forgotten = False

    def setup(self) -> None:
        self.is_broken = self._breaks(Stage.ACCEPTED)
        if self.server.tls is not None and not self.is_broken:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.note(self, is_open=True)

    def handle(self) -> None:
        if self.is_broken:
            return
        self.server.connections += 1
        if self._breaks(Stage.OPEN):
            return
        while head := self.rfile.readline():
            length = 0
            while line := self.rfile.readline().strip():
                head += line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.server.take(head + self.rfile.read(length))
            if any(self._breaks(stage) for stage in Stage):
                return
            self.server.let_go.wait()
            if self.forgotten:
                self.rfile.read()  # until the client closes it
                return
            response = self.server.script.pop(0) if self.server.script else self.server.bytes
            self.wfile.write(response)
            if not (is_whole(response) or self.server.is_patient):
                return

    def _breaks(self, stage: Stage) -> bool:
        """Break off at this stage if the server was told to; return whether it did."""
        how = self.server.breaks(stage)
        if how is None:
            return False
        self.server.broken += 1
        sent = stage.part(self.server.bytes)
        if sent:
            self.wfile.write(self.server.bytes[:sent])
        how(self, self.server.bytes[sent:])
        return True

    def cut(self, *, reset: bool) -> None:
        """From another thread, let the thread that waits for a request close the connection."""
        if reset:
            _arm_reset(self.request)
        # The base class's method: that of a TLS socket drops the session that the other thread reads from.
        with suppress(OSError):
            socket.socket.shutdown(self.request, socket.SHUT_RD)

    def finish(self) -> None:
        super().finish()
        self.request.close()
        self.server.note(self, is_open=False)


Break = Callable[[Connection, bytes], None]
"""Breaks off a connection, given the rest of the response; the connection is closed afterwards."""


def close(connection: Connection, rest: bytes) -> None:
    """Close it with a FIN."""


def reset(connection: Connection, rest: bytes) -> None:
    """Close it with an RST."""
    _arm_reset(connection.request)


def hang(connection: Connection, rest: bytes) -> None:
    """Send nothing more until the server recovers."""
    connection.server.let_go.wait()


def drip(connection: Connection, rest: bytes) -> None:
    """Send a byte every 50 ms, so that no time-out of a single read ends it."""
    for at in range(len(rest)):
        connection.wfile.write(rest[at : at + 1])
        if connection.server.let_go.wait(0.05):
            return


def _arm_reset(connection: socket.socket) -> None:
    # With a linger time of 0, closing the socket sends an RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def serve(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Run a server as long as the generator lives."""
    server = RawServer(tls)
    yield server
    server.stop()


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A server over plain HTTP."""
    yield from serve()


@pytest.fixture
def aws_raw(credentials: pytest.MonkeyPatch, raw_server: RawServer) -> RawServer:
    """The same server; the environment names it as Secrets Manager."""
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raw_server.url)
    return raw_server


@pytest.fixture
def tls_server(credentials: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """A server over TLS; the environment names it as Secrets Manager, and its authority in the CA bundle."""
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
