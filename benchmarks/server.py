"""A stand-in for Secrets Manager on loopback: fixed responses over HTTP and TLS, and a count of calls by operation.

It runs in a process of its own, so that it takes no time from the client, and on plain asyncio without an HTTP library,
so that it is fast. Every secret id exists, always in the same version. ``Server`` starts it and reads the counts.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

VERSION = "11111111-2222-4333-8444-555555555555"
VALUE = json.dumps(
    {"username": "reader", "password": "correct-horse-battery-staple", "host": "db.example", "port": 5432}
)


def secret(secret_id: str) -> dict[str, Any]:
    """Return the response of GetSecretValue for a name or an ARN."""
    name = secret_id.rpartition(":")[2]
    return {
        "ARN": f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf",
        "Name": name,
        "VersionId": VERSION,
        "VersionStages": ["AWSCURRENT"],
        "SecretString": VALUE,
        "CreatedDate": 1_700_000_000.0,
    }


def answer(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the response of an operation."""
    if operation == "BatchGetSecretValue":
        return {"SecretValues": [secret(each) for each in request["SecretIdList"]], "Errors": []}
    whole = secret(request["SecretId"])
    if operation == "GetSecretValue":
        return whole
    identity = {"ARN": whole["ARN"], "Name": whole["Name"]}
    if operation == "DescribeSecret":
        return identity | {"VersionIdsToStages": {VERSION: ["AWSCURRENT"]}}
    return identity | {"Versions": [{"VersionId": VERSION, "VersionStages": ["AWSCURRENT"]}]}


class State:
    """The counts, and for how many seconds each response is held back."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.delay = 0.0

    def control(self, path: str) -> Any:
        """Return the counts and reset them; /delay/SECONDS sets the delay too."""
        command, _, argument = path.strip("/").partition("/")
        if command == "delay":
            self.delay = float(argument)
        counts, self.calls = dict(self.calls), Counter()
        return counts


class Connection(asyncio.Protocol):
    """One connection: HTTP/1.1, one request after the other, each body with a Content-Length, as all SDKs send it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.received = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            head, separator, rest = self.received.partition(b"\r\n\r\n")
            if not separator:
                return
            line, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self.received = rest[length:]
            method, path, _ = line.split(" ")
            if method == "GET":
                self.send(self.state.control(path))
                continue
            operation = headers["x-amz-target"].rpartition(".")[2]
            self.state.calls[operation] += 1
            body = answer(operation, json.loads(rest[:length]))
            if self.state.delay:
                asyncio.get_running_loop().call_later(self.state.delay, self.send, body)
            else:
                self.send(body)

    def send(self, body: Any) -> None:
        if self.transport.is_closing():
            return
        content = json.dumps(body).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n"
            b"x-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )


async def serve(certificate: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    state = State()
    ports = []
    for tls in (None, context):
        server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, ssl=tls, backlog=4096)
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    # Until the parent closes the pipe or ends.
    await loop.run_in_executor(None, sys.stdin.read)


class Server:
    """The process of the stand-in, which ends with the ``with`` block.

    Args:
        folder: where its certificates are written.
    """

    def __init__(self, folder: Path) -> None:
        # In another process: trustme imports cryptography, and the peak memory of a child begins with its parent's.
        make = (
            "import sys, trustme; ca = trustme.CA(); ca.cert_pem.write_to_path(sys.argv[1]);"
            "ca.issue_cert('127.0.0.1', 'localhost').private_key_and_cert_chain_pem.write_to_path(sys.argv[2])"
        )
        self.authority, certificate = folder / "ca.pem", folder / "server.pem"
        subprocess.run([sys.executable, "-c", make, self.authority, certificate], check=True)
        self._process = subprocess.Popen(
            [sys.executable, __file__, certificate], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._port, tls_port = json.loads(self._process.stdout.readline())
        self.urls = {"HTTP": f"http://127.0.0.1:{self._port}", "TLS": f"https://127.0.0.1:{tls_port}"}

    def calls(self) -> Counter[str]:
        """Return the calls by operation since the counts were last read."""
        return Counter(self._ask("calls"))

    def hold(self, seconds: float) -> None:
        """Hold each response back for so many seconds from now on, and reset the counts."""
        self._ask(f"delay/{seconds}")

    def _ask(self, path: str) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request("GET", f"/{path}")
        counts: dict[str, int] = json.loads(connection.getresponse().read())
        connection.close()
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
