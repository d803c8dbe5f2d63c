"""The check that Secrets Manager answers, and that of the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from asecretcache._cli.doctor import responses
from asecretcache._cli.doctor.context import Context, Options
from asecretcache._cli.doctor.examination import examine
from asecretcache._cli.doctor.report import Report
from cli_helpers import finding
from fault_server import FaultServer
from raw_server import GOOD, http

Doctor = Callable[..., tuple[int, dict[str, Any]]]


def test_an_error_of_aws_is_an_answer(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """AWS refuses an unsigned call, which shows that it can be reached."""
    fault_server.first(http({"__type": "MissingAuthenticationTokenException", "message": "no"}, 400))

    _, document = doctor()

    assert finding(document, "response")["status"] == "ok"
    assert finding(document, "response")["code"] == "MissingAuthenticationTokenException"


def test_the_call_is_not_signed(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Whatever answers gets no credentials before it is known to be Secrets Manager."""
    doctor()

    [request] = fault_server.requests
    assert b"authorization" not in request.lower()
    assert b"security-token" not in request.lower()


@pytest.mark.parametrize("status", [404, 502])
def test_a_web_page_is_no_answer(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, status: int
) -> None:
    """What a proxy puts in place of Secrets Manager is told as such, and no secret is asked for there."""
    fault_server.respond_html(status)

    _, document = doctor("name")

    assert finding(document, "response")["text"] == (
        f"something answers with HTTP {status}, but not as Secrets Manager does"
    )
    assert document["secrets"][0]["status"] == "skipped"
    assert len(fault_server.requests) == 1


def test_a_response_that_does_not_come(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """An endpoint that accepts connections and never responds ends the check after some seconds."""
    sts.setattr(responses, "RESPONSE_SECONDS", 0.0)

    _, document = doctor()

    assert finding(document, "response")["text"] == "Secrets Manager doesn't answer"
    assert "timed out" in finding(document, "response")["remedy"]


@pytest.mark.parametrize(
    ("ahead", "status", "text"),
    [
        (0.0, "ok", "within 1 s of the server's"),
        (-20.0, "ok", "within "),
        (100.0, "warning", " s ahead of the server's clock"),
        (-1000.0, "failed", " s behind the server's clock"),
    ],
)
def test_the_clock_is_compared_with_the_servers(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, ahead: float, status: str, text: str
) -> None:
    """Half a minute is a warning, and five minutes, after which AWS refuses signatures, a failure."""
    fault_server.first(http(GOOD, 200, f"Date: {formatdate(1_800_000_000, usegmt=True)}"))
    report = Report()

    asyncio.run(examine(Context(Options(), report, clock=lambda: 1_800_000_000.5 + ahead)))

    found = finding(report.to_document(), "clock")
    assert found["status"] == status
    assert text in found["text"]
    assert ("NTP" in found.get("remedy", "")) is (status != "ok")


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_without_a_date_the_clock_is_not_checked(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, date: str | None
) -> None:
    """Some stand-ins send no date."""
    if date is not None:
        fault_server.first(http(GOOD, 200, f"Date: {date}"))

    _, document = doctor()

    assert finding(document, "clock")["text"] == "not checked: the response has no date"
