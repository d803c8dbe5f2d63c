"""The longest stall of the event loop during a first fetch, in new processes by turns."""

from __future__ import annotations

from typing import Any

from bench import Bench
from figures import ratios, spread, table
from peers import BASELINE, DIRECT, OURS


def measure(bench: Bench) -> dict[str, Any]:
    rounds = 3 if bench.quick else 10
    found: dict[str, Any] = {}
    candidates = {
        f"{each.peer.name}, imported {when} the fetch": (each, when)
        for each in bench.peers("stall")
        if each.peer.name in {OURS, DIRECT, BASELINE}
        for when in (("within", "before") if each.peer.name == BASELINE else ("before",))
    }
    for transport in ("HTTP", "TLS"):
        samples: dict[str, list[list[float]]] = {name: [] for name in candidates}
        for turn in range(rounds + 1):
            for name, (each, when) in candidates.items():
                sample = bench.ask(each, each.command("stall.py", when), transport=transport)
                if turn:
                    samples[name].append(sample)
        found[transport] = {
            name: dict(zip(("stall", "fetch"), (list(column) for column in zip(*each, strict=True)), strict=True))
            for name, each in samples.items()
        }
    return found


def report(found: dict[str, Any]) -> str:
    parts = []
    for transport, kinds in found.items():
        base = kinds[f"{BASELINE}, imported within the fetch"]
        rows = [
            (
                name,
                spread(each["stall"], 1, 0.001),
                spread(ratios(each["stall"], base["stall"]), 2),
                spread(each["fetch"], 0, 0.001),
            )
            for name, each in kinds.items()
        ]
        head = ("", "longest stall, ms", "ratio to aioboto3", "whole fetch, ms")
        parts.append(table(f"First fetch over {transport}", head, rows))
    return "\n".join(parts)
