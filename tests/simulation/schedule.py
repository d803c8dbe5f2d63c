"""Schedules of the simulation: explicit lists of plain steps, which a seed draws and Python can print.

All that a step needs is in the step, so removing one changes no other. The order in which callbacks run, what the
source's calls do and the random part of ttls are drawn while a schedule runs, from its numbers ``order``,
``behaviours`` and ``fractions``; ``plan`` says explicitly what single calls do.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from simulation.fake_secrets_manager import ABSENT, CURRENT, FIELDS, PREVIOUS, Behaviour

NAMES: Final = ("a", "b", "c", "d")
MANY_NAMES: Final = tuple(f"m{number}" for number in range(20))

READS: Final = ("get", "get_secret", "get_json", "get_secrets", "get_many", "call_with_secret")
ASKS: Final = (*READS, "prefetch", "refresh")
#: Those that take several references.
SEVERAL: Final = ("get_secrets", "get_many", "prefetch")


class Options(NamedTuple):
    """The options of the cache, by the names of SecretCache, and which secrets the source reads before others."""

    ttl: float | None = 30.0
    ttl_by_secret: Mapping[str, float | None] = {}
    jitter: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 1000.0
    fetch_timeout: float = 8.0
    max_size: int = 1000
    batch: bool = False
    needs: Mapping[str, str] = {}


class Pause(NamedTuple):
    """Let time pass; 0 is one turn of the loop."""

    seconds: float = 0.0


class Ask(NamedTuple):
    """Start a caller.

    Attributes:
        id: what Cancel calls it by.
        kind: the method of the cache.
        references: with short ids.
        style: "deadline": in an invocation with a deadline in ``limit`` seconds; "ended": in one that has ended after
            half of that, so that the deadline doesn't hold; "scope": in an anyio scope of that length.
        keywords: whether the version is passed apart from the reference.
    """

    id: int
    kind: str = "get"
    references: tuple[str, ...] = ("a",)
    style: str = ""
    limit: float = 0.0
    refresh_timeout: float = 0.0
    keywords: bool = False


class Cancel(NamedTuple):
    """Cancel these callers, as far as they run on this loop."""

    ids: tuple[int, ...]


class Conditions(NamedTuple):
    """How the source behaves from now on.

    Attributes:
        kind: "fair", "flaky", "down", "throttled" or "hanging".
        refused: the names of secrets that are refused, each in its own way.
        batches: which failure all batches have; "" for none.
    """

    kind: str = "fair"
    refused: tuple[str, ...] = ()
    batches: str = ""


class Rotate(NamedTuple):
    """Rotate a secret: the database first, and the label ``lag`` seconds later."""

    secret: str
    lag: float = 0.0


class MoveLabel(NamedTuple):
    """Move AWSCURRENT to a version that there is."""

    secret: str
    version: int = 1


class Delete(NamedTuple):
    """Delete a secret."""

    name: str


class Create(NamedTuple):
    """Create a secret, if there is none of this name."""

    name: str


class Jump(NamedTuple):
    """Set the wall clock on, or back."""

    seconds: float


class Freeze(NamedTuple):
    """Let the wall clock go on while nothing runs, and the monotonic clock too or not."""

    seconds: float
    is_monotonic: bool = False


class CancelFetch(NamedTuple):
    """Cancel the task of this loop's first running fetch of a secret, as other code may; "": of any."""

    secret: str = ""


class Invalidate(NamedTuple):
    """Invalidate a secret."""

    secret: str


class Clear(NamedTuple):
    """Clear the cache."""


class Close(NamedTuple):
    """Close the cache."""


class SwitchLoop(NamedTuple):
    """Leave the event loop, and go on with another one.

    Attributes:
        fate: of the loop that is left: "rest": it runs no callbacks until it is resumed; "finish": all that runs on it
            comes to its end; "end": all is cancelled, as asyncio.run does; "die": it is closed with all that runs.
        resume: whether to go on with the loop that has rested longest, instead of a new one.
    """

    fate: str = "finish"
    resume: bool = False


Step = (
    Pause
    | Ask
    | Cancel
    | Conditions
    | Rotate
    | MoveLabel
    | Delete
    | Create
    | Jump
    | Freeze
    | CancelFetch
    | Invalidate
    | Clear
    | Close
    | SwitchLoop
)


class Schedule(NamedTuple):
    """See the module.

    Attributes:
        options: the options of the cache.
        steps: what happens, in this order.
        plan: what single calls do, by the short id that they ask for (of a batch the first one) and how many calls
            asked for it before.
        behaviours: from this number the others are drawn; None: they do what the conditions say, without delay.
        order: from this number the order of ready callbacks is drawn; None: it is asyncio's.
        fractions: from this number the random part of ttls and back-offs is drawn; None: it is 0.
    """

    options: Options = Options()
    steps: tuple[Step, ...] = ()
    plan: Mapping[tuple[str, int], Behaviour] = {}
    behaviours: int | None = None
    order: int | None = None
    fractions: int | None = None

    @classmethod
    def from_seed(cls, seed: int) -> Schedule:
        """Return the schedule of a seed."""
        return _Draw(seed).schedule()

    def to_python(self) -> str:
        """Return it as an expression, formatted, without what is the default."""
        return _python(self)


def _python(value: Any, indent: str = "") -> str:
    inner = indent + "    "
    if isinstance(value, Schedule):
        fields = [f"options={_python(value.options)}"]
        steps = "".join(f"{inner}    {_python(step)},\n" for step in value.steps)
        fields.append(f"steps=(\n{steps}{inner})")
        if value.plan:
            calls = "".join(f"{inner}    {_python(call)}: {_python(done)},\n" for call, done in value.plan.items())
            fields.append(f"plan={{\n{calls}{inner}}}")
        fields += [
            f"{name}={number}" for name, number in zip(value._fields[3:], value[3:], strict=True) if number is not None
        ]
        return "Schedule(\n" + "".join(f"{inner}{field},\n" for field in fields) + ")"
    defaults: dict[str, Any] | None = getattr(value, "_field_defaults", None)
    if defaults is not None:
        given = {
            name: each
            for name, each in zip(value._fields, value, strict=True)
            if name not in defaults or defaults[name] != each
        }
        return f"{type(value).__name__}({', '.join(f'{name}={_python(each)}' for name, each in given.items())})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_python, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_python(key)}: {_python(each)}' for key, each in value.items())}}}"
    return json.dumps(value) if isinstance(value, str) else repr(value)


#: What a seed's steps are, and how often; callers are three of five.
_STEPS: Final = {
    "get": 14,
    "get_secret": 14,
    "get_json": 3,
    "get_secrets": 6,
    "get_many": 6,
    "prefetch": 3,
    "refresh": 8,
    "call_with_secret": 5,
    "cancel": 10,
    "conditions": 9,
    "rotate": 6,
    "jump": 7,
    "freeze": 2,
    "invalidate": 5,
    "clear": 1,
    "cancel_fetch": 4,
    "move_label": 1,
    "delete": 1,
    "create": 2,
}
_KINDS: Final = list(_STEPS)
_WEIGHTS: Final = [sum(list(_STEPS.values())[: number + 1]) for number in range(len(_STEPS))]


class _Draw:
    """Draws a schedule."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.steps: list[Step] = []
        self.asks: list[int] = []
        self.births = dict.fromkeys(NAMES, 1)
        self.deleted: list[str] = []
        self.favourite = self.random.choice(NAMES)
        # In some schedules nearly all is about one secret, whose fetches often fail: many rules are about what follows.
        self.is_focused = self.random.random() < 0.4
        self.seed = seed

    def schedule(self) -> Schedule:
        draw = self.random
        choice = draw.choice
        options = Options(
            ttl=choice([0.0, 4.0, 4.0, 30.0, 30.0, None]),
            ttl_by_secret=choice([{}, {}, {"b": 2.0}, {"a@1": None}]),
            jitter=choice([0.0, 0.0, 0.5]),
            stale_while_revalidate=choice([0.0, 0.0, 15.0]),
            stale_if_error=choice([0.0, 5.0, 20.0, 1000.0]),
            fetch_timeout=choice([2.0, 8.0]),
            max_size=choice([1, 3, 5, 1000, 1000, 1000]),
            batch=choice([False, True]),
            needs=choice([{}, {}, {}, {"d": "a"}, {"d": "c", "c": "d"}, {"b": "b"}]),
        )
        loops = draw.randint(1, 4)
        for _ in range(loops):
            for _ in range(draw.randint(5, 25)):
                pause = choice([0.0, 0.0, 0.05, 0.3, 0.3, 1.0, 3.0])
                if pause or draw.random() < 0.3:
                    self.steps.append(Pause(pause))
                self._step()
            fate = choice(["rest", "rest", "finish", "end", "die"])
            resume = draw.random() < 0.4
            self.steps.append(SwitchLoop(fate, resume))
            if not resume:
                self.asks.clear()
        if draw.random() < 0.2:
            # Mostly near the end, with what runs then.
            self.steps.insert(len(self.steps) - draw.choice([0, 1, 1, 2, 3, 6]), Close())
        return Schedule(
            options,
            tuple(self.steps),
            behaviours=self.seed,
            order=None if draw.random() < 0.2 else self.seed,
            fractions=self.seed,
        )

    def _step(self) -> None:
        (kind,) = self.random.choices(_KINDS, cum_weights=_WEIGHTS)
        if kind in ASKS:
            self.steps.append(self._ask(kind))
        else:
            step = getattr(self, f"_{kind}")()
            if step is not None:
                self.steps.append(step)

    def _ask(self, kind: str) -> Ask:
        draw = self.random
        ask = Ask(len(self.steps), kind)
        self.asks.append(ask.id)
        style = limit = None
        if kind == "call_with_secret":
            ask = ask._replace(refresh_timeout=draw.choice([0.0, 1.0, 5.0]))
        elif kind in READS:
            style = draw.choice(["", "", "", "", "deadline", "deadline", "scope", "ended"])
            limit = draw.choice([0.5, 2.0] if style == "ended" else [0.0, 0.5, 2.0]) if style else 0.0
            ask = ask._replace(style=style, limit=limit)
        if kind in SEVERAL:
            ids = draw.sample([*NAMES, *self._arns(), self.favourite], draw.randint(1, 4))
            if draw.random() < 0.3:
                ids += draw.sample(MANY_NAMES, draw.choice([3, 20]))
            if kind == "get_secrets":
                ids = [self._with_field(each, 0.4) for each in ids]
            elif draw.random() < 0.2:
                ids.append(self._with_version(draw.choice(ids)))
            return ask._replace(references=tuple(dict.fromkeys(ids)))
        reference = self._id()
        if kind in ("get_secret", "get_json"):
            reference = self._with_field(reference, 0.5)
        if kind != "call_with_secret" and draw.random() < 0.15:
            reference = self._with_version(reference)
            ask = ask._replace(keywords=draw.random() < 0.3)
        return ask._replace(references=(reference,))

    def _with_version(self, reference: str) -> str:
        return reference + ":" * (2 - reference.count(":")) + self._version(reference.partition(":")[0])

    def _version(self, short: str) -> str:
        draw = self.random
        kind = draw.random()
        if kind < 0.1:
            return CURRENT
        if kind < 0.5:
            return PREVIOUS
        name, _, birth = short.partition("@")
        version = f"{name}@{birth or self.births.get(name, 1)}.{draw.choice([1, 1, 2, 3])}"
        return f":{version}" if kind < 0.9 else f"{PREVIOUS}:{version}"

    def _with_field(self, short: str, chance: float) -> str:
        if self.random.random() >= chance:
            return short
        return f"{short}:{self.random.choice([*FIELDS, *FIELDS, ABSENT])}"

    def _arns(self) -> list[str]:
        arns = [f"{name}@{birth}" for name in NAMES for birth in range(1, self.births[name] + 1)]
        return [*arns, "a@0", "b@0", f"{self.favourite}@"]

    def _id(self) -> str:
        # One more often than the others, so that many callers meet.
        if self.random.random() < (0.85 if self.is_focused else 0.4):
            return self.favourite
        return self.random.choice([*NAMES, *self._arns()])

    def _cancel(self) -> Cancel | None:
        recent = self.asks[-6:]
        number = min(len(recent), self.random.choice([1, 1, 2, 5]))
        return Cancel(tuple(self.random.sample(recent, number))) if recent else None

    def _conditions(self) -> Conditions:
        choice = self.random.choice
        kinds = ["fair", "fair", "fair", "flaky", "flaky", "down", "throttled", "hanging"]
        if self.is_focused:
            kinds = ["fair", "flaky", "down", "down", "throttled", choice(["configuration", "expired credentials"])]
        return Conditions(
            choice(kinds),
            tuple(self.random.sample(NAMES, choice([0, 0, 1, 2]))),
            choice(["", "", "throttled", "denied"]),
        )

    def _rotate(self) -> Rotate:
        return Rotate(self._id(), self.random.choice([0.0, 0.0, 0.5, 3.0]))

    def _move_label(self) -> MoveLabel:
        return MoveLabel(self._id(), self.random.choice([1, 1, 2]))

    def _delete(self) -> Delete:
        name = self.random.choice(NAMES)
        self.deleted.append(name)
        return Delete(name)

    def _create(self) -> Create | None:
        if not self.deleted:
            return None
        name = self.deleted.pop()
        self.births[name] += 1
        return Create(name)

    def _jump(self) -> Jump:
        if self.is_focused:
            return Jump(self.random.choice([1.0, 2.0, 3.0, 5.0, 12.0, 31.0, 61.0, -0.5, -3.0]))
        return Jump(self.random.choice([1.0, 5.0, 12.0, 31.0, 100.0, 5000.0, -0.5, -3.0, -40.0]))

    def _freeze(self) -> Freeze:
        return Freeze(self.random.choice([1.0, 9.0, 600.0]), self.random.random() < 0.5)

    def _cancel_fetch(self) -> CancelFetch:
        return CancelFetch(self.random.choice(["", "", self.favourite, self._id()]))

    def _invalidate(self) -> Invalidate:
        return Invalidate(self._id())

    def _clear(self) -> Clear:
        return Clear()
