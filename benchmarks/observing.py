"""What observers cost: a fetch over HTTP on loopback without one, and with each kind; and a hit.

.venv/bin/python benchmarks/observing.py [--quick]

The fetches are those of DirectSource, the faster source, and of the default one. All kinds take turns of a few fetches
each in one process; a figure is the ratio to the turn without an observer in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import median, ratios, spread, table
from machine import as_text, machine
from opentelemetry.sdk.trace import TracerProvider
from server import Server

from asecretcache import CacheObserver, DirectSource, SecretCache, SecretsManagerSource
from asecretcache.emf import CacheMetrics
from asecretcache.otel import instrument

NAME = "prod/db"
FETCHES, HITS = 20, 20_000
LIMIT = 1.02
Observe = Callable[[SecretCache], Callable[[], object]]


def none(_: SecretCache) -> Callable[[], object]:
    return lambda: None


def emf(cache: SecretCache) -> Callable[[], object]:
    CacheMetrics(cache, stream=io.StringIO())
    return lambda: None


KINDS: dict[str, Observe] = {
    "none": none,
    "none once more: the noise": none,
    "a CacheObserver": lambda cache: cache.observe(CacheObserver()),
    "CloudWatch's metrics": emf,
    "OpenTelemetry's API alone": instrument,
    "OpenTelemetry's SDK, spans made and dropped": lambda cache: instrument(cache, tracer_provider=TracerProvider()),
}


async def fetches(cache: SecretCache) -> float:
    began = time.perf_counter()
    for _ in range(FETCHES):
        await cache.refresh(NAME)
    return (time.perf_counter() - began) / FETCHES


async def hits(cache: SecretCache) -> float:
    began = time.perf_counter()
    for _ in range(HITS):
        await cache.get_secret(NAME)
    return (time.perf_counter() - began) / HITS


async def rounds(
    source_type: type[DirectSource | SecretsManagerSource], url: str, count: int
) -> dict[str, list[float]]:
    """Return the seconds of a fetch, by the kind of observer and round; and those of a hit, by "hit, " and the kind."""
    found: dict[str, list[float]] = {}
    source = source_type(region_name="eu-west-1", endpoint_url=url)
    caches = {kind: SecretCache(source) for kind in KINDS}
    for kind, observe in KINDS.items():
        observe(caches[kind])
        await fetches(caches[kind])
    for _ in range(count):
        for kind, cache in caches.items():
            found.setdefault(kind, []).append(await fetches(cache))
            found.setdefault(f"hit, {kind}", []).append(await hits(cache))
    await source.aclose()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a look")
    count = 20 if parser.parse_args().quick else 200
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    print(as_text(machine(sys.executable)))
    rows = []
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        for source_type in (DirectSource, SecretsManagerSource):
            found = asyncio.run(rounds(source_type, server.urls["HTTP"], count))
            print(f"{source_type.__name__}: a fetch {median(found['none']) * 1e6:,.0f} us without an observer")
            for kind in KINDS:
                row = [spread(ratios(found[each + kind], found[f"{each}none"]), 3) for each in ("", "hit, ")]
                rows.append((source_type.__name__, kind, *row))
    head = ("source", "observer", "a fetch, to none", "a hit, to none")
    print(table("Observers", head, rows, texts=2))


if __name__ == "__main__":
    main()
