"""The rules for what callers get, judged at the moment at which they get it."""

from __future__ import annotations

import asyncio
import json

from asecretcache import (
    CacheClosedError,
    Secret,
    SecretCacheError,
    SecretErrorGroup,
    SecretFormatError,
    SecretRequest,
    SecretUnavailableError,
)
from observe import FetchReason
from simulation.fake_secrets_manager import ABSENT, CURRENT, Value, short_id
from simulation.fetch_rules import FetchRules
from simulation.records import EPSILON, LONGEST_CLEAN_UP, Caller, Claim, Clocks, FetchRecord, Wanted, may_be_same
from simulation.schedule import READS, SEVERAL

#: How long the function of call_with_secret takes.
CONNECTING = 0.1


class RefusedError(Exception):
    """The database doesn't accept the password."""


class CallerRules:
    """Is told when callers begin, join fetches and end."""

    def __init__(self, fetches: FetchRules, clocks: Clocks, claim: Claim) -> None:
        self.fetches, self.options, self.manager = fetches, fetches.options, fetches.manager
        self.clocks, self.claim = clocks, claim
        self.callers: list[Caller] = []
        self.errors: dict[int, tuple[Caller, SecretCacheError]] = {}
        self.events = 0
        #: Of which id (None: all), when in the order of events, and how many fetches had been started.
        self.invalidations: list[tuple[str | None, int, int]] = []
        #: When call_with_secret has refreshed an id last, and how often since another version came.
        self.paces: dict[str, tuple[float, int]] = {}
        self.reads = self.most_reads = 0

    def limit(self, caller: Caller) -> float:
        """Return how long a caller may take."""
        ask, two_fetches = caller.ask, 2 * (self.options.fetch_timeout + LONGEST_CLEAN_UP)
        if ask.kind == "call_with_secret":
            # The function is called twice, and without a refresh_timeout there is one refresh.
            return two_fetches + 2 * CONNECTING + (ask.refresh_timeout or two_fetches)
        return min(ask.limit, two_fetches) if ask.style in ("deadline", "scope") else two_fetches

    # --- Moments.

    def began(self, caller: Caller) -> None:
        self.events += 1
        self.callers.append(caller)
        caller.began, caller.began_at = self.events, self.clocks.running(caller.loop)
        caller.steps, caller.limit = caller.loop.steps, self.limit(caller)
        caller.was_open = not self.fetches.is_closed
        self._allow(caller)
        if not caller.was_open or caller.kind not in READS:
            return
        self.reads += len(caller.requests)
        self.most_reads += max(len(caller.wanted), len(caller.requests))
        now = self.clocks.wall()
        for request in caller.requests:
            record = self.fetches.stored.get(request.key)
            if record is not None and record.is_served_at_once(now, self.options.stale_while_revalidate):
                caller.at_once[request] = record

    def joined(self, caller: Caller, record: FetchRecord, reason: FetchReason, *, is_new: bool, is_retry: bool) -> None:
        if is_retry and not caller.has_retried:
            # What it doesn't wait for again was decided now.
            caller.has_retried = True
            self._allow(caller)
        if reason is FetchReason.REVALIDATION:
            return
        caller.joined.append(record)
        if caller.kind == "call_with_secret" and reason is FetchReason.REFRESH and is_new and not is_retry:
            self._check_pace(record.fetch.request.secret_id)
            stored = self.fetches.stored.get(record.fetch.request.key)
            is_other = _is_another(stored, caller.tried[0]) and self._may_be_served(stored)
            self.claim("rotation", not is_other, "refreshed though another version is in memory:", caller.ask.id)

    def _may_be_served(self, stored: FetchRecord | None) -> bool:
        """Whether a stored value is fresh, or stale within stale-while-revalidate."""
        now, seconds = self.clocks.wall(), self.options.stale_while_revalidate
        return stored is not None and stored.is_served_at_once(now, seconds)

    def _check_pace(self, secret_id: str) -> None:
        now, (last, number) = self.clocks.monotonic.now, self.paces.get(secret_id, (-100.0, 0))
        pause = min(1.0, 0.1 * 2.0 ** (number - 1))
        if now - last > 60.0:
            number = 0
        elif self.options.max_size >= 1000:
            self.claim("pace", now - last >= pause - EPSILON, "refreshed too early:", short_id(secret_id), number)
        self.paces[secret_id] = now, number + 1

    def invalidated(self, secret_id: str | None) -> None:
        """A secret was invalidated, or all of them."""
        self.events += 1
        self.invalidations.append((secret_id, self.events, len(self.fetches.records)))
        self.forget_pace(secret_id)

    def forget_pace(self, secret_id: str | None) -> None:
        for each in list(self.paces):
            if secret_id is None or may_be_same(each, secret_id):
                del self.paces[each]

    def _allow(self, caller: Caller) -> None:
        """Note which values from memory the caller may be given, as decided at this moment."""
        self._is_late(caller)
        now = self.clocks.wall()
        for request in caller.requests:
            held = self.fetches.held.get(request.key)
            if held is not None and held.is_within(1.0, now):
                caller.answers.append((request, held.error))
            record = self.fetches.stored.get(request.key)
            if record is None:
                continue
            seconds = self.options.stale_while_revalidate
            if self._has_failed(caller, request) or self.fetches.is_explained(request.key, now):
                seconds = max(seconds, self.options.stale_if_error)
            if record.may_be_stale(now, seconds):
                caller.allowed.add(record)

    def _has_failed(self, caller: Caller, request: SecretRequest) -> bool:
        """Whether the caller has waited in vain, which is a reason to be given a stale value."""
        fetches = [record.fetch for record in caller.joined if record.fetch.request == request]
        is_cancelled = sum(fetch.was_cancelled for fetch in fetches) >= 2
        has_failed = any(fetch.error is not None and fetch.error.is_transient for fetch in fetches)
        return is_cancelled or has_failed or self._is_late(caller)

    @staticmethod
    def _is_late(caller: Caller) -> bool:
        """Whether the deadline of its invocation has come, at one of the moments at which that decides."""
        at = None if caller.deadline is None else caller.deadline.at
        caller.was_late |= at is not None and caller.loop.time() >= at - EPSILON
        return caller.was_late

    # --- Ends.

    def ended(self, caller: Caller, outcome: str) -> None:
        """A caller ends in some way; what it gets is judged besides."""
        caller.is_over = True
        self._allow(caller)
        lasted = self.clocks.running(caller.loop) - caller.began_at
        self.claim("duration", lasted <= caller.limit + EPSILON, "took too long:", caller.ask.id, lasted, caller.limit)
        if caller.was_cancelled:
            self.claim("cancellation", outcome in ("cancelled", "scope"), "its cancellation was lost:", caller.ask.id)
        # What it had left at its deadline goes on.
        if outcome in ("cancelled", "scope") and not caller.was_late:
            self.fetches.check_unwanted(caller)

    def got_secret(self, caller: Caller, wanted: Wanted, secret: Secret) -> None:
        request, value = wanted.request, self.manager.values.get((None, secret.secret_string or ""))
        self._check_value(caller, wanted, value)
        if value is not None:
            version = self.manager.by_arn[value.arn].version_id(value.version)
            is_right = (secret.arn, secret.version_id) == (value.arn, version)
            self.claim("identity", is_right, "a record with another value:", request, value)
            if request.version_id is None or request.version_stage is not None:
                is_staged = (request.version_stage or CURRENT) in secret.version_stages
                self.claim("identity", is_staged, "another stage:", request, value)

    def got_text(self, caller: Caller, wanted: Wanted, result: object) -> None:
        """A caller got a text, or a value of JSON."""
        self.claim("identity", wanted.field != ABSENT, "there is no such key:", wanted.reference)
        text = result if isinstance(result, str) else json.dumps(result)
        self._check_value(caller, wanted, self.manager.values.get((wanted.field, text)))

    def _check_value(self, caller: Caller, wanted: Wanted, value: Value | None) -> None:
        request, number = wanted.request, caller.ask.id
        if value is None:
            self.claim("identity", False, "nothing with this value was read for it:", number, wanted.reference)
            return
        secret = self.manager.by_arn[value.arn]
        name = short_id(request.secret_id).partition("@")[0]
        is_own = value.arn == request.secret_id or (secret.name == name and not secret.is_foreign)
        self.claim("identity", is_own and value.secret_id == request.secret_id, "another secret's:", number, value)
        if request.version_id is not None:
            is_right = secret.version_id(value.version) == request.version_id
            self.claim("identity", is_right, "another version's:", number, value)
        record = self.fetches.by_call.get((value.call, request))
        if record is None or record.secret is None:
            self.claim("identity", False, "no fetch of this key has brought it:", number, value)
            return
        for secret_id, event, fetches in self.invalidations:
            is_meant = secret_id in (None, request.secret_id, value.arn, secret.name)
            is_before = is_meant and event < caller.began and record.number < fetches
            self.claim("forgotten value", not is_before, "from before the invalidation:", number, secret_id)
        self._check_servable(caller, request, record)

    def _check_servable(self, caller: Caller, request: SecretRequest, record: FetchRecord) -> None:
        number = caller.ask.id
        if caller.kind == "refresh":
            is_refresh = record in caller.joined and record.reasons[0] is FetchReason.REFRESH
            self.claim("refresh", is_refresh, "not from a refresh:", number)
        expected = caller.at_once.get(request)
        if expected is not None and len(caller.tried) <= 1:
            self.claim("at once", record is expected, "another value than the one in memory:", number)
        if len(caller.at_once) == len(caller.requests) and caller.kind != "call_with_secret":
            self.claim("at once", not caller.has_paused, "it had to wait:", number)
        if record not in caller.joined:
            self.claim("servable", record in caller.allowed, "a value that may not be served:", number, request)

    def got_error(self, caller: Caller, error: SecretCacheError) -> None:
        """A caller got an error; each member of a group is one of its own."""
        if not isinstance(error, SecretErrorGroup):
            self.got_one_error(caller, error)
            return
        self.claim("typed error", caller.kind in SEVERAL, "a group for one secret:", caller.ask.id)
        for each in error.exceptions:
            assert isinstance(each, SecretCacheError)
            self.got_one_error(caller, each)

    def got_one_error(self, caller: Caller, error: SecretCacheError, wanted: Wanted | None = None) -> None:
        """A caller got an error about one secret: for a reference if that is known, else about the id that it names."""
        told = caller.ask.id, repr(error), error.secret_id
        owner, _ = self.errors.setdefault(id(error), (caller, error))
        self.claim("own error", owner is caller, "another caller has the same instance:", *told)
        if isinstance(error, CacheClosedError):
            self.claim("explained error", self.fetches.is_closed, "the cache is open:", *told)
            return
        self.claim("explained error", caller.was_open, "the cache is closed:", *told)
        about = caller.wanted if wanted is None else [wanted]
        requests = [each.request for each in about if error.secret_id in (each.secret_id, each.reference)]
        self.claim("own error", requests, "about another secret:", *told)
        if isinstance(error, SecretFormatError):
            has_absent = any(each.field == ABSENT for each in caller.wanted)
            self.claim("explained error", has_absent, "there is such a key:", *told)
            return
        is_in_memory = bool(requests) and all(request in caller.at_once for request in requests)
        self.claim("at once", not is_in_memory or caller.kind not in READS, "an error though it is in memory:", *told)
        is_explained = any(self._is_cause(caller, request, error) for request in requests)
        self.claim("explained error", is_explained, "without a cause:", *told)
        if error.is_transient and caller.kind in READS and not caller.tried and not caller.has_retried:
            now = self.clocks.wall()
            # What is held was decided before the caller waited for others.
            joined = {record.fetch.request for record in caller.joined}
            waited = [request for request in requests if request in joined or caller.kind not in SEVERAL]
            stored = [self.fetches.stored.get(request.key) for request in waited]
            may_be_served = [each and each.may_be_stale(now, self.options.stale_if_error) for each in stored]
            is_wrong = bool(may_be_served) and all(may_be_served)
            self.claim("stale-if-error", not is_wrong, "a stale value may be served:", *told)

    def _is_cause(self, caller: Caller, request: SecretRequest, error: SecretCacheError) -> bool:
        fetches = [record.fetch for record in caller.joined if record.fetch.request == request]
        answers = [fetch.error for fetch in fetches]
        answers += [answer for other, answer in caller.answers if other == request]
        if any(_is_same(answer, error) for answer in answers):
            return True
        is_cancelled = sum(fetch.was_cancelled for fetch in fetches) >= 2
        return isinstance(error, SecretUnavailableError) and (is_cancelled or self._is_late(caller))

    # --- call_with_secret.

    async def connect(self, caller: Caller, secret: Secret) -> str:
        """The function that call_with_secret calls: a database that accepts one version."""
        if caller.tried:
            # Whoever is refused with this version starts over.
            self.forget_pace(caller.wanted[0].secret_id)
            is_other = caller.refusal is not None and secret.version_id != caller.tried[0].version_id
            self.claim("rotation", is_other and len(caller.tried) == 1, "called once more:", caller.ask.id)
            # Another version in memory is tried before a call is made for one, whatever its age.
            stored = self.fetches.stored.get(caller.requests[0].key)
            if stored is not None and stored.refused_by < 0:
                caller.allowed.add(stored)
        caller.tried.append(secret)
        self._allow(caller)
        self.got_secret(caller, caller.wanted[0], secret)
        value = self.manager.values[None, secret.secret_string or ""]
        await asyncio.sleep(CONNECTING)
        if value.version != self.manager.by_arn[secret.arn].accepted:
            caller.refusal = RefusedError()
            caller.refused_at = self.clocks.monotonic.now, self.clocks.running(caller.loop)
            raise caller.refusal
        return secret.version_id

    def connected(self, caller: Caller, result: str) -> None:
        self.claim("rotation", result == caller.tried[-1].version_id, "another caller's result:", caller.ask.id)

    def was_refused(self, caller: Caller, error: RefusedError) -> None:
        """It raises the function's own error, after two versions or when no other came in time."""
        number, timeout = caller.ask.id, caller.ask.refresh_timeout
        self.claim("rotation", error is caller.refusal, "not the function's own error:", number)
        refreshes = [record.fetch for record in caller.joined if record.reasons[0] is FetchReason.REFRESH]
        has_failed = any(fetch.error is not None and not fetch.error.is_transient for fetch in refreshes)
        if len(caller.tried) == 2 or has_failed or self.fetches.is_closed:
            return
        waited = self.clocks.monotonic.now - caller.refused_at[0]
        # A loop that rests can't end the wait.
        ran = self.clocks.running(caller.loop) - caller.refused_at[1]
        self.claim("rotation", not timeout or ran <= timeout + EPSILON, "waited beyond refresh_timeout:", number, ran)
        self.claim("rotation", waited >= timeout - EPSILON, "gave up too early:", number, waited)
        stored = self.fetches.stored.get(caller.requests[0].key)
        is_other = _is_another(stored, caller.tried[0]) and self._may_be_served(stored)
        self.claim("rotation", not is_other, "gave up though another version is stored:", number)


def _is_another(stored: FetchRecord | None, secret: Secret) -> bool:
    """Whether another version than this one is stored."""
    return stored is not None and stored.secret is not None and stored.secret.version_id != secret.version_id


def _is_same(one: SecretCacheError | None, other: SecretCacheError) -> bool:
    return (
        type(one) is type(other) and one is not None and one.args == other.args and one.request_id == other.request_id
    )
