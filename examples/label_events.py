"""A server that hears of a changed secret within seconds: a background task receives EventBridge's events from SQS.

The stack of deploy/label-events/template.yaml has the queue, and the policy that the server's role needs. Run it with
``LABEL_EVENTS_QUEUE_URL=<the stack's output QueueUrl> python examples/label_events.py``, and end it with Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

import aioboto3
from botocore.exceptions import BotoCoreError, ClientError

from asecretcache import SecretCache

logger = logging.getLogger("label_events")

# Between two attempts while SQS doesn't respond, or refuses.
PAUSE = 5.0


async def listen(cache: SecretCache, queue_url: str) -> None:
    """Apply the events of a queue to a cache, until the task is cancelled."""
    async with aioboto3.Session().client("sqs") as sqs:
        while True:
            try:
                received = await sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
                messages = received.get("Messages", [])
                if not messages:
                    continue
                report = await cache.apply_event(received)
                for reference in report.changed:
                    logger.info("%s has a new version", reference)
                for reference, error in report.failed.items():
                    logger.warning("%s was not refreshed: %s", reference, error)
                if report.failed:
                    # SQS delivers the messages again; those that were applied cost no call then.
                    continue
                entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
                await sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                logger.warning("SQS can't be used, the next attempt is in %g s: %s", PAUSE, error)
                await asyncio.sleep(PAUSE)


async def main() -> None:
    # The events say when a secret changes; the ttl is for events that are lost.
    async with SecretCache(ttl=86400) as cache, asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(cache, os.environ["LABEL_EVENTS_QUEUE_URL"]))
        while True:  # What your server does, in place of this loop.
            print((await cache.get("prod/db")).version_id, flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
