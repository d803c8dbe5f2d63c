"""Run all measurements, or those that are named, and print their tables.

python benchmarks/run.py [--quick] [hit] [cold] [calls] [waiters] [one_miss] [stall] [eviction] [fleet]

A run installs each peer in an environment of its own and starts a server on loopback. It writes all results to
build/bench/results.json and draws pictures into build/bench/pictures/. A full run copies them to docs/pictures/; the
picture of the fleet, which is simulated, is always copied.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import calls
import cold
import eviction
import fleet
import hit
import one_miss
import stall
import waiters
from bench import Bench
from environments import ROOT, Environments, Installed, MissingError
from figures import MANY
from machine import as_text, machine
from peers import BASELINE, OURS, PEERS
from server import Server

MEASUREMENTS: dict[str, ModuleType] = {
    "hit": hit,
    "cold": cold,
    "calls": calls,
    "waiters": waiters,
    "one_miss": one_miss,
    "stall": stall,
    "eviction": eviction,
}


def prepared(environments: Environments, names: list[str]) -> tuple[list[Installed], dict[str, str]]:
    """Install the peers; return those that can be measured, and by name why the others can't."""
    installed, missing = [], {}
    for peer in PEERS:
        if names and peer.name not in {OURS, BASELINE, *names}:
            continue
        print(f"preparing {peer.name}", flush=True)
        try:
            installed.append(environments.install(peer))
        except MissingError as exc:
            missing[peer.name] = str(exc)
    return installed, missing


def measured(names: list[str], installed: list[Installed], missing: dict[str, str], *, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home, Server(ROOT) as server:
        bench = Bench(server, installed, missing, Path(home), quick).tried()
        print(versions(bench), flush=True)
        results: dict[str, Any] = {
            "versions": {each.peer.name: dict(each.versions) for each in bench.installed},
            "missing": dict(bench.missing),
        }
        for name in names:
            began = time.monotonic()
            results[name] = MEASUREMENTS[name].measure(bench)
            print(MEASUREMENTS[name].report(results[name]), flush=True)
            print(f"({time.monotonic() - began:.0f} s)")
    return results


def versions(bench: Bench) -> str:
    """Return the versions of the peers, and why the others are missing."""
    known = [
        (each.peer.name, ", ".join(f"{name} {version}" for name, version in each.versions.items() if name in MAIN))
        for each in bench.installed
    ]
    width = max(len(peer.name) for peer in PEERS)
    lines = [*known, *((name, f"missing: {why}") for name, why in bench.missing.items())]
    return "\n".join(["", *(f"{name.ljust(width)}  {text}" for name, text in lines)])


# The packages whose versions are printed; results.json has all.
MAIN = frozenset(
    {"asecretcache", "aioboto3", "aiobotocore", "botocore", "aiohttp", "httptools", "python", "node", "async-lru"}
    | {
        "aiocache",
        "cashews",
        "cachetools-async",
        "cachebox",
        "aws-secretsmanager-caching",
        "aws-lambda-powertools",
        "aws-sdk",
    }
    | {"@aws-sdk/client-secrets-manager", "@middy/core", "@middy/secrets-manager"}
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurement", nargs="*", choices=[*MEASUREMENTS, "fleet", []], help="by default all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, no measurement")
    parser.add_argument("--wheel", type=Path, help="a wheel of asecretcache; by default the one in build/wheel/")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environments")
    parser.add_argument("--peer", action="append", default=[], help="measure only this peer, asecretcache and aioboto3")
    options = parser.parse_args()
    names = options.measurement or [*MEASUREMENTS, "fleet"]
    ROOT.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(options.python), "quick": options.quick}
    print(as_text(results["machine"]))
    print(f"medians; in brackets minimum and maximum, or of {MANY} values and more the 10th and 90th percentile")
    if options.quick:
        print("A quick look: too few rounds to quote.")
    if names != ["fleet"]:
        wheel = options.wheel or next((ROOT.parent / "wheel").glob("*.whl"))
        found = prepared(Environments(wheel.resolve(), options.python), options.peer)
        results |= measured([name for name in names if name != "fleet"], *found, quick=options.quick)
    if "fleet" in names:
        results["fleet"] = fleet.simulate()
        print(fleet.report(results["fleet"]))
    results["load after"] = machine(options.python)["load"]
    (ROOT / "results.json").write_text(json.dumps(results, indent=1))
    draw(results, is_complete=not (options.measurement or options.quick or options.peer))


def draw(results: dict[str, Any], *, is_complete: bool) -> None:
    # Imported late: the peak memory of a child process begins with that of its parent.
    import pictures

    folder = ROOT / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    drawn = pictures.draw(results, folder)
    docs = ROOT.parent.parent / "docs" / "pictures"
    docs.mkdir(exist_ok=True)
    for each in drawn:
        if is_complete or each.stem == "fleet":
            shutil.copy(each, docs)
    print("\n" + "\n".join(f"drawn: {each}" for each in drawn))


if __name__ == "__main__":
    main()
