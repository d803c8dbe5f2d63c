"""Powertools' resolver of coroutines, with its Logger, Metrics and Tracer around the handler.

async_handler stands directly above ``async def``. Powertools' decorators are synchronous and stand above it, so that
they begin before the invocation and end when its response is there.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.metrics import MetricUnit

from asecretcache import async_handler, get_secret

app = APIGatewayHttpResolver()
logger = Logger(service="example")
metrics = Metrics(namespace="Example", service="example")
tracer = Tracer(service="example", auto_patch=False)


@app.get("/")
async def index() -> dict[str, object]:
    metrics.add_metric(name="Requests", unit=MetricUnit.Count, value=1)
    logger.info("a request")
    return {"user": await get_secret("prod/db:user"), "has_key": bool(await get_secret("prod/api"))}


@logger.inject_lambda_context
@metrics.log_metrics
@tracer.capture_lambda_handler(capture_response=False)
@async_handler(prefetch=["prod/db", "prod/api"])
async def lambda_handler(event: Any, context: Any) -> Any:
    return await app.resolve_async(event, context)
