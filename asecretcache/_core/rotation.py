"""Calls with a secret that may have been rotated meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from asecretcache._core.freshness import seconds
from asecretcache._core.loader import Reader
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError, SecretCacheError, SecretThrottledError, SecretUnavailableError
from asecretcache._models import Secret, SecretRequest

T = TypeVar("T")

# From the second time on that a refresh brings nothing new.
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 1.0
_IDLE: Final = 60.0
# Less is no time: the clock of a loop may not move for it.
_MOMENT: Final = 1e-6


class _Pace(NamedTuple):
    """How many refreshes have brought nothing new, and when the next one may start."""

    refreshes: int
    next_at: float


class Rotations:
    """Runs functions with secrets, and refreshes a secret that a function doesn't accept any more.

    All whose call fails share the refreshes and their pace, so the number of callers doesn't matter.
    """

    def __init__(self, reader: Reader, max_size: int) -> None:
        self._reader = reader
        self._max_size = max_size
        self._paces: dict[str, _Pace] = {}

    async def call(
        self,
        secret_id: str,
        function: Callable[[Secret], Awaitable[T]],
        refresh_on: type[Exception] | tuple[type[Exception], ...],
        patience: float,
    ) -> T:
        """See SecretCache.call_with_secret."""
        patience = seconds("patience", patience, remedy="give seconds, or 0 for one refresh")
        _check(function, refresh_on)
        request = SecretRequest.of(secret_id)
        secret = (await self._reader.read(request)).secret
        try:
            return await function(secret)
        except refresh_on as exc:
            failure = exc
        try:
            other = await self._other_version(request, secret, patience)
            if other is None:
                raise failure
            return await function(other)
        finally:
            del failure  # Its traceback holds this frame.

    def forget(self, secret_id: str | None = None) -> None:
        """Begin anew with one secret, or with all."""
        with self._reader.lock:
            if secret_id is None:
                self._paces.clear()
            else:
                self._paces.pop(secret_id, None)

    async def _other_version(self, request: SecretRequest, failed: Secret, patience: float) -> Secret | None:
        """Return another version than the one that failed, as soon as there is one; None: not within the patience."""
        monotonic = self._reader.monotonic
        ends_at = monotonic() + time_left(patience)
        has_refreshed = False
        while True:
            entry = self._reader.entries.get(request.key)
            if entry is not None and entry.secret.version_id != failed.version_id:
                return entry.secret
            left = ends_at - monotonic()
            wait = 0.0 if self._reader.is_refreshing(request) else self._claim(self._known_as(request))
            # Without any patience there is one refresh all the same.
            if left <= _MOMENT and (has_refreshed or wait > 0.0):
                return None
            if wait > 0.0:
                await asyncio.sleep(min(wait, left))
                continue
            has_refreshed = True
            try:
                # It may take longer than the patience, which is the caller's and not the fetch's.
                async with asyncio.timeout(left if left > _MOMENT else None):
                    fetched = await self._reader.refresh(request)
            except (SecretUnavailableError, SecretThrottledError, TimeoutError):
                continue  # It may come to be within the patience, or be in memory by now.
            except SecretCacheError:
                return None
            if fetched.version_id != failed.version_id:
                self.forget(self._known_as(request))
                return fetched

    def _known_as(self, request: SecretRequest) -> str:
        """Return the id by which the pace is kept: a name and its ARN share one."""
        return self._reader.store.canonical(request).secret_id

    def _claim(self, secret_id: str) -> float:
        """Return 0 for who may refresh now, which is noted; else the seconds until somebody may."""
        with self._reader.lock:
            now = self._reader.monotonic()
            pace = self._paces.pop(secret_id, None)
            if pace is None or now - pace.next_at > _IDLE:
                pace = _Pace(0, now)
            wait = pace.next_at - now
            if wait <= _MOMENT:
                wait = 0.0
                pause = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(pace.refreshes, 10))
                pace = _Pace(pace.refreshes + 1, now + pause)
            self._paces[secret_id] = pace
            if len(self._paces) > self._max_size:
                del self._paces[next(iter(self._paces))]
            return wait


def _check(function: object, refresh_on: object) -> None:
    if not callable(function):
        msg = f"function is called with the secret and awaited, which {type(function).__name__} can't be"
        raise ConfigurationError(msg)
    kinds = refresh_on if isinstance(refresh_on, tuple) else (refresh_on,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        msg = "refresh_on is the exception, or a tuple of those, that the function raises when the secret is refused"
        raise ConfigurationError(msg)
