"""The protocols between the cache and a source of secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import Secret, SecretRequest


@runtime_checkable
class SecretSource(Protocol):
    """A source that a SecretCache fetches from.

    The cache calls it from any loop and any thread, with several fetches at a time. Each fetch runs in a task of its
    own, which is cancelled when no caller waits for it any more or when ``fetch_timeout`` is over.
    """

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the requested version of a secret.

        Raises:
            SecretCacheError: a subclass that says why the fetch failed. Callers see any other exception as a
                SecretUnavailableError without a cause, because the exception might hold the value.
        """
        ...

    async def aclose(self) -> None:
        """Release all resources; the source isn't used afterwards."""
        ...


@runtime_checkable
class BatchSource(SecretSource, Protocol):
    """A source that can fetch several secrets with one call, for a cache with ``batch=True``."""

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current version of each secret, or its error.

        The cache fetches by itself each id that the result lacks.

        Args:
            secret_ids: at most 20 names or ARNs, without duplicates.

        Raises:
            SecretUnavailableError: time-out, no connection or malformed response: every id gets this error.
            CredentialsError: no call can succeed with these credentials: every id gets this error.
            ConfigurationError: no call can succeed: every id gets this error.
            SecretCacheError: any other: the batch as a whole was refused, and the cache fetches each id by itself.
                After a SecretAccessDeniedError it doesn't try another batch.
        """
        ...


@runtime_checkable
class PreparableSource(Protocol):
    """A source that can do part of its work before there is an event loop, such as imports."""

    def prepare(self) -> None:
        """Import and load now. Idempotent; if it fails, a later fetch does the work."""
        ...


@runtime_checkable
class WarmableSource(Protocol):
    """A source that can do part of its work before the first fetch, such as imports."""

    async def warm(self) -> None:
        """Import, load and connect now. Idempotent; if it fails or is cancelled, a later fetch does the work."""
        ...


@runtime_checkable
class ConnectedSource(Protocol):
    """A source that keeps connections, which belong to an event loop."""

    async def close_connections(self) -> None:
        """Close this loop's connections, before the loop ends; the source can be used on."""
        ...


def check_source(source: object) -> None:
    """Raise ConfigurationError if an object can't be a source."""
    if not isinstance(source, SecretSource) or isinstance(source, type):
        # Not its repr: what was given by mistake may hold secrets.
        must = "source must be an object such as DirectSource(), with the coroutine methods fetch and aclose"
        msg = f"{must}, not {type(source).__name__}"
        raise ConfigurationError(f"{msg}; a session of aioboto3 goes into SecretsManagerSource(session)")


def as_batch_source(source: SecretSource) -> BatchSource:
    """Return a source that can fetch several secrets with one call; raise ConfigurationError if this one can't."""
    if not isinstance(source, BatchSource):
        msg = f"batch=True needs a source with the coroutine method fetch_batch; {type(source).__name__} has none"
        raise ConfigurationError(msg)
    return source
