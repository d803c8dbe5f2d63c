"""Calls with secrets that may have been rotated: once more with the new versions where the old ones are refused."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from asecretcache._callables import is_async
from asecretcache._core.fetch import FetchReason
from asecretcache._core.loader import Loader
from asecretcache._core.options import seconds
from asecretcache._core.timeouts import CLOCK_STEP, time_left
from asecretcache._exceptions import CacheClosedError, ConfigurationError, SecretCacheError
from asecretcache._models import Secret, SecretRequest, may_be_same_secret

T = TypeVar("T")
#: What tells that a function refuses its secrets: exceptions, or a function of the exception.
RefreshOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
Secrets = Mapping[SecretRequest, Secret]

# The pauses between refreshes that bring nothing new, doubling.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_SCHEDULE_KEPT: Final = 60.0


class RefreshPolicy(NamedTuple):
    """When a function's error means that its secrets are refused, and how long to wait for other versions."""

    refresh_on: RefreshOn
    refresh_timeout: float

    @classmethod
    def checked(cls, refresh_on: object, refresh_timeout: object) -> RefreshPolicy:
        """Return the policy of these arguments, or raise ConfigurationError."""
        timeout = seconds("refresh_timeout", refresh_timeout, remedy="give seconds, or 0 for one refresh")
        kinds = refresh_on if isinstance(refresh_on, tuple) else (refresh_on,)
        are_types = bool(kinds) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)
        is_function = callable(refresh_on) and not isinstance(refresh_on, type)
        if not are_types and (not is_function or is_async(refresh_on)):
            msg = (
                "refresh_on must be the exception, a tuple of exceptions, or a plain function of the exception that "
                "returns a bool, by which the function refuses a secret"
            )
            raise ConfigurationError(msg)
        return cls(refresh_on, timeout)  # type: ignore[arg-type]  # just checked

    @classmethod
    def of_options(cls, refresh_on: object, refresh_timeout: object) -> RefreshPolicy | None:
        """Return the policy of arguments that may be left out, None without refresh_on; or raise ConfigurationError."""
        if refresh_on is not None:
            return cls.checked(refresh_on, 5.0 if refresh_timeout is None else refresh_timeout)
        if refresh_timeout is not None:
            raise ConfigurationError("refresh_timeout needs refresh_on, by which the function refuses its secrets")
        return None

    def is_refusal(self, error: Exception) -> bool:
        """Return whether the error means that the secrets are refused."""
        if isinstance(self.refresh_on, type | tuple):
            return isinstance(error, self.refresh_on)
        return bool(self.refresh_on(error))


def taking_secret(
    function: Callable[[Secret], Awaitable[T]], request: SecretRequest
) -> Callable[[Secrets], Awaitable[T]]:
    """Return a function of one secret as ``Rotations.call`` calls it, or raise ConfigurationError.

    Whether it is async shows only when it has returned: a lambda may return a coroutine.
    """
    rule = "function must be callable with the secret and return an awaitable"
    if not callable(function):
        raise ConfigurationError(f"{rule}, not {type(function).__name__}")

    def call(secrets: Secrets) -> Awaitable[T]:
        result = function(secrets[request])
        if not inspect.isawaitable(result):
            raise ConfigurationError(f"{rule}, and it returned {type(result).__name__}: wrap it in an `async def`")
        return result

    return call


class _Schedule(NamedTuple):
    """When the next refresh may start, and the pause after it if it brings nothing new."""

    next_slot: float
    pause: float


class Rotations:
    """Runs functions with secrets, and refreshes the secrets that a function doesn't accept any more.

    All callers share the refreshes of a secret and their schedule, so the number of callers doesn't matter.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._schedules: dict[str, _Schedule] = {}

    async def call(self, secrets: Secrets, function: Callable[[Secrets], Awaitable[T]], policy: RefreshPolicy) -> T:
        """Return what the function returns with these secrets, or with others if it refuses them."""
        try:
            return await function(secrets)
        except Exception as exc:
            if not policy.is_refusal(exc):
                raise
            failure = exc
        try:
            others = await self._other_versions(secrets, policy.refresh_timeout)
            if others is None:
                raise failure
            return await function(others)
        finally:
            del failure  # Its traceback holds this frame.

    def forget(self, secret_id: str | None = None) -> None:
        """Start over with a secret, by whichever of its ids; None: with all."""
        with self._loader.lock:
            for each in list(self._schedules):
                if secret_id is None or may_be_same_secret(each, secret_id):
                    del self._schedules[each]

    async def _other_versions(self, failed: Secrets, refresh_timeout: float) -> Secrets | None:
        """Return the secrets as soon as one has another version than failed; None if no version comes in time."""
        monotonic = self._loader.options.monotonic
        ends_at = monotonic() + time_left(refresh_timeout)
        hopeful, fetched = list(failed), dict(failed)
        errors: dict[SecretRequest, SecretCacheError] = {}
        has_tried = False
        while hopeful:
            found = {}
            for request, secret in failed.items():
                stored = self._loader.servable(request, errors.get(request))
                is_other = stored is not None and stored.version_id != secret.version_id
                found[request] = stored if stored is not None and is_other else fetched[request]
            if any(found[request].version_id != secret.version_id for request, secret in failed.items()):
                return found
            left = ends_at - monotonic()
            waits = self._take_slots(hopeful)
            due = [request for request, wait in waits.items() if wait == 0.0]
            # Without any time there is one refresh all the same.
            if left <= CLOCK_STEP and (has_tried or not due):
                return None
            has_tried = True
            if not due:
                # For a refresh of another caller, or for the next slot.
                await asyncio.sleep(min(left, *waits.values()))
                continue
            try:
                # The fetches may take longer; this bounds only how long their caller waits.
                async with asyncio.timeout(left if left > CLOCK_STEP else None):
                    results = await self._loader.load_all(due, FetchReason.REFRESH)
            except TimeoutError:
                continue  # The new version may be in memory by now.
            except CacheClosedError:
                return None
            for request, result in results.items():
                if isinstance(result, Secret):
                    fetched[request] = result
                    if result.version_id != failed[request].version_id:
                        self.forget(request.secret_id)
                elif result.is_transient:
                    errors[request] = result.with_traceback(None)
                else:
                    hopeful.remove(request)
        return None

    def _take_slots(self, requests: Iterable[SecretRequest]) -> dict[SecretRequest, float]:
        """Return for each the seconds until its next refresh; 0 if it is due now, its slot taken, or one is running."""
        single_flight = self._loader.single_flight
        return {
            each: 0.0 if single_flight.is_joinable(each, FetchReason.REFRESH) else self._take_slot(each.secret_id)
            for each in requests
        }

    def _take_slot(self, secret_id: str) -> float:
        """Take the next slot of the schedule and return 0; if it isn't due, return the seconds until it is."""
        with self._loader.lock:
            now = self._loader.options.monotonic()
            schedule = self._schedules.pop(secret_id, None)
            if schedule is None or now - schedule.next_slot > _SCHEDULE_KEPT:
                schedule = _Schedule(now, _FIRST_PAUSE)
            wait = schedule.next_slot - now
            if wait <= CLOCK_STEP:
                wait = 0.0
                schedule = _Schedule(now + schedule.pause, min(_LONGEST_PAUSE, 2 * schedule.pause))
            self._schedules[secret_id] = schedule
            if len(self._schedules) > self._loader.options.max_size:
                del self._schedules[next(iter(self._schedules))]
            return wait
