"""The spans of real calls, with the SDK's own instrumentation beside ours, and of DirectSource."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asecretcache import DirectSource, SecretCache, SecretNotFoundError, SecretsManagerSource
from asecretcache.otel import instrument
from moto_server import MotoServer

NAME, VALUE = "prod/db", "hunter2"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    """Yield a provider of tracers, which botocore's instrumentation uses too."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor: Any = AiobotocoreInstrumentor
    instrumentor().instrument(tracer_provider=provider)
    yield provider
    instrumentor().uninstrument()
    provider.shutdown()


def by_parent(exporter: InMemorySpanExporter) -> list[tuple[str, str | None]]:
    """Return the spans' names, each with its parent's."""
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans if span.context}
    return sorted((span.name, names[span.parent.span_id] if span.parent else None) for span in spans)


@pytest.mark.parametrize("source_type", [SecretsManagerSource, DirectSource])
async def test_the_spans_of_calls(
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    moto_server: MotoServer,
    aws_environment: Any,
    source_type: type[SecretsManagerSource | DirectSource],
) -> None:
    """Under the caller's; what the SDK's instrumentation tells is under ours; DirectSource makes no use of the SDK."""
    moto_server.create(NAME, VALUE)
    exporter.clear()
    source = source_type()
    async with SecretCache(source) as cache:
        instrument(cache, tracer_provider=provider)
        with provider.get_tracer("test").start_as_current_span("handler"):
            await cache.get_secret(NAME)
            with pytest.raises(SecretNotFoundError):
                await cache.get_secret("missing")
    await source.aclose()

    ours = "Secrets Manager.GetSecretValue"
    children = [(ours, ours)] * 2 if source_type is SecretsManagerSource else []
    assert by_parent(exporter) == sorted([("handler", None), (ours, "handler"), (ours, "handler"), *children], key=str)
    failed = [span for span in exporter.get_finished_spans() if is_ours(span) and not span.status.is_ok]
    assert [(span.attributes or {})["error.type"] for span in failed] == ["ResourceNotFoundException"]
    assert all(VALUE not in span.to_json() for span in exporter.get_finished_spans())


def is_ours(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == "asecretcache"
