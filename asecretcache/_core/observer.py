"""What can be told of each fetch."""

from __future__ import annotations

from typing import Protocol

from asecretcache._core.fetch import Fetch, FetchReason


class FetchObserver(Protocol):
    """Is told of fetches, on their loop and after the state has changed. It must return at once and not raise."""

    def joined(self, fetch: Fetch, reason: FetchReason, *, is_new: bool, is_retry: bool) -> None:
        """A fetch was started for a caller, or a caller joined it."""

    def ended(self, fetch: Fetch) -> None:
        """A fetch has ended, and its result is stored if it may be."""
