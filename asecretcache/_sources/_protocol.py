"""The seam between the cache and whatever holds the secrets."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from asecretcache._secret import Secret, SecretRequest


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
class WarmableSource(Protocol):
    """A source that has work to do before its first fetch, which an idle moment can take over."""

    async def warm(self) -> None:
        """Do it now: import, load, connect. Idempotent; a later fetch does it if this was cancelled or failed."""
        ...
