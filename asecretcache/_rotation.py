"""Calls with a secret that may have been rotated meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol, TypeVar

from asecretcache._deadline import current_deadline
from asecretcache._errors import ConfigurationError, SecretCacheError, SecretThrottledError, SecretUnavailableError
from asecretcache._policy import seconds
from asecretcache._secret import Secret, SecretRequest

T = TypeVar("T")

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0
_IDLE: Final = 60.0


class Refresher(Protocol):
    """What is needed of the cache."""

    async def get(self, secret_id: str, /) -> Secret:
        """Return the secret, from memory while it is fresh."""

    async def refresh(self, secret_id: str, /) -> Secret:
        """Fetch it now."""

    def peek(self, secret_id: str, /) -> Secret | None:
        """Return what is stored."""

    def _is_refreshing(self, secret_id: str, /) -> bool:
        """Whether a refresh is under way that can be joined."""


class _Pace(NamedTuple):
    """How many refreshes have brought nothing new, and when the next one may start."""

    refreshes: int
    next_at: float


class Rotations:
    """Runs functions with secrets, and refreshes a secret that a function doesn't accept any more.

    All whose call fails share the refreshes and their pace, so the number of callers doesn't matter.
    """

    def __init__(self, cache: Refresher, max_size: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._max_size = max_size
        self.monotonic = monotonic
        self._lock = threading.Lock()
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
        secret_id = SecretRequest.of(secret_id).secret_id
        secret = await self._cache.get(secret_id)
        try:
            return await function(secret)
        except refresh_on as exc:
            failure = exc
        try:
            other = await self._other_version(secret_id, secret, patience)
            if other is None:
                raise failure
            return await function(other)
        finally:
            del failure  # Its traceback holds this frame.

    async def _other_version(self, secret_id: str, failed: Secret, patience: float) -> Secret | None:
        """Return another version than the one that failed, as soon as there is one; None: not within the patience."""
        deadline = current_deadline()
        if deadline is not None and deadline.at is not None:
            patience = min(patience, deadline.at - asyncio.get_running_loop().time())
        ends_at = self.monotonic() + patience
        has_refreshed = False
        while True:
            stored = self._cache.peek(secret_id)
            if stored is not None and stored.version_id != failed.version_id:
                return stored
            # A refresh may take longer than the pause after it, and then there is none in which to give up.
            if has_refreshed and self.monotonic() >= ends_at:
                return None
            wait = 0.0 if self._cache._is_refreshing(secret_id) else self._claim(secret_id)
            if wait > 0.0:
                if self.monotonic() + wait > ends_at:
                    return None
                await asyncio.sleep(wait)
                continue
            has_refreshed = True
            try:
                fetched = await self._cache.refresh(secret_id)
            except (SecretUnavailableError, SecretThrottledError):
                pass  # It may come to be within the patience.
            except SecretCacheError:
                return None
            else:
                if fetched.version_id != failed.version_id:
                    with self._lock:
                        self._paces.pop(secret_id, None)
                    return fetched

    def _claim(self, secret_id: str) -> float:
        """Return 0 for who may refresh now, which is noted; else the seconds until somebody may."""
        with self._lock:
            now = self.monotonic()
            pace = self._paces.pop(secret_id, None)
            if pace is None or now - pace.next_at > _IDLE:
                pace = _Pace(0, now)
            wait = pace.next_at - now
            if wait <= 0.0:
                pause = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(pace.refreshes, 10))
                pace = _Pace(pace.refreshes + 1, now + pause)
            self._paces[secret_id] = pace
            if len(self._paces) > self._max_size:
                del self._paces[next(iter(self._paces))]
            return max(wait, 0.0)


def _check(function: object, refresh_on: object) -> None:
    if not callable(function):
        msg = f"function is called with the secret and awaited, which {type(function).__name__} can't be"
        raise ConfigurationError(msg)
    kinds = refresh_on if isinstance(refresh_on, tuple) else (refresh_on,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        msg = "refresh_on is the exception, or a tuple of those, that the function raises when the secret is refused"
        raise ConfigurationError(msg)
