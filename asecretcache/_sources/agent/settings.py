"""Where the local provider is, and which of the two it is."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from asecretcache._exceptions import ConfigurationError
from asecretcache._sources.direct.origin import Origin

PROVIDER: Final = "provider"
EXTENSION: Final = "extension"
PORT_VARIABLE: Final = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"
_DEFAULT_PORT: Final = 2773
_HIGHEST_PORT: Final = 65535
_LOOPBACK: Final = "127.0.0.1"
#: Requests at a time. The extension has three connections to AWS unless it is told otherwise.
_CONCURRENCY: Final = {PROVIDER: 10, EXTENSION: 3}
# What to do if nothing listens.
_START: Final = {
    PROVIDER: (
        "start AWS's Workload Credentials Provider on this host (aws-workload-credentials-provider sm start), "
        f"or set {PORT_VARIABLE} to its port"
    ),
    EXTENSION: (
        f"add the layer AWS-Parameters-and-Secrets-Lambda-Extension to the function, or set {PORT_VARIABLE} to its port"
    ),
}


class AgentSettings(NamedTuple):
    """Which provider is called, where, and for whom.

    Attributes:
        server: PROVIDER or EXTENSION.
        origin: the host and port.
        role_arn: the role that the provider is to assume, or None.
    """

    server: str
    origin: Origin
    role_arn: str | None

    @property
    def is_provider(self) -> bool:
        """Whether it is the provider, which the extension isn't."""
        return self.server == PROVIDER

    @property
    def concurrency(self) -> int:
        """How many requests it is sent at the same time, unless the user says otherwise."""
        return _CONCURRENCY[self.server]

    @property
    def subject(self) -> str:
        """What errors call it."""
        return f"the {self.server} at {self.origin.host_header}"

    @property
    def how_to_start(self) -> str:
        """What to do if nothing listens."""
        return _START[self.server]


def agent_settings(server: object, host: object, port: object, role_arn: object) -> AgentSettings:
    """Return the settings that the arguments of AgentSource and the environment give.

    Raises:
        ConfigurationError: one of them is not valid.
    """
    if server is None:
        server = EXTENSION if "AWS_LAMBDA_FUNCTION_NAME" in os.environ else PROVIDER
    if server not in (PROVIDER, EXTENSION) or not isinstance(server, str):
        raise ConfigurationError(f"server= must be {PROVIDER!r}, {EXTENSION!r} or None, not {server!r}")
    if role_arn is not None:
        if not isinstance(role_arn, str) or not role_arn.startswith("arn:"):
            raise ConfigurationError("role_arn= must be the ARN of a role, such as arn:aws:iam::123456789012:role/name")
        if server == EXTENSION:
            msg = "role_arn= needs server='provider': the extension can't assume a role"
            raise ConfigurationError(msg)
    return AgentSettings(server, Origin(is_tls=False, host=_loopback(host), port=_port(port)), role_arn)


def _loopback(host: object) -> str:
    """Return the address of a host, which must be this one."""
    if host == "localhost":
        # By its name it might be another host, as a file of hosts or a name server may have it.
        return _LOOPBACK
    if isinstance(host, str) and (host == "::1" or _is_loopback_address(host)):
        return host
    msg = (
        f"host= must be 127.0.0.1, ::1 or localhost, not {host!r}: the token goes over plain HTTP, "
        "so it must not leave this host; run the provider beside each process, as a service or side-car"
    )
    raise ConfigurationError(msg)


def _is_loopback_address(host: str) -> bool:
    parts = host.split(".")
    is_address = len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)
    return is_address and parts[0] == "127"


def _port(port: object) -> int:
    """Return the port, by the argument or the environment."""
    name, value = "port=", port
    if port is None:
        name, value = PORT_VARIABLE, os.environ.get(PORT_VARIABLE, "").strip() or _DEFAULT_PORT
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:6])
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _HIGHEST_PORT:
        raise ConfigurationError(f"{name} must be the number of a port, such as {_DEFAULT_PORT}, not {value!r}")
    return value
