"""The examination as a whole: its time limit, and checks that fail by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asecretcache._cli.doctor import examination
from asecretcache._cli.doctor.context import Context, Options
from asecretcache._cli.doctor.examination import examine
from asecretcache._cli.doctor.report import Report
from cli_helpers import finding

Doctor = Callable[..., tuple[int, dict[str, Any]]]


def test_what_was_found_in_time_is_reported(aws: pytest.MonkeyPatch) -> None:
    """At the time limit the report says during which check that was, and has what came before."""

    async def hang(_: Context) -> None:
        await asyncio.Event().wait()

    aws.setattr(examination, "CHECKS", (*examination.CHECKS[:1], ("region", hang), *examination.CHECKS[2:]))
    report = Report()

    asyncio.run(examine(Context(Options(seconds=1.0), report)))

    document = report.to_document()
    assert [each["check"] for each in document["checks"]] == ["installation", "region"]
    assert finding(document, "region")["text"].startswith("stopped after 1 s, while checking region")
    assert document["ok"] is False


def test_a_check_that_fails_by_itself_ends_nothing(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """The others go on, and what was raised isn't shown but for its type and place."""

    async def fail(_: Context) -> None:
        raise LookupError("canary")

    aws.setattr(examination, "CHECKS", (("source", fail), *examination.CHECKS))

    status, document = doctor()

    assert status == 1
    assert document["checks"][0]["text"] == "the check itself failed"
    assert "LookupError at " in document["checks"][0]["remedy"]
    assert "canary" not in str(document)
    assert document["checks"][1]["check"] == "installation"
