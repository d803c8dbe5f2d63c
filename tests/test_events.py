"""apply_event: what a cache does with the events that Secrets Manager sends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asecretcache import (
    CacheClosedError,
    ConfigurationError,
    EventReport,
    SecretAccessDeniedError,
    SecretCache,
    SecretRequest,
)
from asecretcache.testing import InMemorySource, ManualClock
from gated_source import GatedSource
from turns import until

NAME, OTHER = "prod/db", "prod/api"
NOTHING = EventReport((), (), {}, 0)


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: "one", OTHER: "key-1"})


@pytest.fixture
async def arn(source: InMemorySource) -> str:
    return (await InMemorySource({NAME: "one"}).fetch(SecretRequest(NAME))).arn


def detail(version_id: str, label: str = "AWSCURRENT", name: str = NAME) -> dict[str, Any]:
    return {"name": name, "labelUpdated": label, "versionId": version_id}


def event(version_id: str, arn: str, label: str = "AWSCURRENT") -> dict[str, Any]:
    """Return what EventBridge sends, as AWS's user guide shows it."""
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "Secret Label Updated",
        "source": "aws.secretsmanager",
        "account": "123456789012",
        "time": "2026-11-06T16:43:48Z",
        "region": "eu-west-1",
        "resources": [arn],
        "detail": detail(version_id, label),
    }


#: What delivers an event, and how it wraps it.
ENVELOPES: dict[str, Any] = {
    "EventBridge": lambda sent: sent,
    "EventBridge, its detail alone": lambda sent: sent["detail"],
    "JSON": json.dumps,
    "JSON in bytes": lambda sent: json.dumps(sent).encode(),
    "JSON in a bytearray": lambda sent: bytearray(json.dumps(sent).encode()),
    "a list": lambda sent: [sent],
    "Lambda's event of SQS": lambda sent: {
        "Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": json.dumps(sent)}]
    },
    "a message of SQS": lambda sent: {"MessageId": "1", "ReceiptHandle": "x", "Body": json.dumps(sent)},
    "messages of SQS": lambda sent: {
        "Messages": [{"MessageId": "1", "Body": json.dumps(sent)}],
        "ResponseMetadata": {},
    },
    "Lambda's event of SNS": lambda sent: {
        "Records": [{"EventSource": "aws:sns", "Sns": {"Type": "Notification", "Message": json.dumps(sent)}}]
    },
    "SNS in SQS": lambda sent: {
        "Records": [{"body": json.dumps({"Type": "Notification", "TopicArn": "x", "Message": json.dumps(sent)})}]
    },
    "SNS in SQS, raw": lambda sent: {"Records": [{"body": json.dumps(sent)}]},
}


@pytest.mark.parametrize("envelope", ENVELOPES)
async def test_whatever_an_event_is_wrapped_in(
    cache: SecretCache, source: InMemorySource, arn: str, envelope: str
) -> None:
    """Every entry of the secret is refreshed once, by name and by ARN; and those of other secrets are not."""
    await cache.get_many(NAME, arn, OTHER)
    version = source.rotate(NAME, "two").version_id

    report = await cache.apply_event(ENVELOPES[envelope](event(version, arn)))

    assert report == EventReport((NAME, arn), (), {}, 0)
    assert [call.secret_id for call in source.calls] == [NAME, arn, OTHER, NAME, arn]
    assert await cache.get_secrets(NAME, arn) == {NAME: "two", arn: "two"}


async def test_an_event_that_comes_twice_or_late_does_no_harm(
    cache: SecretCache, source: InMemorySource, arn: str
) -> None:
    """Of the version in memory it costs no call, of an older one a call that brings what is there."""
    await cache.get(NAME)
    first, second = source.rotate(NAME, "two").version_id, source.rotate(NAME, "three").version_id
    assert (await cache.apply_event(event(second, arn))).changed == (NAME,)

    assert await cache.apply_event(event(second, arn)) == EventReport((), (NAME,), {}, 0)
    assert len(source.calls) == 2
    assert await cache.apply_event(event(first, arn)) == EventReport((), (NAME,), {}, 0)
    assert len(source.calls) == 3
    assert await cache.get_secret(NAME) == "three"


async def test_several_events_are_one_refresh(cache: SecretCache, source: InMemorySource, arn: str) -> None:
    """Whatever their order; one whose version is there already doesn't count."""
    old = (await cache.get(NAME)).version_id
    first, second = source.rotate(NAME, "two").version_id, source.rotate(NAME, "three").version_id
    events = [event(version, arn) for version in (second, old, first, second)]

    assert await cache.apply_event(events) == EventReport((NAME,), (), {}, 0)

    assert len(source.calls) == 2


async def test_labels(cache: SecretCache, source: InMemorySource, arn: str) -> None:
    """The label that the event names; AWSPREVIOUS has no events, and moves with AWSCURRENT."""
    first = (await cache.get(NAME)).version_id
    version = source.rotate(NAME, "two").version_id
    await cache.get_many(f"{NAME}::AWSPREVIOUS", f"{NAME}:::{first}")

    report = await cache.apply_event(event(version, arn, "release"))
    assert report == EventReport((), (), {}, 1)

    source.rotate(NAME, "three")
    report = await cache.apply_event(event(version, arn))
    assert report == EventReport((NAME, f"{NAME}::AWSPREVIOUS"), (), {}, 0)


async def test_a_label_of_ones_own(cache: SecretCache, source: InMemorySource, arn: str) -> None:
    """An entry by a label is refreshed by events of that label alone."""
    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.get(f"{NAME}::AWSPREVIOUS")
    source.rotate(NAME, "three")

    report = await cache.apply_event(event("any", arn, "AWSPREVIOUS"))

    assert report == EventReport((f"{NAME}::AWSPREVIOUS",), (), {}, 0)


@pytest.mark.parametrize("by", ["a name", "an ARN", "a partial ARN"])
@pytest.mark.parametrize(("is_refresh", "is_stored"), [(False, False), (True, False), (True, True)])
async def test_a_fetch_that_began_before_the_event(arn: str, by: str, is_refresh: bool, is_stored: bool) -> None:
    """It may bring the version before, so there is one more call, which concurrent events share."""
    source = GatedSource({NAME: "one"})
    cache = SecretCache(source)
    id_ = {"a name": NAME, "an ARN": arn, "a partial ARN": arn[:-7]}[by]

    async def let_answer(number: int) -> None:
        await until(lambda: len(source.gates) == number)
        source.gates[-1].set()

    if is_stored:
        await asyncio.gather(cache.get(id_), let_answer(1))
    running = asyncio.create_task(cache.refresh(id_) if is_refresh else cache.get(id_))
    await until(lambda: len(source.gates) == 1 + is_stored)
    version = source.rotate(NAME, "two").version_id
    reports = [asyncio.create_task(cache.apply_event(event(version, arn))) for _ in range(3)]
    await asyncio.sleep(0)
    await let_answer(1 + is_stored)
    await let_answer(2 + is_stored)

    assert (await running).secret_string == "one"
    assert [(await report).changed for report in reports] == [(id_,)] * 3
    assert await cache.get_secret(id_) == "two"
    assert len(source.calls) == 2 + is_stored


async def test_a_refresh_that_brings_the_events_version_is_enough(
    cache: SecretCache, source: InMemorySource, arn: str
) -> None:
    """It is joined, though it began before the event."""
    await cache.get(NAME)
    source.pause()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    version = source.rotate(NAME, "two").version_id
    applied = asyncio.create_task(cache.apply_event(event(version, arn)))
    await asyncio.sleep(0)
    source.resume()

    assert (await refresh).version_id == version
    assert (await applied).changed == (NAME,)
    assert len(source.calls) == 2


async def test_a_rollback_moves_both_labels(cache: SecretCache, source: InMemorySource, arn: str) -> None:
    """The entry of AWSPREVIOUS has the event's version then, and is refreshed all the same."""
    source.rotate(NAME, "two")
    previous = f"{NAME}::AWSPREVIOUS"
    await cache.get_many(NAME, previous)

    report = await cache.apply_event(event((await cache.get(previous)).version_id, arn))

    assert report.unchanged == (NAME, previous)
    assert [(call.secret_id, call.version_stage) for call in source.calls[2:]] == [(NAME, None), (NAME, "AWSPREVIOUS")]


async def test_a_secret_that_was_created_again(cache: SecretCache, source: InMemorySource, arn: str) -> None:
    """The entry by its name has another ARN by then; that of another account isn't concerned."""
    await cache.get_many(NAME, arn)
    account = arn.replace("123456789012", "210987654321")
    assert account != arn

    again = arn[:-6] + "AbCdEf"
    report = await cache.apply_event(event("new", again))
    assert report.unchanged == (NAME, arn)
    report = await cache.apply_event({**event("new", account), "detail": detail("new", name="another")})
    assert report.ignored == 1


async def test_a_secret_of_another_account_with_the_same_name(clock: ManualClock, arn: str) -> None:
    """It isn't the one of the event, which names its own by the ARN."""
    other = InMemorySource({NAME: "one"}, account_id="210987654321")
    cache = SecretCache(other, clock=clock)
    theirs = (await other.fetch(SecretRequest(NAME))).arn
    await cache.get(theirs)
    other.rotate(NAME, "two")

    assert (await cache.apply_event(event("new", arn))).ignored == 1
    assert (await cache.apply_event(event("new", theirs))).changed == (theirs,)


async def test_several_parts_are_ignored(cache: SecretCache) -> None:
    """Each counts, whatever stands beside it."""
    parts = [detail("new", name="unknown"), None, detail("new", name="other")]
    assert (await cache.apply_event(parts)).ignored == 3


async def test_a_part_that_is_nested_too_deep_is_ignored(cache: SecretCache) -> None:
    """No service wraps an event in so much; a list may even hold itself."""
    await cache.get(NAME)
    nested: list[Any] = []
    nested.append(nested)
    deep: Any = detail("new")
    for _ in range(9):
        deep = [deep]

    assert (await cache.apply_event(nested)).ignored == 1
    assert (await cache.apply_event(deep)).ignored == 1
    assert (await cache.apply_event(deep[0])).unchanged == ()
    assert (await cache.apply_event(deep[0][0])).unchanged == (NAME,)


async def test_a_refresh_that_fails_is_reported(cache: SecretCache, source: InMemorySource, arn: str) -> None:
    """Once, without retries; the value in memory stays."""
    await cache.get(NAME)
    version = source.rotate(NAME, "two").version_id
    source.fail(SecretAccessDeniedError("denied"), NAME)

    report = await cache.apply_event(event(version, arn))

    assert report._replace(failed={}) == NOTHING
    assert isinstance(report.failed[NAME], SecretAccessDeniedError)
    assert len(source.calls) == 2
    assert await cache.get_secret(NAME) == "one"


DETAIL = detail("version")
# What receive_message returns most often.
NO_MESSAGES = {"ResponseMetadata": {"HTTPStatusCode": 200}}
STRANGE: tuple[Any, ...] = (
    {},
    [],
    "",
    "no JSON",
    b"\xff",
    "[" * 100_000,
    "null",
    [None, 5],
    {"Records": []},
    NO_MESSAGES,
    {"Records": None},
    {"Records": [{"body": "null"}, {"s3": {}}]},
    {"Message": "text"},
    {"detail": DETAIL},
    {"detail": DETAIL, "source": "mine", "detail-type": "Secret Label Updated"},
    {"detail": DETAIL, "source": "aws.secretsmanager", "detail-type": "AWS API Call via CloudTrail"},
    {"detail": None, "source": "aws.secretsmanager", "detail-type": "Secret Label Updated"},
    DETAIL | {"versionId": None},
    DETAIL | {"name": 5},
    DETAIL | {"labelUpdated": ["AWSCURRENT"]},
    DETAIL | {"name": "unknown"},
)


@pytest.mark.parametrize("strange", STRANGE, ids=[str(number) for number in range(len(STRANGE))])
async def test_what_is_not_ours_is_ignored(cache: SecretCache, source: InMemorySource, strange: Any) -> None:
    """And counted, by its parts; it never raises."""
    await cache.get(NAME)

    report = await cache.apply_event(strange)

    assert report == NOTHING._replace(ignored=report.ignored)
    assert report.ignored == {str([]): 0, str([None, 5]): 2, str({"Records": []}): 0, str(NO_MESSAGES): 0}.get(
        str(strange), 2 if isinstance(strange, dict) and strange.get("Records") else 1
    )
    assert len(source.calls) == 1


@pytest.mark.parametrize("resources", [None, [], [5], "arn"])
async def test_an_event_without_an_arn_is_taken_by_its_name(
    cache: SecretCache, source: InMemorySource, arn: str, resources: Any
) -> None:
    """As its detail alone is."""
    await cache.get(arn)
    version = source.rotate(NAME, "two").version_id

    report = await cache.apply_event({**event(version, arn), "resources": resources})

    assert report.changed == (arn,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(NAME) | st.just("AWSCURRENT"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Records", "Messages", "body", "Body", "Sns", "Message", "detail", "resources", *DETAIL, "source"]
            ),
            inner | inner.map(json.dumps),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(document=JSON)
def test_no_document_breaks_it(document: Any) -> None:
    """It reports, or refuses a type at once."""

    async def apply() -> EventReport:
        cache = SecretCache(InMemorySource({NAME: "one"}))
        await cache.get(NAME)
        return await cache.apply_event(document if isinstance(document, dict | list | str) else [document])

    assert asyncio.run(apply()).failed == {}


async def test_wrong_use_is_told(cache: SecretCache) -> None:
    """A type that nothing delivers, and a cache that is closed."""
    for wrong, kind in ((None, "NoneType"), (5, "int"), ({NAME}, "set")):
        with pytest.raises(ConfigurationError, match=f"must be what EventBridge, SQS or SNS delivers.*, not {kind}$"):
            await cache.apply_event(wrong)
    await cache.aclose()
    with pytest.raises(CacheClosedError):
        await cache.apply_event(DETAIL)


async def test_a_batch_cache_refreshes_in_batches(source: InMemorySource, arn: str) -> None:
    """All that an SQS batch names is one call."""
    cache = SecretCache(source, batch=True)
    await cache.get_many(NAME, OTHER)
    events = [detail(source.rotate(name, "two").version_id, name=name) for name in (NAME, OTHER)]

    assert (await cache.apply_event(events)).changed == (NAME, OTHER)

    assert len(source.batches) == 2
