"""When to try again what has failed: no I/O, no clock of its own; whoever calls it holds the cache's lock."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from asecretcache._core.freshness import back_off
from asecretcache._exceptions import SecretCacheError, SecretThrottledError

_THROTTLED_SECONDS: Final = 1.0


class Failure(NamedTuple):
    """What the latest fetch of a secret failed with, after how many others, when, and how many seconds to wait."""

    error: SecretCacheError
    number: int
    since: float
    seconds: float

    def is_younger(self, seconds: float, now: float) -> bool:
        """Whether it happened less than ``seconds`` ago; not if the clock was set back since."""
        return self.since <= now < self.since + seconds


class Backoff:
    """The failures by key of which the next try is to be spaced; at most ``max_size``, the oldest are forgotten."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._failures: dict[Any, Failure] = {}

    def note(self, key: Any, error: SecretCacheError, now: float, *, is_stale_served: bool) -> None:
        """Take note of a failure.

        While a stale value is served, retries are spaced by an exponential back-off. Without one each caller may try,
        but for a second after Secrets Manager has said that there are too many calls.
        """
        if not is_stale_served and not isinstance(error, SecretThrottledError):
            return
        earlier = self._failures.pop(key, None)
        number = earlier.number + 1 if earlier is not None and is_stale_served else 1
        self._failures[key] = Failure(error, number, now, back_off(number) if is_stale_served else 0.0)
        if len(self._failures) > self._max_size:
            del self._failures[next(iter(self._failures))]

    def holding(self, key: Any, now: float) -> SecretCacheError | None:
        """Return the error after which it is too early for another try, so that a stale value is served without one."""
        failure = self._failures.get(key)
        return failure.error if failure is not None and failure.is_younger(failure.seconds, now) else None

    def throttled(self, key: Any, now: float) -> SecretCacheError | None:
        """Return the error with which Secrets Manager throttled a moment ago, if it did."""
        failure = self._failures.get(key)
        if failure is None or not isinstance(failure.error, SecretThrottledError):
            return None
        return failure.error if failure.is_younger(_THROTTLED_SECONDS, now) else None

    def forget(self, key: Any) -> None:
        """Begin anew: it has succeeded."""
        self._failures.pop(key, None)

    def forget_all(self, secret_ids: Collection[str]) -> None:
        """Begin anew with all versions of a secret, by any of these ids."""
        for key in [key for key in self._failures if (key if isinstance(key, str) else key[0]) in secret_ids]:
            del self._failures[key]

    def clear(self) -> None:
        """Begin anew with all."""
        self._failures.clear()
