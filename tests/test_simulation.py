"""Everything at once, two thousand times over; simulation.py says what is drawn, and by which rules it is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import simulation
from simulation import World

SEEDS, AT_ONCE = 2000, 100


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What the cache says of each failure isn't looked at here, and there are a great many."""
    caplog.set_level("CRITICAL", "asecretcache")


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_happens_no_rule_is_violated(first: int) -> None:
    """What callers are given, what is stored, when the source is called and what is left in the end."""
    for seed in range(first, first + AT_ONCE):
        World(seed).run()


def test_a_seed_replays_exactly() -> None:
    """Neither addresses nor hashes nor what ran before have a say in it, so a failure can be looked at again."""
    told = [
        subprocess.run(
            [sys.executable, "-W", "error", simulation.__file__, *seeds],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(simulation.__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, seeds in (("1", ["7", *map(str, range(40, 60))]), ("2", map(str, range(40, 60))))
    ]

    assert len(told[1]) > 10_000
    assert told[0].endswith(told[1])


def test_a_violation_is_told_with_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with what came before it."""
    monkeypatch.setattr(World, "_check_value", lambda world, *_: world.claim(False, "as this test has it"))

    with pytest.raises(AssertionError, match=r"seed 1: as this test has it\nreplay it: make replay SEED=1\n") as caught:
        World(1).run()
    assert " flight " in str(caught.value)


def test_everything_that_is_to_be_simulated_is_met() -> None:
    """A rule that nothing comes near proves nothing."""
    met: set[object] = set()
    stale = coalesced = batches = evictions = revoked = held = 0
    for seed in range(150):
        world = World(seed)
        world.run()
        for _, what, *more in world.trace:
            met.add(what)
            met.update(more[1:] if what in ("over", "landed", "loop", "op") else ())
        stats = world.cache.stats()
        stale += stats.stale_served
        coalesced += stats.coalesced
        batches += stats.batch_calls
        evictions += stats.evictions
        revoked += len(world.revoked)
        held += len([op for op in world.ops if op.held])

    assert min(stale, coalesced, batches, evictions) > 100
    assert min(revoked, held) > 10
    # What the script does, how it looks to callers, how loops end.
    assert met >= {step.replace("_", " ") for step in simulation.STEPS if step not in simulation.ASKING}
    assert met >= {*simulation.ASKING, "close the cache", "call", "flight", "landed", "rotated"}
    assert met >= {"cancelled", "refused", "scope", "many", "prefetched", "SecretErrorGroup", "ConfigurationError"}
    assert met >= {"SecretThrottledError", "SecretUnavailableError", "SecretNotFoundError", "SecretAccessDeniedError"}
    assert met >= {"rest", "finish", "end", "die"}
