"""The check of the source that the default cache would use."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from cli_helpers import finding

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.mark.parametrize(
    ("variables", "status", "text"),
    [
        ({}, "ok", "SecretsManagerSource, the default; DirectSource is possible: ASECRETCACHE_SOURCE=direct makes"),
        ({"ASECRETCACHE_SOURCE": "aioboto3"}, "ok", "SecretsManagerSource, by ASECRETCACHE_SOURCE; DirectSource is"),
        ({"ASECRETCACHE_SOURCE": "direct"}, "ok", "DirectSource, by ASECRETCACHE_SOURCE"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "ok", "isn't possible: the AWS SDK is needed: AWS_USE_DUALSTACK_"),
        (
            {"ASECRETCACHE_SOURCE": "direct", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "warning",
            "DirectSource, by ASECRETCACHE_SOURCE, but the AWS SDK is needed: AWS_USE_DUALSTACK_ENDPOINT is set",
        ),
        (
            {"ASECRETCACHE_SOURCE": "agent"},
            "ok",
            "AgentSource, by ASECRETCACHE_SOURCE: secrets are read from AWS's local provider alone",
        ),
        ({"ASECRETCACHE_SOURCE": "boto"}, "failed", "ASECRETCACHE_SOURCE can't be 'boto'"),
    ],
)
def test_the_source_and_why_it_is_not_the_fast_one(
    aws: pytest.MonkeyPatch, doctor: Doctor, variables: dict[str, str], status: str, text: str
) -> None:
    """The setting is told, and which other setting keeps DirectSource from being used."""
    aws.delenv("ASECRETCACHE_SOURCE", raising=False)
    for name, value in variables.items():
        aws.setenv(name, value)

    _, document = doctor()

    assert finding(document, "source")["status"] == status
    assert text in finding(document, "source")["text"]


def test_a_ttl_that_is_none(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """A wrong ASECRETCACHE_TTL, which the first read would raise for, is told."""
    aws.setenv("ASECRETCACHE_TTL", "soon")

    status, document = doctor()

    assert status == 1
    assert "ASECRETCACHE_TTL can't be 'soon': give seconds" in finding(document, "source")["text"]


def test_without_httptools_there_is_no_direct_source(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """The extra that installs it is named."""
    find = importlib.util.find_spec
    aws.setattr(importlib.util, "find_spec", lambda name: None if name == "httptools" else find(name))

    _, document = doctor()

    assert "pip install 'asecretcache[direct]'" in finding(document, "source")["direct_reason"]
