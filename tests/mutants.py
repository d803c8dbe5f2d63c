"""Break the code on purpose, one small mistake at a time, and see that the suite notices each.

Each mutant is a change that somebody might make by mistake in what decides: single-flight, store, freshness, back-off,
rotation and the cache that puts them together, and in the source that speaks with AWS itself. It is applied to a copy
of the installed package, and the fast tests run against that copy: first the simulation, then, if that didn't notice,
those of the parts; for a source those of the sources. A mutant that survives is a test that is missing; one whose text
isn't found is out of date. As many run at once as there are processors, or JOBS; ONLY names some of them, by a word of
the name or the module::

    make mutants JOBS=1 ONLY=store
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import asecretcache

TESTS: Final = Path(__file__).resolve().parent
INSTALLED: Final = Path(asecretcache.__file__).parent
SECONDS: Final = 120
SURVIVED, OUTDATED = "SURVIVED", "OUT OF DATE"

#: What notices most, and hangs least, comes first.
STAGES: Final = {
    "simulation": ["test_simulation.py::test_whatever_happens_no_rule_is_violated[0]"],
    "parts": [
        *("test_store.py", "test_rotation.py", "test_freshness.py", "test_aliases.py", "test_batch.py"),
        *("test_singleflight.py", "test_cache.py", "test_stats.py"),
    ],
    "interleavings": ["test_interleavings.py"],
    "more simulation": [f"test_simulation.py::test_whatever_happens_no_rule_is_violated[{n}]" for n in (100, 200, 300)],
}

SOURCES_STAGES: Final = {
    "direct": ["test_sources_direct.py", "test_sources_sigv4.py"],
    "both": ["test_sources.py", "test_sources_secrets_manager.py", "test_sources_redaction.py"],
}


class Mutant(NamedTuple):
    """A mistake: what is written in a module in place of what."""

    name: str
    module: str
    old: str
    new: str


_LEFT: Final = "joined.leave(waiter)\n                "
_LANDED: Final = "            if joined.secret is not None:\n                "

MUTANTS: Final = [
    # --- Single-flight.
    Mutant("a refresh joins a plain fetch", "_singleflight", "(True,) if refresh else (True, False)", "(True, False)"),
    Mutant(
        "a plain fetch passes a refresh over",
        "_singleflight",
        "(True,) if refresh else (True, False)",
        "(refresh,)",
    ),
    Mutant(
        "what slept through a freeze is joined",
        "_singleflight",
        "if not flight.carrier.timer.is_overdue():\n",
        "if True:\n",
    ),
    Mutant(
        "what slept through a freeze isn't ended",
        "_singleflight",
        "flight.carrier.cancel()\n        return None",
        "pass\n        return None",
    ),
    Mutant(
        "a refresh that slept hides a fetch that didn't",
        "_singleflight",
        "flight.carrier.cancel()\n        return None",
        "flight.carrier.cancel()\n                return None\n        return None",
    ),
    Mutant("what was invalidated is stored", "_singleflight", "flight.storable = False", "flight.storable = True"),
    Mutant(
        "what was invalidated is joined",
        "_singleflight",
        "flight.storable = False\n                    self._close(flight)",
        "flight.storable = False",
    ),
    Mutant(
        "what has landed is joined",
        "_singleflight",
        "self._close(flight)\n                self._of",
        "self._of",
    ),
    Mutant("what has landed stays aloft", "_singleflight", "self._of(flight.loop).aloft.pop(flight, None)", "pass"),
    Mutant("it lands twice", "_singleflight", "if flight.landed:\n            return", "if False:\n            return"),
    Mutant("closed loops aren't swept", "_singleflight", "if flight.loop.is_closed():", "if False:"),
    Mutant("other loops are swept", "_singleflight", "if flight.loop.is_closed():", "if True:"),
    Mutant(
        "all loops share flights",
        "_singleflight",
        "airspace = self._loops.get(loop)",
        ("airspace = next(iter(self._loops.values()), None)"),
    ),
    Mutant(
        "a batch of one", "_singleflight", "together[: len(together) - (len(together) % MAX_BATCH == 1)]", "together"
    ),
    Mutant("batches are tried again", "_singleflight", "is_batch_denied = True", "is_batch_denied = False"),
    Mutant("versions go in batches", "_singleflight", "if isinstance(flight.request.key, str)", "if flight"),
    Mutant(
        "a prefetch arms", "_singleflight", "flight.arms = flight.arms or not purpose.is_prefetch", "flight.arms = True"
    ),
    Mutant(
        "all joining counts",
        "_singleflight",
        "self.counters.coalesced += purpose.is_counted",
        "self.counters.coalesced += 1",
    ),
    Mutant(
        "a revalidation ends with its joiner", "_singleflight", "background=purpose.is_background", "background=False"
    ),
    Mutant("a fetch waits for itself", "_singleflight", "if is_own or (", "if ("),
    Mutant("fetches wait for each other", "_singleflight", "flight.carrier.reaches(parent)", "False"),
    Mutant(
        "single gets after a batch have time of their own",
        "_singleflight",
        "timer.remainder()",
        "self._timer()",
    ),
    Mutant(
        "waiters hang if storing fails",
        "_singleflight",
        "finally:\n            # Whatever happens",
        "except ZeroDivisionError:\n            raise\n        else:\n            # Whatever happens",
    ),
    # --- The tasks that carry flights.
    Mutant("batches of 21", "_carrier", "MAX_BATCH: Final = 20", "MAX_BATCH: Final = 21"),
    Mutant("the first caller's context", "_carrier", "context=Context(), ", ""),
    Mutant("one who leaves ends a batch", "_carrier", "if not any(flight.is_wanted", "if not all(flight.is_wanted"),
    Mutant("nobody ends a fetch", "_carrier", "if not any(flight.is_wanted", "if False and any(flight.is_wanted"),
    Mutant("what is cancelled is joined", "_carrier", "self.tower.close(self.flights)\n", "pass\n"),
    Mutant("what never began never lands", "_carrier", "self.task.add_done_callback(self._land_all)", "pass"),
    Mutant("a dead loop's task complains", "_carrier", "_log_destroy_pending = False", "_log_destroy_pending = True"),
    Mutant(
        "what is down gets a call for each",
        "_carrier",
        "isinstance(outcome, SecretUnavailableError | ConfigurationError)",
        "isinstance(outcome, ConfigurationError)",
    ),
    Mutant(
        "an id that is missing gets nothing",
        "_carrier",
        "self._hand_over([flight for flight in self.flights if flight.request.secret_id not in outcomes])",
        "pass",
    ),
    Mutant("a denied batch isn't remembered", "_carrier", "self.tower.deny_batches(outcome)", "pass"),
    Mutant(
        "a cancelled batch goes on singly", "_carrier", "[flight for flight in flights if flight.is_wanted]", "flights"
    ),
    # --- Flights and their waiters.
    Mutant("the last who leaves ends nothing", "_flight", "if not self.waiters and not self.landed:", "if False:"),
    Mutant(
        "who leaves is still counted",
        "_flight",
        "self.waiters.pop(future, None)\n        if not",
        "if not",
    ),
    Mutant(
        "a waiter is woken twice",
        "_flight",
        "if not future.done():\n                    ",
        "if True:\n                    ",
    ),
    Mutant("waiters of a dead loop are woken", "_flight", "if not self.loop.is_closed():", "if True:"),
    Mutant(
        "an invocation's deadline outlasts it",
        "_flight",
        "if deadline is not None and deadline.at is None:",
        "if False:",
    ),
    Mutant(
        "an alarm wakes who was woken",
        "_flight",
        "if not future.done():\n            future",
        "if True:\n            future",
    ),
    Mutant("the order is turned round", "_flight", "self.started = next(_sequence)", "self.started = -next(_sequence)"),
    Mutant(
        "a revalidation is nobody's",
        "_flight",
        "return bool(self.waiters) or self.is_background",
        "return bool(self.waiters)",
    ),
    # --- The time-out.
    Mutant(
        "the monotonic clock tells of no freeze",
        "_timer",
        " or self._monotonic() - monotonic > self.seconds",
        "",
    ),
    Mutant(
        "a clock set back tells nothing",
        "_timer",
        "-self.seconds <= self._clock() - wall <=",
        "self._clock() - wall <=",
    ),
    Mutant(
        "the rest has no end",
        "_timer",
        "rest._ends_at = None if self._timeout is None else self._timeout.when()",
        "pass",
    ),
    # --- The store.
    Mutant(
        "an older fetch overwrites",
        "_store",
        "if present is not None and present.known_at > entry.started:",
        "if False:",
    ),
    Mutant(
        "the newest is evicted",
        "_store",
        "self._remove(next(iter(self._order)))",
        "self._remove(next(reversed(self._order)))",
    ),
    Mutant("the expired stay", "_store", "while self._expiries and self._expiries[0][0] <= now:", "while False:"),
    Mutant("the fresh go first", "_store", "self._expiries[0][0] <= now", "self._expiries[0][0] >= now"),
    Mutant("storing again makes nothing young", "_store", "self._order.move_to_end(key)", "pass"),
    Mutant(
        "one too many", "_store", "if len(self._order) > self._max_size:", "if len(self._order) > self._max_size + 1:"
    ),
    Mutant("an old expiry evicts the new value", "_store", " and entry.started == started:", ":"),
    Mutant("a reborn secret keeps the old one's values", "_store", "self.drop(name)\n        self._arns", "self._arns"),
    Mutant(
        "a late answer brings the dead secret back",
        "_store",
        "if any(self.entries[key].known_at > started for key in self._keys_of(name)):",
        "if False:",
    ),
    Mutant("an ARN is introduced by itself", "_store", ' and not request.secret_id.startswith("arn:")', ""),
    Mutant(
        "a refusal is forgotten when an older answer comes",
        "_store",
        "return max(self.started, self.revoked_at)",
        "return self.started",
    ),
    Mutant("what is about to come is waited for", "_rotation", "_MOMENT: Final = 1e-6", "_MOMENT: Final = 0.0"),
    Mutant("an ARN's value isn't its name's", "_store", "for key in self._keys_of(arn):", "for key in ():"),
    Mutant(
        "an ARN isn't found by its name's value",
        "_store",
        "if arn is not None:\n            alias =",
        "if False:\n            alias =",
    ),
    Mutant("an alias outlives its entry", "_store", "if self.entries.get(alias) is entry:", "if False:"),
    Mutant("a version takes its secret's alias along", "_store", "if not self._keys_of(secret_id):", "if True:"),
    Mutant(
        "versions outlive an invalidation",
        "_store",
        "for key in self._keys_of(each):",
        "for key in self._keys_of(each)[:1]:",
    ),
    Mutant("hits go with their entry", "_store", "self._past_hits += entry.hits\n        secret_id", "secret_id"),
    Mutant(
        "replaced entries are remembered",
        "_store",
        "if len(self._expiries) > _HEAP_SLACK",
        "if False and len(self._expiries) > _HEAP_SLACK",
    ),
    # --- Freshness.
    Mutant(
        "a clock set back is no matter", "_policy", "return born <= now < expires_at\n", "return now < expires_at\n"
    ),
    Mutant("fresh at the expiry", "_policy", "return born <= now < expires_at\n", "return born <= now <= expires_at\n"),
    Mutant("stale for ever", "_policy", "return born <= now < expires_at + self.stale_if_error", "return born <= now"),
    Mutant(
        "stale though the clock was set back",
        "_policy",
        "return born <= now < expires_at + self.stale_if_error",
        "return now < expires_at + self.stale_if_error",
    ),
    Mutant(
        "revalidated though the clock was set back",
        "_policy",
        "return born <= now < expires_at + self.stale_while_revalidate",
        "return now < expires_at + self.stale_while_revalidate",
    ),
    Mutant(
        "one window for the other",
        "_policy",
        "< expires_at + self.stale_while_revalidate",
        "< expires_at + self.stale_if_error",
    ),
    Mutant("a version expires", "_policy", "if ttl is None or request.version_id is not None:", "if ttl is None:"),
    Mutant("jitter prolongs", "_policy", "(1 - self.jitter * _chance())", "(1 + self.jitter * _chance())"),
    Mutant("no jitter", "_policy", "(1 - self.jitter * _chance())", "1"),
    Mutant(
        "chance that clones share",
        "_policy",
        "(int.from_bytes(os.urandom(7)) >> 3) / 2.0**53",
        '__import__("random").random()',
    ),
    Mutant("an ARN's ttl counts for nothing", "_policy", "(request.secret_id, arn, name)", "(request.secret_id, name)"),
    Mutant("the pause doesn't grow", "_policy", "2.0 ** min(failures - 1, 10)", "1.0"),
    Mutant(
        "the pause grows beyond a minute",
        "_policy",
        "_BACK_OFF_LONGEST: Final = 60.0",
        "_BACK_OFF_LONGEST: Final = 600.0",
    ),
    Mutant("the pause is too short", "_policy", "_BACK_OFF_FIRST: Final = 2.0", "_BACK_OFF_FIRST: Final = 1.0"),
    # --- Back-off.
    Mutant(
        "a throttled answer is held too long",
        "_backoff",
        "_THROTTLED_SECONDS: Final = 1.0",
        "_THROTTLED_SECONDS: Final = 5.0",
    ),
    Mutant(
        "a throttled answer isn't held",
        "_backoff",
        "_THROTTLED_SECONDS: Final = 1.0",
        "_THROTTLED_SECONDS: Final = 0.0",
    ),
    Mutant(
        "a clock set back prolongs the pause",
        "_backoff",
        "return self.since <= now < self.since",
        "return now < self.since",
    ),
    Mutant(
        "every answer is held",
        "_backoff",
        "if failure is None or not isinstance(failure.error, SecretThrottledError):",
        "if failure is None:",
    ),
    Mutant("failures aren't counted", "_backoff", "earlier.number + 1 if", "1 if"),
    Mutant(
        "success forgets no failure",
        "_backoff",
        'it has succeeded."""\n        self._failures.pop(key, None)',
        'it has succeeded."""',
    ),
    Mutant("failures pile up", "_backoff", "if len(self._failures) > self._max_size:", "if False:"),
    Mutant(
        "others' failures are forgotten too",
        "_backoff",
        "if (key if isinstance(key, str) else key[0]) in secret_ids",
        "if secret_ids",
    ),
    # --- Rotation.
    Mutant("no end of patience", "_rotation", "if left <= _MOMENT and (has_refreshed or wait > 0.0):", "if False:"),
    Mutant("no refresh without patience", "_rotation", "(has_refreshed or wait > 0.0)", "True"),
    Mutant("a refresh outlasts the patience", "_rotation", "left if left > _MOMENT else None", "None"),
    Mutant("a pause outlasts the patience", "_rotation", "min(wait, left)", "wait"),
    Mutant("another version in memory isn't seen", "_rotation", "if entry is not None and entry", "if False and entry"),
    Mutant("nobody keeps the pace", "_rotation", "else self._claim(self._known_as(request))", "else 0.0"),
    Mutant("who could join waits", "_rotation", "0.0 if self._reader.is_refreshing(request) else ", ""),
    Mutant(
        "what is down ends the patience",
        "_rotation",
        "except (SecretUnavailableError, SecretThrottledError, TimeoutError):",
        "except (SecretThrottledError, TimeoutError):",
    ),
    Mutant(
        "what has come by another way isn't seen",
        "_rotation",
        "SecretThrottledError, TimeoutError):\n                continue",
        "SecretThrottledError):\n                continue\n            except TimeoutError:\n                raise",
    ),
    Mutant("the same version is tried again", "_rotation", "if fetched.version_id != failed.version_id:", "if True:"),
    Mutant("an old pace holds", "_rotation", "_IDLE: Final = 60.0", "_IDLE: Final = 1e9"),
    Mutant("pauses grow without end", "_rotation", "_LONGEST_WAIT: Final = 1.0", "_LONGEST_WAIT: Final = 1000.0"),
    Mutant("paces pile up", "_rotation", "if len(self._paces) > self._max_size:", "if False:"),
    Mutant(
        "an ARN has a pace of its own",
        "_rotation",
        "self._reader.store.canonical(request).secret_id",
        "request.secret_id",
    ),
    Mutant("success leaves the pace", "_rotation", "self.forget(self._known_as(request))\n", "pass\n"),
    # --- What joins them: reads.
    Mutant(
        "age counts from the landing",
        "_reader",
        "started=flight.started, born=flight.born",
        "started=flight.started, born=now",
    ),
    Mutant(
        "a refusal from before revokes",
        "_reader",
        " and present is not None and present.started < flight.started:",
        " and present is not None:",
    ),
    Mutant("a refused value is served", "_reader", "if entry.revoked_at or is_fresh(", "if is_fresh("),
    Mutant("refresh gives a stale value", "_reader", "entry is None or not purpose.is_read or", "entry is None or"),
    Mutant(
        "any failure gives a stale value",
        "_reader",
        "return isinstance(error, _TRANSIENT) and self",
        "return self",
    ),
    Mutant(
        "a value that is fresh by now isn't given",
        "_reader",
        "if not is_fresh(entry.born, entry.expires_at, now) and not self._may",
        "if not self._may",
    ),
    Mutant(
        "who was cancelled by others isn't helped",
        "_reader",
        "(request not in cancelled or self.is_closed)",
        "self.is_closed",
    ),
    Mutant(
        "who was cancelled by others never gives up", "_reader", "(request not in cancelled or self.is_closed)", "True"
    ),
    Mutant(
        "the old ARN gives the new secret",
        "_reader",
        "boarded != request and flight.secret.arn != request.secret_id",
        "False",
    ),
    Mutant("an invalidation leaves the back-off", "_reader", "self.backoff.forget_all(ids)", "pass"),
    Mutant(
        "an ARN's invalidation leaves its name's fetch",
        "_reader",
        "self.flights.forget(ids | {SecretRequest(each).by_name.secret_id for each in ids})",
        "self.flights.forget(ids)",
    ),
    Mutant("a read beside its name's is none", "_reader", "len(followers) - len(alone), refresh", "0, refresh"),
    Mutant("who comes back fetches what is there", "_reader", "if waiting and not purpose.is_refresh:", "if False:"),
    Mutant("who comes back is counted twice", "_reader", "entry.hits += purpose.is_counted", "entry.hits += 1"),
    Mutant("name and ARN are fetched both", "_reader", "if name != request and name in missing", "if False"),
    Mutant(
        "another account's ARN gets its name's value",
        "_reader",
        "isinstance(of_name, Answer) and of_name.secret.arn == request.secret_id",
        "isinstance(of_name, Answer)",
    ),
    Mutant(
        "what is stored is joined for",
        "_singleflight",
        "if type(self._table.get(request.key, flight)) is Flight:",
        "if True:",
    ),
    Mutant(
        "what is stored isn't found",
        "_store",
        ", self.table[key] = self.entries.get(key), entry, entry",
        " = self.entries.get(key), entry",
    ),
    Mutant("what is dropped is found", "_store", "self.table.pop(key, None)  # A", "pass  # A"),
    Mutant("what is dropped is found by its alias", "_store", "            self.table.pop(alias, None)\n", ""),
    Mutant("what nobody carries is waited for", "_singleflight", "if flight.carrier is None:\n", "if False:\n"),
    Mutant(
        "the child of a fork keeps what leads to its parent",
        "_singleflight",
        "            del table[key]\n",
        "            pass\n",
    ),
    Mutant(
        "a closed cache stores",
        "_reader",
        "if self.is_closed:\n            return None",
        "if False:\n            return None",
    ),
    Mutant(
        "each read revalidates",
        "_reader",
        "if failure is None:\n                revalidated",
        "if True:\n                revalidated",
    ),
    Mutant("the pause isn't kept", "_reader", "failure = self.backoff.holding(request.key, now)", "failure = None"),
    Mutant("the hold isn't kept", "_reader", "if error is not None and not purpose.is_refresh:", "if False:"),
    Mutant(
        "the hold stops a refresh",
        "_reader",
        "if error is not None and not purpose.is_refresh:",
        "if error is not None:",
    ),
    Mutant(
        "failures of an ARN aren't its name's",
        "_reader",
        "self.backoff.note(request.key,",
        "self.backoff.note(flight.request.key,",
    ),
    Mutant(
        "the hit path takes a clock set back",
        "_cache",
        "if found.born <= self._now() < found.expires_at and",
        "if self._now() < found.expires_at and",
    ),
    Mutant(
        "the hit path takes what has expired",
        "_cache",
        "if found.born <= self._now() < found.expires_at and",
        "if found.born <= self._now() and",
    ),
    # --- The short way to a flight.
    Mutant(
        "a flight of another loop is joined",
        "_singleflight",
        "if (\n            flight.loop is not asyncio.get_running_loop()\n            or ",
        "if (\n            ",
    ),
    Mutant("the short way passes a deadline by", "_singleflight", "or invocation_deadline.get() is not None\n", "\n"),
    Mutant("the short way closes a circle", "_singleflight", "or current_carrier.get() is not None\n", "\n"),
    Mutant("the short way leads to what slept", "_singleflight", "or flight.carrier.timer.is_overdue()\n", "\n"),
    Mutant(
        "the short way leads to what is closed",
        "_singleflight",
        "if self._table.get(flight.request.key) is flight:",
        "if False:",
    ),
    Mutant(
        "who leaves the short way is still counted",
        "_cache",
        f"{_LEFT}raise\n{_LANDED}return joined.secret._text",
        f"raise\n{_LANDED}return joined.secret._text",
    ),
    Mutant(
        "who leaves the short way to a record is still counted",
        "_cache",
        f"{_LEFT}raise\n{_LANDED}return joined.secret\n",
        f"raise\n{_LANDED}return joined.secret\n",
    ),
    Mutant("notes are shared", "_errors", "list(twin.__notes__)", "twin.__notes__"),
    Mutant(
        "a retry counts as joined",
        "_singleflight",
        "self.is_background or self.is_prefetch or self.is_retry",
        "self.is_background or self.is_prefetch",
    ),
    Mutant(
        "an ARN takes any error of its name",
        "_reader",
        "isinstance(of_name, SecretUnavailableError) and of_name.request_id is None",
        "isinstance(of_name, SecretCacheError)",
    ),
    # --- HTTP.
    Mutant(
        "a second answer is read",
        "_sources/_http_message",
        "raise HttpParserError  # Nobody asked for another.",
        "pass",
    ),
    Mutant(
        "trailers become headers",
        "_sources/_http_message",
        "if not self._status:  # Not those",
        "if True:  # Not those",
    ),
    Mutant("a word before the answer is one", "_sources/_http_message", "if self._status < 200:", "if False:"),
    Mutant("its headers stay", "_sources/_http_message", "            self._headers.clear()\n", ""),
    Mutant(
        "what is to be closed is kept", "_sources/_http_message", "= not self._parser.should_keep_alive()", "= False"
    ),
    Mutant("no connection is kept", "_sources/_http_message", "= not self._parser.should_keep_alive()", "= True"),
    Mutant(
        "half of an answer is one",
        "_sources/_http_message",
        "if self._status and not is_measured and not",
        "if self._status and not",
    ),
    Mutant(
        "an answer that ends with its connection is none",
        "_sources/_http_message",
        "if self._status and not is_measured and not",
        "if False and not",
    ),
    Mutant("bodies have no end", "_sources/_http_message", "if len(self._body) + len(data) > _MAX_BODY:", "if False:"),
    Mutant(
        "trailers have no end",
        "_sources/_http_message",
        "if self._received > (_MAX_BODY + _MAX_HEAD if self._status else _MAX_HEAD):",
        "if not self._status and self._received > _MAX_HEAD:",
    ),
    Mutant(
        "half of what is too long is all", "_sources/_http_message", "is_measured and not self.is_broken", "is_measured"
    ),
    Mutant("any number is a status", "_sources/_http_message", "if self._status < 100:", "if False:"),
    Mutant("LF ends no line", "_sources/_http_message", "lenient_optional_cr_before_lf=True, ", ""),
    Mutant("headers have no end", "_sources/_http_message", "if self._status else _MAX_HEAD)", ")"),
    Mutant(
        "what is no HTTP is waited for",
        "_sources/_http_message",
        "self.is_broken = self.is_last = True",
        "self.is_last = True",
    ),
    Mutant(
        "what is followed by something is kept",
        "_sources/_http_message",
        "self.is_broken = self.is_last = True",
        "self.is_broken = True",
    ),
    Mutant("a parser and its answer keep each other", "_sources/_http", "            answer.close()\n", ""),
    Mutant(
        "a header begins another",
        "_sources/_http_message",
        "line.isascii() and line.isprintable()",
        "line.isascii()",
    ),
    Mutant(
        "what nobody asked for is the next answer",
        "_sources/_http",
        "            self.abort()\n            return\n",
        "            return\n",
    ),
    Mutant("a cut answer may have been none", "_sources/_http", "if answer.has_begun else UnansweredError", ""),
    Mutant(
        "a cut answer was none",
        "_sources/_http",
        "raise ConnectionClosedError if answer.has_begun else UnansweredError",
        "raise UnansweredError",
    ),
    Mutant("what is over is kept", "_sources/_http", "        if connection.is_over:\n", "        if False:\n"),
    Mutant(
        "what was idle for long is used",
        "_sources/_http",
        "if not connection.is_over and 0 <= self._clock() - connection.used_at <= MAX_IDLE:",
        "if not connection.is_over:",
    ),
    Mutant(
        "idle while the clock was set back",
        "_sources/_http",
        "and 0 <= self._clock() - connection.used_at <= MAX_IDLE:",
        "and self._clock() - connection.used_at <= MAX_IDLE:",
    ),
    Mutant(
        "what is over is used",
        "_sources/_http",
        "if not connection.is_over and 0 <= self._clock()",
        "if 0 <= self._clock()",
    ),
    Mutant(
        "a cancelled exchange leaves its connection",
        "_sources/_http",
        "        except BaseException:\n",
        "        except ValueError:\n",
    ),
    Mutant("one dead connection is tried after another", "_sources/_http", "            self.close()\n", ""),
    Mutant("trust is never widened", "_sources/_http", "if not self._trust.widen():", "if True:"),
    # --- The rest of what needs no SDK.
    Mutant("all is trusted at once", "_sources/_trust", "is_regional and bundle is None", "False"),
    Mutant("the whole bundle is trusted for less", "_sources/_trust", "is_regional and bundle is None", "is_regional"),
    Mutant(
        "a host name may begin with a hyphen",
        "_sources/_origin",
        'and part[0] != "-" != part[-1]',
        'and "-" != part[-1]',
    ),
    Mutant("a host name may be of any length", "_sources/_origin", "0 < len(part) <= _LONGEST_LABEL", "0 < len(part)"),
    Mutant("a letter may look like another", "_sources/_origin", "if url.isascii() else None", "if True else None"),
    Mutant("paths are of lower case", "_sources/_origin", "url[-len(path) :] if path", "path if path"),
    Mutant("retries cost nothing", "_sources/_retries", "        self._tokens -= cost\n", ""),
    Mutant(
        "retries are paid for ever",
        "_sources/_retries",
        "min(_TOKENS, self._tokens + (paid or _REFUND))",
        "self._tokens",
    ),
    Mutant("each failure is tried again", "_sources/_retries", "or not is_transient(failure)", ""),
    Mutant("small errors of the clock are corrected", "_sources/_direct_client", "abs(skew - was) > _SKEW", "True"),
    Mutant(
        "credentials are kept", "_sources/_direct_client", "environment_credentials() or self._found", "self._found"
    ),
    Mutant(
        "credentials that are gone are missed",
        "_sources/_direct_client",
        "environment_credentials() or self._found",
        "environment_credentials()",
    ),
    Mutant("blanks count in a signature", "_sources/_sigv4", "' '.join(headers[name].split())", "headers[name]"),
    # --- The SDK.
    Mutant("there is no other service", "_sources/_sdk", "return True\n", "return False\n"),
    Mutant(
        "the clients of roles compare no names",
        "_sources/_sdk",
        "_Mended(create(*args, **kwargs))",
        "create(*args, **kwargs)",
    ),
    Mutant(
        "a session is used before its models are there",
        "_sources/_sdk",
        "            self._spares.append(session)\n        self._loader",
        "            self._spares.append(_new_session())\n        self._loader",
    ),
    Mutant(
        "a user's session is changed",
        "_sources/_sdk",
        "        if self._given is None:\n            _lighten",
        "        if True:\n            _lighten",
    ),
    Mutant("a missing model is an error", "_sources/_sdk", "if os.path.isfile(path + suffix):", "if True:"),
    Mutant("the SDK logs values", "_sources/_redaction", "    _install()\n    token", "    token"),
]


#: What is no mistake, and must not be taken for one.
UNCHANGED: Final = Mutant("nothing is changed", "_store", "import heapq", "import heapq")


def run(mutant: Mutant) -> str:
    """Return what noticed the mutant, or that nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "asecretcache")
        shutil.copytree(INSTALLED, copy, ignore=shutil.ignore_patterns("__pycache__"))
        module = copy / f"{mutant.module}.py"
        text = module.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return f"{OUTDATED}: its text is there {text.count(mutant.old)} times"
        module.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        for stage, tests in (SOURCES_STAGES if mutant.module.startswith("_sources") else STAGES).items():
            noticed = _notices(tests, folder)
            if noticed:
                return f"{stage}: {noticed}"
    return SURVIVED


def _notices(tests: list[str], folder: str) -> str:
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    command += [f"--rootdir={TESTS.parent}", "-c", str(TESTS.parent / "pyproject.toml"), "-k", "not million"]
    try:
        # In that folder, so that the examples which hypothesis keeps go with it.
        result = subprocess.run(
            [*command, *(str(TESTS / test) for test in tests)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"hangs for more than {SECONDS} s"
    if result.returncode == 0:
        return ""
    failed = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].rpartition("::")[2] if failed else f"exit status {result.returncode}"


def main(only: list[str]) -> int:
    """Run the mutants whose module or name has one of these words in it, or all."""
    mutants = [each for each in MUTANTS if not only or any(word in f"{each.module} {each.name}" for word in only)]
    began, bad = time.monotonic(), []
    if (noticed := run(UNCHANGED)) != SURVIVED:
        print(f"the tests fail as it is: {noticed}")
        return 1
    with ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count() or 1)) as pool:
        for mutant, noticed in zip(mutants, pool.map(run, mutants), strict=True):
            print(f"{mutant.module:23} {mutant.name:50} {noticed}", flush=True)
            if noticed == SURVIVED or noticed.startswith(OUTDATED):
                bad.append(mutant)
    print(f"{len(mutants) - len(bad)} of {len(mutants)} killed in {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
