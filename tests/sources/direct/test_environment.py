"""When the environment needs the SDK, and the settings of the direct client when it doesn't."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.credentials import EnvProvider

from asecretcache._sources.direct import environment
from asecretcache._sources.direct.environment import SDK_VARIABLES, Settings, resolve_settings
from asecretcache._sources.direct.origin import Origin


def settings(region: str | None = None, endpoint: str | None = None) -> Settings:
    """The settings in this environment, which must not need the SDK."""
    found = resolve_settings(region, endpoint)
    assert isinstance(found, Settings), found
    return found


# The SDK is needed


@pytest.mark.parametrize(
    "name", [*SDK_VARIABLES, "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "Https_Proxy"]
)
def test_a_variable_for_the_sdk_is_named(credentials: pytest.MonkeyPatch, name: str) -> None:
    """Profiles, roles, proxies, FIPS and other settings of the SDK need the SDK."""
    credentials.setenv(name, "x")

    assert resolve_settings(None, None) == f"{name} is set"


def test_every_variable_of_botocore_is_considered() -> None:
    """If botocore reads a new variable, decide: is it interpreted, left to the SDK, or without effect?"""
    interpreted = {
        "AWS_DEFAULT_REGION",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        EnvProvider.ACCESS_KEY,
        EnvProvider.SECRET_KEY,
        *EnvProvider.TOKENS,
    }
    without_effect = {
        # SecretsManagerSource sets mode and attempts itself, and that wins.
        "AWS_RETRY_MODE",
        "AWS_MAX_ATTEMPTS",
        # Used by other services, or only with AWS_CSM_ENABLED.
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_CSM_HOST",
        "AWS_CSM_PORT",
        "AWS_CSM_CLIENT_ID",
        "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
        # Both sources keep connections alive.
        "BOTOCORE_TCP_KEEPALIVE",
        # No call to Secrets Manager is compressed.
        "AWS_DISABLE_REQUEST_COMPRESSION",
        # The metadata of an instance isn't read.
        "AWS_EC2_METADATA_V1_DISABLED",
        # Secrets Manager's endpoints don't depend on the account.
        EnvProvider.ACCOUNT_ID,
    }
    read = {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY, EnvProvider.EXPIRY_TIME, EnvProvider.ACCOUNT_ID}
    for _, names, _, _ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        read |= {names} if isinstance(names, str) else set(names or ())

    assert read - interpreted - without_effect - set(SDK_VARIABLES) == set()


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_file_with_settings_is_named(credentials: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    """A file that has only blank lines and comments, or doesn't exist, changes nothing."""
    file = tmp_path / "file"
    credentials.setenv(variable, str(file))
    settings()
    file.write_text("# a comment\n\n  ; another\n")
    settings()

    file.write_text("[default]\n")

    assert resolve_settings(None, None) == f"{file} has settings"


def test_an_unreadable_file_may_have_settings(credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that can't be read is left to the SDK."""
    credentials.setenv("AWS_CONFIG_FILE", str(tmp_path))

    assert resolve_settings(None, None) == f"{tmp_path} has settings"


def test_files_in_their_default_places_are_found(credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Configuration and models of the user in the home directory need the SDK."""
    credentials.setenv("HOME", str(tmp_path))
    credentials.delenv("AWS_CONFIG_FILE")
    settings()

    (tmp_path / ".aws" / "models").mkdir(parents=True)
    assert resolve_settings(None, None) == "~/.aws/models exists"
    (tmp_path / ".aws" / "config").write_text("[default]")
    assert resolve_settings(None, None) == "~/.aws/config has settings"


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_a_proxy_of_the_system_is_left_to_the_sdk(credentials: pytest.MonkeyPatch, platform: str) -> None:
    """On Windows and macOS Python finds proxies that no variable names."""
    credentials.setattr(sys, "platform", platform)

    assert resolve_settings(None, None) == "the system may have a proxy set"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("AWS_DEFAULT_REGION", None, "no region is set"),
        ("AWS_DEFAULT_REGION", "", "no region is set"),
        ("AWS_DEFAULT_REGION", "us-east-1-fips", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "fips-us-east-1", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "aws-global", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "local", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "eu-west", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "eu-wést-1", "the region is an unusual one"),
        ("AWS_DEFAULT_REGION", "zz-west-1", "the region is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host/path", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://user:password@host", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://under_score", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://-host", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host-.example", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host..example", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://" + 64 * "a", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://\u212aelvin", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "http://host:99999", "the endpoint's URL is an unusual one"),
        ("AWS_ENDPOINT_URL", "host", "the endpoint's URL is an unusual one"),
        ("AWS_CA_BUNDLE", "", "the CA bundle is empty"),
        ("AWS_SECRET_ACCESS_KEY", "", "AWS_SECRET_ACCESS_KEY is missing"),
        ("AWS_ACCESS_KEY_ID", None, "there are no credentials in the environment"),
    ],
)
def test_missing_and_unusual_settings_are_named(
    credentials: pytest.MonkeyPatch, name: str, value: str | None, reason: str
) -> None:
    """The reason names the setting, and never its value; the SDK copes with it or says what is wrong."""
    credentials.delenv(name, raising=False)
    if value is not None:
        credentials.setenv(name, value)

    assert resolve_settings(None, None) == reason


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/credentials",  # botocore allows only a few hosts.
        "http://128.0.0.1/",
        "http://127.0.0.1.example.com/",
        "http://127.0.0.999/",
        "http://127.0.0.256/",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
    ],
)
def test_credentials_at_an_unusual_url_need_the_sdk(credentials: pytest.MonkeyPatch, url: str) -> None:
    """The SDK refuses those hosts itself."""
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)

    assert resolve_settings(None, None) == "the credentials' URL is an unusual one"


def test_files_of_boto_2_go_before_a_container(credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The order is that of the SDK."""
    file = tmp_path / "boto"
    file.write_text("[Credentials]")
    credentials.setattr(environment, "BOTO2_FILES", (str(file),))
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")
    settings()

    credentials.delenv("AWS_ACCESS_KEY_ID")

    assert resolve_settings(None, None) == f"{file} has settings"


# The SDK is not needed


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, "https://secretsmanager.eu-west-1.amazonaws.com:443"),
        ("http://Host.Example:80/", "http://host.example:80"),
        ("https://host.example:8443", "https://host.example:8443"),
        ("http://[FD00::1]:8080", "http://fd00::1:8080"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(credentials: pytest.MonkeyPatch, endpoint: str | None, url: str) -> None:
    """The host may be a name or an address, and the port may be missing."""
    origin = settings(None, endpoint).origin

    assert f"{'https' if origin.is_tls else 'http'}://{origin.host}:{origin.port}" == url
    assert settings(None, endpoint).is_aws_endpoint == (endpoint is None)


def test_the_endpoint_of_the_service_goes_first(credentials: pytest.MonkeyPatch) -> None:
    """The argument goes before both variables, and both can be switched off."""
    credentials.setenv("AWS_ENDPOINT_URL", "http://all")
    assert settings().origin.host == "all"
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://service")
    assert settings().origin.host == "service"
    assert settings(None, "http://argument").origin.host == "argument"

    credentials.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True")
    assert settings().is_aws_endpoint
    assert settings(None, "http://argument").origin.host == "argument"


def test_the_region_argument_goes_before_the_environment(credentials: pytest.MonkeyPatch) -> None:
    """As in boto3, AWS_REGION isn't read."""
    credentials.setenv("AWS_REGION", "eu-west-3")

    assert settings().region == "eu-west-1"
    assert settings("us-west-2").region == "us-west-2"


def test_the_ca_bundle_is_found_as_by_the_sdk(credentials: pytest.MonkeyPatch) -> None:
    """AWS_CA_BUNDLE goes before REQUESTS_CA_BUNDLE."""
    assert settings().ca_bundle is None
    credentials.setenv("REQUESTS_CA_BUNDLE", "requests.pem")
    assert settings().ca_bundle == "requests.pem"
    credentials.setenv("AWS_CA_BUNDLE", "aws.pem")
    assert settings().ca_bundle == "aws.pem"
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")
    credentials.delenv("AWS_ACCESS_KEY_ID")
    assert settings().ca_bundle == "aws.pem"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("RELATIVE", "/v2/x?id=1", (Origin(False, "169.254.170.2", 80), "/v2/x?id=1")),
        ("FULL", "http://127.0.0.1:9001/2021/credentials", (Origin(False, "127.0.0.1", 9001), "/2021/credentials")),
        ("FULL", "http://127.1.2.3", (Origin(False, "127.1.2.3", 80), "/")),
        ("FULL", "HTTP://LocalHost/Xy", (Origin(False, "localhost", 80), "/Xy")),
        ("FULL", "http://169.254.170.23/v1", (Origin(False, "169.254.170.23", 80), "/v1")),
        ("FULL", "http://[fd00:ec2::23]/v1", (Origin(False, "fd00:ec2::23", 80), "/v1")),
        ("FULL", "http://[::1]/v1", (Origin(False, "::1", 80), "/v1")),
    ],
)
def test_the_endpoint_of_a_containers_credentials(
    credentials: pytest.MonkeyPatch, variable: str, value: str, expected: Any
) -> None:
    """The relative URI goes before the full URI, and keys in the environment before both."""
    credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/")
    credentials.setenv(f"AWS_CONTAINER_CREDENTIALS_{variable}_URI", value)
    assert settings().container is None

    credentials.delenv("AWS_ACCESS_KEY_ID")
    assert settings().container == expected


def test_every_region_has_the_sdks_endpoint(credentials: pytest.MonkeyPatch) -> None:
    """Host and signing region are botocore's, in all its partitions."""
    session = botocore.session.get_session()
    seen: list[Any] = []

    def record_only(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, {}, _EmptyBody())

    class _EmptyBody:
        def stream(self, **_: Any) -> Any:
            return iter(())

    partitions = session.get_available_partitions()
    regions = {
        region for partition in partitions for region in session.get_available_regions("secretsmanager", partition)
    }
    for region in regions:
        client = session.create_client("secretsmanager", region_name=region)
        client.meta.events.register("before-send", record_only)
        client.get_secret_value(SecretId="x")
        client.close()

    assert len(regions) > 40
    assert len(partitions) >= 8
    for region, request in zip(regions, seen, strict=True):
        found = settings(region)
        assert f"https://{found.origin.host}/" == request.url
        assert f"/{found.region}/secretsmanager/".encode() in request.headers["Authorization"]
