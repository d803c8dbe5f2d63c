"""The checks of the credentials and of whose they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asecretcache._cli.doctor import identity
from cli_helpers import finding
from moto_server import MotoServer
from raw_server import RawServer

Doctor = Callable[..., tuple[int, dict[str, Any]]]


def test_the_identity_is_that_of_the_role(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """STS tells the ARN and the account."""
    _, document = doctor()

    assert finding(document, "credentials")["text"] == "environment variables"
    assert finding(document, "identity")["arn"].startswith("arn:aws:sts::123456789012:")
    assert finding(document, "identity")["account"] == "123456789012"


def test_in_a_function_the_credentials_are_its_roles(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Lambda gives the role's credentials in environment variables."""
    aws.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")

    _, document = doctor()

    assert finding(document, "credentials")["text"] == "the function's role, in environment variables"


def test_the_credentials_of_a_profile(aws: pytest.MonkeyPatch, tmp_path: Path, doctor: Doctor) -> None:
    """The profile is named."""
    path = tmp_path / "credentials"
    path.write_text("[test]\naws_access_key_id = AKIAFAKE\naws_secret_access_key = hidden\n")
    aws.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    aws.setenv("AWS_PROFILE", "test")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        aws.delenv(name)

    _, document = doctor()

    assert finding(document, "credentials")["text"] == "the credentials file, profile 'test'"
    assert "hidden" not in str(document)


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "give the function an execution role"),
        ({}, "AWS_EC2_METADATA_DISABLED is set"),
    ],
)
def test_no_credentials(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor, variables: dict[str, str], remedy: str
) -> None:
    """Without credentials the way to AWS is still checked, and the secrets are skipped."""
    moto_server.create("prod/db", "x")
    aws.delenv("AWS_ACCESS_KEY_ID")
    for name, value in variables.items():
        aws.setenv(name, value)

    status, document = doctor("prod/db")

    assert status == 1
    assert remedy in finding(document, "credentials")["remedy"]
    assert finding(document, "identity")["status"] == "skipped"
    assert finding(document, "response")["status"] == "ok"
    assert document["secrets"][0]["text"] == "prod/db: not checked: there are no credentials"


def test_credentials_that_can_not_be_retrieved(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Where the place that should have them fails, its error says what to check."""
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    aws.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/file")

    _, document = doctor()

    assert finding(document, "credentials")["status"] == "failed"
    assert "/no/such/file" in finding(document, "credentials")["remedy"]


def test_credentials_that_do_not_come_in_time(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """A metadata service that hangs costs a few seconds, and is told."""
    aws.setattr(identity, "CREDENTIALS_SECONDS", 0.0)
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")

    _, document = doctor()

    assert "didn't answer in 0 s" in finding(document, "credentials")["text"]


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "ExpiredToken"])
def test_credentials_that_aws_refuses(
    aws: pytest.MonkeyPatch, raw_server: RawServer, doctor: Doctor, code: str
) -> None:
    """If STS refuses the credentials, so would Secrets Manager: no secret is asked for."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    raw_server.answer(body.encode(), 403, content_type="text/xml")
    aws.setenv("AWS_ENDPOINT_URL_STS", raw_server.url)

    status, document = doctor("prod/db")

    assert status == 1
    assert finding(document, "identity")["text"] == f"AWS refuses the credentials ({code})"
    assert document["secrets"][0]["status"] == "skipped"


def test_an_sts_out_of_reach_is_no_failure(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """Secrets are read without STS, which may have no VPC endpoint."""
    moto_server.create("prod/db", "x")
    aws.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")

    status, document = doctor("prod/db")

    assert status == 0
    assert finding(document, "identity")["status"] == "warning"
    assert "reading secrets needs no STS" in finding(document, "identity")["text"]
