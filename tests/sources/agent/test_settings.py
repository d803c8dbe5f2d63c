"""Which local provider AgentSource calls, by its arguments and the environment."""

from __future__ import annotations

from typing import Any

import pytest

from asecretcache import AgentSource, ConfigurationError
from asecretcache._sources.agent.settings import AgentSettings, agent_settings
from asecretcache._sources.direct.origin import Origin

PORT = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"


def settings(
    server: object = None, host: object = "127.0.0.1", port: object = None, role_arn: object = None
) -> AgentSettings:
    return agent_settings(server, host, port, role_arn)


@pytest.mark.parametrize(
    ("function", "server", "kind", "concurrency"),
    [
        (None, None, "provider", 10),
        ("function", None, "extension", 3),
        ("function", "provider", "provider", 10),
        (None, "extension", "extension", 3),
    ],
)
def test_a_function_has_the_extension_and_other_hosts_the_provider(
    bare_environment: pytest.MonkeyPatch, function: str | None, server: str | None, kind: str, concurrency: int
) -> None:
    """Unless the argument says otherwise; the extension is sent as many requests as it has connections."""
    if function:
        bare_environment.setenv("AWS_LAMBDA_FUNCTION_NAME", function)

    found = settings(server)

    assert (found.server, found.concurrency, found.is_provider) == (kind, concurrency, kind == "provider")


@pytest.mark.parametrize(
    ("port", "variable", "expected"),
    [
        (None, None, 2773),
        (None, "", 2773),
        (None, " 4000 ", 4000),
        (5000, "4000", 5000),
        (1, None, 1),
        (65535, "x", 65535),
    ],
)
def test_the_port_is_the_arguments_or_the_environments(
    bare_environment: pytest.MonkeyPatch, port: int | None, variable: str | None, expected: int
) -> None:
    """The argument wins, then the variable of the extension, then AWS's default."""
    if variable is not None:
        bare_environment.setenv(PORT, variable)

    assert settings(port=port).origin == Origin(is_tls=False, host="127.0.0.1", port=expected)


@pytest.mark.parametrize("variable", ["0", "65536", "-1", "2773x", "27.73", "\u0663", "1" * 5000])
def test_a_variable_that_is_no_port_is_refused(bare_environment: pytest.MonkeyPatch, variable: str) -> None:
    """The error names the variable, at construction."""
    bare_environment.setenv(PORT, variable)

    with pytest.raises(ConfigurationError, match=f"^{PORT} must be the number of a port, such as 2773, not "):
        AgentSource()


@pytest.mark.parametrize("port", [0, 65536, -1, "2773", True, 2773.0])
def test_an_argument_that_is_no_port_is_refused(bare_environment: object, port: Any) -> None:
    """The error names the argument."""
    with pytest.raises(ConfigurationError, match=r"^port= must be the number of a port, such as 2773, not "):
        AgentSource(port=port)


@pytest.mark.parametrize(
    ("host", "header"),
    [
        ("127.0.0.1", "127.0.0.1:2773"),
        ("localhost", "127.0.0.1:2773"),
        ("127.1.2.255", "127.1.2.255:2773"),
        ("::1", "[::1]:2773"),
    ],
)
def test_hosts_of_the_loopback_interface_are_called(bare_environment: object, host: str, header: str) -> None:
    """The name localhost isn't looked up, since it might be another host's."""
    assert settings(host=host).origin.host_header == header


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "10.0.0.1", "128.0.0.1", "0.0.0.0", "127.0.0.1.example.com", "127.0.0", "127.0.0.256"),
        *("localhost.example.com", "::", "::ffff:127.0.0.1", "127.0.0.1:80", "127.0.0.\u0661", "", None, 5),
    ],
)
def test_other_hosts_are_refused(bare_environment: object, host: Any) -> None:
    """The token must not leave the host, and the error says what to do instead."""
    with pytest.raises(
        ConfigurationError, match=r"^host= must be 127.0.0.1, ::1 or localhost, .* must not leave"
    ) as caught:
        AgentSource(host=host)
    assert str(caught.value).endswith("leave this host; run the provider beside each process, as a service or side-car")


@pytest.mark.parametrize("server", ["agent", "", 5, ["provider"]])
def test_another_server_is_refused(bare_environment: object, server: Any) -> None:
    """The error names the two that there are."""
    with pytest.raises(ConfigurationError, match=r"^server= must be 'provider', 'extension' or None, not "):
        AgentSource(server=server)


@pytest.mark.parametrize("role_arn", ["", "role", 5])
def test_a_role_must_be_an_arn(bare_environment: object, role_arn: Any) -> None:
    """Anything else is a ConfigurationError that names the argument."""
    with pytest.raises(ConfigurationError, match=r"^role_arn= must be the ARN of a role, such as arn:aws:iam::"):
        AgentSource(role_arn=role_arn)


def test_the_extension_assumes_no_role(bare_environment: object) -> None:
    """It would read with its own credentials instead, so the argument is refused."""
    with pytest.raises(ConfigurationError, match=r"^role_arn= needs server='provider'"):
        AgentSource(server="extension", role_arn="arn:aws:iam::123456789012:role/name")


@pytest.mark.parametrize("max_concurrency", [0, True, "3"])
def test_max_concurrency_must_be_a_positive_int(bare_environment: object, max_concurrency: Any) -> None:
    """As with the other sources."""
    with pytest.raises(ConfigurationError, match=r"^max_concurrency= must be an int of at least 1$"):
        AgentSource(max_concurrency=max_concurrency)
