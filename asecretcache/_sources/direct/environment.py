"""Decides whether the environment needs the SDK, and reads the settings of the direct client if it doesn't.

The direct client is used where a few environment variables say all that the SDK would find out. Any other variable or
file that might change what the SDK does is left to the SDK, whatever its value.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final, NamedTuple

from asecretcache._sources.direct.origin import Origin

# By the part of a region's name before its direction and number, as botocore's partitions.json has the regions.
_DNS_SUFFIXES: Final = {
    **dict.fromkeys(("us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx", "us-gov"), "amazonaws.com"),
    "cn": "amazonaws.com.cn",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "us-isof": "csp.hci.ic.gov",
    "eu-isoe": "cloud.adc-e.uk",
    "eusc-de": "amazonaws.eu",
}

#: The variables that botocore reads and this module doesn't interpret. Not among them are those that change no call of
#: SecretsManagerSource to Secrets Manager: AWS_RETRY_MODE and AWS_MAX_ATTEMPTS, because it sets both itself; those of
#: other services; and the endpoint of an instance's metadata, which isn't asked.
SDK_VARIABLES: Final = (
    "AWS_PROFILE AWS_DEFAULT_PROFILE AWS_ROLE_ARN AWS_ROLE_SESSION_NAME AWS_WEB_IDENTITY_TOKEN_FILE "
    "AWS_CREDENTIAL_EXPIRATION AWS_CREDENTIAL_FILE BOTO_CONFIG AWS_DATA_PATH AWS_USE_FIPS_ENDPOINT "
    "AWS_USE_DUALSTACK_ENDPOINT AWS_DEFAULTS_MODE AWS_SDK_UA_APP_ID AWS_AUTH_SCHEME_PREFERENCE "
    "AWS_SIGV4A_SIGNING_REGION_SET AWS_ACCOUNT_ID_ENDPOINT_MODE AWS_DISABLE_HOST_PREFIX_INJECTION "
    "AWS_ENDPOINT_DISCOVERY_ENABLED AWS_REQUEST_CHECKSUM_CALCULATION AWS_RESPONSE_CHECKSUM_VALIDATION "
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES AWS_CSM_ENABLED AWS_METADATA_SERVICE_TIMEOUT "
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS AWS_EC2_METADATA_SERVICE_ENDPOINT AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE "
    "AWS_IMDS_USE_IPV6"
).split()
#: The files that boto 2 left behind, which the SDK reads credentials from before it asks a container for them.
BOTO2_FILES: Final = ("/etc/boto.cfg", "~/.boto")
_FILES: Final = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))

# Of a host's name. botocore refuses a longer region.
_LONGEST_LABEL: Final = 63
_ECS_HOST: Final = "169.254.170.2"
_CONTAINER_HOSTS: Final = (_ECS_HOST, "169.254.170.23", "fd00:ec2::23", "localhost", "::1")


class Settings(NamedTuple):
    """The settings of the direct client.

    Attributes:
        region: the region.
        origin: the server to send calls to.
        ca_bundle: the path of the CA bundle that the user has set, or None.
        container: the server and path of the container's credentials; None if the environment holds credentials.
    """

    region: str
    origin: Origin
    ca_bundle: str | None
    container: tuple[Origin, str] | None

    @property
    def is_aws_endpoint(self) -> bool:
        """Whether the server is AWS's own endpoint of the region."""
        return self.origin == _regional_origin(self.region)


def resolve_settings(region_name: str | None, endpoint_url: str | None) -> Settings | str:
    """Return the settings, or in a few words why the SDK is needed.

    It reads the environment, and the SDK's files if there are any.

    Args:
        region_name: the region; None for the environment's.
        endpoint_url: the endpoint; None for the environment's, else AWS's.
    """
    return _reason_for_sdk() or _read_settings(region_name, endpoint_url)


def _reason_for_sdk() -> str | None:
    for name, value in os.environ.items():
        if (
            name in SDK_VARIABLES
            or name.startswith("BOTOCORE_EXPERIMENTAL_")
            or (value and name.lower() in {"http_proxy", "https_proxy"})
        ):
            return f"{name} is set"
    if sys.platform in {"win32", "darwin"}:
        return "the system may have a proxy set"
    for name, default in _FILES:
        path = os.environ.get(name, default)
        if not _is_blank(path):
            return f"{path} has settings"
    return "~/.aws/models exists" if os.path.isdir(os.path.expanduser("~/.aws/models")) else None


def _read_settings(region_name: str | None, endpoint_url: str | None) -> Settings | str:
    # boto3 doesn't read AWS_REGION.
    region = os.environ.get("AWS_DEFAULT_REGION") if region_name is None else region_name
    if not region:
        return "no region is set"
    origin = _regional_origin(region)
    if origin is None:
        return "the region is an unusual one"
    url = endpoint_url or _configured_endpoint()
    if url:
        parsed = Origin.parse(url)
        if parsed is None or parsed[1] != "/":
            return "the endpoint's URL is an unusual one"
        origin = parsed[0]
    bundle = os.environ.get("AWS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE"))
    if bundle == "":
        return "the CA bundle is empty"
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        container = _container_endpoint()
        return container if isinstance(container, str) else Settings(region, origin, bundle, container)
    if not os.environ.get("AWS_SECRET_ACCESS_KEY"):
        return "AWS_SECRET_ACCESS_KEY is missing"
    return Settings(region, origin, bundle, None)


def _regional_origin(region: str) -> Origin | None:
    *area, direction, number = ["", "", *region.split("-")]
    suffix = _DNS_SUFFIXES.get("-".join(area[2:]))
    is_plain = region.isascii() and direction.isalnum() and number.isdigit() and len(region) <= _LONGEST_LABEL
    if suffix is None or not is_plain:
        return None
    return Origin(is_tls=True, host=f"secretsmanager.{region}.{suffix}", port=443)


def _configured_endpoint() -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return os.environ.get("AWS_ENDPOINT_URL_SECRETS_MANAGER") or os.environ.get("AWS_ENDPOINT_URL")


def _container_endpoint() -> tuple[Origin, str] | str:
    """Return the server and path of the container's credentials, or why the SDK is needed."""
    relative_uri = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    full_uri = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    url = full_uri if relative_uri is None else f"http://{_ECS_HOST}{relative_uri}"
    if url is None:
        return "there are no credentials in the environment"
    for path in BOTO2_FILES:
        if not _is_blank(path):
            return f"{path} has settings"
    parsed = Origin.parse(url)
    if parsed is None or parsed[0].is_tls or not _is_container_host(parsed[0].host):
        return "the credentials' URL is an unusual one"
    return parsed


def _is_container_host(host: str) -> bool:
    """Whether botocore allows the host: one of a few, or one of the loopback network."""
    parts = host.split(".")
    is_address = len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts)
    return host in _CONTAINER_HOSTS or (is_address and parts[0] == "127")


def _is_blank(path: str) -> bool:
    """Whether the file doesn't exist, or has only blank lines and comments."""
    path = os.path.expandvars(os.path.expanduser(path))
    with suppress(OSError), open(path, "rb") as file:
        return all(not line.strip() or line.lstrip().startswith((b"#", b";")) for line in file)
    return not os.path.exists(path)
