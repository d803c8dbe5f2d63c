"""The requests to a local provider, and what its responses mean, against a server with canned responses."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from asecretcache import (
    AgentSource,
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
    __version__,
)
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._sources.agent import client
from raw_server import GOOD, RawServer, Stage, close, http, reset
from source_helpers import CANARY, NAME, fetch_error, fetch_value, shown_locals

ROLE = "arn:aws:iam::123456789012:role/name"
VERSION = GOOD["VersionId"]
NOT_READY = http(b"not ready to serve traffic, please wait", 400)


def target(request: bytes) -> str:
    """The path and query of a request."""
    return request.split()[1].decode()


# Requests


async def test_a_request_is_a_get_with_the_token(agent_raw: RawServer) -> None:
    """It names the library, and no header tells of a proxy."""
    source = AgentSource()
    await source.fetch(NAME)
    await source.aclose()

    (request,) = agent_raw.requests
    for line in (
        "GET /secretsmanager/get?secretId=name HTTP/1.1\r\n",
        f"Host: 127.0.0.1:{agent_raw.server_address[1]}",
        "Accept: application/json",
        f"User-Agent: asecretcache/{__version__}",
        "X-Aws-Parameters-Secrets-Token: canary-token",
    ):
        assert line.encode() in request
    assert b"Forwarded" not in request


@pytest.mark.parametrize(
    ("request_", "role_arn", "query"),
    [
        (SecretRequest("name", "AWSPREVIOUS"), None, "secretId=name&versionStage=AWSPREVIOUS"),
        (SecretRequest("name", None, VERSION), None, f"secretId=name&versionId={VERSION}"),
        (SecretRequest("name", "a b+c", VERSION), None, f"secretId=name&versionId={VERSION}&versionStage=a%20b%2Bc"),
        (SecretRequest("name"), ROLE, "secretId=name&roleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fname"),
        (SecretRequest("name", is_refresh=True), None, "secretId=name&refreshNow=true"),
        (SecretRequest("name", "é"), None, "secretId=name&versionStage=%C3%A9"),
    ],
)
async def test_parameters_are_sent_only_if_they_are_needed(
    agent_raw: RawServer, request_: SecretRequest, role_arn: str | None, query: str
) -> None:
    """Each is encoded for a query; the provider refuses what it doesn't know."""
    source = AgentSource(role_arn=role_arn)
    await source.fetch(request_)
    await source.aclose()

    assert target(agent_raw.requests[0]) == f"/secretsmanager/get?{query}"


async def test_the_extension_is_not_asked_to_refresh(agent_raw: RawServer) -> None:
    """It has no such parameter."""
    source = AgentSource(server="extension")
    await source.fetch(SecretRequest("name", is_refresh=True))
    await source.aclose()

    assert target(agent_raw.requests[0]) == "/secretsmanager/get?secretId=name"


async def test_a_names_slashes_and_other_characters_are_encoded(agent_raw: RawServer) -> None:
    """As those of a name may be, which has ASCII letters, digits and ``/_+=.@-``."""
    agent_raw.answer(GOOD | {"Name": "prod/db+=@.-_&?#%"})
    source = AgentSource()
    await source.fetch(SecretRequest("prod/db+=@.-_&?#%"))
    await source.aclose()

    assert target(agent_raw.requests[0]).endswith("secretId=prod%2Fdb%2B%3D%40.-_%26%3F%23%25")


async def test_proxies_of_the_environment_are_not_used(
    agent_raw: RawServer, bare_environment: pytest.MonkeyPatch
) -> None:
    """A proxy would see the token and the value."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        bare_environment.setenv(name, "http://127.0.0.1:1")
    source = AgentSource()

    assert await fetch_value(source) == "the value"
    await source.aclose()


async def test_a_token_file_is_read_for_each_request(
    agent_raw: RawServer, bare_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A provider that was started again has another token, which the connections that are open get too."""
    file = tmp_path / "token"
    bare_environment.setenv("AWS_TOKEN", f"file://{file}")
    source = AgentSource()
    for token in ("one", "two"):
        file.write_text(token)
        await source.fetch(NAME)
    await source.aclose()

    assert [request[-3:] for request in agent_raw.requests] == [b"one", b"two"]
    assert agent_raw.connections == 1


# Responses


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (GOOD | {"CreatedDate": "1700000000.5"}, "the value"),
        (GOOD | {"CreatedDate": "1700000000.5", "SecretBinary": None}, "the value"),
        (GOOD | {"CreatedDate": "2023-11-14T22:13:20.5Z"}, "the value"),
        (GOOD | {"CreatedDate": "1700000000.5", "SecretString": None, "SecretBinary": "AP8="}, b"\x00\xff"),
    ],
)
async def test_the_body_is_a_record_with_dates_in_text(agent_raw: RawServer, body: Any, value: str | bytes) -> None:
    """Binary values are in base64, and what a record lacks may be null."""
    agent_raw.answer(body)
    source = AgentSource()
    secret = await source.fetch(NAME)
    await source.aclose()

    assert value in (secret.secret_string, secret.secret_binary)
    assert secret.created_date is not None
    assert secret.created_date.timestamp() == 1700000000.5


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ResourceNotFoundException", 400, SecretNotFoundError),
        ("AccessDeniedException", 400, SecretAccessDeniedError),
        ("aws#AccessDeniedException:http://x", 403, SecretAccessDeniedError),
        ("DecryptionFailure", 400, SecretDecryptionError),
        ("ThrottlingException", 400, SecretThrottledError),
        ("ExpiredTokenException", 400, CredentialsError),
        ("InternalFailure", 500, SecretUnavailableError),
        ("NewException", 400, SecretCacheError),
    ],
)
async def test_aws_errors_are_mapped_by_their_codes(
    agent_raw: RawServer, code: str, status: int, expected: type
) -> None:
    """As those that AWS sends itself."""
    agent_raw.refuse(code, status=status)

    error = await fetch_error(AgentSource())

    assert type(error) is expected
    assert error.secret_id == "name"
    assert len(agent_raw.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "expected", "says"),
    [
        (403, b"Bad Token", CredentialsError, "is sent, must have the token that it was started with"),
        (403, b"", CredentialsError, "refused the token of AWS_TOKEN: AWS_TOKEN, AWS_SESSION_TOKEN or AWS_CONTAINER_"),
        (401, b"", CredentialsError, "refused the token of AWS_TOKEN"),
        (429, b"Connection limit exceeded", SecretThrottledError, "too many connections: lower max_concurrency="),
        (404, b"Not found", ConfigurationError, "doesn't serve secrets (HTTP 404): check the port"),
        (405, b"Not allowed", ConfigurationError, "doesn't serve secrets (HTTP 405): check the port"),
        (400, b"unknown parameter: refreshNow", ConfigurationError, "update it, or give server='extension'"),
        (400, b"Forwarded", ConfigurationError, "refuses requests of proxies"),
        (400, b"canary-value", SecretCacheError, "refused the request (HTTP 400): its log says why"),
        (400, {"__type": 5, "message": CANARY}, SecretCacheError, "refused the request (HTTP 400)"),
        (400, [CANARY], SecretCacheError, "refused the request (HTTP 400)"),
        (400, b"[" * 100_000, SecretCacheError, "refused the request (HTTP 400)"),
        (400, {"__type": "MaxRolesExceeded", "message": "x"}, ConfigurationError, "raise max_roles in its config"),
        (504, {"__type": "TimeoutError", "message": "x"}, SecretUnavailableError, "no connection to Secrets Manager"),
        (502, {"__type": "ConnectionError", "message": 5}, SecretUnavailableError, "no connection to Secrets Manager"),
        (
            504,
            {"__type": "aws#TimeoutError:http://x"},
            SecretUnavailableError,
            "no connection to Secrets Manager (Time",
        ),
        (403, {"__type": "AccessDeniedException", "message": 5}, SecretAccessDeniedError, "access denied: allow"),
        (500, b"canary-value", SecretUnavailableError, "is out of order (HTTP 500): its log says why"),
        (302, b"canary-value", SecretUnavailableError, "malformed response"),
        (200, b"canary-value", SecretUnavailableError, "malformed response"),
        (200, {"SecretString": CANARY}, SecretUnavailableError, "malformed response"),
        (400, {"__type": CANARY, "message": CANARY}, SecretUnavailableError, "malformed response"),
    ],
)
async def test_other_texts_are_mapped_and_not_shown(
    agent_raw: RawServer, status: int, body: Any, expected: type, says: str
) -> None:
    """The error names the secret and the remedy; nothing of the body or the token is in it or in a frame."""
    agent_raw.answer(body, status)

    error = await fetch_error(AgentSource())

    assert type(error) is expected
    assert str(error).startswith("secret 'name': ")
    assert says in str(error)
    assert error.__context__ is None
    assert (error.__cause__ is None) == (expected is not SecretAccessDeniedError)
    shown = str(error) + repr(error.args) + shown_locals(error)
    assert CANARY not in shown
    assert "canary-token" not in shown
    assert len(agent_raw.requests) == 1


@pytest.mark.parametrize(
    ("body", "expected", "says"),
    [
        ({"__type": "AccessDeniedException", "message": f"Failed to create caching client from role: {ROLE}"},
         CredentialsError, f"can't assume {ROLE}: the credentials were refused when assuming a role"),
        ({"__type": "AccessDeniedException", "message": "User is not authorized"}, SecretAccessDeniedError, "allow"),
        (b"unknown parameter: roleArn", ConfigurationError, "update it, or leave out role_arn="),
    ],
)  # fmt: skip
async def test_a_role_that_cant_be_assumed_is_named(agent_raw: RawServer, body: Any, expected: type, says: str) -> None:
    """It is told from a role that may not read the secret, and from a provider that knows no roles."""
    agent_raw.answer(body, 400 if isinstance(body, bytes) else 403)

    error = await fetch_error(AgentSource(role_arn=ROLE))

    assert type(error) is expected
    assert says in str(error)


@pytest.mark.parametrize(
    ("code", "message"),
    [("MaxRolesExceeded", "x"), ("AccessDeniedException", "Failed to create caching client from role: x")],
)
async def test_the_providers_own_codes_are_told(agent_raw: RawServer, code: str, message: str) -> None:
    """As those of AWS are."""
    agent_raw.refuse(code, message, 403)

    assert (await fetch_error(AgentSource(role_arn=ROLE))).code == code


# Connections


@pytest.mark.parametrize(
    ("server", "says"),
    [("provider", "start AWS's Workload Credentials Provider"), ("extension", "add the layer AWS-Parameters-and-")],
)
async def test_if_nothing_listens_the_error_says_what_to_start(
    agent_raw: RawServer, delays: list[float], server: Any, says: str
) -> None:
    """It is transient, and outside of Lambda there is one attempt."""
    agent_raw.stop_listening()

    error = await fetch_error(AgentSource(server=server))

    assert type(error) is SecretUnavailableError
    port = agent_raw.server_address[1]
    assert f"nothing can be reached as the {server} at 127.0.0.1:{port} (Connection refused): {says}" in str(error)
    assert delays == []
    assert error.__cause__ is error.__context__ is None


async def test_a_port_that_accepts_nothing_is_given_up(
    agent_raw: RawServer, bare_environment: pytest.MonkeyPatch
) -> None:
    """After some seconds; the error says the same."""
    bare_environment.setattr(client, "CONNECT_SECONDS", 0.01)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        error = await fetch_error(AgentSource(port=full.getsockname()[1]))
        for each in waiting:
            each.close()

    assert type(error) is SecretUnavailableError
    assert "(no answer): start AWS's" in str(error)


@pytest.mark.parametrize("how", [close, reset])
@pytest.mark.parametrize("stage", [Stage.ASKED, Stage.IN_BODY])
async def test_a_connection_that_breaks_off_is_unavailable(agent_raw: RawServer, stage: Stage, how: Any) -> None:
    """There is no other attempt on a new connection."""
    agent_raw.break_off(stage, how)

    error = await fetch_error(AgentSource())

    assert type(error) is SecretUnavailableError
    assert "gave no response (" in str(error)
    assert agent_raw.broken == 1


async def test_a_provider_that_hangs_is_given_up(agent_raw: RawServer) -> None:
    """Shortly before the fetch's own time is over, so that the error says what took it."""
    agent_raw.hang()
    token = current_fetch_timeout.set(FetchTimeout(0.1, time.time, time.monotonic))

    error = await fetch_error(AgentSource())

    current_fetch_timeout.reset(token)
    assert type(error) is SecretUnavailableError
    assert "gave no response (ReadTimeoutError): its log may say why" in str(error)
    assert len(agent_raw.requests) == 1


async def test_requests_wait_for_a_slot(agent_raw: RawServer) -> None:
    """The extension gets as many requests at a time as it has connections."""
    source = AgentSource(server="extension")
    assert await asyncio.gather(*(fetch_value(source) for _ in range(12))) == ["the value"] * 12
    await source.aclose()

    assert agent_raw.connections <= 3


# In Lambda


@pytest.fixture
def in_lambda(bare_environment: pytest.MonkeyPatch) -> None:
    """The environment of Lambda's runtime."""
    bare_environment.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")


@pytest.mark.parametrize("server", ["provider", "extension"])
async def test_in_lambda_one_that_is_starting_is_waited_for(
    agent_raw: RawServer, delays: list[float], in_lambda: None, server: Any
) -> None:
    """It may listen later than the function runs: a refused connection is tried again, for 2 s."""
    agent_raw.stop_listening()

    error = await fetch_error(AgentSource(server=server))

    assert "(Connection refused)" in str(error)
    assert delays[:4] == [0.05, 0.1, 0.2, 0.2]
    assert sum(delays) == pytest.approx(client.STARTUP_SECONDS, abs=0.2)


async def test_the_wait_for_one_that_is_starting_ends_before_the_fetch(
    agent_raw: RawServer, delays: list[float], in_lambda: None
) -> None:
    """The error says that nothing listens, before the time is over."""
    agent_raw.stop_listening()
    current_fetch_timeout.set(FetchTimeout(0.5, time.time, time.monotonic))

    error = await fetch_error(AgentSource())
    current_fetch_timeout.set(None)

    assert "(Connection refused)" in str(error)
    assert 0 < sum(delays) < 0.45


async def test_one_that_was_reached_before_is_not_waited_for(
    agent_raw: RawServer, delays: list[float], in_lambda: None
) -> None:
    """Then it has ended, so that a stale value needn't wait."""
    source = AgentSource()
    await source.fetch(NAME)
    agent_raw.stop_listening()
    agent_raw.drop()

    error = await fetch_error(source)

    assert "(Connection refused)" in str(error)
    assert delays == []


async def test_an_extension_that_isnt_ready_is_asked_again(agent_raw: RawServer, delays: list[float]) -> None:
    """After short pauses."""
    agent_raw.first(*[NOT_READY] * 4)
    source = AgentSource(server="extension")

    assert await fetch_value(source) == "the value"
    await source.aclose()

    assert delays == [0.05, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(("seconds", "pauses"), [(None, 9.0), (1.0, 0.9)])
async def test_an_extension_that_never_is_ready_is_given_up(
    agent_raw: RawServer, delays: list[float], seconds: float | None, pauses: float
) -> None:
    """Within the time of the fetch; the error says why the extension isn't."""
    agent_raw.bytes = NOT_READY
    if seconds is not None:
        current_fetch_timeout.set(FetchTimeout(seconds, time.time, time.monotonic))

    error = await fetch_error(AgentSource(server="extension"))
    current_fetch_timeout.set(None)

    assert type(error) is SecretUnavailableError
    says = "it serves secrets once Lambda's INIT is over, so don't fetch or prefetch in INIT with it"
    assert str(error).endswith(f"wasn't ready in {pauses:g} s: {says}")
    assert sum(delays) == pytest.approx(pauses)
