"""A machine in miniature in which everything goes wrong, in an order drawn from a seed, and rules for what may be seen.

``World(seed).run()`` draws a cache's options, and then a script: reads of all kinds, refreshes, cancellations, faults
of the source, rotations, evictions, loops that rest, end or die with fetches in the air, clocks that jump. It runs on
loops with a virtual clock (virtual_loop.py) against a source whose values tell where they are from (vault.py), so hours
of it take milliseconds. It raises AssertionError with what was violated and the command that replays it::

    make replay SEED=123

The rules are those of the contract, not of the code: when a fetch may be started or joined (``_check_cause`` and
``_boarded``), what may be stored (``_check_stored``), and what each caller may be given (the other ``_check`` methods).
What they know of the code is where fetches start and end (``SingleFlight.board`` and ``land``, which are watched), and
what is stored.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import Any, Final
from unittest import mock

import anyio

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core import freshness as _policy
from asecretcache._core.entries import Entry
from asecretcache._core.fetch import Flight
from asecretcache._core.single_flight import READ, REVALIDATION, Purpose
from asecretcache._core.timeouts import Deadline, invocation_deadline
from vault import CURRENT, FOREIGN, PREVIOUS, Behaviour, Call, Kept, Value, Vault, VaultSource
from virtual_loop import StuckError, VirtualLoop, VirtualTime

TRANSIENT: Final = (SecretUnavailableError, SecretThrottledError)
REVOKING: Final = (SecretNotFoundError, SecretAccessDeniedError, SecretDecryptionError)

FAMILIAR: Final = ("a", "b", "c", "d")
BULK: Final = tuple(f"m{number}" for number in range(20))
#: How long a call that is cancelled may take to end.
LONGEST_CLEAN_UP: Final = 0.4
EPSILON: Final = 1e-5

#: What the script does next, and how often; callers take three of five steps.
STEPS: Final = {
    "get": 20,
    "get_secret": 10,
    "get_many": 9,
    "prefetch": 3,
    "refresh": 8,
    "call_with_secret": 5,
    "cancel": 9,
    "weather": 9,
    "rotate": 6,
    "jump": 7,
    "freeze": 2,
    "invalidate": 4,
    "clear": 1,
    "kill": 3,
    "label_back": 1,
    "delete": 1,
    "create": 2,
}


class RefusedError(Exception):
    """The database doesn't accept the password."""


class Op:
    """One caller: what it asked for, and what it met on the way."""

    def __init__(self, number: int, kind: str, requests: list[SecretRequest]) -> None:
        self.number = number
        self.kind = kind
        self.requests = requests
        self.style = ""
        self.limit = 0.0
        self.patience = 0.0
        self.began = -1
        self.began_at = 0.0
        self.rested = 0.0
        self.steps = 0
        #: Stretches of wall-clock time over which it lasted.
        self.stretches: list[tuple[float, float]] = []
        self.stored: dict[SecretRequest, Entry | None] = {}
        self.held: set[SecretRequest] = set()
        self.revoked: set[int] = set()
        self.boarded: list[Flight] = []
        #: Those of them that it waits for, and doesn't only want to be in the air.
        self.awaited: list[Flight] = []
        self.tried: list[Secret] = []
        self.refused: RefusedError | None = None
        self.refused_at = self.refused_rested = 0.0
        self.was_cancelled = False
        self.is_over = False
        self.task: asyncio.Task[None] | None = None
        self.loop: VirtualLoop | None = None

    @property
    def is_suspended(self) -> bool:
        """Whether it has waited at all."""
        assert self.loop is not None
        return self.loop.steps != self.steps


class Watched:
    """What is known of a flight: who boarded it when, and how it landed."""

    def __init__(self, flight: Flight, tick: int, wall: float, monotonic: float) -> None:
        self.flight = flight
        self.tick, self.wall, self.monotonic = tick, wall, monotonic
        self.purposes: list[Purpose] = []
        self.is_forgotten = False
        self.is_killed = False
        self.is_late = False
        self.landed_at = -1


class Hold:
    """Transient failures of a key: how many in a row, the latest at ``since``, and for how long no call is due."""

    def __init__(self) -> None:
        self.failures = 0
        self.since = 0.0
        self.at_least = 0.0
        self.is_transient = False
        #: When the answer came that is held because it was throttled.
        self.throttled_at: float | None = None


current_op: ContextVar[Op | None] = ContextVar("current_op", default=None)


class World:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(f"script {seed}")
        self.weather_random = random.Random(f"weather {seed}")
        self.trace: list[tuple[object, ...]] = []
        self.violations: list[str] = []
        self.monotonic = VirtualTime()
        self.wall_offset = 1_000_000.0
        self.vault = Vault(lambda: len(self.trace))
        for name in (*FAMILIAR, *BULK):
            self.vault.create(name)
        for name in FAMILIAR[:2]:
            self.vault.create(name, FOREIGN)
        self.accepted = {kept.arn: 1 for kept in self.vault.by_arn.values()}
        self.rotating: set[str] = set()
        self.source = VaultSource(self.vault, self._behave, self.wall)
        choice = self.random.choice
        self.ttl = choice([0.0, 4.0, 4.0, 30.0, 30.0, None])
        self.jitter = choice([0.0, 0.0, 0.5])
        self.revalidate = choice([0.0, 0.0, 15.0])
        self.if_error = choice([0.0, 20.0, 1000.0])
        self.timeout = choice([2.0, 8.0])
        self.max_size = choice([1, 3, 1000, 1000])
        self.batch = choice([False, True])
        self.needs = choice([{}, {}, {"d": "a"}, {"d": "c", "c": "d"}])
        self.cache = SecretCache(
            self.source,
            ttl=self.ttl,
            jitter=self.jitter,
            stale_while_revalidate=self.revalidate,
            stale_if_error=self.if_error,
            fetch_timeout=self.timeout,
            max_size=self.max_size,
            batch=self.batch,
            clock=self.wall,
        )
        flights = self.cache._flights
        flights.monotonic = self.monotonic
        self._board, self._join, self._land = flights.board, flights.join, flights.land
        flights.board = self._watch_board  # type: ignore[method-assign]  # it is watched
        flights.join = self._watch_join  # type: ignore[method-assign]  # as above
        flights.land = self._watch_land  # type: ignore[method-assign]  # as above
        self.entries = self.cache._entries
        self.loops: list[VirtualLoop] = []
        self.rested: dict[VirtualLoop, float] = {}
        self.left_at: dict[VirtualLoop, float] = {}
        self.ops: list[Op] = []
        self.flights: dict[Flight, Watched] = {}
        self.by_secret: dict[int, Watched] = {}
        self.errors: dict[int, SecretCacheError] = {}
        self.revoked: dict[int, tuple[Entry, int]] = {}
        self.holds: dict[Any, Hold] = {}
        self.throttled: dict[Any, list[tuple[SecretCacheError, float]]] = {}
        self.failed: dict[Any, int] = {}
        self.paced: dict[str, float] = {}
        self.invalidated: dict[str, int] = {}
        self.counted: Counter[str] = Counter()
        self.is_closed = False
        self.weather = "fair"
        self.victims: set[str] = set()
        self.favourite = choice(FAMILIAR)
        self.refuses_batches: type[SecretCacheError] | None = None
        self.log("options", self.ttl, self.jitter, self.revalidate, self.if_error, self.timeout, self.max_size)

    def wall(self) -> float:
        return self.wall_offset + self.monotonic.now

    def log(self, *what: object) -> int:
        """Note what happens; return the tick, which orders all that does."""
        self.trace.append((round(self.monotonic.now, 6), *what))
        return len(self.trace)

    def claim(self, holds: object, *what: object) -> None:
        """Note a violation, unless it holds; what is raised within the cache might be swallowed there."""
        if not holds:
            self.log("VIOLATION", *what)
            self.violations.append(" ".join(map(str, what)))

    # --- The script.

    def run(self) -> None:
        """Run it all, and raise AssertionError if a rule was violated."""
        # Its draws are the kernel's otherwise, which no seed repeats.
        with mock.patch.object(_policy, "_chance", random.Random(f"policy {self.seed}").random):
            try:
                self._run()
            except StuckError as exc:
                self.claim(False, exc)
            finally:
                for loop in self.loops:
                    self._bury(loop)
                for op in self.ops:
                    if op.task is not None and not op.task.done():
                        op.task.get_coro().close()
        if self.violations:
            told = "\n".join(" ".join(map(str, line)) for line in self.trace[-40:])
            msg = f"seed {self.seed}: {self.violations[0]}\nreplay it: make replay SEED={self.seed}\n{told}"
            raise AssertionError(msg)

    def _run(self) -> None:
        resting: list[VirtualLoop] = []
        for _ in range(self.random.randint(1, 4)):
            if resting and self.random.random() < 0.4:
                loop = resting.pop(self.random.randrange(len(resting)))
            else:
                loop = VirtualLoop(
                    random.Random(self.random.random()) if self.random.random() < 0.8 else None,
                    self.monotonic,
                    most_steps=30_000,
                )
                self.loops.append(loop)
            self._use(loop, self._script(loop, self.random.randint(5, 25)))
            fate = self.random.choice(["rest", "rest", "finish", "end", "die"])
            if fate == "die" and any(op.style == "scope" for op in self._running(loop)):
                # What anyio knows of a scope's task refers to that task, so it is kept for ever if its loop dies.
                fate = "end"
            self.log("loop", self.loops.index(loop), fate)
            if fate == "rest":
                resting.append(loop)
            elif fate == "finish":
                self._use(loop, self._finish(loop))
                self._bury(loop)
            elif fate == "end":
                self._end_loop(loop)
            else:
                self._bury(loop)
        if self.random.random() < 0.2:
            self._close_cache(resting)
        for loop in resting:
            self._use(loop, self._finish(loop))
            self._bury(loop)
        self._look_back()

    def _use(self, loop: VirtualLoop, coroutine: Coroutine[Any, Any, object]) -> None:
        rested = self.monotonic.now - self.left_at.get(loop, self.monotonic.now)
        self.rested[loop] = self.rested.get(loop, 0.0) + rested
        try:
            loop.run_until_complete(coroutine)
        finally:
            coroutine.close()
        self.left_at[loop] = self.monotonic.now

    def _end_loop(self, loop: VirtualLoop) -> None:
        """End it as asyncio.run does: cancel everything that runs on it, fetches too, and wait for that."""
        self._use(loop, self._cancel_all(loop))
        self._bury(loop)

    async def _cancel_all(self, loop: VirtualLoop) -> None:
        ops = self._running(loop)
        carriers = dict.fromkeys(flight.carrier for flight in self.flights if flight.loop is loop)
        for op in ops:
            self._cancel(op)
        for carrier in carriers:
            for flight in carrier.flights:
                self.flights[flight].is_killed = True
            carrier.task.cancel()
        tasks = [op.task for op in ops if op.task] + [carrier.task for carrier in carriers]
        # What a batch that is cancelled has handed over meanwhile is a task of its own.
        await asyncio.gather(*tasks, return_exceptions=True)

    def _bury(self, loop: VirtualLoop) -> None:
        """Close it, whatever is in the air on it."""
        if loop.is_closed():
            return
        loop.close()
        for op in self._running(loop):
            op.is_over = True
            assert op.task is not None
            op.task._log_destroy_pending = False  # type: ignore[attr-defined]  # the caller's own, and it is dead
            if self.random.random() < 0.5:
                op.task.get_coro().close()  # as the garbage collector would, sooner or later
        self.claim(not loop.complaints, "the loop complains of", loop.complaints)

    def _close_cache(self, resting: list[VirtualLoop]) -> None:
        loop = resting[-1] if resting else VirtualLoop(None, self.monotonic)
        if loop not in self.loops:
            self.loops.append(loop)
        self.log("close the cache")
        self._use(loop, self._aclose())
        if loop not in resting:
            self._bury(loop)
        self.claim(not self.entries, "something is stored after aclose")

    def _running(self, loop: VirtualLoop) -> list[Op]:
        return [op for op in self.ops if op.loop is loop and op.task is not None and not op.task.done()]

    async def _aclose(self) -> None:
        self.is_closed = True
        self._forget(lambda _: True)
        await self.cache.aclose()

    async def _finish(self, loop: VirtualLoop) -> None:
        """Let everything on it come to its end."""
        while waiting := [op.task for op in self._running(loop) if op.task]:
            await asyncio.wait(waiting)
        for _ in range(100):
            if not any(flight.loop is loop for flight in self.cache._flights._all()):
                break
            await asyncio.sleep(1.0)
        else:
            self.claim(False, "a flight never lands")
        await asyncio.sleep(1.0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self.claim(not left, "tasks are left over:", left)

    def _look_back(self) -> None:
        """See to it that nothing is left, and that what was counted is what happened."""
        loop = VirtualLoop(None, self.monotonic)
        self.loops.append(loop)
        self.weather, self.victims, self.refuses_batches = "calm", set(), None
        self._use(loop, self._last_caller(loop))
        self._bury(loop)
        self.claim(not self.cache._flights._all(), "flights are left over")
        for watched in self.flights.values():
            self.claim(watched.flight.landed, "a flight hasn't landed:", watched.tick)
            self.claim(not watched.flight.waiters or watched.flight.loop.is_closed(), "waiters are left over")
        self.claim(len(self.cache._store) <= self.max_size, "the store is too big")
        stats = self.cache.stats()
        singles = [call for call in self.source.calls if not call.is_batch]
        batches = [call for call in self.source.calls if call.is_batch]
        self.claim(stats.get_calls == len(singles), "get_calls", stats.get_calls, len(singles))
        self.claim(stats.batch_calls == len(batches), "batch_calls", stats.batch_calls, len(batches))
        self.claim(stats.batched_ids == sum(len(call.requests) for call in batches), "batched_ids", stats)
        self.claim(stats.coalesced == self.counted["joined"], "coalesced", stats.coalesced, self.counted)
        self.claim(stats.errors == self.counted["errors"], "errors", stats.errors, self.counted)
        for call in batches:
            self.claim(2 <= len(set(call.requests)) == len(call.requests) <= 20, "a batch is of the wrong size")
            self.claim(all(len(set(request[1:])) == 1 for request in call.requests), "a batch asks for a version")

    async def _last_caller(self, loop: VirtualLoop) -> None:
        """Whatever has happened: once the weather is fair, whoever asks gets the secret."""
        # Longer than any hold or back-off.
        await asyncio.sleep(100.0)
        # A refresh, because whoever fetches sweeps out what closed loops have left.
        op = self._ask(loop, "refresh", [SecretRequest("b")])
        if self.vault.find("b") is None:
            self.vault.create("b")
        await asyncio.wait([op.task] if op.task else [])
        self.claim(self.is_closed or op.tried, "the last caller didn't get it")
        await self._finish(loop)

    async def _script(self, loop: VirtualLoop, steps: int) -> None:
        for _ in range(steps):
            pause = self.random.choice([0.0, 0.0, 0.05, 0.3, 0.3, 1.0, 3.0])
            if pause or self.random.random() < 0.3:
                await asyncio.sleep(pause)
            (kind,) = self.random.choices(list(STEPS), list(STEPS.values()))
            if kind in ASKING:
                self._ask(loop, kind, self._requests(kind))
            else:
                self._STEP[kind](self, loop)

    def _requests(self, kind: str) -> list[SecretRequest]:
        if kind in ("get_many", "prefetch"):
            ids = self.random.sample(self._ids(), self.random.randint(1, 4))
            if self.random.random() < 0.3:
                ids += self.random.sample(BULK, self.random.choice([3, 20]))
            return [SecretRequest(secret_id) for secret_id in ids]
        secret_id = self.random.choice(self._ids())
        if kind != "call_with_secret" and self.random.random() < 0.15:
            kept = self.vault.find(secret_id)
            if self.random.random() < 0.5 or kept is None:
                return [SecretRequest(secret_id, PREVIOUS)]
            return [SecretRequest(secret_id, None, kept.version_id(self.random.randint(1, kept.versions)))]
        return [SecretRequest(secret_id)]

    def _ids(self) -> list[str]:
        arns = [kept.arn for kept in self.vault.by_arn.values() if kept.name in FAMILIAR]
        # One more often than the others, so that many meet.
        return [*FAMILIAR, *arns, *[self.favourite] * 6]

    def _ask(self, loop: VirtualLoop, kind: str, requests: list[SecretRequest]) -> Op:
        op = Op(len(self.ops), kind, list(dict.fromkeys(requests)))
        op.loop = loop
        # Two flights each, and their clean-up; get_many asks for some after others; a source may ask the cache.
        op.limit = 2 * (self.timeout + LONGEST_CLEAN_UP) * (2 if kind in ("get_many", "prefetch") else 1)
        if kind == "call_with_secret":
            op.patience = self.random.choice([0.0, 1.0, 5.0])
            # For as long as its patience, or for one refresh; and the function is called twice.
            op.limit += (op.patience or op.limit) + 0.2
        elif kind in ("get", "get_secret", "get_many"):
            op.style = self.random.choice(["", "", "", "deadline", "scope"])
            if op.style:
                op.limit = self.random.choice([0.0, 0.5, 2.0])
        self.ops.append(op)
        self.log("op", op.number, kind, op.style, *(_short(request) for request in op.requests))
        op.task = loop.create_task(self._perform(op))
        return op

    def _cancel(self, op: Op) -> None:
        self.log("cancel", op.number)
        assert op.task is not None
        op.was_cancelled = op.task.cancel() or op.was_cancelled

    def _step_cancel(self, loop: VirtualLoop) -> None:
        running = self._running(loop)
        for op in self.random.sample(running, min(len(running), self.random.choice([1, 1, 2, 5]))):
            self._cancel(op)

    def _step_weather(self, loop: VirtualLoop) -> None:
        self.weather = self.random.choice(["fair", "fair", "fair", "flaky", "down", "throttled", "hanging"])
        self.victims = set(self.random.sample(FAMILIAR, self.random.choice([0, 0, 1, 2])))
        self.refuses_batches = self.random.choice([None, None, SecretThrottledError, SecretAccessDeniedError])
        self.log("weather", self.weather, sorted(self.victims), self.refuses_batches)

    def _step_rotate(self, loop: VirtualLoop) -> None:
        kept = self._some_secret()
        if kept is None or kept.arn in self.rotating:
            return
        # The database first, the label later.
        self.accepted[kept.arn] = kept.versions + 1
        self.rotating.add(kept.arn)
        lag = self.random.choice([0.0, 0.0, 0.5, 3.0])
        self.log("rotate", kept.arn, lag)

        def label() -> None:
            self.rotating.discard(kept.arn)
            self.log("rotated", kept.arn, self.vault.rotate(kept))

        if lag:
            loop.call_later(lag, label)
        else:
            label()

    def _step_label_back(self, loop: VirtualLoop) -> None:
        kept = self._some_secret()
        if kept is not None and kept.versions > 1 and kept.arn not in self.rotating:
            self.log("label back", kept.arn)
            self.vault.label(kept, self.random.randint(1, kept.versions))
            self.accepted[kept.arn] = kept.at(CURRENT) or 0

    def _some_secret(self) -> Kept | None:
        return self.vault.find(self.random.choice(self._ids()))

    def _step_delete(self, loop: VirtualLoop) -> None:
        name = self.random.choice(FAMILIAR)
        if name in self.vault.by_name:
            self.log("delete", name)
            self.vault.delete(name)

    def _step_create(self, loop: VirtualLoop) -> None:
        for name in FAMILIAR:
            if name not in self.vault.by_name:
                kept = self.vault.create(name)
                self.accepted[kept.arn] = 1
                self.log("create", name, kept.arn)

    def _step_jump(self, loop: VirtualLoop) -> None:
        seconds = self.random.choice([1.0, 5.0, 12.0, 31.0, 100.0, 5000.0, -0.5, -3.0, -40.0])
        self.log("jump", seconds)
        self._jump(seconds)

    def _jump(self, wall: float, monotonic: float = 0.0) -> None:
        for op in self.ops:
            if not op.is_over and op.stretches:
                op.stretches[-1] = (op.stretches[-1][0], self.wall())
                op.stretches.append((self.wall() + wall, 0.0))
        self.wall_offset += wall - monotonic
        self.monotonic.now += monotonic
        for loop in self.rested:
            self.rested[loop] += monotonic

    def _step_freeze(self, loop: VirtualLoop) -> None:
        """The wall clock goes on, and the monotonic one too or not, while nothing runs."""
        seconds = self.random.choice([1.0, 9.0, 600.0])
        monotonic = self.random.choice([0.0, seconds])
        self.log("freeze", seconds, monotonic)
        self._jump(seconds, monotonic)

    def _step_kill(self, loop: VirtualLoop) -> None:
        """Somebody else cancels a fetch's task."""
        aloft = [flight for flight in self.cache._flights._all() if flight.loop is loop]
        if aloft:
            flight = self.random.choice(aloft)
            self.log("kill", _short(flight.request))
            for each in flight.carrier.flights:
                self.flights[each].is_killed = True
            flight.carrier.task.cancel()

    def _step_invalidate(self, loop: VirtualLoop) -> None:
        secret_id = self.random.choice(self._ids())
        self.log("invalidate", secret_id)
        self.invalidated[secret_id] = len(self.trace)
        known = self.cache._store.ids_of(secret_id) | self.cache._store.namesakes(secret_id)
        names = {SecretRequest(each).by_name.secret_id for each in known}
        self._forget(lambda each: SecretRequest(each).by_name.secret_id in names)
        for key in [key for key in self.holds if _id_of(key) in known]:
            del self.holds[key]
        for each in known:
            self.paced.pop(each, None)
        before = dict(self.entries)
        self.cache.invalidate(secret_id)
        for key, entry in before.items():
            gone = self.entries.get(key) is not entry
            self.claim(gone or _id_of(key) != secret_id, "it is still stored:", key)
            about = _id_of(key) in known or entry.secret.arn in known or entry.secret.name in known
            self.claim(about or not gone, "something else was dropped:", key)

    def _step_clear(self, loop: VirtualLoop) -> None:
        self.log("clear")
        self._forget(lambda _: True)
        self.holds.clear()
        self.paced.clear()
        for secret_id in self._ids():
            self.invalidated[secret_id] = len(self.trace)
        self.cache.clear()
        self.claim(not self.entries, "something is stored after clear")

    def _forget(self, is_meant: Callable[[str], bool]) -> None:
        for watched in self.flights.values():
            if watched.landed_at < 0 and is_meant(watched.flight.request.secret_id):
                watched.is_forgotten = True

    _STEP: Final[dict[str, Callable[[World, VirtualLoop], None]]] = {
        "cancel": _step_cancel,
        "weather": _step_weather,
        "rotate": _step_rotate,
        "jump": _step_jump,
        "freeze": _step_freeze,
        "invalidate": _step_invalidate,
        "clear": _step_clear,
        "kill": _step_kill,
        "label_back": _step_label_back,
        "delete": _step_delete,
        "create": _step_create,
    }

    # --- The source's behaviour.

    def _behave(self, call: Call) -> Behaviour:
        draw = self.weather_random
        before, after = (draw.choice([0.0, 0.0, 0.02, 0.3, 0.3, 1.5]) for _ in range(2))
        clean_up = draw.choice([0.0, 0.0, 0.0, LONGEST_CLEAN_UP])
        if self.weather == "calm":
            return Behaviour()
        behaviour = Behaviour(before, after, clean_up=clean_up, is_stubborn=draw.random() < 0.05)
        failures: dict[str, SecretCacheError | None] = {}
        for request in call.requests:
            kept = self.vault.find(request.secret_id)
            if kept is not None and kept.name in self.victims:
                failures[request.secret_id] = self._error(call, request, REVOKING[kept.number % len(REVOKING)])
            elif call.is_batch and self.weather == "flaky" and draw.random() < 0.1:
                failures[request.secret_id] = None
            elif call.is_batch and self.weather == "flaky" and draw.random() < 0.2:
                failures[request.secret_id] = self._error(call, request, draw.choice(TRANSIENT))
        self.log("call", call.number, *(_short(request) for request in call.requests), before, after)
        behaviour = behaviour._replace(failures=failures)
        (request, *_) = call.requests
        if call.is_batch and self.refuses_batches is not None:
            return behaviour._replace(failure=self.refuses_batches("no batches", request_id=str(call.number)))
        if not call.is_batch and failures:
            return behaviour._replace(failure=failures[request.secret_id])
        if not call.is_batch and request.secret_id in self.needs:
            return behaviour._replace(first=lambda: self._need(call, request))
        return self._in_weather(call, behaviour)

    def _in_weather(self, call: Call, behaviour: Behaviour) -> Behaviour:
        (request, *_) = call.requests
        weather = self.weather
        if weather == "flaky":
            weather = self.weather_random.choice(["fair", "fair", "fair", "down", "throttled", "hanging", "odd"])
        if weather == "down":
            return behaviour._replace(failure=self._error(call, request, SecretUnavailableError))
        if weather == "throttled":
            return behaviour._replace(failure=self._error(call, request, SecretThrottledError))
        if weather == "hanging":
            return behaviour._replace(after=1e6)
        if weather == "odd":
            return self.weather_random.choice(
                [
                    behaviour._replace(failure=ValueError("odd")),
                    behaviour._replace(junk="odd"),
                    self._cancelling(call, behaviour),
                    behaviour._replace(failure=ConfigurationError("odd", request_id=str(call.number))),
                ]
            )
        return behaviour

    def _cancelling(self, call: Call, behaviour: Behaviour) -> Behaviour:
        for flight, watched in self.flights.items():
            watched.is_killed |= flight.loop is call.loop and flight.request in call.requests
        return behaviour._replace(cancels=True)

    def _error(self, call: Call, request: SecretRequest, kind: type[SecretCacheError]) -> SecretCacheError:
        secret_id = None if call.is_batch and issubclass(kind, TRANSIENT) else request.secret_id
        return kind("the weather", secret_id=secret_id, request_id=str(call.number))

    async def _need(self, call: Call, request: SecretRequest) -> None:
        """The source reads another secret through the cache before it can fetch this one."""
        try:
            await self.cache.get(self.needs[request.secret_id])
        except SecretCacheError:
            raise self._error(call, request, SecretUnavailableError) from None

    # --- Flights: when they may be started and joined, and what may be stored.

    def _watch_board(self, requests: Iterable[SecretRequest], purpose: Purpose, *, batch: bool = False) -> list[Flight]:
        requests = list(requests)
        op = current_op.get()
        joinable = {request: self._joinable(request, purpose) for request in requests}
        for request in requests:
            self._check_cause(op, request, purpose)
        flights = self._board(requests, purpose, batch=batch)
        for request, flight in zip(requests, flights, strict=True):
            self._boarded(op, request, flight, purpose, joinable[request])
        return flights

    def _watch_join(self, flight: Flight) -> bool:
        is_joined = self._join(flight)
        if is_joined:
            request = flight.request
            self.claim(request.key not in self.entries, "joined though there is something in memory:", request)
            joinable = self._joinable(request, READ)
            self._boarded(current_op.get(), request, flight, READ, joinable)
        return is_joined

    def _joinable(self, request: SecretRequest, purpose: Purpose) -> tuple[list[Flight], list[Flight]]:
        """Return the flights that must not be passed over, and those that may be joined or not."""
        loop = asyncio.get_running_loop()
        must, may = [], []
        for flight in self.cache._flights._all():
            if flight.request != request or flight.loop is not loop or (purpose.is_refresh and not flight.is_refresh):
                continue
            watched = self.flights[flight]
            late = max(abs(self.wall() - watched.wall), self.monotonic.now - watched.monotonic) - self.timeout
            watched.is_late |= late > EPSILON
            if watched.is_forgotten or late > EPSILON:
                continue
            if late > -EPSILON or watched.is_killed:
                # It ends in this very moment.
                may.append(flight)
            elif not flight.carrier.task.cancelling():
                must.append(flight)
        return must, may

    def _boarded(
        self,
        op: Op | None,
        request: SecretRequest,
        flight: Flight,
        purpose: Purpose,
        joinable: tuple[list[Flight], list[Flight]],
    ) -> None:
        must, may = joinable
        is_new = flight not in self.flights
        self.claim(flight.request == request, "boarded for another secret:", request, flight.request)
        self.claim(flight.loop is asyncio.get_running_loop(), "boarded on another loop")
        if is_new:
            tick = self.log("flight", _short(request), flight.is_refresh)
            self.flights[flight] = Watched(flight, tick, self.wall(), self.monotonic.now)
            self.claim(flight.is_refresh == purpose.is_refresh, "started for another purpose")
            self.claim(not must, "started though one could be joined:", _short(request))
            is_retry = op is not None and any(each.secret is None is each.error for each in op.boarded[-1:])
            if purpose.is_refresh and op is not None and op.kind == "call_with_secret" and not is_retry:
                known_as = self.cache._store.canonical(op.requests[0]).secret_id
                last = self.paced.get(known_as, -1.0)
                self.claim(self.monotonic.now - last > 0.1 - EPSILON, "call_with_secret refreshes without pause")
                self.paced[known_as] = self.monotonic.now
        else:
            self.claim(flight in must or flight in may, "joined what can't be joined:", _short(request))
            self.counted["joined"] += purpose.is_counted
        self.flights[flight].purposes.append(purpose)
        if op is not None:
            op.boarded.append(flight)
            if not purpose.is_background:
                op.awaited.append(flight)

    def _check_cause(self, op: Op | None, request: SecretRequest, purpose: Purpose) -> None:
        """Nothing is fetched that may be served, or that it is too early to try again."""
        if purpose.is_refresh or op is None or any(flight.request == request for flight in op.boarded):
            # It was asked for; or the flight before was cancelled by others, which isn't known of a source that asks.
            return
        now, entry = self.wall(), self.entries.get(request.key)
        asked = [each for each in op.requests if self.cache._store.canonical(each) == request]
        if asked != [request]:
            # By an ARN too, whose own entry, of a later fetch than its name's, may still be there.
            return
        if entry is not None:
            self.claim(not entry.born <= now < entry.expires_at, "fetched though it is fresh:", _short(request))
        may_be_stale = entry is not None and entry.born <= now and id(entry) not in self.revoked
        in_revalidation = may_be_stale and entry is not None and now < entry.expires_at + self.revalidate
        in_error = may_be_stale and entry is not None and now < entry.expires_at + self.if_error
        if purpose.is_read:
            self.claim(not in_revalidation, "waited for though it may be served while it is revalidated")
        if purpose == REVALIDATION:
            self.claim(in_revalidation, "revalidated without a value to serve")
        hold = self.holds.get(request.key)
        if hold is None or purpose.is_prefetch or self.max_size < 1000:
            # What is remembered of failures is as bounded as what is stored.
            return
        if (in_error and hold.is_transient) or in_revalidation:
            is_held = hold.since <= now < hold.since + hold.at_least
            self.claim(not is_held, "tried again too early:", _short(request), hold.failures)
        if purpose.is_read and hold.throttled_at is not None:
            is_held = hold.throttled_at <= now < hold.throttled_at + 1.0
            self.claim(not is_held, "tried again within a second of a throttled answer:", _short(request))

    def _watch_land(self, flight: Flight) -> None:
        if flight.landed:
            self._land(flight)
            return
        watched = self.flights[flight]
        before, evictions = dict(self.entries), self.cache._store.evictions
        canonical = self.cache._store.canonical(flight.request)
        if flight.secret is None is flight.error and not flight.loop.is_closed():
            late = max(abs(self.wall() - watched.wall), self.monotonic.now - watched.monotonic) - self.timeout
            is_ended = watched.is_killed or watched.is_late or late > -EPSILON or self.is_closed or not flight.waiters
            self.claim(is_ended, "cancelled though somebody waits:", _short(flight.request))
        self._land(flight)
        watched.landed_at = self.log("landed", _short(flight.request), flight.error and type(flight.error).__name__)
        self.counted["errors"] += flight.error is not None
        if flight.secret is not None:
            self.by_secret[id(flight.secret)] = watched
            self._check_secret(flight)
        is_evicted = self.cache._store.evictions > evictions
        if watched.is_forgotten or flight.secret is None:
            self.claim(before == self.entries, "what wasn't to be stored was:", _short(flight.request))
        else:
            self._check_stored(flight, flight.secret, before, is_evicted)
        if not watched.is_forgotten:
            self._note(watched, canonical.key, before)

    def _check_secret(self, flight: Flight) -> None:
        """What a flight brings comes from a call for it, made on its loop since it started."""
        secret, request = flight.secret, flight.request
        assert secret is not None
        value = Value.of(secret.secret_string or "")
        call = self.source.calls[value.call]
        self.claim(request in call.requests and call.loop is flight.loop, "it was brought by another's call")
        self.claim(value.arn == secret.arn, "it is another's value")

    def _check_stored(self, flight: Flight, secret: Secret, before: dict[Any, Entry], is_evicted: bool) -> None:
        request, started = flight.request, self.flights[flight].tick
        ids = {request.secret_id, secret.arn, self.cache._store.canonical(request).secret_id}
        for key in before.keys() | self.entries.keys():
            old, new = before.get(key), self.entries.get(key)
            if old is new:
                continue
            if new is None:
                # The name is another secret's now, or there was no room.
                is_recreated = old is not None and old.secret.arn != secret.arn and old.secret.name == secret.name
                self.claim(is_evicted or is_recreated, "dropped for nothing:", key)
                continue
            self.claim(_id_of(key) in ids, "stored for another secret:", key)
            if any(new is each and _id_of(other) in ids for other, each in before.items()):
                # What was fetched by the ARN is the name's, as this has shown.
                self.claim(old is None or self._started(old) < self._started(new), "an older value was moved:", key)
                continue
            self.claim(new.secret is secret, "stored what it didn't bring:", key)
            self.claim(old is None or self._started(old) < started, "overwrote what started after it:", key)
            self.claim(old is None or self._refused(old) < started, "stored in spite of a later refusal:", key)
            self._check_expiry(request, flight, new)
        stored = self.entries.get(request.key)
        if stored is None:
            newer = [
                self._started(entry) > started
                for key, entry in before.items()
                if _id_of(key) == request.secret_id and entry.secret.arn != secret.arn
            ]
            self.claim(is_evicted or any(newer), "not stored:", _short(request))
        else:
            self.claim(
                max(self._started(stored), self._refused(stored)) >= started,
                "kept what started before it:",
                _short(request),
            )

    def _refused(self, entry: Entry) -> int:
        """Return when the fetch began that was told that this value may not be had any more."""
        _, tick = self.revoked.get(id(entry), (entry, -1))
        return tick

    def _started(self, entry: Entry) -> int:
        return self.by_secret[id(entry.secret)].tick

    def _check_expiry(self, request: SecretRequest, flight: Flight, entry: Entry) -> None:
        watched = self.flights[flight]
        self.claim(entry.born == watched.wall, "its age doesn't count from its start")
        if self.ttl is None or request.version_id is not None:
            self.claim(entry.expires_at == float("inf"), "it expires though it never does")
        else:
            earliest = entry.born + self.ttl * (1 - self.jitter) - EPSILON
            self.claim(earliest <= entry.expires_at <= entry.born + self.ttl, "its expiry is out of bounds")

    def _note(self, watched: Watched, key: Any, before: dict[Any, Entry]) -> None:
        """Keep the model's account of failures and refusals."""
        flight, error, now = watched.flight, watched.flight.error, self.wall()
        if flight.secret is not None:
            self.holds.pop(key, None)
            return
        entry = before.get(key)
        if isinstance(error, REVOKING) and entry is not None and self._started(entry) < watched.tick:
            self.revoked[id(entry)] = entry, watched.tick
            return
        if error is None or all(purpose.is_prefetch for purpose in watched.purposes):
            return
        more = max(self.revalidate, self.if_error if isinstance(error, TRANSIENT) else 0.0)
        is_stale = (
            entry is not None
            and id(entry) not in self.revoked
            and entry.born <= now
            and entry.expires_at <= now < entry.expires_at + more
        )
        if not is_stale and not isinstance(error, TRANSIENT):
            return
        self.failed[key] = watched.landed_at
        hold = self.holds.setdefault(key, Hold())
        if is_stale:
            hold.failures += 1
            hold.is_transient = isinstance(error, TRANSIENT)
            hold.since = now
            hold.at_least = min(60.0, 2.0**hold.failures) / 2
            hold.throttled_at = None
        if isinstance(error, SecretThrottledError):
            self.throttled.setdefault(key, []).append((error, now))
            hold.throttled_at = now
            if not is_stale:
                hold.failures, hold.at_least = 1, 0.0

    # --- Callers, and what they may be given.

    async def _perform(self, op: Op) -> None:
        assert op.loop is not None
        current_op.set(op)
        op.began = self.log("began", op.number)
        op.began_at, op.rested, op.steps = op.loop.time(), self.rested[op.loop], op.loop.steps
        op.stretches.append((self.wall(), 0.0))
        op.stored = {request: self.entries.get(request.key) for request in op.requests}
        op.revoked = set(self.revoked)
        op.held = {request for request in op.requests if self._is_held(request)}
        try:
            await self._style(op)
        except asyncio.CancelledError:
            self._over(op, "cancelled")
            self.claim(op.was_cancelled, "cancelled by nobody:", op.number)
            for flight in op.awaited:
                is_wanted = any(each.is_wanted for each in flight.carrier.flights)
                is_ended = flight.landed or flight.carrier.task.cancelling()
                self.claim(is_wanted or is_ended, "goes on though nobody waits:", _short(flight.request))
            raise
        except RefusedError as exc:
            self._over(op, "refused")
            self._check_refused(op, exc)
        except SecretCacheError as exc:
            self._over(op, type(exc).__name__)
            self._check_errors(op, exc)
        except Exception as exc:
            if op.is_over:
                # It died with its loop, which a scope of anyio's can't do in silence.
                return
            self._over(op, repr(exc))
            self.claim(False, "an error that isn't typed:", repr(exc))

    def _is_held(self, request: SecretRequest) -> bool:
        """Whether a failure before spares the source now."""
        canonical = self.cache._store.canonical(request)
        hold = self.holds.get(canonical.key)
        # The longest that a back-off may be.
        if hold is None:
            return False
        is_throttled = hold.throttled_at is not None and 0 <= self.wall() - hold.throttled_at < 1.0
        return is_throttled or 0 <= self.wall() - hold.since < 2 * hold.at_least

    def _over(self, op: Op, outcome: str) -> None:
        assert op.loop is not None
        op.is_over = True
        op.stretches[-1] = (op.stretches[-1][0], self.wall())
        self.log("over", op.number, outcome)
        lasted = op.loop.time() - op.began_at - (self.rested[op.loop] - op.rested)
        # A source that needs another secret waits for that too, within its own time.
        self.claim(lasted <= op.limit + EPSILON, "took too long:", op.number, lasted, op.limit)
        is_lost = op.was_cancelled and outcome not in ("cancelled", "scope")
        self.claim(not is_lost, "a cancellation was lost:", op.number)

    async def _style(self, op: Op) -> None:
        if op.style == "deadline":
            assert op.loop is not None
            invocation_deadline.set(Deadline(op.loop.time() + op.limit))
        elif op.style == "scope":
            with anyio.move_on_after(op.limit) as scope:
                await self._read(op)
            if scope.cancelled_caught:
                self._over(op, "scope")
            return
        await self._read(op)

    async def _read(self, op: Op) -> None:
        (request, *_) = op.requests
        cache = self.cache
        if op.kind in ("get", "refresh"):
            method = cache.get if op.kind == "get" else cache.refresh
            secret = await method(request.secret_id, version_stage=request[1], version_id=request[2])
            op.tried.append(secret)
            self._over(op, secret.version_id)
            self._check_value(op, request, secret)
        elif op.kind == "get_secret":
            text = await cache.get_secret(request.secret_id, version_stage=request[1], version_id=request[2])
            self._over(op, text)
            found = [each.flight.secret for each in self.by_secret.values() if _text(each.flight) == text]
            self.claim(found, "nobody has brought this value")
            stored = self.entries.get(request.key)
            if stored is not None and stored.secret in found:
                # A batch may have brought the same by its name and by its ARN.
                found = [stored.secret]
            if found and found[0] is not None:
                self._check_value(op, request, found[0])
        elif op.kind == "get_many":
            outcomes = await cache.get_many([each.secret_id for each in op.requests], return_exceptions=True)
            self._over(op, "many")
            self.claim(list(outcomes) == [each.secret_id for each in op.requests], "other ids than asked for")
            for each in op.requests:
                outcome = outcomes[each.secret_id]
                if isinstance(outcome, Secret):
                    self._check_value(op, each, outcome)
                else:
                    self._check_error(op, outcome)
        elif op.kind == "prefetch":
            await cache.prefetch(*[each.secret_id for each in op.requests])
            self._over(op, "prefetched")
        else:
            await self._call_with_secret(op, request)

    def _check_value(self, op: Op, request: SecretRequest, secret: Secret) -> None:
        """It is the secret's that was asked for, and may be served now."""
        self._check_identity(request, secret)
        watched = self.by_secret.get(id(secret))
        if watched is None:
            self.claim(False, "a value that no flight has brought")
            return
        invalidated = self.invalidated.get(request.secret_id, -1)
        if invalidated < op.began:
            self.claim(watched.tick > invalidated, "a value from before the invalidation:", op.number)
        if op.kind == "refresh":
            self.claim(watched.flight in op.boarded and watched.flight.is_refresh, "a refresh didn't fetch")
        if watched.landed_at > op.began:
            return
        # From memory.
        entry = op.stored[request]
        if entry is None or entry.secret is not secret:
            # It may have become known meanwhile that what was stored by the ARN is the name's.
            entry = self.entries.get(request.key)
        if entry is None or entry.secret is not secret:
            self.claim(False, "a value that wasn't stored:", op.number)
            return
        if self._lasts(op, entry, 0.0):
            return
        refused = "a stale value though it was refused:", op.number, _short(request)
        self.claim(id(entry) not in op.revoked, *refused)
        if self._lasts(op, entry, self.revalidate):
            return
        # What was decided before the refusal stands, though others have had to be waited for since.
        self.claim(id(entry) not in self.revoked or request in op.held, *refused)
        failed = [each for each in op.boarded if each.request in (request, request.by_name)]
        has_failed = any(isinstance(each.error, TRANSIENT) or each.secret is None is each.error for each in failed)
        has_failed |= self._is_late(op)
        has_failed |= self.failed.get(self.cache._store.canonical(request).key, -1) > op.began
        self.claim(has_failed or request in op.held, "a stale value though nothing has failed:", op.number)
        self.claim(self._lasts(op, entry, self.if_error), "too old a value:", op.number)

    def _lasts(self, op: Op, entry: Entry, more: float) -> bool:
        """Whether, at some time while it was asked for, it was served no longer than this past its expiry."""
        stretches = op.stretches if op.is_suspended else [(op.stretches[0][0],) * 2]
        limit = entry.expires_at + more
        return any(max(first, entry.born) <= last and max(first, entry.born) < limit for first, last in stretches)

    def _check_identity(self, request: SecretRequest, secret: Secret) -> None:
        kept = self.vault.by_arn[secret.arn]
        value = Value.of(secret.secret_string or "")
        self.claim(value.arn == secret.arn, "another's value:", request)
        self.claim(kept.version_id(value.version) == secret.version_id, "another version's value:", request)
        if request.secret_id.startswith("arn:"):
            self.claim(secret.arn == request.secret_id, "another ARN's value:", request, secret.arn)
        else:
            self.claim(kept.name == request.secret_id, "another name's value:", request, secret.arn)
            self.claim(kept.account != FOREIGN, "another account's value:", request, secret.arn)
        if request.version_id is not None:
            self.claim(secret.version_id == request.version_id, "another version:", request)
        else:
            self.claim((request.version_stage or CURRENT) in secret.version_stages, "another stage:", request)

    def _check_errors(self, op: Op, error: SecretCacheError) -> None:
        if op.kind == "prefetch" and not isinstance(error, ConfigurationError):
            self.claim(isinstance(error, SecretErrorGroup), "prefetch raises a group")
        errors = error.exceptions if isinstance(error, SecretErrorGroup) else [error]
        for each in errors:
            assert isinstance(each, SecretCacheError)
            self._check_error(op, each)
        if op.kind in ("get", "get_secret", "call_with_secret") and isinstance(error, TRANSIENT) and not op.tried:
            (request,) = op.requests
            entry, now = self.entries.get(request.key), self.wall()
            may_be_served = (
                entry is not None
                and id(entry) not in self.revoked
                and entry.born <= now < entry.expires_at + self.if_error
            )
            self.claim(not may_be_served, "an error though a stale value may be served:", op.number)

    def _check_error(self, op: Op, error: SecretCacheError) -> None:
        """It is nobody else's, names what was asked for, and something has happened that explains it."""
        self.claim(id(error) not in self.errors, "an error that somebody else has:", op.number)
        self.errors[id(error)] = error
        if self.is_closed and isinstance(error, ConfigurationError):
            return
        asked = [request for request in op.requests if request.secret_id == error.secret_id]
        flown = {*asked, *(self.cache._store.canonical(request) for request in asked)}
        flown |= {request.by_name for request in asked}
        landed = [flight for flight in op.boarded if flight.request in flown]
        is_explained = any(self._is_same(flight.error, error) for flight in landed)
        if isinstance(error, SecretUnavailableError) and not is_explained:
            was_cancelled = sum(flight.landed and flight.secret is None is flight.error for flight in landed) >= 2
            is_explained = was_cancelled or self._is_late(op)
        if isinstance(error, SecretThrottledError) and not is_explained:
            is_explained = any(self._is_throttled(op, request, error) for request in flown)
        if isinstance(error, ConfigurationError) and error.secret_id is None:
            is_explained = any(self._is_same(flight.error, error) for flight in op.boarded)
        self.claim(is_explained, "an error without a cause:", op.number, repr(error), error.secret_id)

    @staticmethod
    def _is_late(op: Op) -> bool:
        """Whether its invocation's deadline has come."""
        assert op.loop is not None
        return op.style == "deadline" and op.loop.time() >= op.began_at + op.limit - EPSILON

    def _is_throttled(self, op: Op, request: SecretRequest, error: SecretCacheError) -> bool:
        """Whether an answer was still held while this caller asked."""
        answers = self.throttled.get(request.key, [])
        at = [at for answer, at in answers if self._is_same(answer, error)]
        return any(max(begin, first) <= min(end, first + 1.0) for first in at for begin, end in op.stretches)

    @staticmethod
    def _is_same(one: SecretCacheError | None, other: SecretCacheError) -> bool:
        return (
            type(one) is type(other)
            and one is not None
            and one.args == other.args
            and one.request_id == other.request_id
        )

    async def _call_with_secret(self, op: Op, request: SecretRequest) -> None:
        async def connect(secret: Secret) -> str:
            if op.tried:
                # Whoever fails with this version begins anew.
                self.paced.pop(self.cache._store.canonical(request).secret_id, None)
            else:
                self.claim(op.refused is None, "called again with nothing")
            op.tried.append(secret)
            self._check_identity(request, secret)
            await asyncio.sleep(0.1)
            version = Value.of(secret.secret_string or "").version
            if version != self.accepted[secret.arn]:
                assert op.loop is not None
                op.refused, op.refused_at, op.refused_rested = RefusedError(), op.loop.time(), self.rested[op.loop]
                raise op.refused
            return secret.version_id

        result = await self.cache.call_with_secret(
            request.secret_id, connect, refresh_on=RefusedError, patience=op.patience
        )
        self._over(op, result)
        self.claim(result == op.tried[-1].version_id, "another's result")
        self._check_tries(op)

    def _check_tries(self, op: Op) -> None:
        versions = [secret.version_id for secret in op.tried]
        self.claim(len(set(versions)) == len(versions) <= 2, "tried too often:", op.number, versions)

    def _check_refused(self, op: Op, error: RefusedError) -> None:
        """The function's own error, after two versions, or when nothing more could be done."""
        assert op.loop is not None
        self.claim(error is op.refused, "not the function's own error")
        self._check_tries(op)
        if len(op.tried) == 2:
            return
        given_up = [flight.error for flight in op.boarded if flight.is_refresh and flight.error is not None]
        if any(not isinstance(each, TRANSIENT) for each in given_up) or self.is_closed:
            return
        waited = op.loop.time() - op.refused_at
        is_over = op.patience and waited - (self.rested[op.loop] - op.refused_rested) > op.patience + EPSILON
        self.claim(not is_over, "waited beyond its patience:", op.number, waited, op.patience)
        self.claim(waited + EPSILON >= op.patience, "gave up too early:", op.number, waited, op.patience)
        stored = self.entries.get(op.requests[0].key)
        is_other = stored is not None and stored.secret.version_id != op.tried[0].version_id
        self.claim(not is_other, "gave up though another version is there:", op.number)


ASKING: Final = ("get", "get_secret", "get_many", "prefetch", "refresh", "call_with_secret")


def _short(request: SecretRequest) -> str:
    secret_id = request.secret_id.removeprefix("arn:aws:secretsmanager:eu-west-1:")
    return ":".join([secret_id, *filter(None, request[1:])])


def _id_of(key: Any) -> str:
    secret_id: str = key if isinstance(key, str) else key[0]
    return secret_id


def _text(flight: Flight) -> str | None:
    return None if flight.secret is None else flight.secret.secret_string


def main(seeds: list[str]) -> None:
    """Replay seeds, and show what happened in each."""
    for seed in seeds:
        world = World(int(seed))
        try:
            world.run()
        finally:
            for line in world.trace:
                print(*line)


if __name__ == "__main__":
    main(sys.argv[1:])
