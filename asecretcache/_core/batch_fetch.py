"""The task that fetches several secrets with one call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from asecretcache._core.fetch import Fetch, FetchTask
from asecretcache._exceptions import (
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretUnavailableError,
)

_logger: Final = logging.getLogger("asecretcache")

# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
_MAX_BATCH: Final = 20


def into_batches(fetches: Sequence[Fetch]) -> list[list[Fetch]]:
    """Return the fetches in groups of one call each: up to 20 of current versions, and any other by itself."""
    currents = [fetch for fetch in fetches if isinstance(fetch.request.key, str)]
    batches = [currents[at : at + _MAX_BATCH] for at in range(0, len(currents), _MAX_BATCH)]
    return batches + [[fetch] for fetch in fetches if not isinstance(fetch.request.key, str)]


class BatchFetchTask(FetchTask):
    """A task that fetches several secrets with one call. If the call is refused as a whole, they are fetched singly.

    It is cancelled when none of its fetches is wanted any more.
    """

    __slots__ = ()

    async def _run(self) -> None:
        try:
            ids = [fetch.request.secret_id for fetch in self.fetches]
            assert self.context.fetch_batch is not None
            self.context.counts["batch_calls"] += 1
            self.context.counts["batched_ids"] += len(ids)
            results = await self._call(self.context.fetch_batch, ids)
            if not isinstance(results, SecretCacheError | Mapping):
                wrong = f"returned {type(results).__name__} instead of a mapping"
                results = SecretUnavailableError(f"the fetch of {self._subject()} {wrong}")
            if isinstance(results, Mapping):
                self._distribute(results)
            elif isinstance(results, SecretUnavailableError | ConfigurationError | CredentialsError):
                # A call for each would multiply the load on what is down, or fail for the same reason.
                self._distribute({id_: results._about(id_) for id_ in ids})
            else:
                if isinstance(results, SecretAccessDeniedError) and not self.context.is_batch_denied:
                    self.context.is_batch_denied = True
                    _logger.warning("a batch was denied, so secrets are fetched singly from now on: %s", results)
                self._fall_back()
        finally:
            self._end()

    def _distribute(self, results: Mapping[str, object]) -> None:
        for fetch in self.fetches:
            if fetch.request.secret_id in results:
                self.context.finish(fetch, results[fetch.request.secret_id])
        self._fall_back()

    def _fall_back(self) -> None:
        """Pass the fetches that still run and are wanted to tasks of their own, within what is left of the time."""
        wanted = [fetch for fetch in self.fetches if fetch.is_wanted and not fetch.is_done]
        self.fetches = [fetch for fetch in self.fetches if fetch not in wanted]
        with self.context.lock:
            for fetch in wanted:
                FetchTask([fetch], self.context, self.timeout.remainder()).start()
        for fetch in wanted:
            tell = self.context.task_started
            if tell is not None:
                tell(fetch.task)
