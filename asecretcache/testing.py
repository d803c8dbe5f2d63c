"""For tests of code that uses the cache: a source in memory and a clock that stands until it is moved.

``cache = SecretCache(InMemorySource({"prod/db": "hunter2"}), clock=ManualClock())``
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat

from asecretcache._exceptions import ConfigurationError, SecretCacheError, SecretNotFoundError
from asecretcache._models import ARN_SUFFIX, CURRENT, Secret, SecretRequest

__all__ = ["InMemorySource", "ManualClock"]

# Of the newest version and the one before it.
_LABELS = (CURRENT,), ("AWSPREVIOUS",)


class ManualClock:
    """A wall clock, in seconds, that moves only when told to; any thread may share it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it on, in seconds, or with a negative number back."""
        self.now += seconds


class InMemorySource:
    """A source over a dict, which counts its calls and can be told to wait, to fail and to rotate; it has batches too.

    Any task, loop and thread may share it.

    Args:
        secrets: values by name; str makes a text secret, bytes a binary one.
        account_id: the AWS account in the secrets' ARNs.

    Attributes:
        calls: the requests fetched one by one so far, in order; those that failed too.
        batches: the ids of each batch fetched so far, in order; those that failed too.
    """

    def __init__(self, secrets: Mapping[str, str | bytes] | None = None, *, account_id: str = "123456789012") -> None:
        self.calls: list[SecretRequest] = []
        self.batches: list[tuple[str, ...]] = []
        self.closed = False
        self._account_id = account_id
        # By name the number, date and value of each version, the oldest first.
        self._versions: dict[str, list[tuple[int, datetime, str | bytes]]] = {}
        self._rotations: Counter[str] = Counter()
        self._batch_failure: SecretCacheError | None = None
        self._failures: dict[str | None, tuple[SecretCacheError, float]] = {}
        self._lock = threading.Lock()
        self._paused = False
        self._waiting: list[asyncio.Future[None]] = []
        for name, value in (secrets or {}).items():
            self.rotate(name, value)

    def rotate(self, name: str, value: str | bytes) -> Secret:
        """Give a secret a new current version, or create it; return that version."""
        self._rotations[name] += 1
        self._versions.setdefault(name, []).append((self._rotations[name], datetime.now(UTC), value))
        return self._staged(name)[0]

    def delete(self, name: str) -> None:
        """Remove a secret; asking for it raises SecretNotFoundError."""
        del self._versions[name]

    def fail(self, error: SecretCacheError, secret_id: str | None = None, *, times: float = float("inf")) -> None:
        """Raise this error from the next ``times`` fetches of one secret, or of all.

        Raises:
            ConfigurationError: it isn't one of this package's errors, which are all that a source raises.
        """
        if not isinstance(error, SecretCacheError):
            name = error.__name__ if isinstance(error, type) else type(error).__name__
            msg = f"fail takes an error of this package, such as SecretUnavailableError('down'), not {name}"
            raise ConfigurationError(msg)
        self._failures[secret_id] = error, times

    def fail_batches(self, error: SecretCacheError) -> None:
        """Refuse batches as a whole with this error, until recover() is called."""
        self._batch_failure = error

    def recover(self) -> None:
        """Fail no more."""
        self._failures.clear()
        self._batch_failure = None

    def pause(self) -> None:
        """Let fetches from now on wait until resume() is called; they count as calls at once."""
        self._paused = True

    def resume(self) -> None:
        """Let the fetches that wait go on, on whichever loops they are."""
        with self._lock:
            self._paused = False
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.get_loop().is_closed():
                future.get_loop().call_soon_threadsafe(_release, future)

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the version asked for; see SecretSource."""
        self.calls.append(request)
        await self._turn()
        return self._find(request)

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions, or an error for each that has none; see BatchSource."""
        self.batches.append(tuple(secret_ids))
        await self._turn()
        if self._batch_failure is not None:
            raise self._batch_failure._copy()
        outcomes: dict[str, Secret | SecretCacheError] = {}
        for secret_id in secret_ids:
            try:
                outcomes[secret_id] = self._find(SecretRequest(secret_id))
            except SecretCacheError as exc:
                outcomes[secret_id] = exc
        return outcomes

    async def _turn(self) -> None:
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._paused:
                self._waiting.append(future)
            else:
                future.get_loop().call_soon(_release, future)
        await future

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def __repr__(self) -> str:
        return f"<InMemorySource {len(self._versions)} secrets, {len(self.calls) + len(self.batches)} calls>"

    def _find(self, request: SecretRequest) -> Secret:
        for key in (request.secret_id, None):
            error, times = self._failures.get(key, (None, 0.0))
            if error is not None and times > 0:
                self._failures[key] = error, times - 1
                raise error._copy()
        for name in self._versions:
            arn = self._arn(name)
            if request.secret_id in (name, arn, arn[:-ARN_SUFFIX]):
                for secret in self._staged(name):
                    if _is_asked(request, secret):
                        return secret
        msg = f"there is no secret {request.secret_id!r}, or not the version asked for"
        raise SecretNotFoundError(msg, secret_id=request.secret_id, code="ResourceNotFoundException")

    def _arn(self, name: str) -> str:
        # A secret that was deleted and is created again has another ARN, as with AWS.
        first_number, _, _ = self._versions[name][0]
        return f"arn:aws:secretsmanager:us-east-1:{self._account_id}:secret:{name}-{first_number:06d}"

    def _staged(self, name: str) -> list[Secret]:
        """Return the versions of a secret with their labels, the newest first."""
        labelled = zip(reversed(self._versions[name]), chain(_LABELS, repeat(())), strict=False)
        return [
            Secret(
                name=name,
                arn=self._arn(name),
                version_id=f"00000000-0000-4000-8000-{number:012d}",
                version_stages=stages,
                created_date=created,
                secret_string=value if isinstance(value, str) else None,
                secret_binary=value if isinstance(value, bytes) else None,
            )
            for (number, created, value), stages in labelled
        ]


def _is_asked(request: SecretRequest, secret: Secret) -> bool:
    if request.version_id is not None:
        return request.version_id == secret.version_id and request.version_stage in (None, *secret.version_stages)
    return (request.version_stage or CURRENT) in secret.version_stages


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
