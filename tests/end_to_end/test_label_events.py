"""Events of changed secrets by SQS: the stack that delivers them, and the example that receives them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import label_events
import pytest

from asecretcache import SecretCache
from moto_server import MotoServer

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples" / "label_events.py"
TEMPLATE = CHECKOUT / "deploy" / "label-events" / "template.yaml"
NAME, DETAIL_TYPE = "prod/db", "Secret Label Updated"
# For the slowest machine; what is waited for comes within a second elsewhere.
SECONDS = 60.0

# A shell starts jobs in the background with Ctrl-C ignored, and the tests may run in one.
RUN = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

Boto3Client = Callable[[str], Any]


@pytest.fixture
def boto3_client(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> Iterator[Boto3Client]:
    """Makes boto3 clients of the moto server; the SQS client of the example is one of the same server."""
    aws_environment.setenv("AWS_ENDPOINT_URL_SQS", moto_server.url)
    clients = []

    def make(service: str) -> Any:
        clients.append(boto3.client(service, endpoint_url=moto_server.url))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def sqs(boto3_client: Boto3Client) -> Any:
    return boto3_client("sqs")


@pytest.fixture
def secrets(boto3_client: Boto3Client) -> Any:
    """A client of Secrets Manager, which has the secret."""
    client = boto3_client("secretsmanager")
    client.create_secret(Name=NAME, SecretString="one")
    return client


@pytest.fixture
def queue_url(sqs: Any) -> str:
    """A queue that delivers again after a second what wasn't deleted."""
    url: str = sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    return url


def rotate(secrets: Any) -> dict[str, Any]:
    """Store another version, and return the event of it as EventBridge passes it to SQS."""
    new = secrets.put_secret_value(SecretId=NAME, SecretString="two")
    return {
        "source": "aws.secretsmanager",
        "detail-type": DETAIL_TYPE,
        "resources": [new["ARN"]],
        "detail": {"name": NAME, "labelUpdated": "AWSCURRENT", "versionId": new["VersionId"]},
    }


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds, which depends on a server."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def listening(cache: SecretCache, queue_url: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run the example's task, and look that it ends by nothing but its cancellation."""
    task = asyncio.create_task(label_events.listen(cache, queue_url))
    try:
        yield task
    finally:
        assert not task.done(), task
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def deletions(moto_server: MotoServer) -> int:
    """How often messages were deleted; a queue's own counts miss a message that becomes visible meanwhile."""
    return moto_server.calls("DeleteMessageBatch")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "label_events"]


without_queue_policies = pytest.mark.filterwarnings(
    "ignore:Tried to parse AWS..SQS..QueuePolicy but it's not supported by moto:UserWarning"
)


@pytest.fixture
def stack(boto3_client: Boto3Client) -> dict[str, str]:
    """The outputs of the template's stack."""
    client = boto3_client("cloudformation")
    client.create_stack(
        StackName="label-events-1", TemplateBody=TEMPLATE.read_text(encoding="utf-8"), Capabilities=["CAPABILITY_IAM"]
    )
    (stack,) = client.describe_stacks(StackName="label-events-1")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@without_queue_policies
def test_a_stack_passes_events_of_labels_to_its_queue(
    stack: dict[str, str], boto3_client: Boto3Client, sqs: Any
) -> None:
    """And no others. AWS alone may send as aws.secretsmanager; moto lets anyone do so."""
    entry = {"Source": "aws.secretsmanager", "DetailType": DETAIL_TYPE, "Resources": ["arn"], "Detail": '{"name": "x"}'}
    others = [{**entry, "Source": "mine"}, {**entry, "DetailType": "AWS API Call via CloudTrail"}]
    sent = boto3_client("events").put_events(Entries=[*others, entry])
    assert [sorted(each) for each in sent["Entries"]] == [["EventId"]] * 3

    (message,) = sqs.receive_message(QueueUrl=stack["QueueUrl"], MaxNumberOfMessages=10)["Messages"]

    body = json.loads(message["Body"])
    assert (body["source"], body["detail-type"], body["resources"]) == ("aws.secretsmanager", DETAIL_TYPE, ["arn"])
    assert body["detail"] == {"name": "x"}


@without_queue_policies
def test_a_stacks_queue_is_private_and_its_policy_enough(
    stack: dict[str, str], boto3_client: Boto3Client, sqs: Any
) -> None:
    """Messages are encrypted and soon gone; the role's policy allows what the example does, on this queue alone."""
    attributes = sqs.get_queue_attributes(QueueUrl=stack["QueueUrl"], AttributeNames=["All"])["Attributes"]
    iam = boto3_client("iam")
    version = iam.get_policy(PolicyArn=stack["PolicyArn"])["Policy"]["DefaultVersionId"]
    policy = iam.get_policy_version(PolicyArn=stack["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]

    assert policy["Statement"] == [
        {"Effect": "Allow", "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage"], "Resource": attributes["QueueArn"]}
    ]
    assert attributes["SqsManagedSseEnabled"] == "true"
    assert attributes["MessageRetentionPeriod"] == "3600"


def test_the_example_reads_the_new_version_and_ends_on_ctrl_c(
    queue_url: str, secrets: Any, sqs: Any, moto_server: MotoServer
) -> None:
    """It costs one call more than the first read."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN, EXAMPLE],
        env={**os.environ, "LABEL_EVENTS_QUEUE_URL": queue_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout
            old = server.stdout.readline().strip()
            event = rotate(secrets)
            sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(event))
            new = old
            end = time.monotonic() + SECONDS
            while new == old and time.monotonic() < end:
                new = server.stdout.readline().strip()
            server.send_signal(signal.SIGINT)
            _, log = server.communicate(timeout=SECONDS)
        finally:
            server.kill()

    assert old
    assert new == event["detail"]["versionId"] != old
    assert server.returncode == 0, log
    assert moto_server.calls() == 2
    assert "INFO:label_events:prod/db has a new version" in log
    assert "Traceback" not in log


async def test_a_message_that_is_not_ours_is_deleted(
    queue_url: str, secrets: Any, sqs: Any, moto_server: MotoServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs no call, and the event that comes with it or after it is applied."""
    caplog.set_level(logging.INFO, "label_events")
    sqs.send_message(QueueUrl=queue_url, MessageBody="{")
    async with SecretCache(ttl=86400) as cache:
        await cache.get(NAME)
        async with listening(cache, queue_url):
            await until(lambda: deletions(moto_server) == 1)
            assert (moto_server.calls(), said(caplog)) == (1, [])

            sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(rotate(secrets)))
            await until(lambda: deletions(moto_server) == 2)
            assert await cache.get_secret(NAME) == "two"

    assert (moto_server.calls(), said(caplog)) == (2, ["prod/db has a new version"])


async def test_after_a_failed_refresh_the_message_comes_again(
    queue_url: str, secrets: Any, sqs: Any, moto_server: MotoServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The message stays in the queue as long as the refresh fails; the old value is served meanwhile."""
    caplog.set_level(logging.INFO, "label_events")
    async with SecretCache(ttl=86400) as cache:
        await cache.get(NAME)
        event = rotate(secrets)
        secrets.delete_secret(SecretId=NAME)
        sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(event))
        async with listening(cache, queue_url):
            await until(lambda: said(caplog))
            polls = moto_server.calls("ReceiveMessage")
            await until(lambda: moto_server.calls("ReceiveMessage") > polls or len(said(caplog)) > 1)
            assert deletions(moto_server) == 0
            assert await cache.get_secret(NAME) == "one"

            secrets.restore_secret(SecretId=NAME)
            await until(lambda: deletions(moto_server) == 1)
            assert await cache.get_secret(NAME) == "two"

    assert said(caplog)[0].startswith("prod/db was not refreshed: ")
    assert said(caplog)[-1] == "prod/db has a new version"


async def test_errors_of_the_queue_are_survived(
    secrets: Any, sqs: Any, moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue that is there only later is polled once more after a pause."""
    caplog.set_level(logging.INFO, "label_events")
    monkeypatch.setattr(label_events, "PAUSE", 0.1)
    queue_url = f"{sqs.meta.endpoint_url}/123456789012/later"
    async with SecretCache(ttl=86400) as cache:
        await cache.get(NAME)
        async with listening(cache, queue_url):
            await until(lambda: len(said(caplog)) > 1)
            sqs.create_queue(QueueName="later")
            sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(rotate(secrets)))
            await until(lambda: deletions(moto_server) == 1)
            assert await cache.get_secret(NAME) == "two"

    assert said(caplog)[0].startswith("SQS can't be used, the next attempt is in 0.1 s: ")
    assert said(caplog)[-1] == "prod/db has a new version"
