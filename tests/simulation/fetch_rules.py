"""The rules for fetches and for what is stored, judged by what the observer and the source tell."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import observe
from asecretcache import (
    ConfigurationError,
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from observe import Entry, Fetch, FetchReason, Key
from simulation.fake_secrets_manager import Call, FakeSecretsManager, full_id
from simulation.records import (
    EPSILON,
    LONGEST_CLEAN_UP,
    MAX_LOST,
    Caller,
    Claim,
    Clocks,
    Failures,
    FetchRecord,
    current_caller,
    may_be_same,
)
from simulation.schedule import Options

REFUSED = (SecretNotFoundError, SecretAccessDeniedError, SecretDecryptionError)
HELD = (*REFUSED, SecretThrottledError)
#: A batch that fails with one of these isn't followed by calls for each of its secrets.
NOT_SINGLY = (SecretUnavailableError, ConfigurationError, CredentialsError)


class FetchRules:
    """Is told of each fetch and each call. It keeps what is stored by each key, and the failures of each key."""

    def __init__(
        self, options: Options, cache: SecretCache, manager: FakeSecretsManager, clocks: Clocks, claim: Claim
    ) -> None:
        self.options, self.cache, self.manager, self.clocks, self.claim = options, cache, manager, clocks, claim
        self.records: dict[Fetch, FetchRecord] = {}
        self.running: dict[Fetch, FetchRecord] = {}
        self.by_secret: dict[int, FetchRecord] = {}
        self.by_call: dict[tuple[int, SecretRequest], FetchRecord] = {}
        self.stored: dict[Key, FetchRecord] = {}
        self.failures: dict[Key, Failures] = {}
        self.held: dict[Key, Failures] = {}
        self.counts: Counter[str] = Counter()
        self.is_closed = False
        #: The number of the first fetch that was started after a batch was denied.
        self.no_batch_from = math.inf
        self.was_denied = False
        #: How often values that are gone had been read.
        self.past_hits = 0
        self.ttls = {full_id(each): ttl for each, ttl in options.ttl_by_secret.items()}

    # --- Starting and joining.

    def joined(self, fetch: Fetch, reason: FetchReason, *, is_new: bool, is_retry: bool) -> FetchRecord:
        caller, record = current_caller.get(), self.records.get(fetch)
        others = self._others(fetch)
        if is_new:
            self._check_cause(fetch.request, reason, is_retry=is_retry)
            joinable = [each for each in others if self._must_join(each, reason)]
            self.claim("single-flight", not joinable, "started though one runs:", fetch.request)
            record = FetchRecord(fetch, len(self.records), self.clocks)
            self.records[fetch] = self.running[fetch] = record
        elif record is not None:
            self._check_joinable(record, reason)
            self.counts["coalesced"] += reason in (FetchReason.READ, FetchReason.REFRESH) and not is_retry
        for each in others:
            # Whoever finds an overdue fetch cancels its task, and so all fetches of its batch.
            if each is not record and each.is_overdue(self.clocks, self.options.fetch_timeout) > -EPSILON:
                for other in self._same_task(each):
                    other.is_disturbed = True
        assert record is not None
        record.reasons.append(reason)
        self.counts["refreshes"] += reason is FetchReason.REFRESH and not is_retry
        if caller is not None and reason is not FetchReason.REVALIDATION:
            asked = fetch.request in caller.requests and fetch.loop is caller.loop
            self.claim("joinable", asked, "joined by a caller that asked for another secret:", fetch.request)
        return record

    def _others(self, fetch: Fetch) -> list[FetchRecord]:
        """Return the running fetches of the same key and loop."""
        key, loop = fetch.request.key, fetch.loop
        return [one for each, one in self.running.items() if each.loop is loop and each.request.key == key]

    def _same_task(self, record: FetchRecord) -> list[FetchRecord]:
        return self.of_task(observe.task(record.fetch))

    def of_task(self, task: asyncio.Task[None] | None) -> list[FetchRecord]:
        """Return the running fetches of a task."""
        return [record for each, record in self.running.items() if observe.task(each) is task]

    def _must_join(self, record: FetchRecord, reason: FetchReason) -> bool:
        """Whether a caller must not start another fetch beside this one."""
        is_refresh = record.reasons[0] is FetchReason.REFRESH
        is_ending = record.is_disturbed or observe.task(record.fetch).cancelling()
        is_overdue = record.is_overdue(self.clocks, self.options.fetch_timeout) > -EPSILON
        is_forgotten = record.is_forgotten or record.forgotten_ids
        return not (is_ending or is_overdue or is_forgotten or (reason is FetchReason.REFRESH and not is_refresh))

    def _check_joinable(self, record: FetchRecord, reason: FetchReason) -> None:
        told = record.fetch.request, reason.name
        self.claim("joinable", not record.has_ended, "joined though it has ended:", *told)
        self.claim("joinable", not record.is_forgotten, "joined though it is forgotten:", *told)
        is_overdue = record.is_overdue(self.clocks, self.options.fetch_timeout) > EPSILON
        self.claim("joinable", not is_overdue, "joined though it is overdue:", *told)
        is_loops = record.fetch.loop is asyncio.get_running_loop()
        self.claim("joinable", is_loops, "joined from another loop:", *told)
        is_refresh = record.reasons[0] is FetchReason.REFRESH
        self.claim("joinable", is_refresh or reason is not FetchReason.REFRESH, "a refresh joined another:", *told)

    def _check_cause(self, request: SecretRequest, reason: FetchReason, *, is_retry: bool) -> None:
        """Nothing is fetched that may be served, or that it is too early to fetch again."""
        if reason is FetchReason.REFRESH:
            return
        now, stored, what = self.clocks.wall(), self.stored.get(request.key), (request, reason.name)
        if stored is not None:
            self.claim("fresh", not stored.is_fresh(now), "fetched though it is fresh:", *what)
        is_revalidated = stored is not None and stored.may_be_stale(now, self.options.stale_while_revalidate)
        if reason is FetchReason.READ:
            is_served = stored is not None and stored.is_served_at_once(now, self.options.stale_while_revalidate)
            self.claim("revalidation", not is_served, "waited for though it may be served:", *what)
        failures = self.failures.get(request.key)
        in_error = failures is not None and failures.error.is_transient and stored is not None
        in_error = in_error and stored is not None and stored.may_be_stale(now, self.options.stale_if_error)
        # Soon after a failure a reader gets the stale value at once, and its retry runs in the background.
        is_bridged = stored is not None and stored.may_be_stale(now, self.options.stale_if_error)
        is_bridged = is_bridged and self._has_failed_within(60.0 + EPSILON, request.key, now)
        if reason is FetchReason.REVALIDATION:
            self.claim("revalidation", is_revalidated or is_bridged, "refreshed without a stale value to serve:", *what)
            is_lost = stored is not None and stored.lost_refreshes >= MAX_LOST and not is_bridged
            self.claim("lost refreshes", not is_lost, "refreshed in the background once more:", *what)
        if is_retry or self.options.max_size < 1000:
            # A retry is of a fetch that was cancelled. And no more failures are remembered than values.
            return
        if reason is FetchReason.READ:
            is_bridged = is_bridged and self._has_failed_within(60.0 - EPSILON, request.key, now)
            self.claim("revalidation", not is_bridged, "waited for though it has just failed:", *what)
        if failures is not None and reason is not FetchReason.PREFETCH and (is_revalidated or in_error):
            at_least = min(60.0, 2.0**failures.in_a_row) / 2 - EPSILON
            is_early = failures.is_within(at_least, now)
            self.claim("back-off", not is_early, "retried too early:", *what, failures.in_a_row)
        held = self.held.get(request.key)
        is_held = held is not None and held.is_within(1.0 - EPSILON, now)
        self.claim("held", not is_held or reason is FetchReason.REVALIDATION, "fetched within a second:", *what)

    # --- Calls.

    def called(self, call: Call) -> None:
        """A call of the source begins."""
        records = self.of_task(call.task)
        told = call.number, *call.requests
        asked = [record.fetch.request for record in records]
        self.claim("calls", list(call.requests) == asked, "a call for other secrets than its fetches:", *told)
        if call.is_batch:
            are_current = all(isinstance(request.key, str) for request in call.requests)
            is_right = 2 <= len(set(call.requests)) == len(call.requests) <= 20
            self.claim("batch", are_current and is_right, "a batch of wrong secrets:", *told)
            is_allowed = any(record.number < self.no_batch_from for record in records)
            self.claim("batch", is_allowed, "a batch after one was denied:", *told)
        for record in records:
            self.claim("calls", record.fetch.loop is call.loop, "a call on another loop:", *told)
            for before in record.calls:
                is_refused = isinstance(before.failure, SecretCacheError) and not isinstance(before.failure, NOT_SINGLY)
                is_missing = record.fetch.request.secret_id in before.missing
                may_follow = before.is_batch and not call.is_batch and (is_refused or is_missing)
                self.claim("calls", may_follow and len(record.calls) == 1, "a fetch calls again:", *told)
            record.calls.append(call)
            self.by_call[call.number, record.fetch.request] = record

    def batch_failed(self, call: Call) -> None:
        """A batch has failed as a whole, at this moment."""
        if isinstance(call.failure, SecretAccessDeniedError) and not self.was_denied:
            self.was_denied, self.no_batch_from = True, len(self.records)

    # --- The end of a fetch, and what is stored.

    def ended(self, fetch: Fetch) -> FetchRecord:
        record, key, what = self.records[fetch], fetch.request.key, fetch.request
        before, entries = self.stored, observe.entries(self.cache)
        self.claim("simulation", not record.has_ended, "a fetch ended twice:", what)
        record.has_ended = True
        self.running.pop(fetch, None)
        if not fetch.loop.is_closed():
            lasted = self.clocks.running(fetch.loop) - record.running
            # A batch whose source ends late may leave a secret out, which then has a call of its own without any time.
            clean_ups = LONGEST_CLEAN_UP * max(1, len(record.calls))
            is_short = lasted <= self.options.fetch_timeout + clean_ups + EPSILON
            self.claim("fetch time-out", is_short, "a fetch took too long:", what, lasted)
            if fetch.was_cancelled:
                self._check_cancelled(record)
        self.counts["errors"] += fetch.error is not None
        if fetch.secret is not None:
            record.secret = fetch.secret
            self.by_secret[id(fetch.secret)] = record
            self._check_value(record, fetch.secret)
        self.stored = self._as_records(entries)
        self._check_other_keys(record, before, entries)
        if self.options.max_size < 1000:
            self.past_hits = self._count_past_hits(entries)
        ids = set() if fetch.secret is None else {fetch.secret.name, fetch.secret.arn}
        is_forgotten = record.is_forgotten or self.is_closed or bool(ids & set(record.forgotten_ids))
        if fetch.secret is None or is_forgotten:
            rule = "forgotten" if fetch.secret is not None else "untouched"
            self.claim(rule, before.get(key) is self.stored.get(key), "changed what is stored:", what)
        else:
            self._check_stored(record, before.get(key), entries)
        if not is_forgotten:
            self._note_failure(record, before.get(key))
        present = self.stored.get(key)
        if fetch.was_cancelled and record.reasons[0] is FetchReason.REVALIDATION and present is not None:
            present.lost_at_most += 1
            present.lost_refreshes += not (record.is_forgotten or record.forgotten_ids)
        return record

    def _check_cancelled(self, record: FetchRecord) -> None:
        fetch = record.fetch
        is_overdue = record.is_overdue(self.clocks, self.options.fetch_timeout) > -EPSILON
        is_background = record.reasons[0] is FetchReason.REVALIDATION
        is_wanted = (fetch.waiters or is_background) and not (record.is_disturbed or is_overdue or self.is_closed)
        self.claim("wanted", not is_wanted, "cancelled though a caller waits:", fetch.request)

    def _check_value(self, record: FetchRecord, secret: Secret) -> None:
        value = self.manager.values.get((None, secret.secret_string or ""))
        numbers = [call.number for call in record.calls]
        is_own = value is not None and value.call in numbers and value.secret_id == record.fetch.request.secret_id
        self.claim("own value", is_own, "brought by another fetch's call:", record.fetch.request, value)

    def _check_other_keys(self, record: FetchRecord, before: dict[Key, FetchRecord], entries: dict[Key, Entry]) -> None:
        """Other keys stay as they are, but for one that is evicted."""
        key = record.fetch.request.key
        kept = {each: one for each, one in self.stored.items() if each != key}
        expected = {each: one for each, one in before.items() if each != key}
        if kept == expected:
            self.claim("eviction", len(self.stored) <= self.options.max_size, "the store is too big")
            return
        gone = [each for each in expected if each not in kept]
        changed = [each for each, one in kept.items() if expected.get(each) is not one]
        self.claim("untouched", not changed, "other keys were changed:", *changed)
        is_due = len(before) == self.options.max_size and key not in before and key in self.stored and len(gone) == 1
        self.claim("eviction", is_due, "dropped for nothing:", *gone)
        self.counts["evictions"] += 1
        if is_due:
            self._check_eviction(gone[0], before, entries)

    def _check_eviction(self, key: Key, before: dict[Key, FetchRecord], entries: dict[Key, Entry]) -> None:
        victim = before[key]
        hits = {each: entry.all_hits for each, entry in entries.items() if each in before and each != key}
        victims_hits = self._count_past_hits(entries) - self.past_hits
        was_read_since = victims_hits > victim.hits
        unread = [each for each, number in hits.items() if number == 0]
        self.claim("eviction", not (was_read_since and unread), "evicted though it was read since:", key, unread)
        older = [each for each in unread if before[each].stored_as < victim.stored_as]
        self.claim("eviction", victims_hits or not older, "evicted before an older one:", key, older)
        for each, number in hits.items():
            before[each].hits = number

    def _count_past_hits(self, entries: dict[Key, Entry]) -> int:
        return self.cache.stats().hits - sum(entry.all_hits for entry in entries.values())

    def _check_stored(self, record: FetchRecord, before: FetchRecord | None, entries: dict[Key, Entry]) -> None:
        request = record.fetch.request
        key, what = request.key, request
        stored = self.stored.get(key)
        if before is not None and max(before.number, before.refused_by) > record.number:
            self.claim("start order", stored is before, "an earlier fetch has changed what is stored:", what)
            return
        self.claim("stored", stored is record, "not stored:", what)
        if stored is not record:
            return
        self.counts["stored"] += 1
        record.stored_as = self.counts["stored"]
        entry = entries[key]
        record.expires_at = entry.expires_at
        ttl = self.options.ttl
        assert record.secret is not None
        for each in (request.secret_id, record.secret.arn, record.secret.name):
            ttl = self.ttls.get(each, ttl)
        if ttl is None or (request.version_id is not None and request.version_stage is None):
            self.claim("expiry", entry.expires_at == math.inf, "it expires though it never should:", what)
        else:
            lasts = entry.expires_at - record.wall
            is_within = ttl * (1 - self.options.jitter) - EPSILON <= lasts <= ttl + EPSILON
            self.claim("expiry", is_within, "it expires at a wrong time:", what, lasts, ttl)

    # --- Failures.

    def _note_failure(self, record: FetchRecord, stored: FetchRecord | None) -> None:
        error, key, now = record.fetch.error, record.fetch.request.key, self.clocks.wall()
        if record.secret is not None:
            if self.stored.get(key) is record:
                self.failures.pop(key, None)
                self.held.pop(key, None)
            return
        if error is None or record.forgotten_ids or (stored is not None and stored.number > record.number):
            # Whether it was of a secret that was invalidated can't be known; or a later fetch has brought a value.
            return
        if isinstance(error, REFUSED) and stored is not None:
            stored.refused_by = max(stored.refused_by, record.number)
        if all(reason is FetchReason.PREFETCH for reason in record.reasons):
            return
        more = max(self.options.stale_while_revalidate, self.options.stale_if_error if error.is_transient else 0.0)
        is_stale = stored is not None and not stored.is_fresh(now) and stored.may_be_stale(now, more)
        if is_stale:
            earlier = self.failures.get(key)
            self.failures[key] = Failures(error, now, earlier.in_a_row + 1 if earlier else 1)
            self.held.pop(key, None)
        if isinstance(error, HELD):
            self.held[key] = Failures(error, now, 0)
            if not is_stale:
                self.failures.pop(key, None)

    def is_explained(self, key: Key, now: float) -> bool:
        """Whether an earlier failure is a reason to serve a stale value now: it is recent, or a retry is running."""
        is_retrying = any(fetch.request.key == key for fetch in self.running)
        return self._has_failed_within(math.inf if is_retrying else 60.0, key, now)

    def _has_failed_within(self, seconds: float, key: Key, now: float) -> bool:
        """Whether the latest failure of a key is transient and not older than so many seconds."""
        latest = self.failures.get(key) or self.held.get(key)
        return latest is not None and latest.error.is_transient and latest.is_within(seconds, now)

    # --- Invalidation.

    def invalidated(self, secret_id: str) -> None:
        """A secret is about to be invalidated."""
        for fetch, record in self.running.items():
            if fetch.request.secret_id == secret_id:
                record.is_forgotten = True
            elif may_be_same(fetch.request.secret_id, secret_id):
                record.forgotten_ids.append(secret_id)
        for keys in (self.failures, self.held):
            for key in [key for key in keys if may_be_same(_id_of(key), secret_id)]:
                del keys[key]

    def check_invalidated(self, secret_id: str) -> None:
        entries = observe.entries(self.cache)
        before, self.stored = self.stored, self._as_records(entries)
        self.past_hits = self._count_past_hits(entries)
        for key, record in before.items():
            assert record.secret is not None
            is_meant = secret_id in (_id_of(key), record.secret.name, record.secret.arn)
            is_gone = key not in self.stored
            self.claim("invalidate", is_gone == is_meant, "dropped:" if is_gone else "kept:", key, secret_id)

    def cleared(self) -> None:
        """All is about to be forgotten."""
        for record in self.running.values():
            record.is_forgotten = True
        self.failures.clear()
        self.held.clear()

    def closed(self) -> None:
        """The cache is about to be closed."""
        self.cleared()
        self.is_closed, self.stored = True, {}

    def check_cleared(self) -> None:
        entries = observe.entries(self.cache)
        self.stored = self._as_records(entries)
        self.past_hits = self._count_past_hits(entries)
        self.claim("invalidate", not self.stored, "something is stored after clear")

    def _as_records(self, entries: dict[Key, Entry]) -> dict[Key, FetchRecord]:
        return {key: self.by_secret[id(entry.secret)] for key, entry in entries.items()}

    # --- Cancellation by other code.

    def disturbed(self, task: asyncio.Task[None] | None) -> None:
        """Other code is about to cancel the task of a fetch."""
        for each in self.of_task(task):
            each.is_disturbed = True

    def check_unwanted(self, caller: Caller) -> None:
        """A caller was cancelled: what nobody else waits for is cancelled too."""
        for record in caller.joined:
            fetch = record.fetch
            if record.has_ended or observe.task(fetch).cancelling():
                continue
            wanted = [
                each.fetch.waiters or each.reasons[0] is FetchReason.REVALIDATION for each in self._same_task(record)
            ]
            self.claim("unwanted", any(wanted), "goes on though no caller waits:", fetch.request)


def _id_of(key: Key) -> str:
    return key if isinstance(key, str) else key[0]
