"""What a small function waits for: the first invocation by memory size, a fetch after idleness, a cold start's price.

.venv/bin/python benchmarks/small.py [--quick]

In INIT a function has a whole CPU, in an invocation the share of its memory: 1,769 MB are one vCPU
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html). So the handlers run in AWS's runtime client,
whose process is held to that share by a cgroup's quota once it has asked for its first invocation. This needs root and
Linux. The emulator's figures, an environment's first invocation with its INIT on a whole CPU, need neither.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from environments import CLIENTS, HERE, ROOT
from figures import median, spread, table
from machine import as_text, machine
from server import Server

sys.path += [str(HERE.parent / "examples"), str(HERE.parent / "tests")]

MEMORY: Final = (128, 512, 1769)
#: Of a vCPU, and the period of the quota in microseconds.
FULL_MEMORY, PERIOD = 1769, 20_000
IDLE: Final = 22.0
USD_A_GB_SECOND: Final = 1.66667e-5
USD_A_CALL: Final = 5e-6

_AIOBOTO3: Final = """
import asyncio, aioboto3
session, value = aioboto3.Session(), None
async def get():
    global value
    if value is None:
        async with session.client("secretsmanager") as client:
            value = (await client.get_secret_value(SecretId="db"))["SecretString"]
    return value
def handler(event, context):
    return len(asyncio.run(get()))
"""
_BOTO3: Final = """
import boto3
client, value = boto3.client("secretsmanager"), None
def handler(event, context):
    global value
    value = value or client.get_secret_value(SecretId="db")["SecretString"]
    return len(value)
"""
_RUN: Final = """
import asyncio
from asecretcache import DirectSource, SecretCache
cache = SecretCache({source})
def handler(event, context):
    return len(asyncio.run(cache.get_secret("db")))
"""
_DECORATED: Final = """
from asecretcache import DirectSource, SecretCache, async_handler
cache = SecretCache({source})
@async_handler(cache=cache{prefetch})
async def handler(event, context):
    return len(await cache.get_secret("db"))
"""
_SYNC: Final = """
import asyncio
from asecretcache import DirectSource, SecretCache, sync_handler
cache = SecretCache({source})
@sync_handler(cache=cache, prefetch=["db"])
def handler(event, context):
    return len(asyncio.run(cache.get_secret("db")))
"""
_PEER: Final = """
import asyncio, os, sys
sys.path += os.environ["PEERS"].split(os.pathsep)
from {client} import get
def handler(event, context):
    return len({call})
"""
DIRECT, PREFETCH = "DirectSource()", ', prefetch=["db"]'
#: What the emulator's figures are compared with.
NOTHING, BASELINE = "a handler that does nothing", "aioboto3, asyncio.run"
HANDLERS: Final = {
    NOTHING: "def handler(event, context):\n    return 1\n",
    "boto3, client at module level": _BOTO3,
    BASELINE: _AIOBOTO3,
    "asecretcache, asyncio.run": _RUN.format(source=""),
    "asecretcache, asyncio.run, DirectSource": _RUN.format(source=DIRECT),
    "asecretcache, async_handler": _DECORATED.format(source="", prefetch=""),
    "asecretcache, async_handler with prefetch": _DECORATED.format(source="", prefetch=PREFETCH),
    "asecretcache, async_handler with prefetch, DirectSource": _DECORATED.format(source=DIRECT, prefetch=PREFETCH),
    "asecretcache, sync_handler with prefetch": _SYNC.format(source=""),
    "asecretcache, sync_handler with prefetch, DirectSource": _SYNC.format(source=DIRECT),
    "aws-secretsmanager-caching": _PEER.format(client="official", call='get("db")'),
    "Powertools parameters": _PEER.format(client="powertools", call='get("db")'),
    "async-lru + aioboto3": _PEER.format(client="with_async_lru", call='asyncio.run(get("db"))'),
}
#: What a cold start takes where it isn't one: the first asks DescribeSecret too.
CALLS: Final = {"aws-secretsmanager-caching": 2, NOTHING: 0}
#: The others over aioboto3 take what aioboto3 takes, so they are measured in the emulator alone.
OTHERS: Final = {
    f"{name} + aioboto3": _PEER.format(client=f"with_{name.replace('-', '_')}", call='asyncio.run(get("db"))')
    for name in ("aiocache", "cachebox", "cachetools-async", "cashews")
}
#: Beside what `make test` has installed, without their dependencies: the SDKs are the same for all.
PACKAGES: Final = (
    "aiocache",
    "async-lru",
    "aws-secretsmanager-caching",
    "cachebox>=6",
    "cachetools",
    "cachetools-async",
    "cashews",
)

_PREPARED: Final = "import asyncio, time\nfrom asecretcache import DirectSource, SecretCache\n"
_MEASURED: Final = "began = time.perf_counter(); {call}; print((time.perf_counter() - began) * 1000)"
AFTER_IDLENESS: Final = {
    "boto3": f"""
import boto3, time
client = boto3.client("secretsmanager")
client.get_secret_value(SecretId="db"); wait()
{_MEASURED.format(call='client.get_secret_value(SecretId="db")')}
""",
    "aioboto3, client kept": f"""
import asyncio, aioboto3, time
async def main():
    async with aioboto3.Session().client("secretsmanager") as client:
        await client.get_secret_value(SecretId="db"); wait()
        {_MEASURED.format(call='await client.get_secret_value(SecretId="db")')}
asyncio.run(main())
""",
    **{
        f"asecretcache, one loop{name}": f"""{_PREPARED}
async def main():
    cache = SecretCache({source})
    await cache.get_secret("db"); wait()
    {_MEASURED.format(call='await cache.refresh("db")')}
asyncio.run(main())
"""
        for name, source in (("", ""), (", DirectSource", DIRECT))
    },
    **{
        f"asecretcache, a loop per invocation{name}": f"""{_PREPARED}
cache = SecretCache({source})
asyncio.run(cache.get_secret("db")); wait()
{_MEASURED.format(call='asyncio.run(cache.refresh("db"))')}
"""
        for name, source in (("", ""), (", DirectSource", DIRECT))
    },
}


class Quota:
    """A cgroup whose processes together get a share of a vCPU.

    Args:
        name: the cgroup's name.
        share: of one vCPU.

    Raises:
        OSError: no cgroup can be made here.
    """

    def __init__(self, name: str, share: float) -> None:
        first = Path("/sys/fs/cgroup/cpu")  # version 1
        self._folder = (first if first.is_dir() else Path("/sys/fs/cgroup")) / f"asecretcache-{name}"
        self._folder.mkdir(exist_ok=True)
        quota = max(1_000, round(PERIOD * share))
        if first.is_dir():
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD))
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self._folder / "cpu.max").write_text(f"{quota} {PERIOD}")

    def hold(self, process: int) -> None:
        """Hold a process to the share, with all its threads."""
        (self._folder / "cgroup.procs").write_text(str(process))


def first_invocations(variables: Mapping[str, str], rounds: int) -> dict[str, dict[str, list[list[float]]]]:
    """Return by handler and memory the milliseconds of INIT and of the first invocation."""
    from lambda_local import LambdaEnvironment

    found: dict[str, dict[str, list[list[float]]]] = {name: {} for name in HANDLERS}
    for _ in range(rounds):
        for memory in MEMORY:
            quota = Quota("first", memory / FULL_MEMORY)
            for name, text in HANDLERS.items():
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "app.py").write_text(text, encoding="utf-8")
                    began = time.perf_counter()
                    with LambdaEnvironment("app.handler", Path(folder), variables) as environment:
                        environment.wait_for_init()
                        init = time.perf_counter() - began
                        quota.hold(environment.process.pid)
                        began = time.perf_counter()
                        outcome = environment.invoke()
                        took = time.perf_counter() - began
                assert outcome.error is None, outcome.error
                found[name].setdefault(str(memory), []).append([init * 1000, took * 1000])
    return found


def after_idleness(variables: Mapping[str, str]) -> dict[str, float]:
    """Return by client the milliseconds of a fetch over TLS after 22 s of idleness, at 128 MB."""
    started = {}
    for number, (name, script) in enumerate(AFTER_IDLENESS.items()):
        wait = f"""
import os, sys, time
sys.path.insert(0, {str(HERE)!r})
from small import Quota
def wait():
    Quota("idle-{number}", {MEMORY[0] / FULL_MEMORY}).hold(os.getpid())
    time.sleep({IDLE})
"""
        command = [sys.executable, "-P", "-c", wait + script]
        started[name] = subprocess.Popen(command, env=dict(variables), stdout=subprocess.PIPE, text=True)
        time.sleep(1.5)  # So that they don't fetch at the same time.
    return {name: float(process.communicate()[0]) for name, process in started.items()}


def install_peers() -> list[str]:
    """Install the other clients, and return what has to be on the path for their handlers."""
    target = ROOT / "small"
    shutil.rmtree(target, ignore_errors=True)
    options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([sys.executable, "-P", "-m", "pip", "install", *options, *PACKAGES], check=True)
    return [str(CLIENTS), str(target)]


def emulated(variables: Mapping[str, str], rounds: int) -> dict[str, list[float]]:
    """Return by handler the milliseconds of the first invocation with its INIT, in AWS's emulator."""
    from runtime_emulator import Emulator, find_emulator

    with tempfile.TemporaryDirectory() as place:
        program = find_emulator(Path(place))
        if isinstance(program, str):
            print(program)
            return {}
        handlers = HANDLERS | OTHERS
        found: dict[str, list[float]] = {name: [] for name in handlers}
        for _ in range(rounds):
            for name, text in handlers.items():
                Path(place, "app.py").write_text(text, encoding="utf-8")
                with Emulator(program, "app.handler", Path(place), environ=variables) as emulator:
                    emulator.wait_until_listening()
                    began = time.perf_counter()
                    answer = emulator.invoke()
                    found[name].append((time.perf_counter() - began) * 1000)
                assert isinstance(answer, int), answer
    return found


def report(results: Mapping[str, Any]) -> str:
    """Return the tables."""
    parts = []
    first, idle, emulator = results["first"], results["idle"], results["emulator"]
    sizes = [str(memory) for memory in MEMORY]
    if first:
        rows = [
            [
                name,
                spread([init for init, _ in each[sizes[0]]], 0),
                *(spread([took for _, took in each[size]], 0) for size in sizes),
            ]
            for name, each in first.items()
        ]
        head = ("", "INIT, ms", *(f"at {size} MB" for size in sizes))
        parts.append(table("First invocation in ms by memory size, after INIT on a whole CPU", head, rows))
        prices = {
            name: [f"{price(name, each[size], int(size)) * 1e6:.1f}" for size in sizes] for name, each in first.items()
        }
        title = "A cold start's price in millionths of a USD: its calls, INIT and first invocation"
        parts.append(
            table(title, ("", *(f"{size} MB" for size in sizes)), [[name, *row] for name, row in prices.items()])
        )
    if idle:
        rows = [[name, spread([each[name] for each in idle], 0)] for name in idle[0]]
        parts.append(table(f"A fetch after {IDLE:g} s of idleness, over TLS, at {MEMORY[0]} MB", ("", "ms"), rows))
    if emulator:
        nothing = median(emulator[NOTHING])
        base = median(emulator[BASELINE]) - nothing
        rows = [[name, spread(each, 0), f"{(median(each) - nothing) / base:.2f}"] for name, each in emulator.items()]
        title = "First invocation with its INIT in AWS's emulator, and what it adds to nothing, to aioboto3's"
        parts.append(table(title, ("", "ms", "ratio"), rows))
    return "\n".join(parts)


def price(name: str, samples: list[list[float]], memory: int) -> float:
    """Return the USD of a cold start: its calls, and the milliseconds of INIT and invocation at that memory."""
    calls = CALLS.get(name, 1)
    seconds = (median([init for init, _ in samples]) + median([took for _, took in samples])) / 1000
    return calls * USD_A_CALL + seconds * memory / 1024 * USD_A_GB_SECOND


def attempt(measure: Callable[[], Any]) -> Any:
    """Return what is measured; None where there is no cgroup."""
    try:
        return measure()
    except OSError as exc:
        print(f"no cgroup can be made, so no process can be held to a share of a CPU: {exc}")
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round: a look, no measurement")
    rounds = 1 if parser.parse_args().quick else 5
    print(as_text(machine(sys.executable)))
    ROOT.mkdir(parents=True, exist_ok=True)
    with Server(ROOT) as server, tempfile.TemporaryDirectory() as home:
        import certifi

        bundle = Path(home, "ca.pem")
        bundle.write_bytes(Path(certifi.where()).read_bytes() + Path(server.authority).read_bytes())
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": home,
            "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE",
            "AWS_SECRET_ACCESS_KEY": "fake-secret-key",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": str(bundle),
            "BENCH_TTL": "3600",
            "PEERS": os.pathsep.join(install_peers()),
        }
        plain = variables | {"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.urls["HTTP"]}
        over_tls = variables | {"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.urls["TLS"]}
        results = {
            "first": attempt(lambda: first_invocations(plain, rounds)),
            "idle": attempt(lambda: [after_idleness(over_tls) for _ in range(min(rounds, 3))]),
            "emulator": emulated(plain, rounds + 4),
            "machine": machine(sys.executable),
        }
    (ROOT / "small.json").write_text(json.dumps(results, indent=1))
    print(report(results))


if __name__ == "__main__":
    main()
