"""The seam between the cache and whatever holds the secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from asecretcache._exceptions import SecretCacheError
from asecretcache._models import Secret, SecretRequest


@runtime_checkable
class SecretSource(Protocol):
    """What a SecretCache fetches from.

    The cache calls it from any loop and any thread, several fetches at a time, each in a task of its own that is
    cancelled when nobody waits for it any more or ``fetch_timeout`` is over.
    """

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the version that is asked for.

        Raises:
            SecretCacheError: a subclass that says why not. Anything else is shown to callers as a
                SecretUnavailableError that doesn't carry it, because it might hold the value.
        """
        ...

    async def aclose(self) -> None:
        """Release what the source holds; it isn't used afterwards."""
        ...


@runtime_checkable
class BatchSource(SecretSource, Protocol):
    """A source that can fetch several secrets with one call, for a cache with ``batch=True``."""

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions of at most 20 secrets, or the error of each that can't be had.

        An id that is missing in what is returned is fetched by itself.

        Arguments:
            secret_ids: names or ARNs, none twice.

        Raises:
            SecretUnavailableError: a time-out, no connection, an answer that makes no sense: each id gets it.
            ConfigurationError: no call can succeed: each id gets it.
            SecretCacheError: any other: the batch as a whole was refused, and each id is fetched by itself. After a
                SecretAccessDeniedError no batch is tried again.
        """
        ...


@runtime_checkable
class WarmableSource(Protocol):
    """A source that has work to do before its first fetch, which an idle moment can take over."""

    async def warm(self) -> None:
        """Do it now: import, load, connect. Idempotent; a later fetch does it if this was cancelled or failed."""
        ...
