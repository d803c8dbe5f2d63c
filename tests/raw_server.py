"""An HTTP server that answers canned bytes, counts connections and requests, and can break off; a pytest plugin."""

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
    """How far a connection has come when it breaks, in this order."""

    ACCEPTED = auto()  # before the TLS handshake
    OPEN = auto()  # nothing is read yet
    ASKED = auto()  # the request is read, nothing is answered
    IN_HEAD = auto()
    AFTER_HEAD = auto()
    IN_BODY = auto()

    def part(self, answer: bytes) -> int:
        """How many bytes of the answer are sent until then."""
        head = answer.index(b"\r\n\r\n") + 4
        parts = {Stage.IN_HEAD: head // 2, Stage.AFTER_HEAD: head, Stage.IN_BODY: (head + len(answer)) // 2}
        return parts.get(self, 0)


def http(body: Any, status: int = 200, *headers: str, content_type: str = "application/x-amz-json-1.1") -> bytes:
    """A response: a body of bytes as it is, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + data


def is_whole(answer: bytes) -> bool:
    """Whether a response has the length that it says."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"


class RawServer(socketserver.ThreadingTCPServer):
    """Give it an answer, or make it hang, break off or refuse; it keeps connections alive."""

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
        self.is_patient = False  # Whether to keep a connection after an answer that isn't whole.
        self.answer(GOOD)
        self.start()

    def start(self) -> None:
        """Serve, in a thread."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, and let go of those that hang."""
        self.let_go.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        if self._held is not None:
            self._held.close()

    def answer(self, body: Any, status: int = 200, *, content_type: str = "application/x-amz-json-1.1") -> None:
        """Answer this from now on: bytes as they are, anything else as JSON."""
        self.bytes = http(body, status, content_type=content_type)

    def refuse(self, code: Any, message: Any = "no", status: int = 400) -> None:
        """Answer with an error from now on."""
        self.answer({"__type": code, "message": message}, status)

    def first(self, *answers: bytes) -> None:
        """Before that answer these, each once; a response that isn't whole ends the connection."""
        self.script += answers

    def hang(self) -> None:
        """Answer nothing until ``let_go`` is set."""
        self.let_go.clear()

    def break_off(self, stage: Stage, how: Break) -> None:
        """Break off every connection that gets to this stage, until recover(); ``broken`` counts them."""
        self.let_go.clear()
        self._breaks = stage, how

    def breaks(self, stage: Stage) -> Break | None:
        """Return how to break off a connection that has come to this stage, if it is to be."""
        breaks = self._breaks
        return breaks[1] if breaks is not None and breaks[0] is stage else None

    def stop_listening(self) -> None:
        """Refuse connections until recover()."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        # Bound and not listening: nobody else gets the port, be it as the near end of a connection to itself.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(self.server_address)

    def recover(self) -> None:
        """Refuse and break off no more, and end the connections that hang."""
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
        """End all connections, with a FIN or an RST, and return when it is sent."""
        with self._changed:
            for connection in self._open:
                connection.cut(reset=reset)
            if not self._changed.wait_for(lambda: not self._open, 30):
                raise TimeoutError("connections that were to end go on")

    def forget(self) -> None:
        """Answer nothing any more on the connections that are open, as if a gateway had lost them."""
        with self._changed:
            for connection in self._open:
                connection.forgotten = True

    def take(self, request: bytes) -> None:
        """Keep account of the requests."""
        with self._changed:
            self.requests.append(request)
            self.arrived.set()
            self._changed.notify_all()

    def wait_for_requests(self, count: int, seconds: float = 30) -> None:
        """Return when so many have arrived."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"{len(self.requests)} requests of {count} arrived")

    def note(self, connection: Connection, *, is_open: bool) -> None:
        """Keep account of the open connections."""
        with self._changed:
            (self._open.add if is_open else self._open.discard)(connection)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet about clients that went away."""


class Connection(socketserver.StreamRequestHandler):
    """One connection of a client."""

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
                self.rfile.read()  # Until the client gives up.
                return
            answer = self.server.script.pop(0) if self.server.script else self.server.bytes
            self.wfile.write(answer)
            if not (is_whole(answer) or self.server.is_patient):
                return

    def _breaks(self, stage: Stage) -> bool:
        """Break off at this stage if that is to be; return whether it was."""
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
        """Let its thread, which waits for a request, end it; from another thread."""
        if reset:
            _arm_reset(self.request)
        # The base class's: that of a TLS socket forgets the session which the thread is reading from.
        with suppress(OSError):
            socket.socket.shutdown(self.request, socket.SHUT_RD)

    def finish(self) -> None:
        super().finish()
        self.request.close()
        self.server.note(self, is_open=False)


Break = Callable[[Connection, bytes], None]
"""What becomes of a connection; it is given what is left of the answer, and afterwards the connection is closed."""


def close(connection: Connection, rest: bytes) -> None:
    """End it with a FIN."""


def reset(connection: Connection, rest: bytes) -> None:
    """End it with an RST."""
    _arm_reset(connection.request)


def hang(connection: Connection, rest: bytes) -> None:
    """Say nothing more until the server recovers."""
    connection.server.let_go.wait()


def drip(connection: Connection, rest: bytes) -> None:
    """Send a byte now and then, so that no time-out for a single read ever strikes."""
    for at in range(len(rest)):
        connection.wfile.write(rest[at : at + 1])
        if connection.server.let_go.wait(0.05):
            return


def _arm_reset(connection: socket.socket) -> None:
    # To linger for no time is to answer the close with an RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def serve(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Run a server for as long as the generator lives."""
    server = RawServer(tls)
    yield server
    server.stop()


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
