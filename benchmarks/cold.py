"""Cold start: a whole process, from exec to the first secret, by turns with plain aioboto3.

Wall time ends when the process has the secret; CPU time (user and system) and peak memory are those of the whole
process. A first round, which isn't counted, compiles the bytecode. Over TLS the trust store holds one certificate, that
of the server's authority. Loading the certificates of all public authorities, some 15 ms, isn't included.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bench import Bench
from environments import PROBES, Installed
from figures import ratios, spread, table
from peers import BASELINE

ASYNC = """\
import asyncio, os
from {client} import get
async def main():
    await get("secret-0")
    os.write(1, b"!")
asyncio.run(main())
"""
SYNC = """\
import os
from {client} import get
get("secret-0")
os.write(1, b"!")
"""
IMPORT = "import os\n{statement}\nos.write(1, b'!')\n"
# The share of imports, in the environment of asecretcache.
IMPORTS = {
    "bare interpreter": "pass",
    "import asyncio": "import asyncio",
    "import asyncio, ssl": "import asyncio, ssl",
    "import asecretcache": "import asecretcache",
    "import aioboto3": "import aioboto3",
}


def launched(command: list[str], variables: Mapping[str, str]) -> list[float]:
    """Run a process, and return its seconds to the secret and to the end, its CPU seconds, and its peak in MiB."""
    launch = [sys.executable, "-I", "-S", str(PROBES / "launch.py"), *command]
    result = subprocess.run(launch, env=dict(variables), capture_output=True, text=True, check=True)
    has_secret, ended, cpu, kibibytes, status = result.stdout.split()
    if int(status):
        raise RuntimeError(f"{command} failed:\n{result.stderr[-2000:]}")
    return [float(has_secret), float(ended), float(cpu), float(kibibytes) / 1024]


def command_of(installed: Installed) -> list[str]:
    """Return the command of a process that fetches one secret."""
    peer = installed.peer
    if peer.kind == "node":
        return installed.command("cold")
    script = (SYNC if peer.kind == "sync" else ASYNC).format(client=peer.client)
    return installed.python("-c", script)


def measure(bench: Bench) -> dict[str, Any]:
    rounds = 5 if bench.quick else 15
    ours, found = bench.ours(), {}
    commands: dict[str, dict[str, tuple[list[str], Mapping[str, str]]]] = {
        transport: {
            each.peer.name: (command_of(each), bench.variables(each, transport)) for each in bench.peers("cold")
        }
        for transport in ("HTTP", "TLS")
    }
    commands["imports"] = {
        name: (ours.python("-c", IMPORT.format(statement=statement)), bench.variables(ours))
        for name, statement in IMPORTS.items()
    }
    for kind, candidates in commands.items():
        samples: dict[str, list[list[float]]] = {name: [] for name in candidates}
        for turn in range(rounds + 1):
            for name, (command, variables) in candidates.items():
                sample = launched(command, variables)
                if turn:
                    samples[name].append(sample)
        columns = ("wall", "to exit", "cpu", "memory")
        found[kind] = {
            name: dict(zip(columns, (list(column) for column in zip(*each, strict=True)), strict=True))
            for name, each in samples.items()
        }
    return found


def report(found: dict[str, Any]) -> str:
    parts = []
    for kind, peers in found.items():
        base = peers.get(BASELINE) or peers.get("import asyncio")
        title = f"Cold start over {kind}" if kind != "imports" else "Cold start: imports alone"
        against = "aioboto3" if BASELINE in peers else "asyncio"
        head = ("", "wall, ms", f"to {against}", "CPU, ms", f"to {against}", "MiB", f"to {against}")
        rows = []
        for name, each in peers.items():
            row = [name]
            for column, unit, digits in (("wall", 0.001, 0), ("cpu", 0.001, 0), ("memory", 1.0, 1)):
                row.append(spread(each[column], digits, unit))
                row.append(spread(ratios(each[column], base[column]), 2) if base else "-")
            rows.append(row)
        parts.append(table(title, head, rows))
    return "\n".join(parts)
