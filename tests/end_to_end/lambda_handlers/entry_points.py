"""One function in each way in: what is promised holds in all of them, whoever runs the coroutines."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import time_for_init  # noqa: F401  # for what it does

from asecretcache import (
    asgi_lifespan,
    async_handler,
    deadline,
    get_default_cache,
    get_secret,
    prefetch_in_init,
    sync_handler,
)

PREFETCH = [] if "WITHOUT_PREFETCH" in os.environ else ["prod/api"]
WAY = os.environ["_HANDLER"].rpartition(".")[2]

get_default_cache()
if "FETCH_AT_IMPORT" in os.environ:
    # As code of a module does, before a snapshot is taken.
    asyncio.run(get_secret("prod/api"))


async def read() -> dict[str, Any]:
    """Read the secret, and do what only asyncio can."""
    text, *_ = await asyncio.gather(get_secret("prod/api"), get_secret("prod/api"), asyncio.sleep(0))
    return {"text": text}


if WAY == "plain":
    prefetch_in_init(*PREFETCH)


def plain(event: Any, context: Any) -> Any:
    """Without a decorator: a line for INIT, and a scope for the deadline."""
    with deadline(context):
        return asyncio.run(read())


if WAY == "decorated":

    @async_handler(prefetch=PREFETCH)
    async def decorated(event: Any, context: Any) -> Any:
        """The decorator for coroutines."""
        return await read()


if WAY == "asyncio_run":

    @sync_handler(prefetch=PREFETCH)
    def asyncio_run(event: Any, context: Any) -> Any:
        """A loop for each invocation."""
        return asyncio.run(read())


if WAY in {"mangum", "mangum_lifespan"}:
    from fastapi import FastAPI
    from mangum import Mangum

    api = FastAPI(lifespan=asgi_lifespan(prefetch=PREFETCH))
    api.get("/")(read)
    if WAY == "mangum":
        mangum = sync_handler(Mangum(api, lifespan="off"), prefetch=PREFETCH)
    else:
        # The lifespan runs in each invocation; there is no INIT in it.
        mangum_lifespan = sync_handler(Mangum(api))


if WAY == "powertools_batch":
    from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response

    processor = AsyncBatchProcessor(event_type=EventType.SQS)
    texts: list[str] = []
    QUEUED = {"messageId": "1", "body": "", "attributes": {}, "messageAttributes": {}, "eventSource": "aws:sqs"}

    async def read_for(record: Any) -> None:
        """Process one record."""
        texts.append((await read())["text"])

    @sync_handler(prefetch=PREFETCH)
    def powertools_batch(event: Any, context: Any) -> Any:
        """Powertools' batch processor of coroutines, which has a loop of its own and leaves it open."""
        texts.clear()
        batch = {"Records": [QUEUED, QUEUED]}
        async_process_partial_response(event=batch, record_handler=read_for, processor=processor, context=context)
        return {"text": texts[0]}


if WAY in {"powertools", "powertools_resolve"}:
    import aws_lambda_powertools
    from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

    app = APIGatewayHttpResolver()
    logger = aws_lambda_powertools.Logger(service="test", level="ERROR")

    if WAY == "powertools":
        app.get("/")(read)

        @async_handler(prefetch=PREFETCH)
        async def powertools(event: Any, context: Any) -> Any:
            """Powertools' resolver of coroutines, on the loop of all invocations."""
            return await app.resolve_async(event, context)

    else:
        app.get("/")(lambda: asyncio.run(read()))
        powertools_resolve = sync_handler(logger.inject_lambda_context(app.resolve), prefetch=PREFETCH)
