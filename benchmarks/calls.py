"""Calls at the server, by client, each scenario in a process of its own.

Every call is held back for a second in "at once", so that what is asked for at once is under way at once. Clients
without coroutines are asked from a thread each. A Python client that makes a call for each of 20 is not asked by a
thousand, because that would be a thousand of the SDK's clients; its row says so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench import TTL, Bench
from environments import Installed
from figures import table

SHORT_TTL = 1
A_LOOK = 20
# How many are asked for, by scenario; for a look, fewer.
COUNTS = {"first": 1, "expired": 1, "many": 100, "at once": 1_000, "invocations": 100}
QUICK_COUNTS = COUNTS | {"many": 40, "at once": 200, "invocations": 10}


def measure(bench: Bench) -> dict[str, Any]:
    counts = QUICK_COUNTS if bench.quick else COUNTS
    found: dict[str, Any] = {}
    for installed in bench.peers("calls"):
        row: dict[str, Any] = {}
        for scenario, count in counts.items():
            if scenario == "at once" and installed.peer.kind != "node":
                # A look first: are they combined at all?
                row[scenario] = run(bench, installed, scenario, A_LOOK)
                if not is_combined(row[scenario]):
                    continue
            row[scenario] = run(bench, installed, scenario, count)
        # Those of the first get aren't what the ttl costs.
        row["expired"]["calls"] = dict(Counter(row["expired"]["calls"]) - Counter(row["first"]["calls"]))
        found[installed.peer.name] = row
    return {"counts": counts, "peers": found}


def run(bench: Bench, installed: Installed, scenario: str, count: int) -> dict[str, Any]:
    """The calls of one scenario, and how many it was asked for."""
    bench.server.hold(1.0 if scenario == "at once" else 0.0)
    command = installed.command("calls.py", scenario, count, SHORT_TTL)
    told = bench.ask(installed, command, ttl=SHORT_TTL if scenario == "expired" else TTL)
    return {"count": told["count"], "calls": dict(bench.server.calls())}


def is_combined(outcome: dict[str, Any]) -> bool:
    return bool(sum(outcome["calls"].values()) < outcome["count"] / 2)


def told(outcome: dict[str, Any], usual: int) -> str:
    """The calls, and of which kind, where they aren't all GetSecretValue."""
    calls = outcome["calls"]
    text = f"{sum(calls.values()):,}"
    others = [f"{count} {name}" for name, count in sorted(calls.items()) if name != "GetSecretValue"]
    if others:
        text += f" ({', '.join(others)})"
    return text if outcome["count"] == usual else f"{text} of {outcome['count']}"


def report(found: dict[str, Any]) -> str:
    counts = found["counts"]
    head = (
        "",
        "first get",
        "after the ttl",
        f"{counts['many']} secrets",
        f"{counts['at once']:,} first gets at once",
        f"{counts['invocations']} invocations with asyncio.run",
    )
    rows = [
        [name, *(told(row[scenario], count) for scenario, count in counts.items())]
        for name, row in found["peers"].items()
    ]
    return table("Calls at the server", head, rows)
