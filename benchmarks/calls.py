"""Calls that arrive at the server, by client; each scenario runs in a process of its own.

In "at once" the server holds each response back for a second, so that all reads are under way together. A client
without coroutines is called from as many threads. A Python client that makes one call for each of 20 reads isn't tried
with a thousand, which would be a thousand of the SDK's clients; its row says "20 of 20".
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench import TTL, Bench
from environments import Installed
from figures import table

SHORT_TTL = 1
FEW = 20
# How many reads or secrets, by scenario.
COUNTS = {"first": 1, "expired": 1, "many": 100, "at once": 1_000, "invocations": 100}
QUICK_COUNTS = COUNTS | {"many": 40, "at once": 200, "invocations": 10}


def measure(bench: Bench) -> dict[str, Any]:
    counts = QUICK_COUNTS if bench.quick else COUNTS
    found: dict[str, Any] = {}
    for installed in bench.peers("calls"):
        row: dict[str, Any] = {}
        for scenario, count in counts.items():
            if scenario == "at once" and installed.peer.kind != "node":
                # With few reads first: does the client combine them at all?
                row[scenario] = run(bench, installed, scenario, FEW)
                if not is_combined(row[scenario]):
                    continue
            row[scenario] = run(bench, installed, scenario, count)
        # Less the calls of the first get, which the ttl has no part in.
        row["expired"]["calls"] = dict(Counter(row["expired"]["calls"]) - Counter(row["first"]["calls"]))
        found[installed.peer.name] = row
    return {"counts": counts, "peers": found}


def run(bench: Bench, installed: Installed, scenario: str, count: int) -> dict[str, Any]:
    """Return the calls of one scenario, and how many reads or secrets it was run with."""
    bench.server.hold(1.0 if scenario == "at once" else 0.0)
    command = installed.command("calls.py", scenario, count, SHORT_TTL)
    answer = bench.ask(installed, command, ttl=SHORT_TTL if scenario == "expired" else TTL)
    return {"count": answer["count"], "calls": dict(bench.server.calls())}


def is_combined(outcome: dict[str, Any]) -> bool:
    """Return whether concurrent reads shared calls."""
    return bool(sum(outcome["calls"].values()) < outcome["count"] / 2)


def as_text(outcome: dict[str, Any], usual: int) -> str:
    """Return the calls as text, with the operations other than GetSecretValue in brackets."""
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
        [name, *(as_text(row[scenario], count) for scenario, count in counts.items())]
        for name, row in found["peers"].items()
    ]
    return table("Calls at the server", head, rows)
