"""Delta debugging: the smallest schedule that fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from simulation.fake_secrets_manager import Behaviour
from simulation.schedule import Ask, Cancel, Options, Pause, Schedule

T = TypeVar("T")

MOST_RUNS: Final = 3000


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool], most_runs: int = MOST_RUNS) -> Schedule:
    """Return a schedule that fails too, from which no step, call or parameter can be left out.

    Args:
        schedule: a schedule that fails.
        fails: whether a schedule fails in the same way.
        most_runs: after how many schedules to stop.
    """
    runs = 0

    def try_out(candidate: Schedule) -> bool:
        nonlocal runs, schedule
        if candidate == schedule or runs >= most_runs:
            return False
        runs += 1
        if not fails(candidate):
            return False
        schedule = candidate
        return True

    before = None
    while before != schedule:
        before = schedule
        _drop(schedule.steps, lambda steps: try_out(schedule._replace(steps=tuple(steps))))
        _drop(list(schedule.plan.items()), lambda plan: try_out(schedule._replace(plan=dict(plan))))
        try_out(schedule._replace(order=None))
        try_out(schedule._replace(fractions=None))
        try_out(schedule._replace(behaviours=None))
        for field, default in Options()._asdict().items():
            try_out(schedule._replace(options=schedule.options._replace(**{field: default})))
        for number in range(len(schedule.steps) - 1, 0, -1):
            first, second = schedule.steps[number - 1 : number + 1]
            if isinstance(first, Pause) and isinstance(second, Pause):
                both = Pause(first.seconds + second.seconds)
                steps = (*schedule.steps[: number - 1], both, *schedule.steps[number + 1 :])
                try_out(schedule._replace(steps=steps))
        for number in range(len(schedule.steps)):
            _simplify_step(number, lambda steps: try_out(schedule._replace(steps=steps)), lambda: schedule.steps)
        for key in list(schedule.plan):
            for field, default in Behaviour()._asdict().items():
                simpler = schedule.plan[key]._replace(**{field: default})
                try_out(schedule._replace(plan={**schedule.plan, key: simpler}))
    return schedule


def _drop(items: Sequence[T], try_out: Callable[[list[T]], bool]) -> None:
    """Leave out as many items as can be, first large parts, then single ones."""
    kept, size = list(items), len(items)
    while size:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if try_out(fewer):
                kept = fewer
            else:
                at += size
        size //= 2


def _simplify_step(
    number: int, try_out: Callable[[tuple[Any, ...]], bool], steps: Callable[[], tuple[Any, ...]]
) -> None:
    done = False
    while not done:
        done = True
        now = steps()
        for simpler in _simpler_steps(now[number]):
            if try_out((*now[:number], simpler, *now[number + 1 :])):
                done = False
                break


def _simpler_steps(step: Any) -> Iterator[Any]:
    """Return steps that do less, as far as there are any."""
    if isinstance(step, Ask):
        if step.kind in ("get_secret", "get_json", "get_secrets", "call_with_secret", "get_many"):
            yield step._replace(kind="get", references=(step.references[0].partition(":")[0],))
        for at in range(len(step.references)):
            if len(step.references) > 1:
                yield step._replace(references=step.references[:at] + step.references[at + 1 :])
        for at, reference in enumerate(step.references):
            plain = reference.partition(":")[0]
            if plain != reference and plain not in step.references:
                yield step._replace(references=(*step.references[:at], plain, *step.references[at + 1 :]))
        yield from _defaults(step, {"style": "", "limit": 0.0, "refresh_timeout": 0.0, "keywords": False})
    elif isinstance(step, Cancel):
        for at in range(len(step.ids)):
            if len(step.ids) > 1:
                yield Cancel(step.ids[:at] + step.ids[at + 1 :])
    else:
        yield from _defaults(step, type(step)._field_defaults)


def _defaults(value: Any, defaults: dict[str, Any]) -> Iterator[Any]:
    for name, default in defaults.items():
        if getattr(value, name) != default:
            yield value._replace(**{name: default})
