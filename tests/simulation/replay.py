"""Runs the schedules of seeds, and shrinks those that violate a rule.

``check_seed(seed)`` raises an AssertionError with the smallest schedule that violates the same rule, as Python for a
test, and with the command that replays the seed::

    make replay SEED=123
"""

from __future__ import annotations

import logging
import sys

from simulation.runner import Simulation, Violation
from simulation.schedule import Schedule
from simulation.shrink import shrink


def violation_of(schedule: Schedule) -> Violation | None:
    """Run a schedule, and return the first violation of a rule."""
    try:
        Simulation(schedule).run()
    except Violation as exc:
        return exc
    return None


def check_seed(seed: int) -> Simulation:
    """Run the schedule of a seed; a violation is raised with the smallest schedule that has one of the same rule."""
    simulation = Simulation(Schedule.from_seed(seed))
    try:
        simulation.run()
    except Violation as exc:
        violation = exc
    else:
        return simulation
    # Each call's behaviour by itself can be simplified, which a number can't.
    explicit = simulation.schedule._replace(plan=dict(simulation.behaviours), behaviours=None)

    def fails(schedule: Schedule) -> bool:
        found = violation_of(schedule)
        return found is not None and found.rule == violation.rule

    start = explicit if fails(explicit) else simulation.schedule
    smallest = shrink(start, fails)
    told = violation_of(smallest) or violation
    msg = f"seed {seed}: {told}\nreplay it: make replay SEED={seed}\nthe smallest schedule:\n{smallest.to_python()}"
    raise AssertionError(msg) from None


def main(seeds: list[str]) -> None:
    """Replay seeds, and print what happens in each."""
    # It logs each failure, and there are a great many.
    logging.getLogger("asecretcache").setLevel(logging.CRITICAL)
    for seed in seeds:
        simulation = Simulation(Schedule.from_seed(int(seed)))
        try:
            simulation.run()
        except Violation:
            check_seed(int(seed))
        finally:
            print("\n".join(simulation.told()))


if __name__ == "__main__":
    main(sys.argv[1:])
