"""The longest stall of the event loop during a first fetch, ours against plain aioboto3.

Run it with ``python benchmarks/first_fetch_stall.py [runs]``. Each run is a fresh interpreter; a first run of each
kind fills the caches of byte code and files and isn't counted. The server is a local one that answers canned bytes.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TICK = 0.001
ANSWER = json.dumps(
    {
        "ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf",
        "Name": "name",
        "VersionId": "11111111-2222-3333-4444-555555555555",
        "SecretString": "value",
    }
).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def naive() -> None:
    """Fetch as most code does: import, client, call, all on the loop."""
    import aioboto3

    async with aioboto3.Session().client("secretsmanager") as client:
        await client.get_secret_value(SecretId="name")


async def ours() -> None:
    """Fetch through the source."""
    from asecretcache._secret import SecretRequest
    from asecretcache._sources._secrets_manager import SecretsManagerSource

    source = SecretsManagerSource()
    await source.fetch(SecretRequest("name"))
    await source.aclose()


KINDS: dict[str, Callable[[], Awaitable[None]]] = {"aioboto3": naive, "asecretcache": ours}


async def measure(kind: str) -> tuple[float, float]:
    """Return the longest time between two ticks beyond the tick, and the time of the whole fetch."""
    import asecretcache._sources._secrets_manager  # noqa: F401  # the package's own import isn't part of a fetch

    stalls = [0.0]
    ticking = asyncio.Event()

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            ticking.set()
            stalls.append(time.perf_counter() - before - TICK)

    ticker = asyncio.create_task(tick())
    await ticking.wait()
    started = time.perf_counter()
    await KINDS[kind]()
    took = time.perf_counter() - started
    await asyncio.sleep(2 * TICK)  # Let the ticker see a stall that lasted to the end.
    ticker.cancel()
    return max(stalls), took


def run(kind: str, url: str) -> tuple[float, float]:
    """Measure in a fresh interpreter."""
    root = Path(__file__).parent.parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": url,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, __file__, "--child", kind]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    stall, took = json.loads(output)
    return stall, took


def main(runs: int) -> None:
    """Measure each kind by turns and print medians and spreads."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    packages = ("aioboto3", "aiobotocore", "botocore", "aiohttp", "anyio")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; {versions}")
    print(f"first fetch in {runs} fresh interpreters each, after one warm-up; milliseconds: median (min - max)")
    results: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for turn in range(runs + 1):
        for kind, found in results.items():
            result = run(kind, url)
            if turn:
                found.append(result)
    for kind, found in results.items():
        columns = [[1000 * value for value in column] for column in zip(*found, strict=True)]
        stall, took = (f"{statistics.median(c):6.1f} ({min(c):.1f} - {max(c):.1f})" for c in columns)
        print(f"{kind:13} longest stall {stall}   whole fetch {took}")
    server.shutdown()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(measure(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
