"""Each way in by each promise, in AWS's own runtime client: the table of docs/entry-points.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lambda_local import LambdaEnvironment, Outcome

from http_event import REQUEST
from moto_server import MotoServer

FOLDER = Path(__file__).parent
VALUE = "canary-hunter2"
WAYS = [
    "decorated",
    "asyncio_run",
    "mangum",
    "mangum_lifespan",
    "powertools",
    "powertools_resolve",
    "powertools_batch",
    "plain",
]
#: In these nothing tells of INIT: Mangum runs the lifespan in an invocation.
WITHOUT_PREFETCH = {"mangum_lifespan"}
#: Starts in half of the time; where an endpoint hangs, or what a snapshot holds, is no matter of the source.
DIRECT = {"ASECRETCACHE_SOURCE": "direct"}
#: The loop of all invocations stays open, so a refresh in the background can end.
ONE_LOOP = {"decorated", "powertools", "powertools_batch"}


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    moto_server.create("prod/api", VALUE)
    aws_environment.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    return moto_server


def start(way: str, **environ: str) -> LambdaEnvironment:
    handler = f"entry_points.{way}"
    return LambdaEnvironment(
        handler, FOLDER / "lambda_handlers", {"_HANDLER": handler, "LAMBDA_TASK_ROOT": str(FOLDER), **environ}
    )


def text_of(outcome: Outcome) -> Any:
    """Return what the function read, from a payload or from the body of a response."""
    assert outcome.error is None, outcome.error
    found = outcome.payload
    return (json.loads(found["body"]) if "body" in found else found)["text"]


@pytest.mark.parametrize("way", WAYS)
def test_values_are_kept_and_cost_one_call(moto: MotoServer, way: str) -> None:
    """In INIT, or for concurrent readers in the first invocation; nothing is left open, so the log is empty."""
    with start(way, PYTHONWARNINGS="error::ResourceWarning") as environment:
        environment.wait_for_init()
        assert moto.calls() == (way not in WITHOUT_PREFETCH)
        texts = [text_of(environment.invoke(REQUEST)) for _ in range(3)]

    assert texts == [VALUE] * 3
    assert moto.calls() == 1
    assert environment.log == ""


@pytest.mark.usefixtures("hung_endpoint")
@pytest.mark.parametrize("way", WAYS)
def test_an_invocation_answers_before_its_deadline(way: str) -> None:
    """A hung endpoint is an error of the handler's, or a response 500, and the next invocation is served too."""
    with start(way, WITHOUT_PREFETCH="1", **DIRECT) as environment:
        environment.wait_for_init()
        outcomes = [environment.invoke(REQUEST, timeout=1) for _ in range(2)]

    for outcome in outcomes:
        if outcome.error is None:
            assert outcome.payload["statusCode"] == 500
        else:
            assert outcome.error["errorType"] in {"SecretUnavailableError", "BatchProcessingError"}
    # What ended the reads isn't the fetch's own time-out, which comes after 10 s.
    told = f"{environment.log} {[outcome.error for outcome in outcomes]}"
    assert "didn't end before the invocation's deadline" in told
    assert "took longer than 10 s" not in told


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_snapshot_is_served_in_its_clones(moto: MotoServer, way: str) -> None:
    """Not even what the module fetched by itself, without a ttl."""
    environ = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "FETCH_AT_IMPORT": "1", "ASECRETCACHE_TTL": "none"}
    with start(way, **environ, **DIRECT) as environment:
        environment.wait_for_snapshot()
        assert moto.calls() == 1
        moto.client.put_secret_value(SecretId="prod/api", SecretString="rotated")
        environment.restore()

        assert text_of(environment.invoke(REQUEST)) == "rotated"
    assert moto.calls() == 2


def test_the_documents_table_is_what_is_tested() -> None:
    """docs/entry-points.md has a row for each way, and a no where the test has one."""
    table = (FOLDER.parents[1] / "docs" / "entry-points.md").read_text(encoding="utf-8")
    rows = {
        match[1]: [cell.strip() for cell in match[2].split("|")]
        for match in re.finditer(r"^\| .*<!-- (\w+) --> \|(.*)\|$", table, re.MULTILINE)
    }

    assert rows.keys() >= set(WAYS)
    for way in WAYS:
        kept, one_call, init, deadline, snapshot, refresh, closed = rows[way]
        assert (kept, one_call, deadline, snapshot) == ("yes",) * 4
        assert (init == "yes") == (way not in WITHOUT_PREFETCH)
        assert (refresh == "yes") == (way in ONE_LOOP)
        assert closed == "yes"
