"""A source over a dict, which can be told to wait, to fail and to rotate."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any

from asecretcache._core.options import seconds as checked_seconds
from asecretcache._exceptions import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._models import ARN_SUFFIX, CURRENT, Secret, SecretRequest

# Of the newest version and the one before it.
_LABELS = (CURRENT,), ("AWSPREVIOUS",)
# Before a rotation's last step.
_LABELS_BEHIND = ("AWSPENDING",), *_LABELS

#: What a secret may hold; a mapping becomes JSON.
Value = str | bytes | Mapping[str, Any]


class InMemorySource:
    """A source over a dict, which counts its calls and can be told to wait, to fail and to rotate; it has batches too.

    Any task, loop and thread may share it.

    Args:
        secrets: values by name; str makes a text secret, bytes a binary one, and a mapping a text of JSON.
        account_id: the AWS account in the secrets' ARNs.

    Attributes:
        calls: the requests fetched one by one so far, in order; those that failed too.
        batches: the ids of each batch fetched so far, in order; those that failed too.
    """

    def __init__(self, secrets: Mapping[str, Value] | None = None, *, account_id: str = "123456789012") -> None:
        self.calls: list[SecretRequest] = []
        self.batches: list[tuple[str, ...]] = []
        self.closed = False
        self._account_id = account_id
        # By name the number, date and value of each version, the oldest first.
        self._versions: dict[str, list[tuple[int, datetime, str | bytes]]] = {}
        self._rotations: Counter[str] = Counter()
        self._behind: Counter[str] = Counter()
        self._batch_failure: SecretCacheError | None = None
        self._failures: dict[str | None, tuple[SecretCacheError, float]] = {}
        self._lock = threading.Lock()
        self._paused = False
        self._delay = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        if secrets is not None and not isinstance(secrets, Mapping):
            kind = type(secrets).__name__
            raise ConfigurationError(f"secrets must be a mapping of names to values, not {kind}: {{'prod/db': 'x'}}")
        for name, value in (secrets or {}).items():
            self.rotate(name, value)

    def rotate(self, name: str, value: Value, *, behind: int = 0) -> Secret:
        """Give a secret a new current version, or create it; return that version.

        Args:
            name: the secret's name.
            value: as those of the secrets that the source is made with.
            behind: for how many fetches of it the version before is still the current one.

        Raises:
            ConfigurationError: a name or a value is of another type.
        """
        name = SecretRequest(name).secret_id
        if not isinstance(value, str | bytes | Mapping):
            msg = f"the value of {name!r} must be a str, bytes, or a mapping that becomes JSON"
            raise ConfigurationError(f"{msg}, not {type(value).__name__}")
        content = _as_json(name, value) if isinstance(value, Mapping) else value
        with self._lock:
            self._rotations[name] += 1
            self._versions.setdefault(name, []).append((self._rotations[name], datetime.now(UTC), content))
            self._behind[name] = behind if len(self._versions[name]) > 1 else 0
            return self._staged(name, is_behind=False)[0]

    def delete(self, name: str) -> None:
        """Remove a secret; asking for it raises SecretNotFoundError."""
        with self._lock:
            del self._versions[name]

    def fail(self, error: SecretCacheError, secret_id: str | None = None, *, times: float = float("inf")) -> None:
        """Raise this error from the next ``times`` fetches of one secret, by this id, or of all.

        Raises:
            ConfigurationError: it isn't one of this package's errors, which are all that a source raises; or the id is
                none, such as a reference with a JSON key.
        """
        if not isinstance(error, SecretCacheError):
            name = error.__name__ if isinstance(error, type) else type(error).__name__
            msg = f"fail takes an error of this package, such as SecretUnavailableError('down'), not {name}"
            raise ConfigurationError(msg)
        self._failures[None if secret_id is None else SecretRequest(secret_id).secret_id] = error, times

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

    def outage(self) -> AbstractContextManager[None]:
        """Let Secrets Manager be out of reach within a block: SecretUnavailableError."""
        return self._failing(SecretUnavailableError("Secrets Manager can't be reached: a test's outage"), None)

    def throttling(self) -> AbstractContextManager[None]:
        """Let Secrets Manager throttle within a block: SecretThrottledError."""
        error = SecretThrottledError("Secrets Manager throttles: a test's throttling", code="ThrottlingException")
        return self._failing(error, None)

    def denied(self, secret_id: str | None = None) -> AbstractContextManager[None]:
        """Let AWS deny a secret within a block, or all of them and batches: SecretAccessDeniedError."""
        message = "access is denied: a test's denial"
        return self._failing(SecretAccessDeniedError(message, code="AccessDeniedException"), secret_id)

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Let each fetch that begins within a block take this many seconds, by the event loop's clock.

        With less than that as the cache's ``fetch_timeout``, each fetch times out.
        """
        before, self._delay = self._delay, checked_seconds("seconds", seconds)
        try:
            yield
        finally:
            self._delay = before

    def assert_fetched(self, expected: Mapping[str, int]) -> None:
        """Check what was fetched so far, each secret of a batch counted: how often, by the references, and no others.

        ``source.calls.clear()`` and ``source.batches.clear()`` start over.

        Raises:
            AssertionError: it differs.
        """
        __tracebackhide__ = True  # pytest shows the test's line.
        if not isinstance(expected, Mapping):
            msg = f"assert_fetched takes a mapping of references to counts, not {type(expected).__name__}"
            raise ConfigurationError(msg)
        fetched = Counter(call.reference for call in self.calls) + Counter(chain.from_iterable(self.batches))
        wrong = [
            f"{reference!r} was fetched {_times(fetched[reference])}, not {_times(expected.get(reference, 0))}"
            for reference in sorted(fetched.keys() | expected.keys())
            if fetched[reference] != expected.get(reference, 0)
        ]
        if wrong:
            raise AssertionError("; ".join(wrong))

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the version asked for; see SecretSource."""
        self.calls.append(request)
        await self._turn()
        with self._lock:
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
                with self._lock:
                    outcomes[secret_id] = self._find(SecretRequest(secret_id))
            except SecretCacheError as exc:
                outcomes[secret_id] = exc
        return outcomes

    @contextmanager
    def _failing(self, error: SecretCacheError, secret_id: str | None) -> Iterator[None]:
        # What else has failed or is told meanwhile stays as it is.
        before, batch_before = self._failures.get(secret_id), self._batch_failure
        self.fail(error, secret_id)
        if secret_id is None:
            self._batch_failure = error
        try:
            yield
        finally:
            self._failures.pop(secret_id, None)
            if before is not None:
                self._failures[secret_id] = before
            if secret_id is None:
                self._batch_failure = batch_before

    async def _turn(self) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
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
                is_behind = self._behind[name] > 0
                self._behind[name] -= is_behind
                for secret in self._staged(name, is_behind=is_behind):
                    if _is_asked(request, secret):
                        return secret
        msg = f"secret {request.secret_id!r}: this InMemorySource has no such secret or version: give it to the test"
        raise SecretNotFoundError(msg, secret_id=request.secret_id, code="ResourceNotFoundException")

    def _arn(self, name: str) -> str:
        # A secret that was deleted and is created again has another ARN, as with AWS.
        first_number, _, _ = self._versions[name][0]
        return f"arn:aws:secretsmanager:us-east-1:{self._account_id}:secret:{name}-{first_number:06d}"

    def _staged(self, name: str, *, is_behind: bool) -> list[Secret]:
        """Return the versions of a secret with their labels, the newest first."""
        labels = chain(_LABELS_BEHIND if is_behind else _LABELS, repeat(()))
        labelled = zip(reversed(self._versions[name]), labels, strict=False)
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


def _as_json(name: str, value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):  # Its text may have part of the value.
        pass
    raise ConfigurationError(f"the value of {name!r} must become JSON: give str, numbers, bool, None, lists and dicts")


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
