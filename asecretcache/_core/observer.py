"""What can be told of a cache's fetches."""

from __future__ import annotations

from asecretcache._core.fetch import Fetch, FetchReason, FetchTask
from asecretcache._exceptions import SecretCacheError
from asecretcache._models import SecretRequest


class FetchObserver:
    """Is told of fetches, after the state has changed and without the lock. Its methods must return at once.

    They must not raise. Each runs on the loop of the fetch; the end of a fetch whose loop was closed is told elsewhere.
    """

    def started(self, task: FetchTask) -> None:
        """A task that makes one call of the source was started, in the context of its first caller."""

    def joined(self, fetch: Fetch, reason: FetchReason, *, is_new: bool, is_retry: bool) -> None:
        """A fetch was started for a caller, or a caller joined it; in the caller's context."""

    def ended(self, fetch: Fetch) -> None:
        """A fetch has ended, and its result is stored if it may be."""

    def task_ended(self, task: FetchTask) -> None:
        """A task has ended; each of its fetches has ended, or has another task."""

    def stale_served(self, request: SecretRequest, error: SecretCacheError | None) -> None:
        """A caller got a stale value; the error, if there is one, is why."""
