"""How long a value may be served, and when a failed fetch may be retried: pure decisions, no clock of their own.

Fresh and expired are the words of RFC 9111; stale-while-revalidate and stale-if-error those of RFC 5861. Time is
wall-clock time in seconds since the epoch: a freeze of the execution environment counts as time, and a monotonic clock
may stand still over one. If the clock was set back before a value's start, its age is unknown and it isn't served.
"""

from __future__ import annotations

import math
import os
from typing import Final, NamedTuple

from asecretcache._core.entries import Entry
from asecretcache._core.options import CacheOptions
from asecretcache._exceptions import (
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretThrottledError,
)
from asecretcache._models import Key, Secret, SecretRequest, may_be_same_secret

_FIRST_BACK_OFF: Final = 2.0
_LONGEST_BACK_OFF: Final = 60.0
_RECENT_SECONDS: Final = 60.0
_HELD_SECONDS: Final = 1.0
# With an event loop for each invocation, each cuts off the refresh that it started. Then a read waits for one.
_MAX_LOST_REFRESHES: Final = 3

#: Answers by which AWS refuses the value. A stored value that is refused is never served stale again.
REFUSED: Final = (SecretNotFoundError, SecretAccessDeniedError, SecretDecryptionError)
# Answers that are held for a second, so that a typo at 1,000 invocations a second doesn't cost 1,000 calls.
_HELD: Final = (*REFUSED, SecretThrottledError)


def new_entry(options: CacheOptions, request: SecretRequest, secret: Secret, sequence: int, started_at: float) -> Entry:
    """Return the entry of a fetched secret, with the times until which it may be served: all that the options say."""
    # What is set for the id that was asked for goes before what is set for the secret's other id.
    ids = request.secret_id, secret.arn, secret.name
    ttl = next((options.ttl_by_secret[each] for each in ids if each in options.ttl_by_secret), options.ttl)
    expires_at = math.inf
    # The value of a version never changes, but a label that is asked for with it may move.
    if ttl is not None and (request.version_id is None or request.version_stage is not None):
        # From the start of the fetch: the value may have been read at any time since, and arrive after a freeze.
        expires_at = started_at + ttl * (1 - options.jitter * random_fraction())
    entry = Entry(secret, sequence, started_at, expires_at)
    entry.stale_until = expires_at + options.stale_while_revalidate
    entry.stale_on_error_until = expires_at + options.stale_if_error
    return entry


def is_fresh(entry: Entry, now: float) -> bool:
    """Return whether the entry may be served as it is."""
    return entry.started_at <= now < entry.expires_at


def may_serve_stale(entry: Entry, error: SecretCacheError | None, now: float) -> bool:
    """Return whether an expired entry may be served, given what its latest fetch failed with, if it did."""
    if entry.refused_sequence or now < entry.started_at or now < entry.expires_at:
        return False
    if error is None and entry.lost_refreshes >= _MAX_LOST_REFRESHES:
        return False
    is_on_error = error is not None and error.is_transient and now < entry.stale_on_error_until
    return is_on_error or now < entry.stale_until


class Failure(NamedTuple):
    """The latest failure of a fetch, its number in a row of failures, and the seconds until the next retry."""

    error: SecretCacheError
    number: int
    failed_at: float
    back_off: float

    def blocks_retry(self, now: float) -> bool:
        """Return whether it is too early to retry while a stale value is served."""
        return self._is_within(self.back_off, now)

    def is_known(self, now: float, *, is_retrying: bool) -> bool:
        """Return whether readers get a stale value without waiting for a retry: soon after it, or while one runs."""
        return self._is_within(math.inf if is_retrying else _RECENT_SECONDS, now)

    def is_held(self, now: float) -> bool:
        """Return whether it is an answer by which AWS refused or throttled less than a second ago."""
        return isinstance(self.error, _HELD) and self._is_within(_HELD_SECONDS, now)

    def _is_within(self, duration: float, now: float) -> bool:
        """Return whether it happened less than ``duration`` seconds ago; not if the clock was set back since."""
        return self.failed_at <= now < self.failed_at + duration


class RetrySpacing:
    """The latest failures by key; at most ``max_size``, the oldest are forgotten. Its caller holds the loader's lock.

    While a stale value is served, retries are spaced by a back-off that doubles from 1 to 2 s up to 60 s, and no reader
    waits for them unless the latest failure is a minute old. Without a value each caller may try, but an answer by
    which AWS refuses or throttles is held for a second. A success forgets the failure.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self.failures: dict[Key, Failure] = {}

    def record_failure(self, key: Key, error: SecretCacheError, now: float, *, is_stale_served: bool) -> None:
        """Remember a failure if it has a bearing on the next call."""
        if not is_stale_served and not isinstance(error, _HELD):
            return
        earlier = self.failures.pop(key, None)
        number = earlier.number + 1 if earlier is not None and is_stale_served else 1
        self.failures[key] = Failure(error, number, now, back_off(number) if is_stale_served else _HELD_SECONDS)
        if len(self.failures) > self._max_size:
            del self.failures[next(iter(self.failures))]

    def forget_secret(self, secret_id: str | None) -> None:
        """Start over with all versions of a secret, by whichever of its ids; None: with all secrets."""
        for key in list(self.failures):
            if secret_id is None or may_be_same_secret(key if isinstance(key, str) else key[0], secret_id):
                del self.failures[key]


def back_off(failures: int) -> float:
    """Return the seconds until the next retry after so many failures in a row: 1 to 2 s, then doubling, at most 60 s.

    The random part keeps environments that failed together from retrying together.
    """
    longest = min(_LONGEST_BACK_OFF, _FIRST_BACK_OFF * 2.0 ** min(failures - 1, 10))
    return longest * (1 + random_fraction()) / 2


def random_fraction() -> float:
    """Return a number of [0, 1) from the kernel, as random.SystemRandom does, whose module takes longer to import.

    The clones of a snapshot share the state of other generators.
    """
    # As many bits as a float has: with one more, the largest would be rounded to 1.
    return (int.from_bytes(os.urandom(7)) >> 3) / 2.0**53
