"""Whatever is interleaved with whatever, everybody gets what it asked for, and no call is made in vain.

A script of operations runs on a loop with a virtual clock whose order is drawn from a seed, against a source whose
values tell which secret, which version and which call they are of.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from asecretcache import (
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretErrorGroup,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import ManualClock
from vault import FOREIGN, PREVIOUS, Behaviour, Call, Value, Vault, VaultSource
from virtual_loop import VirtualLoop

TTL = 5.0
NAMES = [f"s{number}" for number in range(45)]
#: These few are met often: by name, by ARN, by version, and by name in another account.
FAMILIAR = 3


class Op(NamedTuple):
    """One step of a script, taken ``pause`` seconds after the one before; ``patience`` is when it is cancelled."""

    kind: str
    pause: float
    target: int
    length: int
    patience: float | None


class Caller(NamedTuple):
    """Somebody who asked, and what became of it."""

    kind: str
    requests: tuple[SecretRequest, ...]
    task: asyncio.Task[Any]
    cancelled: list[bool]


CALM = ("get", "get_many", "prefetch", "refresh")
TROUBLE = (*CALM, "get", "get_many", "refresh", "break", "mend", "refuse", "advance", "invalidate", "clear", "rotate")

_pauses = st.sampled_from([0.0, 0.0, 0.3, 1.0, 3.0])
_targets = st.integers(0, 11)


def scripts(kinds: tuple[str, ...], *, patience: bool) -> st.SearchStrategy[list[Op]]:
    patiences = st.sampled_from([None, None, 0.0, 0.5, 1.5]) if patience else st.none()
    op = st.builds(Op, st.sampled_from(kinds), _pauses, _targets, st.sampled_from([2, 3, 5, 21, 45]), patiences)
    return st.lists(op, min_size=1, max_size=25)


class Stage:
    """A cache over a vault, and a script's run on it."""

    def __init__(self, seed: int, *, batch: bool, **options: Any) -> None:
        self.random = random.Random(seed)
        self.vault = Vault()
        for name in NAMES:
            self.vault.create(name)
        for name in NAMES[:FAMILIAR]:
            self.vault.create(name, FOREIGN)
        for kept in [kept for kept in self.vault.by_arn.values() if kept.name in NAMES[:FAMILIAR]]:
            self.vault.rotate(kept)
        self.broken: set[str] = set()
        self.refuses_batches = False
        self.source = VaultSource(self.vault, self._behave)
        self.clock = ManualClock()
        self.cache = SecretCache(self.source, clock=self.clock, ttl=TTL, jitter=0.0, batch=batch, **options)
        self.loop = VirtualLoop(random.Random(seed))
        self.cache._flights.monotonic = self.loop.time
        self.callers: list[Caller] = []
        self.removals: Counter[str] = Counter()
        self.requests = [
            *[SecretRequest(name) for name in NAMES[:FAMILIAR]],
            *[SecretRequest(kept.arn) for kept in self.vault.by_arn.values() if kept.name in NAMES[:FAMILIAR]],
            SecretRequest(NAMES[0], PREVIOUS),
            SecretRequest(NAMES[0], None, self.vault.by_name[NAMES[0]].version_id(1)),
            SecretRequest("nowhere"),
        ]

    def _behave(self, call: Call) -> Behaviour:
        failures = {
            request.secret_id: self._error(call, request.secret_id)
            for request in call.requests
            if request.secret_id in self.broken
        }
        failure: SecretCacheError | None = None
        if not call.is_batch:
            failure = next(iter(failures.values()), None)
        elif self.refuses_batches:
            failure = SecretThrottledError("slow down")
        before, after = (self.random.choice([0.0, 0.2, 1.0]) for _ in range(2))
        return Behaviour(before, after, failure, failures)

    def _error(self, call: Call, secret_id: str) -> SecretCacheError:
        kind = (SecretUnavailableError, SecretAccessDeniedError)[len(secret_id) % 2]
        return kind(f"no {secret_id}", secret_id=secret_id, request_id=str(call.number))

    def run(self, script: list[Op]) -> None:
        try:
            self.loop.run_until_complete(self._run(script))
            assert not self.cache._flights._all()
            assert not self.loop.complaints
        finally:
            self.loop.close()

    async def _run(self, script: list[Op]) -> None:
        for op in script:
            await asyncio.sleep(op.pause)
            self._take(op)
        if self.callers:
            await asyncio.wait([caller.task for caller in self.callers])
        # Revalidations have nobody who waits for them.
        while self.cache._flights._all():
            await asyncio.sleep(1.0)

    def _take(self, op: Op) -> None:
        request = self.requests[op.target % len(self.requests)]
        match op.kind:
            case "get":
                self._call(op, [request], self.cache.get(**request._asdict()))
            case "refresh":
                self._call(op, [request], self.cache.refresh(**request._asdict()))
            case "get_many" | "prefetch":
                ids = [*NAMES, *[each.secret_id for each in self.requests[FAMILIAR:] if each.key == each.secret_id]]
                ids = [ids[(op.target * 5 + step) % len(ids)] for step in range(op.length)]
                requests = [SecretRequest(secret_id) for secret_id in ids]
                if op.kind == "get_many":
                    self._call(op, requests, self.cache.get_many(ids, return_exceptions=True))
                else:
                    self._call(op, requests, self.cache.prefetch(*ids))
            case "break":
                self.broken.add(request.secret_id)
            case "mend":
                self.broken.clear()
                self.refuses_batches = False
            case "refuse":
                self.refuses_batches = True
            case "advance":
                self.clock.advance(op.length if op.target else -1.0)
                self.removals.update([*self.vault.by_arn, "nowhere"])
            case "invalidate":
                self.cache.invalidate(request.secret_id)
                self.removals[self.secret_of(request)] += 1
            case "clear":
                self.cache.clear()
                self.removals.update([*self.vault.by_arn, "nowhere"])
            case "rotate":
                if kept := self.vault.find(request.secret_id):
                    self.vault.rotate(kept)

    def _call(self, op: Op, requests: list[SecretRequest], coroutine: Coroutine[Any, Any, object]) -> None:
        task = self.loop.create_task(coroutine)
        caller = Caller(op.kind, tuple(dict.fromkeys(requests)), task, [])
        self.callers.append(caller)
        if op.patience is not None:
            self.loop.call_later(op.patience, lambda: caller.cancelled.append(task.cancel()))

    def secret_of(self, request: SecretRequest) -> str:
        """Return the ARN of the secret that a request means; nowhere's is its id."""
        kept = self.vault.find(request.secret_id)
        return request.secret_id if kept is None else kept.arn

    def fetches(self) -> Counter[SecretRequest]:
        """Count how often the source was asked for each, single or in a batch."""
        return Counter(request for call in self.source.calls for request in call.requests)

    # --- What has to hold at the end.

    def check_outcomes(self) -> None:
        """Each caller has a value of its own secret, or an error of its own, or was cancelled by us."""
        instances: list[BaseException] = []
        for caller in self.callers:
            if caller.task.cancelled():
                assert any(caller.cancelled)
                continue
            error = caller.task.exception()
            if error is not None:
                assert isinstance(error, SecretCacheError)
                errors = error.exceptions if isinstance(error, SecretErrorGroup) else (error,)
                assert isinstance(error, SecretErrorGroup) == (caller.kind == "prefetch")
                for each in errors:
                    assert isinstance(each, SecretCacheError)
                    assert each.secret_id in {request.secret_id for request in caller.requests}
                    self._check_error(each, each.secret_id)
                instances += [*errors]
            elif caller.kind == "get_many":
                outcomes: Mapping[str, Secret | SecretCacheError] = caller.task.result()
                assert list(outcomes) == [request.secret_id for request in caller.requests]
                for secret_id, outcome in outcomes.items():
                    if isinstance(outcome, SecretCacheError):
                        self._check_error(outcome, secret_id)
                        instances.append(outcome)
                    else:
                        self._check_value(outcome, SecretRequest(secret_id))
            elif caller.kind != "prefetch":
                self._check_value(caller.task.result(), caller.requests[0])
        assert len({id(each) for each in instances}) == len(instances)

    def _check_value(self, secret: Secret, request: SecretRequest) -> None:
        kept = self.vault.find(request.secret_id)
        assert kept is not None
        assert secret.secret_string is not None
        value = Value.of(secret.secret_string)
        assert value.arn == secret.arn == kept.arn
        assert kept.version_id(value.version) == secret.version_id
        if request.version_id is not None:
            assert secret.version_id == request.version_id
        else:
            assert (request.version_stage or "AWSCURRENT") in secret.version_stages

    def _check_error(self, error: SecretCacheError, secret_id: str | None) -> None:
        """It names what was asked for, and comes from a call for this very secret."""
        assert secret_id is not None
        assert error.secret_id == secret_id
        assert error.request_id is not None, error
        call = self.source.calls[int(error.request_id)]
        secret = self.secret_of(SecretRequest(secret_id))
        assert secret in {self.secret_of(request) for request in call.requests}
        assert self.secret_of(SecretRequest(error.args[0].split()[-1])) == secret

    def check_batches(self) -> None:
        """No batch has one id alone, more than twenty, one twice, or a version."""
        for call in self.source.calls:
            if call.is_batch:
                assert 2 <= len(call.requests) <= 20
                assert len(set(call.requests)) == len(call.requests)
                assert all(request == SecretRequest(request.secret_id) for request in call.requests)


batches = st.booleans()
seeds = st.integers(0, 2**32)


@settings(deadline=None)
@given(scripts(CALM, patience=False), seeds, batches)
def test_undisturbed_each_key_costs_one_call_and_each_refresh_at_most_one_more(
    script: list[Op], seed: int, batch: bool
) -> None:
    """Whoever asks how often in whatever order: one call for each distinct key that is read, one at most a refresh.

    An ARN's key is its name's where a fetch by name had shown that before the ARN was asked for. No key is fetched
    twice at once, but that a refresh doesn't wait for a plain fetch.
    """
    stage = Stage(seed, batch=batch)
    stage.run(script)

    stage.check_outcomes()
    stage.check_batches()
    read = {request for caller in stage.callers if caller.kind != "refresh" for request in caller.requests}
    refreshes = Counter(caller.requests[0] for caller in stage.callers if caller.kind == "refresh")
    for request, fetched in stage.fetches().items():
        arn = stage.secret_of(request)
        aliases = {request, request._replace(secret_id=arn)}
        if arn == "nowhere":
            continue
        refreshed = sum(refreshes[alias] for alias in aliases)
        assert fetched <= (not read.isdisjoint(aliases)) + refreshed
        assert stage.source.most_at_once[request] <= 1 + (refreshed > 0)


@settings(deadline=None)
@given(scripts(TROUBLE, patience=True), seeds, batches, st.sampled_from([2, 4, 1000]), st.sampled_from([0.0, 4.0]))
def test_whatever_happens_each_caller_gets_its_own_and_no_call_is_in_vain(
    script: list[Op], seed: int, batch: bool, max_size: int, stale: float
) -> None:
    """Whatever else happens meanwhile, everybody gets its own value or error, and a key is fetched with reason only.

    The number of times that the source is asked for a key, single or in a batch, is at most 1, plus 1 for each of:

    - a refresh of that secret;
    - a time it was asked for the key and didn't deliver: it failed, was refused with its batch, or was cancelled,
      because its callers were, or because the clock had been moved so far that it had slept;
    - an invalidation of the secret, and a clearing of all;
    - a move of the clock, after which the value may have expired;
    - an eviction, of whichever key.
    """
    stage = Stage(
        seed, batch=batch, max_size=max_size, stale_while_revalidate=stale, stale_if_error=stale, fetch_timeout=8.0
    )
    stage.run(script)

    stage.check_outcomes()
    stage.check_batches()
    refreshes = Counter(
        (stage.secret_of(request), *request[1:])
        for caller in stage.callers
        if caller.kind == "refresh"
        for request in caller.requests
    )
    undelivered = Counter(
        request
        for call in stage.source.calls
        for request in call.requests
        if not isinstance(call.outcomes.get(request.secret_id), Secret)
    )
    for request, fetched in stage.fetches().items():
        secret = stage.secret_of(request)
        reasons = refreshes[secret, *request[1:]] + undelivered[request] + stage.removals[secret]
        assert fetched <= 1 + reasons + stage.cache.stats().evictions
