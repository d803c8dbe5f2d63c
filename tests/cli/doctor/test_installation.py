"""The check of Python, the versions, and the SDK's import."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from cli_helpers import finding, statuses
from moto_server import MotoServer

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


def test_a_package_without_the_sdk_is_examined_by_its_source(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor
) -> None:
    """DirectSource needs none, so it decides whether the secrets can be read; what needs the SDK is skipped."""
    moto_server.create("prod/db", "x")
    aws.setitem(sys.modules, "aiobotocore", None)
    aws.setenv("ASECRETCACHE_SOURCE", "direct")

    status, document = doctor("prod/db", "prod/missing")

    assert (status, finding(document, "installation")["status"]) == (1, "warning")
    found, missing = document["secrets"]
    assert (found["readable"], list(found["ms"])) == (True, ["DirectSource"])
    assert "rotation unknown (DescribeSecret: the AWS SDK isn't installed" in found["text"]
    assert "the secret is in eu-west-1 and in the right account" in missing["remedy"]
    assert doctor("prod/db")[0] == 0


def test_without_the_sdk_a_setting_that_needs_it_is_told(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Then the secret can't be read, and the check of the source names the setting."""
    aws.setitem(sys.modules, "aiobotocore", None)
    aws.setenv("ASECRETCACHE_SOURCE", "direct")
    aws.setenv("AWS_PROFILE", "mine")

    status, document = doctor("prod/db")

    assert status == 1
    assert "AWS_PROFILE is set" in finding(document, "source")["text"]
    assert document["secrets"][0]["text"] == "prod/db: not checked: the AWS SDK can't be used"


def test_a_package_that_is_absent_is_told(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """An extra that isn't installed has no version."""
    from asecretcache._cli.doctor import installation

    aws.setattr(installation, "PACKAGES", ("asecretcache", "no-such-package"))

    _, document = doctor()

    assert "no-such-package is absent" in finding(document, "installation")["text"]
