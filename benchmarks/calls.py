"""Calls at the server, by client, each scenario in a process of its own.

Every call is held back for a second in "at once", so that what is asked for at once is under way at once. Clients
without coroutines are asked from a thread each. A Python client that makes a call for each of 50 is not asked by a
thousand, because that would be a thousand of the SDK's clients; its row says so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench import TTL, Bench
from environments import Installed
from figures import table

SHORT_TTL = 1
MANY = 100
INVOCATIONS = 100
AT_ONCE = 1_000
A_LOOK = 50

SCENARIOS = ("first", "expired", "many", "at once", "invocations")


def measure(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for installed in bench.peers("calls"):
        row: dict[str, Any] = {}
        for scenario in SCENARIOS:
            if scenario == "at once":
                # A look first: are they combined at all?
                row[scenario] = run(bench, installed, scenario, A_LOOK)
                if is_combined(row[scenario]) or installed.peer.kind == "node":
                    row[scenario] = run(bench, installed, scenario, AT_ONCE)
            else:
                row[scenario] = run(bench, installed, scenario, INVOCATIONS if scenario == "invocations" else MANY)
        # Those of the first get aren't what the ttl costs.
        row["expired"]["calls"] = dict(Counter(row["expired"]["calls"]) - Counter(row["first"]["calls"]))
        found[installed.peer.name] = row
    return found


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
    head = (
        "",
        "first get",
        "after the ttl",
        f"{MANY} secrets",
        f"{AT_ONCE:,} first gets at once",
        f"{INVOCATIONS} invocations with asyncio.run",
    )
    usual = {"at once": AT_ONCE, "invocations": INVOCATIONS}
    rows = [
        [name, *(told(row[scenario], usual.get(scenario, MANY)) for scenario in SCENARIOS)]
        for name, row in found.items()
    ]
    return table("Calls at the server", head, rows)
