"""Credentials of the environment and of a container's endpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asecretcache._sources.direct.credentials import ContainerCredentials, KeptCredentials, environment_credentials
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.exceptions import CredentialRetrievalError
from asecretcache.testing import ManualClock
from container_endpoint import container_response
from raw_server import RawServer, http
from source_helpers import shown_locals

# The environment


def test_the_environment_has_keys_and_a_token(credentials: pytest.MonkeyPatch) -> None:
    """The older name of the token's variable goes first, as in the SDK, and an empty token is none."""
    found = environment_credentials()
    assert found is not None
    assert (found.access_key, found.secret_key) == ("AKIAFAKEFAKEFAKEFAKE", "fake-secret-key")
    assert found.token == "canary-session-token"

    credentials.setenv("AWS_SECURITY_TOKEN", "older")
    found = environment_credentials()
    assert found is not None
    assert found.token == "older"

    credentials.delenv("AWS_SECURITY_TOKEN")
    credentials.setenv("AWS_SESSION_TOKEN", "")
    found = environment_credentials()
    assert found is not None
    assert found.token is None


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_a_key_the_environment_has_no_credentials(credentials: pytest.MonkeyPatch, name: str) -> None:
    """Both keys are needed, and an empty one is none."""
    credentials.setenv(name, "")
    assert environment_credentials() is None

    credentials.delenv(name)
    assert environment_credentials() is None


# A container


@pytest.fixture
def container(bare_environment: pytest.MonkeyPatch, raw_server: RawServer, clock: ManualClock) -> ContainerCredentials:
    """Credentials that the raw server serves, for an hour."""
    raw_server.bytes = container_response(clock)
    parsed = Origin.parse(f"{raw_server.url}/v2/credentials?id=1")
    assert parsed is not None
    return ContainerCredentials(*parsed, KeptCredentials(), clock=clock)


async def test_credentials_are_fetched_once(raw_server: RawServer, container: ContainerCredentials) -> None:
    """Concurrent callers wait for the first, and later ones use what it fetched."""
    found = [*await asyncio.gather(*(container.get() for _ in range(10))), await container.get()]

    assert {each.access_key for each in found} == {"AKIACONTAINER"}
    (request,) = raw_server.requests
    assert request.startswith(b"GET /v2/credentials?id=1 HTTP/1.1")
    assert b"accept: application/json" in request
    assert b"authorization" not in request


async def test_the_authorization_token_is_read_for_each_fetch(
    raw_server: RawServer,
    container: ContainerCredentials,
    bare_environment: pytest.MonkeyPatch,
    tmp_path: Path,
    clock: ManualClock,
) -> None:
    """The file goes before the variable."""
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-1")
    await container.get()
    token = tmp_path / "token"
    token.write_text("token-2")
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    clock.advance(3000)
    await container.get()

    first, second = raw_server.requests
    assert b"authorization: token-1" in first
    assert b"authorization: token-2" in second


@pytest.mark.parametrize("token", [b"line\n", b"line\r", b"\xff", None])
async def test_a_token_that_cant_be_sent_gives_no_credentials(
    raw_server: RawServer,
    container: ContainerCredentials,
    bare_environment: pytest.MonkeyPatch,
    tmp_path: Path,
    delays: list[float],
    token: bytes | None,
) -> None:
    """A file that doesn't exist, isn't text or has a line break is read again, then an error; nothing is sent."""
    file = tmp_path / "token"
    if token is not None:
        file.write_bytes(token)
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(file))

    with pytest.raises(CredentialRetrievalError) as caught:
        await container.get()

    assert raw_server.requests == []
    assert "line" not in shown_locals(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"Expiration": "2099-01-01T00:00:00"},
        {"Expiration": "soon"},
        {"Expiration": None},
        {"AccessKeyId": ""},
        {"AccessKeyId": None},
        {"SecretAccessKey": 5},
        {"Token": 5},
        {"Token": ["t"]},
    ],
)
async def test_keys_that_are_none_give_no_credentials(
    raw_server: RawServer,
    container: ContainerCredentials,
    clock: ManualClock,
    delays: list[float],
    change: dict[str, Any],
) -> None:
    """A date without a zone is no date, as for the SDK; and nothing but text signs."""
    raw_server.bytes = container_response(clock, **change)

    with pytest.raises(CredentialRetrievalError):
        await container.get()


async def test_a_user_without_a_token_has_credentials(
    raw_server: RawServer, container: ContainerCredentials, clock: ManualClock
) -> None:
    """Only roles have one."""
    raw_server.bytes = container_response(clock, Token="")

    assert (await container.get()).token is None


async def test_a_cancelled_fetch_shows_no_token(
    raw_server: RawServer, container: ContainerCredentials, bare_environment: pytest.MonkeyPatch
) -> None:
    """While a request runs, the token is no visible local of the package's frames."""
    bare_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-authorization")
    raw_server.hang()
    task = asyncio.create_task(container.get())
    await asyncio.to_thread(raw_server.arrived.wait)
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert "canary" not in shown_locals(caught.value)


async def test_credentials_are_renewed_15_minutes_before_they_expire(
    raw_server: RawServer, container: ContainerCredentials, clock: ManualClock
) -> None:
    """The wall clock decides."""
    await container.get()
    clock.advance(3600 - 901)
    await container.get()
    assert len(raw_server.requests) == 1

    clock.advance(2)
    raw_server.bytes = container_response(clock, key="AKIASECOND")
    assert (await container.get()).access_key == "AKIASECOND"
    assert len(raw_server.requests) == 2


async def test_while_one_caller_renews_the_others_use_the_old_ones(
    raw_server: RawServer, container: ContainerCredentials, clock: ManualClock
) -> None:
    """From ten minutes before they expire, the others wait."""
    await container.get()
    raw_server.arrived.clear()
    raw_server.hang()
    clock.advance(3600 - 800)
    renewing = asyncio.create_task(container.get())
    await asyncio.to_thread(raw_server.arrived.wait)

    assert (await container.get()).access_key == "AKIACONTAINER"
    clock.advance(300)
    waiting = asyncio.create_task(container.get())
    await asyncio.sleep(0)
    assert not waiting.done()

    raw_server.bytes = container_response(clock, key="AKIASECOND")
    raw_server.let_go.set()
    assert (await renewing).access_key == (await waiting).access_key == "AKIASECOND"
    assert len(raw_server.requests) == 2


async def test_old_credentials_are_used_until_10_minutes_before_their_end(
    raw_server: RawServer, container: ContainerCredentials, clock: ManualClock, delays: list[float]
) -> None:
    """After that it is an error; each renewal has three attempts, a second apart."""
    await container.get()
    raw_server.bytes = http(b"", 500)
    clock.advance(3600 - 800)
    assert (await container.get()).access_key == "AKIACONTAINER"
    assert delays == [1, 1]

    clock.advance(300)
    with pytest.raises(CredentialRetrievalError):
        await container.get()
    assert len(raw_server.requests) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"AccessKeyId": None},
        {"AccessKeyId": ""},
        {"SecretAccessKey": 5},
        {"Token": None},
        {"Expiration": "soon"},
        {"Expiration": 5},
        {"Expiration": "2020-01-01T00:00:00Z"},
    ],
)
async def test_a_response_without_usable_credentials_is_an_error(
    raw_server: RawServer,
    container: ContainerCredentials,
    clock: ManualClock,
    delays: list[float],
    change: dict[str, Any],
) -> None:
    """Incomplete, malformed or expired credentials are tried again, and then an error."""
    raw_server.bytes = container_response(clock, **change)

    with pytest.raises(CredentialRetrievalError):
        await container.get()

    assert len(raw_server.requests) == 3


async def test_the_request_asks_for_json_at_the_host(raw_server: RawServer, container: ContainerCredentials) -> None:
    """With the names of the headers in lower case, as HTTP allows."""
    await container.get()

    host = raw_server.url.removeprefix("http://").encode()
    assert raw_server.requests == [
        # The server leaves out the ends of the headers' lines.
        b"GET /v2/credentials?id=1 HTTP/1.1\r\nhost: %saccept: application/json" % host
    ]


async def test_credentials_that_expire_now_are_unusable(
    raw_server: RawServer, container: ContainerCredentials, clock: ManualClock, delays: list[float]
) -> None:
    """A moment later they would be refused."""
    raw_server.bytes = container_response(clock, 0)

    with pytest.raises(CredentialRetrievalError):
        await container.get()


@pytest.mark.parametrize(("seconds_left", "fetches"), [(900, 1), (899, 2)])
async def test_credentials_are_renewed_when_less_than_15_minutes_are_left(
    raw_server: RawServer, container: ContainerCredentials, clock: ManualClock, seconds_left: float, fetches: int
) -> None:
    """With exactly 15 minutes they are used."""
    await container.get()
    clock.advance(3600 - seconds_left)
    raw_server.bytes = container_response(clock)

    await container.get()

    assert len(raw_server.requests) == fetches
