"""For tests of code that uses the cache: a source in memory and a clock that stands until it is moved.

``cache = SecretCache(InMemorySource({"prod/db": "hunter2"}), clock=ManualClock())``
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from asecretcache._exceptions import SecretCacheError, SecretNotFoundError
from asecretcache._models import CURRENT, Secret, SecretRequest

__all__ = ["InMemorySource", "ManualClock"]

_PREVIOUS = "AWSPREVIOUS"


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

    Arguments:
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
        self._versions: dict[str, list[Secret]] = {}
        self._births: Counter[str] = Counter()
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
        if name not in self._versions:
            # One that was deleted and is created again has another ARN, as with AWS.
            self._versions[name] = []
            self._births[name] += 1
        versions = self._versions[name]
        self._rotations[name] += 1
        secret = Secret(
            name=name,
            arn=f"arn:aws:secretsmanager:us-east-1:{self._account_id}:secret:{name}-{self._births[name]:06d}",
            version_id=f"00000000-0000-4000-8000-{self._rotations[name]:012d}",
            version_stages=(CURRENT,),
            created_date=datetime.now(UTC),
            secret_string=value if isinstance(value, str) else None,
            secret_binary=value if isinstance(value, bytes) else None,
        )
        versions.append(secret)
        return secret

    def delete(self, name: str) -> None:
        """Remove a secret; asking for it raises SecretNotFoundError."""
        del self._versions[name]

    def fail(self, error: SecretCacheError, secret_id: str | None = None, *, times: float = float("inf")) -> None:
        """Raise this error from the next ``times`` fetches of one secret, or of all."""
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
        self._raise_failure(request.secret_id)
        return self._find(request)

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions, or the errors of those that can't be had; see BatchSource."""
        self.batches.append(tuple(secret_ids))
        await self._turn()
        if self._batch_failure is not None:
            raise self._batch_failure._copy()
        outcomes: dict[str, Secret | SecretCacheError] = {}
        for secret_id in secret_ids:
            try:
                self._raise_failure(secret_id)
                outcomes[secret_id] = self._find(SecretRequest(secret_id))
            except SecretCacheError as exc:
                outcomes[secret_id] = exc
        return outcomes

    async def _turn(self) -> None:
        future: asyncio.Future[None] | None = None
        with self._lock:
            if self._paused:
                future = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
        if future is not None:
            await future
        else:
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def __repr__(self) -> str:
        return f"<InMemorySource {len(self._versions)} secrets, {len(self.calls) + len(self.batches)} calls>"

    def _raise_failure(self, secret_id: str) -> None:
        for key in (secret_id, None):
            error, times = self._failures.get(key, (None, 0.0))
            if error is not None and times > 0:
                self._failures[key] = error, times - 1
                raise error._copy()

    def _find(self, request: SecretRequest) -> Secret:
        versions = self._versions.get(request.by_name.secret_id, [])
        # An ARN of another account, or one that doesn't end as these do, is another secret's.
        if versions and request.secret_id in (versions[-1].name, versions[-1].arn):
            for secret, stages in self._staged(versions):
                if _is_asked(request, secret, stages):
                    return Secret(
                        name=secret.name,
                        arn=secret.arn,
                        version_id=secret.version_id,
                        version_stages=stages,
                        created_date=secret.created_date,
                        secret_string=secret.secret_string,
                        secret_binary=secret.secret_binary,
                    )
        msg = f"there is no secret {request.secret_id!r}, or not the version asked for"
        raise SecretNotFoundError(msg, secret_id=request.secret_id, code="ResourceNotFoundException")

    @staticmethod
    def _staged(versions: list[Secret]) -> list[tuple[Secret, tuple[str, ...]]]:
        labels = {len(versions) - 1: (CURRENT,), len(versions) - 2: (_PREVIOUS,)}
        return [(secret, labels.get(index, ())) for index, secret in enumerate(versions)]


def _is_asked(request: SecretRequest, secret: Secret, stages: tuple[str, ...]) -> bool:
    if request.version_id is not None:
        return request.version_id == secret.version_id and request.version_stage in (None, *stages)
    return (request.version_stage or CURRENT) in stages


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
