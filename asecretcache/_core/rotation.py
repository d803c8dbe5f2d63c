"""Calls with a secret that may have been rotated: once more with the new version where the old one is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from asecretcache._core.fetch import FetchReason
from asecretcache._core.loader import Loader
from asecretcache._core.options import seconds
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import Secret, SecretRequest, may_be_same_secret

T = TypeVar("T")

# The pauses between refreshes that bring nothing new, doubling.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_SCHEDULE_KEPT: Final = 60.0
# A loop's clock may not move within less.
_CLOCK_STEP: Final = 1e-6


class _Schedule(NamedTuple):
    """When the next refresh may start, and the pause after it if it brings nothing new."""

    next_slot: float
    pause: float


class Rotations:
    """Runs functions with secrets, and refreshes a secret that a function doesn't accept any more.

    All callers share the refreshes of a secret and their schedule, so the number of callers doesn't matter.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._schedules: dict[str, _Schedule] = {}

    async def call(
        self,
        request: SecretRequest,
        function: Callable[[Secret], Awaitable[T]],
        refresh_on: type[Exception] | tuple[type[Exception], ...],
        refresh_timeout: float,
    ) -> T:
        """See SecretCache.call_with_secret."""
        refresh_timeout = seconds("refresh_timeout", refresh_timeout, remedy="give seconds, or 0 for one refresh")
        _check(function, refresh_on)
        secret = await self._loader.load(request)
        try:
            return await function(secret)
        except refresh_on as exc:
            failure = exc
        try:
            other = await self._other_version(request, secret, refresh_timeout)
            if other is None:
                raise failure
            return await function(other)
        finally:
            del failure  # Its traceback holds this frame.

    def forget(self, secret_id: str | None = None) -> None:
        """Start over with a secret, by whichever of its ids; None: with all."""
        with self._loader.lock:
            for each in list(self._schedules):
                if secret_id is None or may_be_same_secret(each, secret_id):
                    del self._schedules[each]

    async def _other_version(self, request: SecretRequest, failed: Secret, refresh_timeout: float) -> Secret | None:
        """Return a version other than the failed one as soon as there is one; None if none comes in time."""
        monotonic = self._loader.options.monotonic
        ends_at = monotonic() + time_left(refresh_timeout)
        has_tried = False
        error: SecretCacheError | None = None
        while True:
            stored = self._loader.servable(request, error)
            if stored is not None and stored.version_id != failed.version_id:
                return stored
            left = ends_at - monotonic()
            is_joining = self._loader.single_flight.is_joinable(request, FetchReason.REFRESH)
            wait = 0.0 if is_joining else self._take_slot(request.secret_id)
            # Without any time there is one refresh all the same.
            if left <= _CLOCK_STEP and (has_tried or wait > 0.0):
                return None
            has_tried = True
            if wait > 0.0:
                # For a refresh of another caller, or for the next slot.
                await asyncio.sleep(min(wait, left))
                continue
            try:
                # The fetch may take longer; this bounds only how long its caller waits.
                async with asyncio.timeout(left if left > _CLOCK_STEP else None):
                    fetched = await self._loader.load(request, FetchReason.REFRESH)
                if fetched.version_id != failed.version_id:
                    self.forget(request.secret_id)
                    return fetched
            except TimeoutError:
                pass  # The new version may be in memory by now.
            except SecretCacheError as exc:
                if not exc.is_transient:
                    return None
                error = exc.with_traceback(None)

    def _take_slot(self, secret_id: str) -> float:
        """Take the next slot of the schedule and return 0; if it isn't due, return the seconds until it is."""
        with self._loader.lock:
            now = self._loader.options.monotonic()
            schedule = self._schedules.pop(secret_id, None)
            if schedule is None or now - schedule.next_slot > _SCHEDULE_KEPT:
                schedule = _Schedule(now, _FIRST_PAUSE)
            wait = schedule.next_slot - now
            if wait <= _CLOCK_STEP:
                wait = 0.0
                schedule = _Schedule(now + schedule.pause, min(_LONGEST_PAUSE, 2 * schedule.pause))
            self._schedules[secret_id] = schedule
            if len(self._schedules) > self._loader.options.max_size:
                del self._schedules[next(iter(self._schedules))]
            return wait


def _check(function: object, refresh_on: object) -> None:
    if not callable(function):
        msg = f"function must be callable with the secret and return an awaitable, not {type(function).__name__}"
        raise ConfigurationError(msg)
    kinds = refresh_on if isinstance(refresh_on, tuple) else (refresh_on,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        msg = "refresh_on must be the exception, or a tuple of exceptions, by which the function refuses a secret"
        raise ConfigurationError(msg)
