"""Everything at once, five hundred times over; runner.py says what is simulated, and records.RULES what must hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asecretcache import Secret, SecretRequest
from simulation import schedule as schedules
from simulation.fake_secrets_manager import Behaviour, FakeSecretsManager
from simulation.replay import check_seed, violation_of
from simulation.runner import Simulation
from simulation.schedule import Ask, Options, Pause, Rotate, Schedule, SwitchLoop
from simulation.shrink import shrink

#: The schedules of the first seeds are together to meet everything.
FIRST, SEEDS, AT_ONCE = 300, 500, 50


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Leave out what the cache logs of each failure: there are a great many."""
    caplog.set_level("CRITICAL", "asecretcache")


@pytest.mark.parametrize("first", range(FIRST, SEEDS, AT_ONCE))
def test_whatever_happens_no_rule_is_violated(first: int) -> None:
    """Callers, the source and the store see what the contract says, and nothing is left over."""
    for seed in range(first, first + AT_ONCE):
        check_seed(seed)


def test_a_seed_replays_exactly() -> None:
    """Neither addresses nor hashes nor earlier runs change what happens, so a failure can be looked at again."""
    told = [
        subprocess.run(
            [sys.executable, "-P", "-W", "error", "-m", "simulation.replay", *seeds],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": _path()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, seeds in (("1", ["7", *map(str, range(40, 60))]), ("2", map(str, range(40, 60))))
    ]

    assert len(told[1]) > 10_000
    assert told[0].endswith(told[1])


def _path() -> str:
    """Return where the subprocess finds this folder, and what this process has been told besides."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def values_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever reads the second version of a secret get the first one's value."""
    read = FakeSecretsManager.read

    def mixed_up(manager: FakeSecretsManager, request: SecretRequest, call: int) -> Secret:
        secret = read(manager, request, call)
        if not secret.version_id.endswith(".2"):
            return secret
        return Secret(
            name=secret.name,
            arn=secret.arn,
            version_id=secret.version_id,
            version_stages=secret.version_stages,
            secret_string=manager._text(next(iter(manager.values.values()))),
        )

    monkeypatch.setattr(FakeSecretsManager, "read", mixed_up)


@pytest.mark.usefixtures("values_are_mixed_up")
def test_a_violation_is_told_with_command_and_smallest_schedule() -> None:
    """What is needed to look at a violation again is in the error: the rule, the command, and Python for a test."""
    seed = next(seed for seed in range(100) if violation_of(Schedule.from_seed(seed)))

    with pytest.raises(AssertionError) as caught:
        check_seed(seed)
    told = str(caught.value)

    assert told.startswith(f"seed {seed}: own value: What a fetch brings was read by its own call, for its own id.\n")
    assert f"\nreplay it: make replay SEED={seed}\nthe smallest schedule:\nSchedule(\n" in told
    smallest = _evaluate(told.partition("the smallest schedule:\n")[2])
    violation = violation_of(smallest)
    assert violation is not None
    assert violation.rule == "own value"
    # Some value is read first, then one of a second version.
    assert len(smallest.steps) <= 4
    assert {type(step) for step in smallest.steps} <= {Ask, Rotate, Pause}


def _evaluate(python: str) -> Schedule:
    names: dict[str, Any] = {**vars(schedules), "Behaviour": Behaviour}
    schedule: Schedule = eval(python, names)  # It was printed by this process.
    return schedule


@pytest.mark.parametrize("seed", range(20))
def test_a_printed_schedule_is_the_schedule(seed: int) -> None:
    """What is pasted into a test runs as it did."""
    simulation = Simulation(Schedule.from_seed(seed))
    simulation.run()
    explicit = simulation.schedule._replace(plan=simulation.behaviours)

    assert _evaluate(explicit.to_python()) == explicit
    again = Simulation(_evaluate(explicit.to_python()))
    again.run()
    assert again.told() == simulation.told()


def test_a_schedule_is_shrunk_to_what_it_needs_to_fail() -> None:
    """Steps, planned calls, options and parameters that make no difference are left out."""

    def fails(schedule: Schedule) -> bool:
        kinds = [step.kind for step in schedule.steps if isinstance(step, Ask) and "a" in step.references]
        return "refresh" in kinds and schedule.options.batch and ("a", 0) in schedule.plan

    schedule = Schedule(
        Options(ttl=4.0, batch=True),
        (Ask(1), Pause(3.0), Ask(2, "refresh", ("a",), style="deadline", limit=2.0), SwitchLoop("die"), Ask(3)),
        plan={("a", 0): Behaviour(before=1.0), ("b", 0): Behaviour()},
        order=1,
        behaviours=2,
    )

    assert shrink(schedule, fails) == Schedule(
        Options(batch=True), (Ask(2, "refresh", ("a",)),), plan={("a", 0): Behaviour()}
    )


def test_everything_that_is_to_be_simulated_is_met() -> None:
    """A rule that nothing comes near proves nothing; and here too none is violated."""
    met: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for seed in range(FIRST):
        simulation = check_seed(seed)
        met += simulation.met
        met.update(simulation.cache.stats()._asdict())
        for caller in simulation.callers.callers:
            kinds[caller.kind] += 1
            kinds[caller.ask.style] += 1
            kinds.update(each.field or "" for each in caller.wanted)

    steps = {step.__name__ for step in schedules.Step.__args__} - {"SwitchLoop"}
    fetches = {f"{how} {why}" for how in ("fetch", "join") for why in ("read", "refresh", "revalidation", "prefetch")}
    errors = {"SecretNotFoundError", "SecretAccessDeniedError", "SecretDecryptionError", "SecretThrottledError"}
    errors |= {"SecretUnavailableError", "CredentialsError", "ConfigurationError", "SecretFormatError"}
    errors |= {"SecretErrorGroup", "CacheClosedError"}
    others = {"rest", "finish", "end", "die", "cancelled", "scope", "refused", "connected", "retry", "fetch cancelled"}
    assert steps | fetches | errors | others <= {what for what, number in met.items() if number >= 10}
    counts = ("hits", "coalesced", "batch_calls", "stale_served", "evictions")
    assert {what: met[what] for what in counts if met[what] < 100} == {}
    assert {what: kinds[what] for what in schedules.ASKS if kinds[what] < 100} == {}
    assert min(kinds[what] for what in ("deadline", "ended", "scope", "text", "number", "object", "absent")) > 50
