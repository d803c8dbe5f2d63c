"""A proxy that tunnels HTTPS by CONNECT to one server, whatever host is asked for; over TLS if told so."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from contextlib import suppress


class ConnectProxy(socketserver.ThreadingTCPServer):
    """A proxy on loopback.

    Args:
        target: the port on loopback that all tunnels lead to, as they would to a man in the middle.
        tls: the context of its own TLS; None for a proxy over plain HTTP.

    Attributes:
        requests: the heads of the requests so far.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.target = target
        self.tls = tls
        self.requests: list[bytes] = []
        self.status = b"200 Connection established"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def url(self, host: str = "127.0.0.1") -> str:
        """Return its URL."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.server_address[1]}"

    def stop(self) -> None:
        """Accept no more connections."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing about clients that refuse the certificate or have closed their connection."""


class _Tunnel(socketserver.BaseRequestHandler):
    server: ConnectProxy
    request: socket.socket

    def setup(self) -> None:
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.request.recv(1)
            if not byte:
                return
            head += byte
        self.server.requests.append(head)
        self.request.sendall(b"HTTP/1.1 " + self.server.status + b"\r\n\r\n")
        if not self.server.status.startswith(b"200"):
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as onward:
            back = threading.Thread(target=_copy, args=(onward, self.request), daemon=True)
            back.start()
            _copy(self.request, onward)
            back.join()

    def finish(self) -> None:
        self.request.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        # The base class's method: that of a TLS socket would drop the session that the other thread reads from.
        socket.socket.shutdown(sink, socket.SHUT_WR)
