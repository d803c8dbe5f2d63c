"""The plain case: an environment in which the SDK would find nothing that a few variables don't say.

Here the SDK isn't imported. Whatever might change what it does isn't judged: then it isn't the plain case.
"""

from __future__ import annotations

import os
import sys
from typing import Final, NamedTuple

from asecretcache._sources.direct.origin import Origin

# By what comes before a region's direction and number, as the partitions.json of botocore has the regions.
_SUFFIXES: Final = {
    **dict.fromkeys(("us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx", "us-gov"), "amazonaws.com"),
    "cn": "amazonaws.com.cn",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "us-isof": "csp.hci.ic.gov",
    "eu-isoe": "cloud.adc-e.uk",
    "eusc-de": "amazonaws.eu",
}

# What botocore reads and this module doesn't interpret. Variables that change nothing of a call to Secrets Manager
# by SecretsManagerSource are not among them: AWS_RETRY_MODE and AWS_MAX_ATTEMPTS, because it sets both itself; those
# of other services; and where metadata of an instance is, as nobody asks for that.
ELSEWHERE: Final = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "BOTO_CONFIG",
    "AWS_DATA_PATH",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_DEFAULTS_MODE",
    "AWS_SDK_UA_APP_ID",
    "AWS_AUTH_SCHEME_PREFERENCE",
    "AWS_SIGV4A_SIGNING_REGION_SET",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    "AWS_DISABLE_HOST_PREFIX_INJECTION",
    "AWS_ENDPOINT_DISCOVERY_ENABLED",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES",
    "AWS_CSM_ENABLED",
    "AWS_METADATA_SERVICE_TIMEOUT",
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_IMDS_USE_IPV6",
)
_FILES: Final = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
_BOTO2_FILES: Final = ("/etc/boto.cfg", "~/.boto")
_MODELS: Final = "~/.aws/models"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL")
_BUNDLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")

# Those that botocore allows.
_RELATIVE: Final = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
_FULL: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_ECS: Final = "169.254.170.2"
_CONTAINER_HOSTS: Final = (_ECS, "169.254.170.23", "fd00:ec2::23", "localhost", "::1")


class PlainCase(NamedTuple):
    """What a client has to know."""

    region: str
    origin: Origin
    ca_bundle: str | None
    container: tuple[Origin, str] | None  # where credentials are, unless they are in the environment

    @property
    def is_regional(self) -> bool:
        """Whether it is AWS's own endpoint."""
        return self.origin == _regional(self.region)


def find_plain_case(region_name: str | None, endpoint_url: str | None) -> PlainCase | str:
    """Return the case, or in a few words why this isn't one. It reads the environment, and files if there are any."""
    return _obstacle() or _case(region_name, endpoint_url)


def _obstacle() -> str | None:
    environment = os.environ
    for name in ELSEWHERE:
        if name in environment:
            return f"{name} is set"
    for name in environment:
        if name.lower() in {"http_proxy", "https_proxy"} and environment[name]:
            return f"{name} is set"
    if sys.platform in {"win32", "darwin"}:
        return "the system may have a proxy set"
    for name, usual in _FILES:
        path = environment.get(name, usual)
        if not _is_blank(path):
            return f"{path} has settings"
    return f"{_MODELS} is there" if os.path.isdir(os.path.expanduser(_MODELS)) else None


def _case(region_name: str | None, endpoint_url: str | None) -> PlainCase | str:
    environment = os.environ
    # AWS_REGION isn't read by boto3.
    region = environment.get("AWS_DEFAULT_REGION") if region_name is None else region_name
    if not region:
        return "no region is set"
    origin = _regional(region)
    if origin is None:
        return "the region is an unusual one"
    url = endpoint_url or _configured_endpoint()
    if url is not None:
        parsed = Origin.parse(url)
        if parsed is None or parsed[1] != "/":
            return "the endpoint's URL is an unusual one"
        origin = parsed[0]
    bundle = next((environment[name] for name in _BUNDLES if name in environment), None)
    if bundle == "":
        return "the CA bundle is empty"
    if not environment.get("AWS_ACCESS_KEY_ID"):
        container = _container()
        return container if isinstance(container, str) else PlainCase(region, origin, bundle, container)
    if not environment.get("AWS_SECRET_ACCESS_KEY"):
        return "AWS_SECRET_ACCESS_KEY is missing"
    return PlainCase(region, origin, bundle, None)


def _regional(region: str) -> Origin | None:
    *area, direction, number = ["", "", *region.split("-")]
    suffix = _SUFFIXES.get("-".join(area[2:]))
    if suffix is None or not (region.isascii() and direction.isalnum() and number.isdigit()):
        return None
    return Origin(True, f"secretsmanager.{region}.{suffix}", 443)


def _configured_endpoint() -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)


def _container() -> tuple[Origin, str] | str:
    """Return where the credentials are served, or why that can't be used."""
    if _RELATIVE in os.environ:
        url = f"http://{_ECS}{os.environ[_RELATIVE]}"
    elif _FULL in os.environ:
        url = os.environ[_FULL]
    else:
        return "there are no credentials in the environment"
    for path in _BOTO2_FILES:
        if not _is_blank(path):
            return f"{path} has settings"
    parsed = Origin.parse(url)
    if parsed is None or parsed[0].tls or not (parsed[0].host in _CONTAINER_HOSTS or _is_loopback(parsed[0].host)):
        return "the credentials' URL is an unusual one"
    return parsed


def _is_loopback(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() and int(part) < 256 for part in parts)


def _is_blank(path: str) -> bool:
    """Whether there is no such file, or it has nothing but blanks and comments."""
    try:
        with open(os.path.expandvars(os.path.expanduser(path)), "rb") as file:
            return all(not line.strip() or line.lstrip().startswith((b"#", b";")) for line in file)
    except FileNotFoundError:
        return True
    except OSError:
        return False
