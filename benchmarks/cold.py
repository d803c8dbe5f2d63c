"""Cold start: a whole process, from exec to the first secret in hand, by turns with plain aioboto3's.

Wall time is counted to the moment that the process has the secret; CPU time (user and system) and peak memory are those
of the whole process, to its end. Byte code is compiled beforehand, by a round that isn't counted. Over TLS, the one
authority that is trusted signed the server's certificate: what a bundle of all the world's takes to load is not in it,
some 15 ms for whoever loads one.
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
# What of it is imports, in our own environment.
IMPORTS = {
    "bare interpreter": "pass",
    "import asyncio": "import asyncio",
    "import asyncio, ssl": "import asyncio, ssl",
    "import asecretcache": "import asecretcache",
    "import aioboto3": "import aioboto3",
}


def launched(command: list[str], variables: Mapping[str, str]) -> list[float]:
    """Seconds to the secret and to the end, CPU seconds, and MiB."""
    launch = [sys.executable, "-I", "-S", str(PROBES / "launch.py"), *command]
    told = subprocess.run(launch, env=dict(variables), capture_output=True, text=True, check=True)
    in_hand, ended, cpu, kibibytes, status = told.stdout.split()
    if int(status):
        raise RuntimeError(f"{command} failed:\n{told.stderr[-2000:]}")
    return [float(in_hand), float(ended), float(cpu), float(kibibytes) / 1024]


def command_of(installed: Installed) -> list[str]:
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
