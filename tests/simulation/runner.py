"""A machine in miniature in which everything goes wrong, and the rules that hold all the same.

``Simulation(schedule).run()`` runs a schedule (schedule.py): callers of all kinds, cancellations, failures of the
source, rotations, event loops that rest, end or die while fetches run, clocks that jump. It runs on event loops with a
virtual clock (virtual_loop.py) against a source whose values say where they come from (fake_secrets_manager.py), so
that hours of it take milliseconds. What callers, the source and an observer of fetches see is judged by the rules of
the contract (records.RULES, fetch_rules.py and caller_rules.py). A violation is raised as an AssertionError.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Any, Final

import anyio

import observe
from asecretcache import Secret, SecretCache, SecretCacheError, SecretRequest
from observe import Fetch, FetchObserver, FetchReason, FetchTask
from simulation.caller_rules import CallerRules, RefusedError
from simulation.conditions import draw_behaviour
from simulation.fake_secrets_manager import (
    Behaviour,
    Call,
    FakeSecret,
    FakeSecretsManager,
    FakeSource,
    full_id,
    short,
    short_id,
)
from simulation.fetch_rules import FetchRules
from simulation.records import RULES, Caller, Clocks, Wanted, current_caller
from simulation.schedule import (
    MANY_NAMES,
    NAMES,
    Ask,
    Cancel,
    CancelFetch,
    Clear,
    Close,
    Conditions,
    Create,
    Delete,
    Freeze,
    Invalidate,
    Jump,
    MoveLabel,
    Pause,
    Rotate,
    Schedule,
    Step,
    SwitchLoop,
)
from simulation.virtual_loop import StuckError, VirtualLoop

_MOST_CALLBACKS: Final = 5_000
#: The secret of the last caller.
_LAST: Final = "z"
#: Longer than any held answer or back-off.
_LONG: Final = 100.0


class Violation(AssertionError):
    """A rule was violated.

    Attributes:
        rule: which one, a key of RULES.
        details: how.
        trace: the last events.
    """

    def __init__(self, rule: str, details: str, trace: str) -> None:
        super().__init__(f"{rule}: {RULES[rule]}\n{details}\n{trace}")
        self.rule, self.details, self.trace = rule, details, trace


class Simulation(FetchObserver):
    """One run of a schedule; see the module.

    Attributes:
        trace: what has happened, with the monotonic time.
        met: how often each step, outcome and kind of failure was met.
        behaviours: what each call did, as a plan for a schedule.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.options = schedule.options
        self.trace: list[tuple[Any, ...]] = []
        self.met: Counter[str] = Counter()
        self.behaviours: dict[tuple[str, int], Behaviour] = {}
        self.violations: list[tuple[str, str]] = []
        self.clocks = Clocks()
        self.manager = FakeSecretsManager()
        for name in (*NAMES, *MANY_NAMES, _LAST):
            self.manager.create(name)
        for name in NAMES[:2]:
            self.manager.create(name, is_foreign=True)
        self.source = FakeSource(self.manager, self._called, self._read_other, self._call_failed)
        options = self.options._asdict()
        del options["needs"]
        options["ttl_by_secret"] = {full_id(each): ttl for each, ttl in self.options.ttl_by_secret.items()}
        self.cache: SecretCache = observe.new_cache(
            self.source, monotonic=self.clocks.monotonic, clock=self.clocks.wall, **options
        )
        self.fetches = FetchRules(self.options, self.cache, self.manager, self.clocks, self.claim)
        self.callers = CallerRules(self.fetches, self.clocks, self.claim)
        #: The tasks that were told of, with the fetches that they had then.
        self.tasks: dict[FetchTask, list[Fetch]] = {}
        observe.watch(self.cache, self)
        self._loops: list[VirtualLoop] = []
        self._resting: list[VirtualLoop] = []
        self._left_at: dict[VirtualLoop, float] = {}
        self._by_id: dict[int, Caller] = {}
        self._running: list[Caller] = []
        self._conditions = Conditions()
        self._is_calm = False
        self._calls: Counter[str] = Counter()
        self._reads_by_source = 0

    @property
    def calls(self) -> list[list[str]]:
        """What each call was for, but for the last caller's."""
        calls = [[short(request) for request in call.requests] for call in self.source.calls]
        return [call for call in calls if call != [_LAST]]

    def result(self, ask: int) -> object:
        """Return what a caller got: a value, a mapping or an error."""
        return self._by_id[ask].result

    def stored(self, reference: str) -> Secret | None:
        """Return what is stored in the end."""
        return self.cache.peek(Wanted(reference).reference)

    def log(self, *what: object) -> None:
        self.trace.append((self.clocks.monotonic.now, *what))

    def told(self, last: int = 0) -> list[str]:
        """Return what has happened, line by line; with ``last`` only so many of the last lines."""
        return [f"{at:.6g} {_words(what)}" for at, *what in self.trace[-last:]]

    def claim(self, rule: str, holds: object, *details: object) -> None:
        """Note a violation, unless it holds; an error that is raised within the cache might be swallowed there."""
        if not holds:
            self.log("VIOLATION", rule, *details)
            self.violations.append((rule, _words(details)))

    def run(self) -> None:
        """Run it all, and raise Violation if a rule was violated."""
        number = self.schedule.fractions
        draw = (lambda: 0.0) if number is None else random.Random(f"fractions {number}").random
        # They are the kernel's otherwise, which no seed repeats.
        with observe.draw_fractions(draw):
            try:
                self._run()
            except StuckError as exc:
                self.claim("stuck", False, exc)
            except Exception:
                self.claim("simulation", False, traceback.format_exc())
            finally:
                for loop in self._loops:
                    self._bury(loop)
                for caller in self._by_id.values():
                    if caller.is_running and caller.task is not None:
                        caller.task.get_coro().close()
        if self.violations:
            rule, details = self.violations[0]
            raise Violation(rule, details, "\n".join(self.told(40)))

    # --- Loops.

    def _run(self) -> None:
        loop: VirtualLoop | None = None
        steps: list[Step] = []
        for step in (*self.schedule.steps, None):
            if step is not None and not isinstance(step, SwitchLoop):
                steps.append(step)
                continue
            if steps or isinstance(step, SwitchLoop):
                loop = loop or self._new_loop()
                self._use(loop, self._play(loop, steps))
                self._leave(loop, step.fate if step else "finish")
                steps = []
                loop = None
            if self.violations:
                return
            if step is not None and step.resume and self._resting:
                loop = self._resting.pop(0)
        for each in (loop, *self._resting):
            if each is not None:
                self._leave(each, "finish")
        self._look_back()

    def _new_loop(self) -> VirtualLoop:
        number = self.schedule.order
        order = None if number is None else random.Random(f"order {number} {len(self._loops)}")
        loop = VirtualLoop(order, self.clocks.monotonic, most_callbacks=_MOST_CALLBACKS)
        self._loops.append(loop)
        return loop

    def _use(self, loop: VirtualLoop, coroutine: Coroutine[Any, Any, object]) -> None:
        now = self.clocks.monotonic.now
        self.clocks.rested[loop] = self.clocks.rested.get(loop, 0.0) + now - self._left_at.get(loop, now)
        try:
            loop.run_until_complete(coroutine)
        finally:
            coroutine.close()
        self._left_at[loop] = self.clocks.monotonic.now

    def _leave(self, loop: VirtualLoop, fate: str) -> None:
        if fate == "die" and any(caller.ask.style == "scope" for caller in self._running_on(loop)):
            # What anyio knows of a scope's task refers to that task, so it is kept for ever if its loop dies.
            fate = "end"
        self.log("loop", self._loops.index(loop), fate)
        self.met[fate] += 1
        if fate == "rest":
            self._resting.append(loop)
            return
        if fate == "finish":
            self._use(loop, self._finish(loop))
        elif fate == "end":
            self._use(loop, self._cancel_all(loop))
        self._bury(loop)

    async def _cancel_all(self, loop: VirtualLoop) -> None:
        """Cancel everything that runs on a loop, fetches too, and wait for that, as asyncio.run does."""
        callers = self._running_on(loop)
        tasks = [caller.task for caller in callers if caller.task]
        for caller in callers:
            self._cancel(caller)
        for fetch in [each for each in self.fetches.running if each.loop is loop]:
            tasks.append(observe.task(fetch))
            self._cancel_task(observe.task(fetch))
        # What a batch that is cancelled has passed on meanwhile is a task of its own.
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, loop: VirtualLoop) -> None:
        """Let everything on a loop come to its end."""
        while waiting := [caller.task for caller in self._running_on(loop) if caller.task]:
            await asyncio.wait(waiting)
        for _ in range(100):
            if not any(fetch.loop is loop for fetch in self.fetches.running):
                break
            await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self.claim("left over", not left, "tasks:", len(left))

    def _bury(self, loop: VirtualLoop) -> None:
        """Close a loop, whatever runs on it."""
        if loop.is_closed():
            return
        loop.close()
        for caller in self._running_on(loop):
            caller.is_over = True
            assert caller.task is not None
            caller.task._log_destroy_pending = False  # type: ignore[attr-defined]  # the caller's own, and it is dead
            if caller.ask.id % 2:
                caller.task.get_coro().close()  # as the garbage collector would, sooner or later
        self.claim("left over", not loop.complaints, "complaints of the loop:", loop.complaints)

    def _running_on(self, loop: VirtualLoop) -> list[Caller]:
        self._running = [caller for caller in self._running if caller.is_running]
        return [caller for caller in self._running if caller.loop is loop]

    def _look_back(self) -> None:
        """See to it that nothing is left over, and that what was counted is what has happened."""
        loop = self._new_loop()
        self._is_calm = True
        self._use(loop, self._last_caller(loop))
        self._bury(loop)
        self.claim("left over", not observe.running(self.cache), "fetches")
        self.claim("told once", not self.tasks, "tasks whose end isn't told:", len(self.tasks))
        for record in self.fetches.records.values():
            self.claim("left over", record.has_ended, "a fetch:", record.fetch.request)
            has_waiters = record.fetch.waiters and not record.fetch.loop.is_closed()
            self.claim("left over", not has_waiters, "waiters:", record.fetch.request)
        if self.fetches.is_closed:
            self.claim("left over", not observe.entries(self.cache), "values of a closed cache")
        self._check_statistics()

    def _check_statistics(self) -> None:
        stats, counts, calls = self.cache.stats(), self.fetches.counts, self.source.calls
        batches = [call for call in calls if call.is_batch]
        expected = {
            "get_calls": len(calls) - len(batches),
            "batch_calls": len(batches),
            "batched_ids": sum(len(call.requests) for call in batches),
            **{name: counts[name] for name in ("coalesced", "errors", "evictions", "refreshes")},
        }
        counted = {name: getattr(stats, name) for name in expected}
        self.claim("statistics", counted == expected, counted, "instead of", expected)
        reads = stats.hits + stats.misses + stats.stale_served
        least, most = self.callers.reads + self._reads_by_source, self.callers.most_reads + self._reads_by_source
        self.claim("statistics", least <= reads <= most, reads, "reads instead of", least, "to", most)

    async def _last_caller(self, loop: VirtualLoop) -> None:
        """Once all is well again, a caller gets its secret."""
        await asyncio.sleep(_LONG)
        # A refresh, because a caller that fetches makes the cache sweep out what closed loops have left.
        caller = self._ask(loop, Ask(-1, "refresh", (_LAST,)))
        await asyncio.wait([caller.task] if caller.task else [])
        if self.fetches.is_closed:
            # Once more, which does that for a closed cache.
            await self.cache.aclose()
        self.claim("recovery", self.fetches.is_closed or caller.tried, "the last caller didn't get it")
        await self._finish(loop)

    # --- Steps.

    async def _play(self, loop: VirtualLoop, steps: list[Step]) -> None:
        for step in steps:
            if self.violations:
                return
            self.met[type(step).__name__] += 1
            match step:
                case Pause():
                    await asyncio.sleep(step.seconds)
                    continue
                case Ask():
                    self._ask(loop, step)
                    continue
                case Close():
                    await self._close()
                    continue
            self.log(type(step).__name__, *step)
            match step:
                case Cancel():
                    for caller in self._running_on(loop):
                        if caller.ask.id in step.ids:
                            self._cancel(caller)
                case Conditions():
                    self._conditions = step
                case Rotate():
                    self._rotate(loop, step)
                case MoveLabel():
                    self._move_label(step)
                case Delete() if step.name in self.manager.by_name:
                    self.manager.delete(step.name)
                case Create() if step.name not in self.manager.by_name:
                    self.manager.create(step.name)
                case Jump():
                    self.clocks.offset += step.seconds
                case Freeze():
                    self._freeze(step)
                case CancelFetch():
                    self._cancel_fetch(loop, step)
                case Invalidate():
                    self._invalidate(full_id(step.secret))
                case Clear():
                    self._clear()

    def _ask(self, loop: VirtualLoop, ask: Ask) -> Caller:
        caller = self._by_id[ask.id] = Caller(ask, loop)
        self._running.append(caller)
        self.log("ask", *ask)
        caller.task = loop.create_task(self._perform(caller))
        return caller

    def _cancel(self, caller: Caller) -> None:
        assert caller.task is not None
        caller.was_cancelled = caller.task.cancel() or caller.was_cancelled

    def _rotate(self, loop: VirtualLoop, step: Rotate) -> None:
        secret = self.manager.find(full_id(step.secret))
        if secret is None or secret.is_rotating:
            return
        secret.accepted = secret.versions + 1
        secret.is_rotating = True
        if step.lag:
            loop.call_later(step.lag, self._rotated, secret)
        else:
            self._rotated(secret)

    def _rotated(self, secret: FakeSecret) -> None:
        secret.is_rotating = False
        self.manager.rotate(secret)
        self.log("rotated", secret.short_id, secret.versions)

    def _move_label(self, step: MoveLabel) -> None:
        secret = self.manager.find(full_id(step.secret))
        if secret is not None and not secret.is_rotating and step.version <= secret.versions:
            self.manager.label(secret, step.version)
            secret.accepted = step.version

    def _freeze(self, step: Freeze) -> None:
        monotonic = step.seconds if step.is_monotonic else 0.0
        self.clocks.offset += step.seconds - monotonic
        self.clocks.monotonic.now += monotonic
        for loop in self.clocks.rested:
            if loop not in self._resting:
                self.clocks.rested[loop] += monotonic

    def _cancel_fetch(self, loop: VirtualLoop, step: CancelFetch) -> None:
        for fetch in self.fetches.running:
            if fetch.loop is loop and step.secret in ("", short_id(fetch.request.secret_id)):
                self.met["fetch cancelled"] += 1
                self._cancel_task(observe.task(fetch))
                return

    def _cancel_task(self, task: asyncio.Task[None]) -> None:
        self.fetches.disturbed(task)
        task.cancel()

    def _invalidate(self, secret_id: str) -> None:
        if self.fetches.is_closed:
            return
        self.fetches.invalidated(secret_id)
        self.callers.invalidated(secret_id)
        self.cache.invalidate(secret_id)
        self.fetches.check_invalidated(secret_id)

    def _clear(self) -> None:
        self.fetches.cleared()
        self.callers.invalidated(None)
        self.cache.clear()
        self.fetches.check_cleared()

    async def _close(self) -> None:
        self.log("close")
        self.fetches.closed()
        await self.cache.aclose()

    # --- The source.

    def _called(self, call: Call) -> Behaviour:
        """A call begins: judge it, and return what it does."""
        try:
            self.fetches.called(call)
        except Exception:
            self.claim("simulation", False, traceback.format_exc())
        first = short_id(call.requests[0].secret_id)
        key = first, self._calls[first]
        self._calls[first] += 1
        behaviour = Behaviour() if self._is_calm else self.schedule.plan.get(key)
        if behaviour is None:
            behaviour = draw_behaviour(call, key, self._conditions, self.schedule, self.manager)
        self.behaviours[key] = behaviour
        self.log("call", call.number, *call.requests, behaviour)
        if behaviour.cancels:
            self.fetches.disturbed(call.task)
        return behaviour

    def _call_failed(self, call: Call) -> None:
        self.log("failed", call.number, type(call.failure).__name__)
        if call.is_batch:
            self.fetches.batch_failed(call)

    async def _read_other(self, short: str) -> Secret:
        """The source reads another secret through the cache before it can fetch this one."""
        self._reads_by_source += not self.fetches.is_closed
        return await self.cache.get(full_id(short))

    # --- Fetches.

    def started(self, task: FetchTask) -> None:
        """The cache tells of a task that makes a call."""
        self.claim("told once", task not in self.tasks and bool(task.fetches), "a task that was started")
        self.tasks[task] = list(task.fetches)

    def task_ended(self, task: FetchTask) -> None:
        """The cache tells of a task that has ended."""
        fetches = self.tasks.pop(task, None)
        self.claim("told once", fetches is not None, "a task that has ended")
        for fetch in fetches or ():
            self.claim("told once", fetch.is_done or fetch.task is not task, "ended before its fetch:", fetch.request)

    def joined(self, fetch: Fetch, reason: FetchReason, *, is_new: bool, is_retry: bool) -> None:
        """The cache tells of a fetch that was started or joined."""
        self.claim("told once", fetch.task in self.tasks, "joined before its task was told:", fetch.request)
        self.log("fetch" if is_new else "join", fetch.request, reason.value, "again" if is_retry else "")
        self.met[f"{'fetch' if is_new else 'join'} {reason.value}"] += 1
        self.met["retry"] += is_retry
        try:
            record = self.fetches.joined(fetch, reason, is_new=is_new, is_retry=is_retry)
            caller = current_caller.get()
            if caller is not None:
                self.callers.joined(caller, record, reason, is_new=is_new, is_retry=is_retry)
        except Exception:
            self.claim("simulation", False, traceback.format_exc())

    def ended(self, fetch: Fetch) -> None:
        """The cache tells of a fetch that has ended."""
        result = type(fetch.error).__name__ if fetch.error else "cancelled" if fetch.was_cancelled else "value"
        self.log("ended", fetch.request, result)
        self.met[f"fetch: {result}"] += 1
        try:
            self.fetches.ended(fetch)
        except Exception:
            self.claim("simulation", False, traceback.format_exc())

    # --- Callers.

    async def _perform(self, caller: Caller) -> None:
        current_caller.set(caller)
        self.callers.began(caller)
        try:
            await self._with_style(caller)
        except asyncio.CancelledError:
            self._over(caller, "cancelled")
            self.claim("cancellation", caller.was_cancelled, "cancelled by nobody:", caller.ask.id)
            raise
        except RefusedError as exc:
            caller.result = exc
            self._over(caller, "refused")
            self.callers.was_refused(caller, exc)
        except SecretCacheError as exc:
            caller.result = exc
            self._over(caller, type(exc).__name__)
            self.callers.got_error(caller, exc)
        except Exception as exc:
            if caller.is_over:
                # It died with its loop, which a scope of anyio's can't do in silence.
                return
            self._over(caller, repr(exc))
            self.claim("typed error", False, "an error that isn't the package's:", repr(exc))

    def _over(self, caller: Caller, outcome: str) -> None:
        self.log("over", caller.ask.id, outcome)
        self.met[outcome if outcome in ("cancelled", "refused", "scope") else outcome.partition("(")[0]] += 1
        self.callers.ended(caller, outcome)

    async def _with_style(self, caller: Caller) -> None:
        ask, loop = caller.ask, caller.loop
        if ask.style == "scope":
            with anyio.move_on_after(ask.limit) as scope:
                await self._read(caller)
            if scope.cancelled_caught:
                self._over(caller, "scope")
            return
        if ask.style:
            deadline = caller.deadline = observe.set_deadline(ask.limit)
            if ask.style == "ended":
                loop.call_later(ask.limit / 2, deadline.clear)
        await self._read(caller)

    async def _read(self, caller: Caller) -> None:
        cache, rules = self.cache, self.callers
        (wanted, *_), references = caller.wanted, [each.reference for each in caller.wanted]
        reference, versions = wanted.reference, {}
        if caller.ask.keywords:
            reference = reference if wanted.field is None else f"{wanted.secret_id}:{wanted.field}"
            reference = wanted.secret_id if wanted.field is None else reference
            versions = {"version_stage": wanted.stage, "version_id": wanted.version}
        match caller.kind:
            case "get" | "refresh":
                method = cache.get if caller.kind == "get" else cache.refresh
                secret = caller.result = await method(reference, **versions)
                caller.tried.append(secret)
                self._over(caller, secret.version_id)
                rules.got_secret(caller, wanted, secret)
            case "get_secret" | "get_json":
                read = cache.get_secret if caller.kind == "get_secret" else cache.get_json
                text = caller.result = await read(reference, **versions)
                self._over(caller, "text")
                rules.got_text(caller, wanted, text)
            case "get_secrets":
                texts = caller.result = await cache.get_secrets(*references)
                self._over(caller, "several")
                self.claim("identity", list(texts) == references, "other references:", caller.ask.id)
                for each in caller.wanted:
                    rules.got_text(caller, each, texts[each.reference])
            case "get_many":
                results = caller.result = await cache.get_many(*references, return_exceptions=True)
                self._over(caller, "several")
                self.claim("identity", list(results) == references, "other references:", caller.ask.id)
                for each in caller.wanted:
                    result = results[each.reference]
                    if isinstance(result, Secret):
                        rules.got_secret(caller, each, result)
                    else:
                        rules.got_one_error(caller, result, each)
            case "prefetch":
                await cache.prefetch(*references)
                self._over(caller, "prefetched")
            case _:
                version = await cache.call_with_secret(
                    reference,
                    lambda secret: rules.connect(caller, secret),
                    refresh_on=RefusedError,
                    refresh_timeout=caller.ask.refresh_timeout,
                )
                caller.result = version
                self._over(caller, "connected")
                rules.connected(caller, version)


def _words(what: Iterable[object]) -> str:
    words = (short(each) if isinstance(each, SecretRequest) else each for each in what)
    return " ".join(f"{each:.6g}" if isinstance(each, float) else str(each) for each in words)
