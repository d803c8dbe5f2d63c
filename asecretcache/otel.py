"""OpenTelemetry: a span for each call of a cache's source, and its counts as metrics. Needs ``asecretcache[otel]``.

``instrument()``, where the handler's module is imported, is all. It uses OpenTelemetry's API alone; the SDK is set up
elsewhere, such as by the Lambda layer of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, ref

from asecretcache._cache import SecretCache
from asecretcache._core.stats import CacheStats
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.default import get_default_cache
from asecretcache._observing import CacheObserver, SourceCall, SourceResult
from asecretcache._version import __version__

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError:  # pragma: no cover - tested in a process of its own
    msg = "asecretcache.otel needs OpenTelemetry's API: pip install 'asecretcache[otel]'"
    raise ImportError(msg, name="opentelemetry") from None

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument"]

_SCOPE: Final = "asecretcache"
_Counted = list[tuple[int, dict[str, str]]]
_Read = Callable[[CacheStats], _Counted]


def instrument(
    cache: SecretCache | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Callable[[], None]:
    """Trace and count what a cache does from now on, and return what ends that.

    A call of the source is a CLIENT span, ``Secrets Manager.GetSecretValue``, under the span of the caller that caused
    it; the SDK's spans, where its instrumentation is installed, become its children. The spans of callers that join a
    running call get a link to it. Names and attributes follow OpenTelemetry's conventions for the AWS SDK where it has
    one: https://opentelemetry.io/docs/specs/semconv/cloud-providers/aws-sdk/

    The metrics are those of all caches of the process that are instrumented, added up. Instrumenting a cache again
    changes nothing.

    Args:
        cache: the cache; the default one if it is left out.
        tracer_provider: makes the tracer; the process's own by default.
        meter_provider: makes the meter; the process's own by default.

    Raises:
        ConfigurationError: the cache isn't a SecretCache.
        CacheClosedError: the cache is closed.
    """
    cache = get_default_cache() if cache is None else cache
    if not isinstance(cache, SecretCache):
        raise ConfigurationError(f"cache must be a SecretCache, not {type(cache).__name__}")
    counts = _counts.get(meter_provider)
    if counts is None:
        counts = _counts[meter_provider] = _Counts(metrics.get_meter(_SCOPE, __version__, meter_provider))
    # A cache that is instrumented twice, such as by a module that is reloaded, has its spans once.
    of_cache = counts.spans.setdefault(cache, {})
    spans = of_cache.get(tracer_provider)
    if spans is None:
        tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        spans = of_cache[tracer_provider] = _Spans(tracer, counts.durations)
    remove = cache.observe(spans)
    counts.add(cache)

    def end() -> None:
        remove()
        spans.forget()
        counts.remove(cache)

    return end


class _Spans(CacheObserver):
    """Makes a span of each call."""

    def __init__(self, tracer: trace.Tracer, durations: metrics.Histogram) -> None:
        self._tracer = tracer
        self._durations = durations
        self._spans: dict[int, Span] = {}

    def call_started(self, call: SourceCall) -> None:
        """Start the span in the caller's trace. Of the caller's context, only the span crosses into the call's."""
        attributes = {
            "rpc.system.name": "aws-api",
            "rpc.service": "Secrets Manager",
            "rpc.method": call.api,
            "asecretcache.reason": call.reason,
            "asecretcache.references": call.references,
        }
        span = self._tracer.start_span(f"Secrets Manager.{call.api}", kind=SpanKind.CLIENT, attributes=attributes)
        self._spans[call.number] = span
        # Never detached: it ends with the call's context.
        call.context.run(context.attach, trace.set_span_in_context(span, context.Context()))

    def call_joined(self, call: SourceCall, reference: str, reason: str) -> None:  # noqa: ARG002 - the call has them
        """Link the caller's span to the call's."""
        span = self._spans.get(call.number)
        if span is not None:
            trace.get_current_span().add_link(span.get_span_context(), {"asecretcache.reason": reason})

    def call_ended(self, call: SourceCall, results: Sequence[SourceResult], seconds: float) -> None:
        """End the span. It is an error if no secret was fetched; a cancelled call is none."""
        span = self._spans.pop(call.number, None)
        errors = [result.error for result in results if result.error is not None]
        outcomes = {"rpc.method": call.api}
        if errors:
            outcomes["error.type"] = errors[0].code or type(errors[0]).__name__
        self._durations.record(seconds, outcomes | {"rpc.system.name": "aws-api", "rpc.service": "Secrets Manager"})
        if span is None:
            return
        span.set_attribute("asecretcache.outcomes", [result.outcome for result in results])
        if len(results) == 1 and results[0].arn is not None:
            span.set_attribute("aws.secretsmanager.secret.arn", results[0].arn)
        if errors:
            span.set_attribute("error.type", outcomes["error.type"])
            if errors[0].request_id is not None:
                span.set_attribute("aws.request_id", errors[0].request_id)
            if len(errors) == len(results):
                span.set_status(Status(StatusCode.ERROR, str(errors[0])))
        span.end()

    def forget(self) -> None:
        """Forget the spans of the calls that still run, whose end won't be told."""
        self._spans.clear()


class _Counts:
    """Observable counters over the ``stats()`` of caches, all together. They cost nothing until they are read.

    A meter has each counter once, and no way to remove it.
    """

    def __init__(self, meter: metrics.Meter) -> None:
        self.durations = meter.create_histogram(
            "rpc.client.call.duration", "s", "How long the calls to Secrets Manager took."
        )
        # Weak, since a meter keeps its callbacks for ever. With the counts before, and the latest, which outlive their
        # cache.
        self._caches: dict[int, tuple[ref[SecretCache], CacheStats, CacheStats]] = {}
        self._past = CacheStats()
        self._reported = CacheStats()
        self.spans: WeakKeyDictionary[SecretCache, dict[TracerProvider | None, _Spans]] = WeakKeyDictionary()
        count = meter.create_observable_counter
        count("asecretcache.reads", [self._reading(_reads)], "{read}", "Reads, by how they were answered.")
        count("asecretcache.calls", [self._reading(_calls)], "{call}", "Calls of the source, by API.")
        count("asecretcache.errors", [self._reading(_errors)], "{error}", "Secrets that could not be fetched.")
        count("asecretcache.evictions", [self._reading(_evictions)], "{value}", "Values dropped for want of room.")
        saved = "Calls that a client without a cache would have made besides."
        meter.create_observable_up_down_counter(
            "asecretcache.calls_saved", [lambda _: [Observation(self._total().calls_saved)]], "{call}", saved
        )

    def add(self, cache: SecretCache) -> None:
        """Count what a cache does from now on."""
        self._total()  # It drops what is gone, whose id this cache may have.
        stats = cache.stats()
        self._caches.setdefault(id(cache), (ref(cache), stats, stats))

    def remove(self, cache: SecretCache) -> None:
        """Count no more of it than until now. Idempotent."""
        found = self._caches.pop(id(cache), None)
        if found is not None:
            self._past = _plus(self._past, found[1], cache.stats())

    def _total(self) -> CacheStats:
        total = self._past
        for key, (reference, before, latest) in list(self._caches.items()):
            cache = reference()
            if cache is not None:
                latest = cache.stats()  # noqa: PLW2901 - newer ones
                self._caches[key] = reference, before, latest
            else:
                del self._caches[key]
                self._past = _plus(self._past, before, latest)
            total = _plus(total, before, latest)
        return total

    def _reading(self, read: _Read) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_: CallbackOptions) -> list[Observation]:
            self._reported = self._total().at_least(self._reported)
            return [Observation(count, labels) for count, labels in read(self._reported)]

        return observe


def _plus(total: CacheStats, before: CacheStats, now: CacheStats) -> CacheStats:
    return CacheStats(*(one + last - first for one, first, last in zip(total, before, now, strict=True)))


def _reads(stats: CacheStats) -> _Counted:
    answers = {"hit": stats.hits, "miss": stats.misses, "stale": stats.stale_served}
    return [(count, {"asecretcache.outcome": outcome}) for outcome, count in answers.items()]


def _calls(stats: CacheStats) -> _Counted:
    calls = {"GetSecretValue": stats.get_calls, "BatchGetSecretValue": stats.batch_calls}
    return [(count, {"rpc.method": api}) for api, count in calls.items()]


def _errors(stats: CacheStats) -> _Counted:
    return [(stats.errors, {})]


def _evictions(stats: CacheStats) -> _Counted:
    return [(stats.evictions, {})]


#: By the provider of the meter; None stands for the process's own.
_counts: Final[dict[MeterProvider | None, _Counts]] = {}
