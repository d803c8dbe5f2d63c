"""The checks of region, endpoint and proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_helpers import finding, statuses
from moto_server import MotoServer

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.mark.parametrize(
    ("variables", "arguments", "text"),
    [
        ({}, [], "eu-west-1, from AWS_DEFAULT_REGION"),
        ({}, ["--region", "us-east-1"], "us-east-1, from the argument"),
        ({"AWS_DEFAULT_REGION": None, "AWS_PROFILE": "test"}, [], "sa-east-1, from the profile 'test'"),
        ({"AWS_DEFAULT_REGION": None}, [], "ap-south-1, from the profile 'default'"),
        ({"AWS_DEFAULT_REGION": ""}, [], "no region is set: AWS_DEFAULT_REGION is empty"),
    ],
)
def test_the_region_says_where_it_comes_from(
    aws: pytest.MonkeyPatch,
    tmp_path: Path,
    doctor: Doctor,
    variables: dict[str, str | None],
    arguments: list[str],
    text: str,
) -> None:
    """The region is the argument's, the variable's that the SDK reads, or the profile's."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = ap-south-1\n[profile test]\nregion = sa-east-1\n")
    aws.setenv("AWS_CONFIG_FILE", str(config))
    aws.delenv("AWS_REGION")
    for name, value in variables.items():
        aws.delenv(name, raising=False) if value is None else aws.setenv(name, value)

    _, document = doctor(*arguments)

    assert finding(document, "region")["text"] == text


def test_a_region_that_the_sdk_does_not_read(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """AWS_REGION alone sets no region for the SDK for Python; what needs a region isn't checked."""
    aws.delenv("AWS_DEFAULT_REGION")

    status, document = doctor("prod/db")

    assert status == 1
    assert "AWS_REGION=eu-west-1 isn't read by the SDK" in finding(document, "region")["text"]
    assert "set AWS_DEFAULT_REGION" in finding(document, "region")["remedy"]
    assert statuses(document)["credentials"] == "ok"
    skipped = [name for name, found in statuses(document).items() if found == "skipped"]
    assert skipped == ["identity", "endpoint", "proxy", "dns", "tcp", "tls", "response"]
    assert document["secrets"][0]["text"] == "prod/db: not checked: no region is known"


def test_no_region_at_all(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Without any region the remedy names the settings."""
    aws.delenv("AWS_DEFAULT_REGION")
    aws.delenv("AWS_REGION")

    _, document = doctor()

    assert finding(document, "region")["text"] == "no region is set"


def test_two_regions_are_a_warning(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Where AWS_REGION names another region than the one that is used, both are told."""
    aws.setenv("AWS_REGION", "us-east-1")

    status, document = doctor()

    assert (status, finding(document, "region")["status"]) == (0, "warning")
    assert "AWS_REGION=us-east-1 isn't read" in finding(document, "region")["text"]


def test_a_region_of_the_argument_is_no_warning(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """Who asks for another region than the environment's knows it."""
    _, document = doctor("--region", "us-east-1")

    assert finding(document, "region")["status"] == "ok"


def test_a_profile_that_does_not_exist(aws: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """A wrong AWS_PROFILE is told at the region, the first setting that is read."""
    aws.setenv("AWS_PROFILE", "nobody")

    _, document = doctor()

    assert finding(document, "region")["status"] == "failed"
    assert "check AWS_PROFILE" in finding(document, "region")["remedy"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"])
def test_the_endpoint_says_which_variable_set_it(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor, name: str
) -> None:
    """The endpoint's setting is named; a user and password in its URL aren't shown."""
    aws.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    aws.setenv(name, moto_server.url.replace("//", "//user:hidden@"))

    _, document = doctor()

    assert finding(document, "endpoint")["text"] == f"{moto_server.url}, from {name}"
    assert "hidden" not in str(document)


def test_an_endpoint_of_the_argument(sts: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """--endpoint-url wins."""
    _, document = doctor("--endpoint-url", moto_server.url)

    assert finding(document, "endpoint")["text"] == f"{moto_server.url}, from the argument"


def test_an_endpoint_of_the_profile(
    sts: pytest.MonkeyPatch, moto_server: MotoServer, tmp_path: Path, doctor: Doctor
) -> None:
    """An endpoint of the config file is told as one."""
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = {moto_server.url}\n")
    sts.setenv("AWS_CONFIG_FILE", str(config))

    _, document = doctor()

    assert finding(document, "endpoint")["text"] == f"{moto_server.url}, from the profile's settings"


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({}, "https://secretsmanager.eu-west-1.amazonaws.com, from the region"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "https://secretsmanager-fips.eu-west-1.api.aws, from the region, FIPS, dual-stack",
        ),
        (
            {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "https://secretsmanager.eu-west-1.amazonaws.com, from the region",
        ),
    ],
)
def test_the_endpoint_of_aws(
    sts: pytest.MonkeyPatch, no_names: None, doctor: Doctor, variables: dict[str, str], text: str
) -> None:
    """Without a setting the endpoint is AWS's of the region, with the variants that are asked for."""
    for name, value in variables.items():
        sts.setenv(name, value)

    _, document = doctor()

    assert finding(document, "endpoint")["text"] == text


def test_an_endpoint_that_does_not_exist(sts: pytest.MonkeyPatch, doctor: Doctor) -> None:
    """A region that can be no part of a host's name has no endpoint."""
    _, document = doctor("--region", "-")

    assert finding(document, "endpoint")["status"] == "failed"
    assert "check region_name=" in finding(document, "endpoint")["remedy"]


@pytest.mark.parametrize(
    ("proxy", "no_proxy", "text"),
    [
        ("", "", "none"),
        ("http://u:p@proxy.example:3128", "127.0.0.1", "none: NO_PROXY exempts the endpoint from HTTP_PROXY"),
        ("http://u:p@127.0.0.1:1", "", "http://127.0.0.1:1; the following checks are of the way to it"),
        ("https://127.0.0.1", "", "https://127.0.0.1:443; the following checks are of the way to it"),
        ("http://u:p/q@proxy.example:3128", "", "what the variable holds isn't the URL of a proxy"),
        ("http://u:12/q@proxy.example:3128", "", "what the variable holds isn't the URL of a proxy"),
        ("http://", "", "what the variable holds isn't the URL of a proxy"),
    ],
)
def test_the_proxy_is_shown_without_its_password(
    aws: pytest.MonkeyPatch, doctor: Doctor, proxy: str, no_proxy: str, text: str
) -> None:
    """The proxy is the one that the SDK would use; of its URL scheme, host and port are shown."""
    aws.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    aws.setenv("HTTP_PROXY", proxy)
    aws.setenv("NO_PROXY", no_proxy)

    _, document = doctor()

    assert finding(document, "proxy")["text"] == text
