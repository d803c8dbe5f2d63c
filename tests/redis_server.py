"""A Redis server of the tests' own, from what the machine has; a pytest plugin."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

ADMIN, PASSWORD = "admin", "the-admins"


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """The server's port on loopback; where no server is to be had the test is skipped."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no Redis server is on PATH: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        configuration = (
            f'bind 127.0.0.1\nport {port}\nsave ""\ndir {folder}\n'
            f"user {ADMIN} on >{PASSWORD} ~* &* +@all\nuser default off\n"
        )
        server = subprocess.Popen([program, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            assert server.stdin
            with server.stdin:
                server.stdin.write(configuration)
            while True:
                assert server.poll() is None, "the server ended"
                with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
            yield port
        finally:
            server.terminate()
            server.wait(60)
