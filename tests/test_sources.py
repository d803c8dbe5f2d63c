"""What all sources of Secrets Manager have in common: against moto, and a server that answers what we tell it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from botocore.credentials import SSOProvider

from asecretcache import _exceptions as ours
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._models import SecretRequest
from asecretcache._sources import loop_clients as _client
from asecretcache._sources.direct.source import DirectSource
from asecretcache._sources.protocols import BatchSource, SecretSource, WarmableSource
from asecretcache._sources.sdk.source import SecretsManagerSource
from moto_server import REGION, SESSION_TOKEN, MotoServer
from raw_server import GOOD, RawServer, http

CANARY = "canary-value"
NAME = SecretRequest("name")
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
Source = type[SecretsManagerSource] | type[DirectSource]
BASE64 = GOOD | {"SecretBinary": f"!{CANARY}"}
BASE64.pop("SecretString")


@pytest.fixture(params=[SecretsManagerSource, DirectSource])
def any_source(request: pytest.FixtureRequest) -> Source:
    """Each of the sources; DirectSource may leave the work to the SDK."""
    source: Source = request.param
    return source


@pytest.fixture
def source_class(any_source: Source, caplog: pytest.LogCaptureFixture) -> Iterator[Source]:
    """Each of the sources; DirectSource does the work itself."""
    caplog.set_level(logging.INFO, "asecretcache")
    yield any_source
    assert [record for record in caplog.get_records("call") if "uses the AWS SDK" in record.getMessage()] == []


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def fetched(source: SecretSource, request: SecretRequest = NAME) -> str | bytes | None:
    """Fetch and return the value."""
    secret = await source.fetch(request)
    return secret.secret_binary if secret.secret_string is None else secret.secret_string


async def failure(source: SecretSource, request: SecretRequest = NAME) -> ours.SecretCacheError:
    """Fetch, fail, close, and return the error."""
    with pytest.raises(ours.SecretCacheError) as caught:
        await source.fetch(request)
    await source.aclose()
    return caught.value


def clients_of(source: Any) -> _client.LoopClients:
    """The clients by loop, which both sources have."""
    clients: _client.LoopClients = getattr(source, "_source", source)._clients
    return clients


def quietly(script: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    """Run it, collect, and see that nothing warned and nothing was logged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with caplog.at_level(logging.WARNING):
            script()
            gc.collect()
    # uvloop itself says this of any open transport, inside of its close(): no library is asked before.
    said = [str(warning.message) for warning in caught]
    assert [line for line in said if not line.startswith("unclosed resource <TCPTransport")] == []
    assert caplog.records == []


async def test_it_is_a_source_that_can_be_warmed(any_source: Source) -> None:
    """It implements both protocols."""
    source = any_source()

    assert isinstance(source, SecretSource)
    assert isinstance(source, WarmableSource)
    await source.aclose()


@pytest.mark.parametrize("value", ["text", b"\x00\xff"])
async def test_a_secret_is_fetched_with_one_call(
    aws_environment: Any, moto_server: MotoServer, value: Any, source_class: Source
) -> None:
    """Text and binary secrets arrive, each with one GetSecretValue and nothing else."""
    arn = moto_server.create("name", value)
    source = source_class()

    secret = await source.fetch(NAME)
    await source.aclose()

    assert value in (secret.secret_string, secret.secret_binary)
    assert (secret.name, secret.arn, secret.version_stages) == ("name", arn, ("AWSCURRENT",))
    assert moto_server.calls("GetSecretValue") == 1
    assert moto_server.calls("DescribeSecret") == 0


async def test_a_version_is_asked_for_only_when_it_is_wanted(aws_raw: RawServer, source_class: Source) -> None:
    """VersionId and VersionStage are sent when they are set, and only then."""
    source = source_class()

    await source.fetch(NAME)
    await source.fetch(SecretRequest("name", "AWSPREVIOUS"))
    await source.fetch(SecretRequest("name", None, GOOD["VersionId"]))
    await source.aclose()

    bodies = [request[request.index(b"{") :] for request in aws_raw.requests]
    assert bodies == [
        b'{"SecretId": "name"}',
        b'{"SecretId": "name", "VersionStage": "AWSPREVIOUS"}',
        b'{"SecretId": "name", "VersionId": "%s"}' % GOOD["VersionId"].encode(),
    ]
    assert b"asecretcache" in aws_raw.requests[0]


async def test_a_batch_is_fetched_with_one_call(
    aws_environment: Any, moto_server: MotoServer, source_class: Source
) -> None:
    """Of text and bytes, by name and ARN, and each that can't be had has its error."""
    arn = moto_server.create("text", "the value")
    moto_server.create("binary", b"\x00\xff")
    source = source_class()
    assert isinstance(source, BatchSource)

    outcomes = await source.fetch_batch([arn, "binary", "missing"])
    await source.aclose()

    assert {key: getattr(each, "secret_string", None) for key, each in outcomes.items()}[arn] == "the value"
    assert outcomes["binary"].secret_binary == b"\x00\xff"  # type: ignore[union-attr]  # it is a Secret
    assert isinstance(outcomes["missing"], ours.SecretNotFoundError)
    assert moto_server.calls("BatchGetSecretValue") == 1
    assert moto_server.calls("GetSecretValue") == 0


async def test_a_batch_goes_on_where_a_page_ends(aws_raw: RawServer, source_class: Source) -> None:
    """With NextToken; a page may have no values."""
    aws_raw.first(
        http({"NextToken": "1"}), http({"SecretValues": [GOOD], "NextToken": "2"}), http({"SecretValues": []})
    )
    source = source_class()

    outcomes = await source.fetch_batch(["name", "other"])
    await source.aclose()

    assert set(outcomes) == {"name"}
    bodies = [request[request.index(b"{") :] for request in aws_raw.requests]
    assert [b'"NextToken": "2"' in body for body in bodies] == [False, False, True]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("AccessDeniedException", ours.SecretAccessDeniedError), ("InvalidParameterException", ours.SecretCacheError)],
)
async def test_a_batch_may_be_refused_as_a_whole(
    aws_raw: RawServer, source_class: Source, code: str, expected: type
) -> None:
    """The error says that it is the batch that was."""
    aws_raw.refuse(code)
    source = source_class()

    with pytest.raises(ours.SecretCacheError, match=r"[bB]atch") as caught:
        await source.fetch_batch(["a", "b"])
    await source.aclose()

    assert type(caught.value) is expected


@pytest.mark.parametrize("body", [b"", b"[]", {"SecretValues": [BASE64]}, {"SecretValues": CANARY}, {"Errors": {}}])
async def test_a_batch_s_answer_that_makes_no_sense_tells_nothing(
    aws_raw: RawServer, source_class: Source, body: Any
) -> None:
    """As that of a single call."""
    aws_raw.answer(body)
    source = source_class()

    with pytest.raises(ours.SecretUnavailableError, match="no sense") as caught:
        await source.fetch_batch(["a", "b"])
    await source.aclose()

    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_tls_with_a_ca_bundle_works(tls_server: RawServer, source_class: Source) -> None:
    """AWS_CA_BUNDLE is left to the SDK."""
    source = source_class()

    assert await fetched(source) == "the value"
    await source.aclose()


async def test_warm_makes_the_client_and_no_call(aws_raw: RawServer, source_class: Source) -> None:
    """After warm() the first fetch has no more to do than the call."""
    source = source_class()

    await source.warm()
    await source.warm()

    assert aws_raw.requests == []
    assert await fetched(source) == "the value"
    await source.aclose()


async def test_warm_says_why_it_can_t(bare_environment: Any, any_source: Source) -> None:
    """A failed warm() is a ConfigurationError like a fetch's."""
    source = any_source()

    with pytest.raises(ours.ConfigurationError, match="AWS_DEFAULT_REGION"):
        await source.warm()
    await source.aclose()


async def test_no_region(bare_environment: Any, any_source: Source) -> None:
    """Without a region the error names where to set one."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "a")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "b")

    error = await failure(any_source())

    assert type(error) is ours.ConfigurationError
    assert "AWS_DEFAULT_REGION or give region_name=" in str(error)
    assert type(error.__cause__).__name__ == "NoRegionError"


async def test_no_credentials(bare_environment: Any, any_source: Source) -> None:
    """Without credentials the error is a ConfigurationError."""
    error = await failure(any_source(region_name="eu-west-1"))

    assert type(error) is ours.ConfigurationError
    assert "no credentials" in str(error)


async def test_no_such_profile(bare_environment: Any, any_source: Source) -> None:
    """A profile that isn't there is a ConfigurationError."""
    bare_environment.setenv("AWS_PROFILE", "nobody")

    assert "AWS_PROFILE" in str(await failure(any_source()))


async def test_unknown_and_deleted_secrets_are_not_found(
    aws_environment: Any, moto_server: MotoServer, source_class: Source
) -> None:
    """No such secret and a secret marked for deletion are both SecretNotFoundError."""
    moto_server.create("gone", "x")
    moto_server.client().delete_secret(SecretId="gone")

    unknown = await failure(source_class(), SecretRequest("unknown"))
    deleted = await failure(source_class(), SecretRequest("gone"))

    assert type(unknown) is type(deleted) is ours.SecretNotFoundError
    assert (unknown.code, deleted.code) == ("ResourceNotFoundException", "InvalidRequestException")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDeniedException", ours.SecretAccessDeniedError),
        ("ExpiredTokenException", ours.ConfigurationError),
        ("UnrecognizedClientException", ours.ConfigurationError),
        ("DecryptionFailure", ours.SecretDecryptionError),
    ],
)
async def test_a_refusal_is_chained_without_frames(
    aws_raw: RawServer, code: str, expected: type, source_class: Source
) -> None:
    """AWS's refusal is the cause; the SDK's frames, which hold the session token, are not."""
    aws_raw.refuse(code)

    error = await failure(source_class())

    assert type(error) is expected
    assert type(error.__cause__).__name__.endswith(("ClientError", code))
    assert error.__cause__.__traceback__ is None  # type: ignore[union-attr]  # asserted above
    assert len(aws_raw.requests) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (f'{{"SecretString": "{CANARY}"'.encode(), 200),
        (f"<html>{CANARY}</html>".encode(), 200),
        ([CANARY], 200),
        (CANARY, 200),
        (None, 200),
        (BASE64, 200),
        (GOOD | {"SecretString": [CANARY]}, 200),
        (GOOD | {"SecretString": CANARY, "Name": "other"}, 200),
        (GOOD | {"SecretString": CANARY, "CreatedDate": CANARY}, 200),
        (f'{{"SecretString": "{CANARY}\xff"}}'.encode("latin-1"), 200),
        (CANARY.encode(), 400),
        ({"__type": CANARY, "message": CANARY}, 400),
        ({"__type": 5, "message": CANARY}, 400),
        ([CANARY], 400),
        (f"{CANARY}\xff".encode("latin-1"), 400),
    ],
)
async def test_an_answer_that_makes_no_sense_tells_nothing(
    aws_raw: RawServer, body: Any, status: int, source_class: Source
) -> None:
    """It is transient, and nothing of it is in the error, its chain or our frames."""
    aws_raw.answer(body, status)

    error = await failure(source_class())

    assert type(error) is ours.SecretUnavailableError
    assert error.__cause__ is None
    assert error.__context__ is None
    assert CANARY not in str(error) + repr(error.args)
    printed = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    # The test's own frames hold the body, so only the package's are looked at.
    frames = [part for part in printed.split('  File "') if "asecretcache" in part.partition(",")[0]]
    assert frames
    assert CANARY not in "".join(frames)


async def test_a_hung_endpoint_is_given_up(aws_raw: RawServer, source_class: Source) -> None:
    """An endpoint that never answers is SecretUnavailableError after the SDK's attempts, each a part of the timer."""
    aws_raw.hang()
    timer = current_fetch_timeout.set(FetchTimeout(0.15, time.time, time.monotonic))
    source = source_class()

    error = await failure(source)

    current_fetch_timeout.reset(timer)
    assert type(error) is ours.SecretUnavailableError
    assert type(error.__cause__).__name__ == "ReadTimeoutError"
    assert len(aws_raw.requests) == 3


async def test_a_cancelled_fetch_is_cancelled(aws_raw: RawServer, source_class: Source) -> None:
    """CancelledError passes, and the slot and the client are free for the next."""
    aws_raw.hang()
    source = source_class(max_concurrency=1)
    task = asyncio.create_task(source.fetch(NAME))
    await asyncio.to_thread(aws_raw.arrived.wait)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    aws_raw.let_go.set()
    assert await fetched(source) == "the value"
    await source.aclose()


async def test_after_aclose_it_refuses(source_class: Source) -> None:
    """A closed source says so; closing it again does nothing."""
    source = source_class()
    await source.aclose()
    await source.aclose()

    with pytest.raises(ours.ConfigurationError, match="closed"):
        await source.fetch(NAME)


@pytest.mark.parametrize("step", [21.0, -1.0])
async def test_an_idle_client_is_replaced(aws_raw: RawServer, step: float, source_class: Source) -> None:
    """After 20 s of wall clock without use, or a clock set back, there is a new connection."""
    source, clock = source_class(), Clock()
    clients_of(source)._clock = clock

    await source.fetch(NAME)
    clock.now += 19
    await source.fetch(NAME)
    assert aws_raw.connections == 1

    clock.now += step
    await source.fetch(NAME)
    assert aws_raw.connections == 2
    await source.aclose()


@pytest.mark.parametrize("factory", LOOPS)
def test_a_run_per_invocation_is_quiet(
    aws_raw: RawServer,
    caplog: pytest.LogCaptureFixture,
    factory: Callable[[], asyncio.AbstractEventLoop],
    source_class: Source,
) -> None:
    """Sequential runs each have a client, which ends with its loop."""
    source = source_class()

    def script() -> None:
        for _ in range(2):
            with asyncio.Runner(loop_factory=factory) as runner:
                assert runner.run(fetched(source)) == "the value"

    quietly(script, caplog)
    assert aws_raw.connections == 2


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("server", ["aws_raw", "tls_server"])
@pytest.mark.parametrize("then", ["drop", "new loop", "still open", "run again"])
def test_a_loop_that_just_ends_is_quiet(
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    factory: Callable[[], asyncio.AbstractEventLoop],
    server: str,
    then: str,
    source_class: Source,
) -> None:
    """A loop that was closed without shutdown_asyncgens, or never, leaves no warning and no log behind."""
    request.getfixturevalue(server)

    def script() -> None:
        source = source_class()
        loop = factory()
        loop.run_until_complete(source.fetch(NAME))
        if then in {"drop", "new loop"}:
            loop.close()
        if then == "new loop":
            asyncio.run(fetched(source))
            assert len(clients_of(source)._clients) <= 1
        del source
        gc.collect()
        if then == "run again":
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    quietly(script, caplog)


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("server", ["aws_raw", "tls_server"])
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_connections_that_ended_while_the_loop_stood_still_are_not_used(
    request: pytest.FixtureRequest,
    factory: Callable[[], asyncio.AbstractEventLoop],
    server: str,
    reset: bool,
    source_class: Source,
) -> None:
    """Between two runs of a loop nobody hears of their end; the first attempt after it succeeds nevertheless."""
    raw: RawServer = request.getfixturevalue(server)
    source, clock = source_class(), Clock()
    clients_of(source)._clock = clock
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(source.fetch(NAME))
        clock.now += 5
        raw.drop(reset=reset)
        runner.run(source.fetch(NAME))
        runner.run(source.aclose())

    assert len(raw.requests) == raw.connections == 2
    assert b"attempt=1" in raw.requests[-1]


def test_a_loop_that_is_run_again_after_its_generators_ended_gets_a_client(
    aws_raw: RawServer, source_class: Source
) -> None:
    """shutdown_asyncgens ends the client, and the next fetch makes another."""
    source, loop = source_class(), asyncio.new_event_loop()
    loop.run_until_complete(source.fetch(NAME))
    loop.run_until_complete(loop.shutdown_asyncgens())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own: a generator after shutdown_asyncgens
        assert loop.run_until_complete(fetched(source)) == "the value"
    loop.run_until_complete(source.aclose())
    loop.close()
    assert aws_raw.connections == 2


def test_each_client_finds_its_credentials_anew(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, source_class: Source
) -> None:
    """What was found before a snapshot, or is being refreshed by a loop that died, isn't used by another loop."""
    aws_raw.answer(GOOD)
    source = source_class()
    for key in ("AKIAFIRST", "AKIASECOND"):
        credentials.setenv("AWS_ACCESS_KEY_ID", key)
        asyncio.run(fetched(source))

    first, second = aws_raw.requests
    assert b"AKIAFIRST" in first
    assert b"AKIASECOND" in second


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between attempts, without waiting."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(delay: float) -> None:
        if delay:
            taken.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    return taken


def refusal(code: str, status: int = 400) -> bytes:
    """An error as AWS answers it."""
    return http({"__type": code, "message": "no"}, status)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n",
        b"SMTP\r\n\r\n",
        http(b"<html>busy</html>", 503),
        http(b"", 500),
        refusal("InternalServiceError", 500),
        refusal("ThrottlingException"),
        refusal("RequestTimeout"),
    ],
    ids=range(8),
)
async def test_what_may_pass_is_tried_again(
    aws_raw: RawServer, source_class: Source, pauses: list[float], answer: bytes
) -> None:
    """The third attempt succeeds, after pauses of up to one second and up to two."""
    aws_raw.first(answer, answer)
    source = source_class()

    assert await fetched(source) == "the value"
    await source.aclose()

    assert len(aws_raw.requests) == 3
    assert len(pauses) == 2
    assert pauses[0] <= 1
    assert pauses[1] <= 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", ours.SecretUnavailableError),
        (http(b"", 503), ours.SecretUnavailableError),
        (refusal("ThrottlingException"), ours.SecretThrottledError),
    ],
)
async def test_three_attempts_are_enough(
    aws_raw: RawServer, source_class: Source, pauses: list[float], answer: bytes, expected: type
) -> None:
    """What goes on failing is given up, whatever the environment says of attempts: the fetch has only so much time."""
    aws_raw.bytes = answer

    error = await failure(source_class())

    assert type(error) is expected
    assert len(aws_raw.requests) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_MAX_ATTEMPTS", "5"),
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "legacy"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"),
        ("AWS_EC2_METADATA_V1_DISABLED", "true"),
        ("SSL_CERT_FILE", "nowhere"),
        ("AWS_REGION", "us-west-2"),
    ],
)
async def test_what_is_set_for_others_changes_nothing(
    aws_raw: RawServer,
    credentials: pytest.MonkeyPatch,
    source_class: Source,
    pauses: list[float],
    name: str,
    value: str,
) -> None:
    """Variables that say nothing of calls to Secrets Manager are no reason to do anything else."""
    credentials.setenv(name, value)
    aws_raw.bytes = http(b"", 503)

    await failure(source_class())

    assert len(aws_raw.requests) == 3
    assert b"/eu-west-1/secretsmanager/aws4_request" in aws_raw.requests[0]


async def test_an_endpoint_where_nobody_listens_is_unavailable(
    credentials: pytest.MonkeyPatch, source_class: Source, pauses: list[float]
) -> None:
    """The cause names the endpoint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{taken.getsockname()[1]}")

        error = await failure(source_class())

    assert type(error) is ours.SecretUnavailableError
    assert type(error.__cause__).__name__ == "EndpointConnectionError"
    assert "127.0.0.1" in str(error.__cause__)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 X\nContent-Length: {}\n\n",
        b"HTTP/1.1 200 X\r\nX: a\r\n b\r\nContent-Length: {}\r\n\r\n",
        b"HTTP/1.1 200 X\r\nX: a\x01b\r\nContent-Length: {}\r\n\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 X\r\n\r\n",
    ],
    ids=["LF", "folded", "control", "identity", "until the end"],
)
async def test_careless_servers_are_understood(aws_raw: RawServer, source_class: Source, head: bytes) -> None:
    """AWS's aren't, but mocks may be; whoever can speak with one source can speak with the other."""
    body = json.dumps(GOOD).encode()
    aws_raw.bytes = head.replace(b"{}", str(len(body)).encode()) + body
    source = source_class()

    assert await fetched(source) == "the value"
    await source.aclose()


@pytest.fixture
def identity(bare_environment: pytest.MonkeyPatch, tmp_path: Path, moto_server: MotoServer) -> pytest.MonkeyPatch:
    """An environment whose credentials are those of a role, by a token that a file has; STS is moto."""
    (tmp_path / "token").write_text("token")
    bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
    bare_environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    bare_environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    bare_environment.setenv("AWS_ENDPOINT_URL", moto_server.url)
    return bare_environment


async def test_a_token_is_exchanged_for_a_role(
    identity: pytest.MonkeyPatch, moto_server: MotoServer, any_source: Source
) -> None:
    """As on EKS: the SDK makes a client of another service by itself."""
    moto_server.create("name", "the value")
    source = any_source()

    assert await fetched(source) == "the value"
    await source.aclose()


async def test_a_profile_s_role_is_assumed(
    bare_environment: pytest.MonkeyPatch, moto_server: MotoServer, tmp_path: Path, any_source: Source
) -> None:
    """With the credentials of another profile."""
    moto_server.create("name", "the value")
    (tmp_path / "config").write_text(
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = x\n"
    )
    bare_environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
    bare_environment.setenv("AWS_ENDPOINT_URL", moto_server.url)
    source = any_source()

    assert await fetched(source) == "the value"
    await source.aclose()


async def test_single_sign_on_is_asked_for_credentials(
    bare_environment: pytest.MonkeyPatch, tmp_path: Path, any_source: Source
) -> None:
    """It comes as far as the connection, which there is none to be had of."""
    url, until = "https://x.awsapps.com/start", (datetime.now(UTC) + timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    login = tmp_path / ".aws" / "sso" / "cache" / f"{hashlib.sha1(url.encode()).hexdigest()}.json"
    login.parent.mkdir(parents=True)
    login.write_text(json.dumps({"startUrl": url, "region": REGION, "accessToken": "t", "expiresAt": until}))
    (tmp_path / "config").write_text(
        f"[default]\nsso_start_url = {url}\nsso_region = {REGION}\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\n"
    )
    bare_environment.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(login.parent))
    bare_environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
    bare_environment.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        bare_environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")

        error = await failure(any_source())

    assert type(error.__cause__).__name__ == "EndpointConnectionError"
    assert "/federation/credentials" in str(error.__cause__)


async def test_the_clients_that_fetch_credentials_verify_names_too(
    tls_server: RawServer, identity: pytest.MonkeyPatch, any_source: Source
) -> None:
    """What is sent to STS is worth as much as what is sent to Secrets Manager."""
    identity.setenv("AWS_ENDPOINT_URL_STS", tls_server.url.replace("127.0.0.1", "localhost"))
    identity.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        identity.delenv(name, raising=False)

    error = await failure(any_source())

    assert type(error.__cause__).__name__ == "SSLError"
    assert tls_server.requests == []


@pytest.mark.parametrize("wrong", ["authority", "name", "bundle"])
async def test_tls_is_verified(
    tls_server: RawServer,
    credentials: pytest.MonkeyPatch,
    source_class: Source,
    pauses: list[float],
    wrong: str,
) -> None:
    """A certificate of an unknown authority, or for another name, isn't taken, and nothing is sent."""
    if wrong == "authority":
        # What OpenSSL trusts by itself isn't what is trusted here.
        credentials.setenv("SSL_CERT_FILE", os.environ["AWS_CA_BUNDLE"])
        credentials.delenv("AWS_CA_BUNDLE")
    elif wrong == "name":
        credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", tls_server.url.replace("127.0.0.1", "localhost"))
    else:
        credentials.setenv("AWS_CA_BUNDLE", "nowhere.pem")

    error = await failure(source_class())

    assert type(error) is ours.SecretUnavailableError
    assert tls_server.requests == []


async def test_the_bundle_of_requests_is_trusted(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, source_class: Source
) -> None:
    """REQUESTS_CA_BUNDLE is read where AWS_CA_BUNDLE isn't set."""
    credentials.setenv("REQUESTS_CA_BUNDLE", os.environ["AWS_CA_BUNDLE"])
    credentials.delenv("AWS_CA_BUNDLE")
    source = source_class()

    assert await fetched(source) == "the value"
    await source.aclose()


@pytest.mark.parametrize("server", ["aws_raw", "tls_server"])
@pytest.mark.parametrize("factory", LOOPS)
def test_a_connection_that_died_while_it_was_idle_is_no_failure(
    request: pytest.FixtureRequest,
    source_class: Source,
    pauses: list[float],
    factory: Callable[[], asyncio.AbstractEventLoop],
    server: str,
) -> None:
    """The next fetch has another, also if the loop had no turn to notice."""
    raw: RawServer = request.getfixturevalue(server)
    source = source_class()
    with asyncio.Runner(loop_factory=factory) as runner:
        for _ in range(3):
            assert runner.run(fetched(source)) == "the value"
            raw.drop()
        runner.run(source.aclose())

    assert raw.connections == 3


async def test_an_answer_that_says_so_is_the_last_of_its_connection(aws_raw: RawServer, source_class: Source) -> None:
    """After "Connection: close" there is a new one."""
    aws_raw.bytes = http(GOOD, 200, "Connection: close")
    source = source_class()

    assert await fetched(source) == await fetched(source) == "the value"
    await source.aclose()

    assert aws_raw.connections == 2


async def test_the_date_is_aware_and_local(aws_raw: RawServer, source_class: Source) -> None:
    """CreatedDate comes in seconds since the epoch."""
    source = source_class()

    secret = await source.fetch(NAME)
    await source.aclose()

    assert secret.created_date == datetime.fromtimestamp(GOOD["CreatedDate"]).astimezone()
    assert secret.created_date.isoformat() == datetime.fromtimestamp(GOOD["CreatedDate"]).astimezone().isoformat()


async def test_calls_run_at_the_same_time_and_share_connections(aws_raw: RawServer, source_class: Source) -> None:
    """No more connections than calls at a time."""
    source = source_class(max_concurrency=3)
    for _ in range(2):
        assert await asyncio.gather(*(fetched(source) for _ in range(9))) == ["the value"] * 9
    await source.aclose()

    assert aws_raw.connections <= 3


def test_threads_with_a_loop_each_share_a_source(aws_raw: RawServer, source_class: Source) -> None:
    """Each has connections of its own."""
    source = source_class()
    values: list[Any] = []
    threads = [threading.Thread(target=lambda: values.append(asyncio.run(fetched(source)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(source.aclose())

    assert values == ["the value"] * 4
    assert aws_raw.connections == 4


@pytest.mark.parametrize("end", ["cancelled", "timed out"])
async def test_what_a_fetch_was_ended_with_shows_nothing(aws_raw: RawServer, source_class: Source, end: str) -> None:
    """Neither token nor signature is a local of one of our frames while a call is under way."""
    aws_raw.hang()
    source = source_class()
    task = asyncio.create_task(source.fetch(NAME))
    await asyncio.to_thread(aws_raw.arrived.wait)

    raised: BaseException
    try:
        if end == "cancelled":
            task.cancel()
            await task
        async with asyncio.timeout(0):
            await task
    except (asyncio.CancelledError, TimeoutError) as exc:
        raised = exc
    aws_raw.let_go.set()
    await source.aclose()

    printed = "".join(traceback.TracebackException.from_exception(raised, capture_locals=True).format())
    frames = [part for part in printed.split('  File "') if "asecretcache" in part.partition(",")[0]]
    assert frames
    assert SESSION_TOKEN not in "".join(frames)
    assert "Signature=" not in "".join(frames)
    assert "fake-secret-key" not in "".join(frames)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("loop_of", ["asyncio", "uvloop"])
def test_a_fork_leaves_the_parent_s_client_alone(aws_raw: RawServer, any_source: Source, loop_of: str) -> None:
    """The child fetches with a client of its own, and the parent's connection works on; neither says a word."""
    code = f"""
import asyncio, gc, os, sys, {loop_of}
from asecretcache._models import SecretRequest
from asecretcache import {any_source.__name__} as Source
source, loop = Source(), {loop_of}.new_event_loop()
def fetch(loop):
    return loop.run_until_complete(source.fetch(SecretRequest("name")))
fetch(loop)
if pid := os.fork():
    status = os.waitpid(pid, 0)[1]
    fetch(loop)
    loop.run_until_complete(source.aclose())
    loop.close()
    sys.exit(os.waitstatus_to_exitcode(status))
fresh = {loop_of}.new_event_loop()
fetch(fresh)
gc.collect()
fresh.run_until_complete(source.aclose())
fresh.close()
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert aws_raw.connections == 2
