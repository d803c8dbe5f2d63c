"""The default source: against moto over HTTP, and against a server that answers what we tell it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aioboto3
import boto3
import pytest
import uvloop
from aiobotocore.config import AioConfig
from botocore.config import Config

from asecretcache import _errors as ours
from asecretcache._secret import SecretRequest
from asecretcache._sources import _client
from asecretcache._sources._client import LoopClients
from asecretcache._sources._protocol import SecretSource, WarmableSource
from asecretcache._sources._secrets_manager import SecretsManagerSource
from asecretcache._timer import FetchTimer, fetch_timer
from moto_server import MotoServer
from raw_server import ARN, GOOD, RawServer

CANARY = "canary-value"
NAME = SecretRequest("name")
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def fetched(source: SecretsManagerSource, request: SecretRequest = NAME) -> str | bytes | None:
    """Fetch and return the value."""
    secret = await source.fetch(request)
    return secret.secret_binary if secret.secret_string is None else secret.secret_string


async def failure(source: SecretsManagerSource, request: SecretRequest = NAME) -> ours.SecretCacheError:
    """Fetch, fail, close, and return the error."""
    with pytest.raises(ours.SecretCacheError) as caught:
        await source.fetch(request)
    await source.aclose()
    return caught.value


# Fetching


async def test_it_is_a_source_that_can_be_warmed() -> None:
    """It implements both protocols."""
    source = SecretsManagerSource()

    assert isinstance(source, SecretSource)
    assert isinstance(source, WarmableSource)
    await source.aclose()


@pytest.mark.parametrize("value", ["text", b"\x00\xff"])
async def test_a_secret_is_fetched_with_one_call(aws_environment: Any, moto_server: MotoServer, value: Any) -> None:
    """Text and binary secrets arrive, each with one GetSecretValue and nothing else."""
    arn = moto_server.create("name", value)
    source = SecretsManagerSource()

    secret = await source.fetch(NAME)
    await source.aclose()

    assert value in (secret.secret_string, secret.secret_binary)
    assert (secret.name, secret.arn, secret.version_stages) == ("name", arn, ("AWSCURRENT",))
    assert moto_server.calls("GetSecretValue") == 1
    assert moto_server.calls("DescribeSecret") == 0


async def test_a_version_is_asked_for_only_when_it_is_wanted(aws_raw: RawServer) -> None:
    """VersionId and VersionStage are sent when they are set, and only then."""
    source = SecretsManagerSource()

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


async def test_an_explicit_endpoint_region_and_session_are_used(credentials: Any, raw_server: RawServer) -> None:
    """What the constructor is given goes before the environment."""
    credentials.delenv("AWS_REGION")
    credentials.delenv("AWS_DEFAULT_REGION")
    session = aioboto3.Session(aws_access_key_id="AKIAEXPLICIT", aws_secret_access_key="x")  # a fake
    source = SecretsManagerSource(session, region_name="us-west-2", endpoint_url=raw_server.url)

    assert await fetched(source) == "the value"
    await source.aclose()

    assert b"AKIAEXPLICIT" in raw_server.requests[0]
    assert b"/us-west-2/secretsmanager/" in raw_server.requests[0]


async def test_a_profile_is_used(bare_environment: Any, raw_server: RawServer, tmp_path: Path) -> None:
    """AWS_PROFILE gives region, credentials and endpoint, as boto3 has it."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile p]\nregion = us-west-1\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"
        f"services = s\n[services s]\nsecrets_manager =\n  endpoint_url = {raw_server.url}\n"
    )
    bare_environment.setenv("AWS_CONFIG_FILE", str(config))
    bare_environment.setenv("AWS_PROFILE", "p")
    source = SecretsManagerSource()

    assert await fetched(source) == "the value"
    await source.aclose()

    assert b"AKIAPROFILE" in raw_server.requests[0]


@pytest.mark.parametrize(
    "config", [Config(user_agent_extra="mine"), AioConfig({"keepalive_timeout": 5}, user_agent_extra="mine")]
)
async def test_the_user_s_config_overrides_ours(aws_raw: RawServer, config: Any) -> None:
    """What config= sets wins, be it botocore's or aiobotocore's."""
    source = SecretsManagerSource(config=config)

    await source.fetch(NAME)
    await source.aclose()

    assert b" mine" in aws_raw.requests[0]
    assert b"asecretcache" not in aws_raw.requests[0]


async def test_tls_with_a_ca_bundle_works(tls_server: RawServer) -> None:
    """AWS_CA_BUNDLE is left to the SDK."""
    source = SecretsManagerSource()

    assert await fetched(source) == "the value"
    await source.aclose()


async def test_warm_makes_the_client_and_no_call(aws_raw: RawServer) -> None:
    """After warm() the first fetch has no more to do than the call."""
    source = SecretsManagerSource()

    await source.warm()
    await source.warm()

    assert aws_raw.requests == []
    assert await fetched(source) == "the value"
    await source.aclose()


async def test_warm_says_why_it_can_t(bare_environment: Any) -> None:
    """A failed warm() is a ConfigurationError like a fetch's."""
    source = SecretsManagerSource()

    with pytest.raises(ours.ConfigurationError, match="AWS_DEFAULT_REGION"):
        await source.warm()
    await source.aclose()


async def test_a_client_of_one_s_own_is_used() -> None:
    """client_factory gives the client, and its exit is called at aclose."""
    events: list[Any] = []

    class Client:
        async def get_secret_value(self, **arguments: Any) -> Any:
            events.append(arguments)
            return {key: value for key, value in GOOD.items() if key != "CreatedDate"}

    @asynccontextmanager
    async def factory() -> Any:
        events.append("open")
        yield Client()
        events.append("closed")

    source = SecretsManagerSource(client_factory=factory)
    assert await fetched(source) == "the value"
    await source.aclose()

    assert events == ["open", {"SecretId": "name"}, "closed"]


def test_importing_it_loads_nothing_of_the_sdk() -> None:
    """The module and its construction are free of aioboto3, botocore and aiohttp."""
    code = (
        "import sys; from asecretcache._sources._secrets_manager import SecretsManagerSource as S; "
        "S(region_name='eu-west-1', endpoint_url='http://x'); "
        "sys.exit(bool({'aioboto3', 'aiobotocore', 'boto3', 'botocore', 'aiohttp'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Failures


@pytest.mark.parametrize(
    "arguments",
    [
        {"session": boto3.Session(region_name="eu-west-1")},
        {"session": "profile"},
        {"region_name": ""},
        {"region_name": "eu west"},
        {"region_name": 1},
        {"endpoint_url": "localhost:2773"},
        {"endpoint_url": "http://"},
        {"endpoint_url": "http://[x"},
        {"endpoint_url": 5},
        {"config": {"retries": 1}},
        {"client_factory": object()},
        {"client_factory": dict, "region_name": "eu-west-1"},
        {"max_concurrency": 0},
        {"max_concurrency": True},
        {"max_concurrency": 1.5},
    ],
)
def test_wrong_arguments_are_refused_at_construction(arguments: dict[str, Any]) -> None:
    """Each wrong argument is a ConfigurationError that names it."""
    with pytest.raises(ours.ConfigurationError, match=next(iter(arguments))):
        SecretsManagerSource(**arguments)


async def test_no_region(bare_environment: Any) -> None:
    """Without a region the error names where to set one."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "a")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "b")

    error = await failure(SecretsManagerSource())

    assert type(error) is ours.ConfigurationError
    assert "AWS_DEFAULT_REGION or give region_name=" in str(error)
    assert type(error.__cause__).__name__ == "NoRegionError"


async def test_no_credentials(bare_environment: Any) -> None:
    """Without credentials the error is a ConfigurationError."""
    error = await failure(SecretsManagerSource(region_name="eu-west-1"))

    assert type(error) is ours.ConfigurationError
    assert "no credentials" in str(error)


async def test_no_such_profile(bare_environment: Any) -> None:
    """A profile that isn't there is a ConfigurationError."""
    bare_environment.setenv("AWS_PROFILE", "nobody")

    assert "AWS_PROFILE" in str(await failure(SecretsManagerSource()))


async def test_unknown_and_deleted_secrets_are_not_found(aws_environment: Any, moto_server: MotoServer) -> None:
    """No such secret and a secret marked for deletion are both SecretNotFoundError."""
    moto_server.create("gone", "x")
    moto_server.client().delete_secret(SecretId="gone")

    unknown = await failure(SecretsManagerSource(), SecretRequest("unknown"))
    deleted = await failure(SecretsManagerSource(), SecretRequest("gone"))

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
async def test_a_refusal_is_chained_without_frames(aws_raw: RawServer, code: str, expected: type) -> None:
    """AWS's refusal is the cause; the SDK's frames, which hold the session token, are not."""
    aws_raw.refuse(code)

    error = await failure(SecretsManagerSource())

    assert type(error) is expected
    assert type(error.__cause__).__name__.endswith(("ClientError", code))
    assert error.__cause__.__traceback__ is None  # type: ignore[union-attr]  # asserted above
    assert len(aws_raw.requests) == 1


BASE64 = GOOD | {"SecretBinary": f"!{CANARY}"}
BASE64.pop("SecretString")


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
async def test_an_answer_that_makes_no_sense_tells_nothing(aws_raw: RawServer, body: Any, status: int) -> None:
    """It is transient, and nothing of it is in the error, its chain or our frames."""
    aws_raw.answer(body, status)

    error = await failure(SecretsManagerSource())

    assert type(error) is ours.SecretUnavailableError
    assert error.__cause__ is None
    assert error.__context__ is None
    assert CANARY not in str(error) + repr(error.args)
    printed = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    # The test's own frames hold the body, so only the package's are looked at.
    frames = [part for part in printed.split('  File "') if "asecretcache" in part.partition(",")[0]]
    assert frames
    assert CANARY not in "".join(frames)


async def test_a_hung_endpoint_is_given_up(aws_raw: RawServer) -> None:
    """An endpoint that never answers is SecretUnavailableError after the SDK's attempts, each a part of the timer."""
    aws_raw.hang()
    timer = fetch_timer.set(FetchTimer(0.15, time.time, time.monotonic))
    source = SecretsManagerSource()

    error = await failure(source)

    fetch_timer.reset(timer)
    assert type(error) is ours.SecretUnavailableError
    assert type(error.__cause__).__name__ == "ReadTimeoutError"
    assert len(aws_raw.requests) == 3


async def test_a_cancelled_fetch_is_cancelled(aws_raw: RawServer) -> None:
    """CancelledError passes, and the slot and the client are free for the next."""
    aws_raw.hang()
    source = SecretsManagerSource(max_concurrency=1)
    task = asyncio.create_task(source.fetch(NAME))
    await asyncio.to_thread(aws_raw.arrived.wait)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    aws_raw.let_go.set()
    assert await fetched(source) == "the value"
    await source.aclose()


async def test_after_aclose_it_refuses() -> None:
    """A closed source says so; closing it again does nothing."""
    source = SecretsManagerSource()
    await source.aclose()
    await source.aclose()

    with pytest.raises(ours.ConfigurationError, match="closed"):
        await source.fetch(NAME)


# The limiter


class Gate:
    """A client factory whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.opened = self.closed = self.under_way = 0
        self.go = asyncio.Event()
        self.opening = asyncio.Event()
        self.opening.set()

    @asynccontextmanager
    async def __call__(self) -> Any:
        self.opened += 1
        await self.opening.wait()
        try:
            yield self
        finally:
            self.closed += 1

    async def get_secret_value(self, **_arguments: Any) -> Any:
        self.under_way += 1
        await self.go.wait()
        return {key: value for key, value in GOOD.items() if key != "CreatedDate"}


async def turns() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_waiting_for_a_slot_stops_the_timer() -> None:
    """No more than max_concurrency calls are under way; the timers of the others start when they get a slot."""

    class Timer(FetchTimer):
        events: list[str]

        def pause(self) -> None:
            self.events.append("pause")

        def restart(self) -> None:
            self.events.append("restart")

    gate = Gate()
    source = SecretsManagerSource(client_factory=gate, max_concurrency=1)
    timers = [Timer(10, time.time, time.monotonic) for _ in range(2)]

    async def one(timer: Timer) -> None:
        timer.events = []
        fetch_timer.set(timer)
        await source.fetch(NAME)

    tasks = [asyncio.create_task(one(timer)) for timer in timers]
    await turns()
    assert gate.under_way == 1
    assert [timer.events for timer in timers] == [["pause", "restart"], ["pause"]]

    gate.go.set()
    await asyncio.gather(*tasks)
    await source.aclose()
    assert timers[1].events == ["pause", "restart"]
    assert gate.under_way == 2


# Clients and loops


async def test_concurrent_first_fetches_make_one_client() -> None:
    """Creation is single, and goes on with the next caller if the first is cancelled."""
    gate = Gate()
    gate.go.set()
    gate.opening.clear()
    source = SecretsManagerSource(client_factory=gate)
    first, *others = [asyncio.create_task(source.fetch(NAME)) for _ in range(5)]
    await turns()
    assert gate.opened == 1

    first.cancel()
    await turns()
    gate.opening.set()
    await asyncio.gather(*others)
    await source.aclose()

    assert gate.opened == 2
    assert gate.closed == 1


async def test_a_client_in_use_outlives_aclose() -> None:
    """aclose takes no client away from a fetch under way; it is closed when that has ended."""
    gate = Gate()
    source = SecretsManagerSource(client_factory=gate)
    task = asyncio.create_task(source.fetch(NAME))
    await turns()

    await source.aclose()
    await turns()
    assert gate.closed == 0

    gate.go.set()
    await task
    del task
    gc.collect()
    await turns()
    assert gate.closed == 1


async def test_a_client_that_fails_to_close_is_nobody_s_concern() -> None:
    """What the exit of a client raises isn't the caller's failure."""

    @asynccontextmanager
    async def factory() -> Any:
        yield Gate()
        raise OSError

    clients = LoopClients(factory, 1)
    here = clients.here()
    await here.acquire()
    here.release()

    await clients.aclose()


@pytest.mark.parametrize("step", [21.0, -1.0])
async def test_an_idle_client_is_replaced(aws_raw: RawServer, step: float) -> None:
    """After 20 s of wall clock without use, or a clock set back, there is a new connection."""
    source, clock = SecretsManagerSource(), Clock()
    source._clients._clock = clock

    await source.fetch(NAME)
    clock.now += 19
    await source.fetch(NAME)
    assert aws_raw.connections == 1

    clock.now += step
    await source.fetch(NAME)
    assert aws_raw.connections == 2
    await source.aclose()


async def test_a_client_in_use_is_never_replaced() -> None:
    """However late it is, a client with a user stays, and newcomers share it."""
    gate, clock = Gate(), Clock()
    clients = LoopClients(gate, 2, clock=clock)
    here = clients.here()
    first = await here.acquire()
    clock.now += 100

    assert await here.acquire() is first
    here.release()
    here.release()
    await clients.aclose()
    assert gate.opened == 1


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


@pytest.mark.parametrize("factory", LOOPS)
def test_a_run_per_invocation_is_quiet(
    aws_raw: RawServer, caplog: pytest.LogCaptureFixture, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Sequential runs each have a client, which ends with its loop."""
    source = SecretsManagerSource()

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
) -> None:
    """A loop that was closed without shutdown_asyncgens, or never, leaves no warning and no log behind."""
    request.getfixturevalue(server)

    def script() -> None:
        source = SecretsManagerSource()
        loop = factory()
        loop.run_until_complete(source.fetch(NAME))
        if then in {"drop", "new loop"}:
            loop.close()
        if then == "new loop":
            asyncio.run(fetched(source))
            assert len(source._clients._clients) <= 1
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
    request: pytest.FixtureRequest, factory: Callable[[], asyncio.AbstractEventLoop], server: str, reset: bool
) -> None:
    """Between two runs of a loop nobody hears of their end; the first attempt after it succeeds nevertheless."""
    raw: RawServer = request.getfixturevalue(server)
    source, clock = SecretsManagerSource(), Clock()
    source._clients._clock = clock
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(source.fetch(NAME))
        clock.now += 5
        raw.drop(reset=reset)
        runner.run(source.fetch(NAME))
        runner.run(source.aclose())

    assert len(raw.requests) == raw.connections == 2
    assert b"attempt=1" in raw.requests[-1]


def test_a_loop_that_is_run_again_after_its_generators_ended_gets_a_client(aws_raw: RawServer) -> None:
    """shutdown_asyncgens ends the client, and the next fetch makes another."""
    source, loop = SecretsManagerSource(), asyncio.new_event_loop()
    loop.run_until_complete(source.fetch(NAME))
    loop.run_until_complete(loop.shutdown_asyncgens())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own: a generator after shutdown_asyncgens
        assert loop.run_until_complete(fetched(source)) == "the value"
    loop.run_until_complete(source.aclose())
    loop.close()
    assert aws_raw.connections == 2


def test_each_client_finds_its_credentials_anew(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """What was found before a snapshot, or is being refreshed by a loop that died, isn't used by another loop."""
    aws_raw.answer(GOOD)
    source = SecretsManagerSource()
    for key in ("AKIAFIRST", "AKIASECOND"):
        credentials.setenv("AWS_ACCESS_KEY_ID", key)
        asyncio.run(fetched(source))

    first, second = aws_raw.requests
    assert b"AKIAFIRST" in first
    assert b"AKIASECOND" in second


def test_threads_have_a_client_each_and_aclose_ends_them_all() -> None:
    """A source serves loops in several threads; aclose in one closes the clients of all."""
    opened, closed = [], threading.Event()
    ready, leave = threading.Event(), threading.Event()

    @asynccontextmanager
    async def factory() -> Any:
        gate = Gate()
        gate.go.set()
        opened.append(gate)
        try:
            yield gate
        finally:
            if gate is opened[0]:
                closed.set()

    source = SecretsManagerSource(client_factory=factory)

    async def other() -> None:
        await source.fetch(NAME)
        ready.set()
        await asyncio.to_thread(leave.wait)

    async def main() -> None:
        await source.fetch(NAME)
        await source.aclose()

    thread = threading.Thread(target=asyncio.run, args=(other(),))
    thread.start()
    ready.wait()
    asyncio.run(main())
    assert closed.wait(10)
    leave.set()
    thread.join()
    assert len(opened) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("loop_of", ["asyncio", "uvloop"])
def test_a_fork_leaves_the_parent_s_client_alone(aws_raw: RawServer, loop_of: str) -> None:
    """The child fetches with a client of its own, and the parent's connection works on; neither says a word."""
    code = f"""
import asyncio, gc, os, sys, {loop_of}
from asecretcache._secret import SecretRequest
from asecretcache._sources._secrets_manager import SecretsManagerSource
source, loop = SecretsManagerSource(), {loop_of}.new_event_loop()
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


async def test_forgetting_keeps_the_inherited_and_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fork's child, the clients are kept from the collector, and the next fetch makes one."""
    inherited: list[Any] = []
    monkeypatch.setattr(_client, "_inherited", inherited)
    gate = Gate()
    gate.go.set()
    source = SecretsManagerSource(client_factory=gate)
    await source.fetch(NAME)

    _client._after_fork()
    await source.fetch(NAME)
    await source.aclose()

    assert gate.opened == 2
    assert inherited


def test_the_arn_of_the_canned_answer_is_one() -> None:
    """The canned answer is one that the source takes."""
    assert GOOD["ARN"] == ARN
