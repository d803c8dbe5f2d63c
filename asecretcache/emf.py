"""CloudWatch metrics of a cache, as lines of the embedded metric format (EMF) on stdout, which Lambda's log takes.

    metrics = CacheMetrics()

    @async_handler
    @metrics.log_metrics
    async def lambda_handler(event, context): ...

The format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO, TypeVar

from asecretcache._cache import SecretCache
from asecretcache._callables import is_async
from asecretcache._core.options import seconds
from asecretcache._core.stats import CacheStats
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.default import get_default_cache
from asecretcache._observing import CacheObserver, SourceCall, SourceResult

__all__ = ["CacheMetrics"]

_logger: Final = logging.getLogger("asecretcache")

F = TypeVar("F", bound=Callable[..., Any])

# Powertools' own variables, so that both write to one namespace and one service.
_NAMESPACE, _SERVICE = "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME"
_DISABLED: Final = "POWERTOOLS_METRICS_DISABLED"
# A metric of a line has at most a hundred values.
_MOST_VALUES: Final = 100


class CacheMetrics:
    """Writes what a cache has done since the line before: reads, calls, errors, calls saved and latencies.

    A line is written at most once an ``interval``, and only if there was something to count. Any task, loop and thread
    may share it. The metrics, each with the dimension ``service``: SecretCacheHits, SecretCacheMisses,
    SecretCacheStaleServed, SecretCacheCalls, SecretCacheErrors and SecretCacheCallsSaved in Count;
    SecretCacheFetchLatency in Milliseconds, a value for each call, at most the latest hundred.

    Args:
        cache: the cache; the default one if it is left out.
        namespace: CloudWatch's namespace; by default POWERTOOLS_METRICS_NAMESPACE, or else "asecretcache".
        service: the value of the dimension; by default POWERTOOLS_SERVICE_NAME, or else the name of the function.
        interval: seconds between two lines at least; 0 for a line at the end of each invocation.
        stream: where lines are written; stdout by default.

    Raises:
        ConfigurationError: an argument is out of range.
        CacheClosedError: the cache is closed.
    """

    def __init__(
        self,
        cache: SecretCache | None = None,
        *,
        namespace: str | None = None,
        service: str | None = None,
        interval: float = 60.0,
        stream: TextIO | None = None,
    ) -> None:
        self._interval = seconds("interval", interval, remedy="give seconds, or 0 for a line for each invocation")
        self._namespace = _name("namespace", namespace or os.environ.get(_NAMESPACE) or "asecretcache")
        function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self._service = _name("service", service or os.environ.get(_SERVICE) or function or "service_undefined")
        self._stream = stream
        self._cache = get_default_cache() if cache is None else cache
        if not isinstance(self._cache, SecretCache):
            raise ConfigurationError(f"cache must be a SecretCache, not {type(cache).__name__}")
        self._latencies = _Latencies()
        self._cache.observe(self._latencies)
        self._lock = threading.Lock()
        self._written = self._cache.stats()
        self._saved = self._written.calls_saved
        self._written_at = time.monotonic()

    def log_metrics(self, handler: F) -> F:
        """Decorate a handler, async or not, so that it writes a line at its end, if one is due.

        With async_handler it goes below: ``@async_handler`` comes first.
        """
        if is_async(handler):

            @functools.wraps(handler)
            async def invoke_async(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await handler(*args, **kwargs)
                finally:
                    self._flush_if_due()

            return invoke_async  # type: ignore[return-value]  # of the same parameters and result
        if not callable(handler):
            msg = f"log_metrics decorates a handler: @metrics.log_metrics, without a call; not {type(handler).__name__}"
            raise ConfigurationError(msg)

        @functools.wraps(handler)
        def invoke(*args: Any, **kwargs: Any) -> Any:
            try:
                return handler(*args, **kwargs)
            finally:
                self._flush_if_due()

        return invoke  # type: ignore[return-value]  # of the same parameters and result

    async def run(self) -> None:
        """Write a line an interval, for ever: a task of a server. Its cancellation writes the last one."""
        if not self._interval:
            raise ConfigurationError("run needs an interval above zero: CacheMetrics(interval=60.0)")
        try:
            while True:
                await asyncio.sleep(self._interval)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Write a line now, if there is something to count."""
        with self._lock:
            stats, latencies = self._cache.stats(), self._latencies.take()
            counted = stats.at_least(self._written)
            counts = _counts(self._written, counted) | {"CallsSaved": stats.calls_saved - self._saved}
            self._written, self._saved, self._written_at = counted, stats.calls_saved, time.monotonic()
        if (any(counts.values()) or latencies) and os.environ.get(_DISABLED, "").lower() not in {"1", "true"}:
            line = json.dumps(self._line(counts, latencies))
            print(line, file=sys.stdout if self._stream is None else self._stream, flush=True)

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._written_at >= self._interval:
            try:
                self.flush()
            except (OSError, ValueError) as exc:  # Such as a stdout that is closed.
                # It must not take the place of the handler's result or error.
                _logger.warning("the metrics could not be written: %s", type(exc).__name__)

    def _line(self, counts: dict[str, int], latencies: Sequence[float]) -> dict[str, object]:
        values: dict[str, object] = {f"SecretCache{name}": count for name, count in counts.items()}
        definitions = [{"Name": name, "Unit": "Count"} for name in values]
        if latencies:
            values["SecretCacheFetchLatency"] = latencies
            definitions.append({"Name": "SecretCacheFetchLatency", "Unit": "Milliseconds"})
        directive = {"Namespace": self._namespace, "Dimensions": [["service"]], "Metrics": definitions}
        about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
        return {"_aws": about, "service": self._service, **values}


class _Latencies(CacheObserver):
    """The durations of the latest calls, in milliseconds."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=_MOST_VALUES)

    def call_ended(self, call: SourceCall, results: Sequence[SourceResult], seconds: float) -> None:  # noqa: ARG002 - its time alone
        """Note how long it took."""
        self._values.append(round(seconds * 1000, 3))

    def take(self) -> list[float]:
        """Return them, and forget them."""
        taken = []
        while self._values:
            taken.append(self._values.popleft())
        return taken


def _counts(before: CacheStats, now: CacheStats) -> dict[str, int]:
    return {
        "Hits": now.hits - before.hits,
        "Misses": now.misses - before.misses,
        "StaleServed": now.stale_served - before.stale_served,
        "Calls": now.get_calls + now.batch_calls - before.get_calls - before.batch_calls,
        "Errors": now.errors - before.errors,
    }


def _name(what: str, name: object) -> str:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html, and of namespaces.
    if not isinstance(name, str) or not 0 < len(name) < 256 or not name.isascii() or not name.isprintable():
        raise ConfigurationError(f"{what} must be a str of 1 to 255 printable ASCII characters, not {name!r}")
    return name
