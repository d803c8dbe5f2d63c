"""The check of Python, the versions, and the SDK's import."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from cli_helpers import finding, statuses

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}, "Lambda, function f, 128 MB"),
        ({"ECS_CONTAINER_METADATA_URI_V4": "x"}, "ECS"),
        ({"KUBERNETES_SERVICE_HOST": "x"}, "Kubernetes"),
    ],
)
def test_the_host_and_the_versions_are_told(
    aws: pytest.MonkeyPatch, doctor: Doctor, variables: dict[str, str], host: str
) -> None:
    """The versions are those of the installed packages."""
    for name, value in variables.items():
        aws.setenv(name, value)

    _, document = doctor()

    found = finding(document, "installation")
    assert found["host"] == host
    assert found["versions"]["botocore"] == version("botocore")


def test_an_sdk_that_can_not_be_imported(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Without the SDK all that needs it is skipped, and the remedy is to install it."""
    aws.setitem(sys.modules, "aiobotocore", None)

    status, document = doctor("prod/db")

    assert status == 1
    assert "install aioboto3" in finding(document, "installation")["remedy"]
    assert statuses(document)["region"] == statuses(document)["credentials"] == "skipped"
    assert finding(document, "region")["text"] == "not checked: the AWS SDK can't be used"


def test_a_package_that_is_absent_is_told(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """An extra that isn't installed has no version."""
    from asecretcache._cli.doctor import installation

    aws.setattr(installation, "PACKAGES", ("asecretcache", "no-such-package"))

    _, document = doctor()

    assert "no-such-package is absent" in finding(document, "installation")["text"]
