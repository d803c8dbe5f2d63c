"""``asecretcache.doctor.lambda_handler``: the examination where the role is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asecretcache import ConfigurationError
from asecretcache.doctor import lambda_handler
from moto_server import MotoServer


class LambdaContext:
    """Lambda's context, as far as the handler reads it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


@pytest.mark.parametrize("context", [None, LambdaContext(60)])
def test_the_handler_returns_the_document(
    aws_environment: pytest.MonkeyPatch, moto_server: MotoServer, context: LambdaContext | None
) -> None:
    """The document is that of --json, and JSON can hold it."""
    aws_environment.setenv("AWS_ENDPOINT_URL_STS", moto_server.url)
    moto_server.create("prod/db", '{"password": "x"}')

    document = lambda_handler({"references": ["prod/db:password"], "batch": True, "region": "eu-west-1"}, context)

    assert document["ok"] is True
    assert document["secrets"][0]["reference"] == "prod/db:password"
    assert json.loads(json.dumps(document)) == document


def test_the_report_comes_before_the_function_times_out(
    aws_environment: pytest.MonkeyPatch, hung_endpoint: None
) -> None:
    """An endpoint that hangs takes no longer than the invocation may; the report says how far it came."""
    document = lambda_handler({"references": ["prod/db"]}, LambdaContext(2.0))

    assert document["ok"] is False
    assert document["checks"][-1]["text"].startswith("stopped after 1 s")
    assert "longer timeout" in document["checks"][-1]["remedy"]


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {"key1": "value1"},
        {"references": "prod/db"},
        {"references": [5]},
        {"references": ["prod/*"]},
        {"batch": "yes"},
        {"region": "EU West"},
        {"endpoint_url": "localhost"},
    ],
)
def test_another_event_is_refused(event: Any) -> None:
    """The error says what the event must be."""
    with pytest.raises(ConfigurationError, match=r"the event must be|must be a str|write"):
        lambda_handler(event, None)
