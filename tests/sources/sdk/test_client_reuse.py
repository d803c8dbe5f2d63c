"""Clients of the SDK are used again by the next loop; when they aren't; and connections before the first call."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aioboto3
import pytest
from aiobotocore.session import AioSession
from botocore.config import Config

from asecretcache import CredentialsError, DirectSource, SecretsManagerSource, SecretUnavailableError
from asecretcache._process_events import after_fork, before_snapshot
from asecretcache._sources import client_source, tls_context
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.sdk import client_factory
from asecretcache._sources.sdk.client_factory import SdkClientFactory
from asecretcache._sources.tls_context import tls_contexts, verifying_context
from asecretcache.testing import ManualClock
from forks import in_child, needs_fork
from raw_server import RawServer
from source_helpers import CANARY, FakeClient, SourceClass, fetch_error, fetch_value, refusal


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The services of all clients that the SDK makes."""
    services: list[str] = []
    create_client = AioSession.create_client

    def noted(session: AioSession, service: str, **arguments: Any) -> Any:
        services.append(service)
        return create_client(session, service, **arguments)

    monkeypatch.setattr(AioSession, "create_client", noted)
    return services


def test_a_loop_per_invocation_makes_one_client(aws_raw: RawServer, made: list[str]) -> None:
    """The next loop uses it, with connections of its own."""
    source = SecretsManagerSource()

    assert [asyncio.run(fetch_value(source)) for _ in range(5)] == ["the value"] * 5

    assert len(made) == 1
    assert aws_raw.connections == 5


def test_nothing_in_a_client_belongs_to_the_loop_before(
    tls_server: RawServer, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that had to wait for each other bind a lock to their loop."""

    def take_long(*arguments: Any) -> Any:
        time.sleep(0.2)
        return verifying_context(*arguments)

    monkeypatch.setattr(tls_context, "SMALL_BUNDLE", 0)
    monkeypatch.setattr(tls_context, "verifying_context", take_long)
    source = SecretsManagerSource()

    async def together() -> list[Any]:
        tls_contexts.clear()
        return await asyncio.gather(*[fetch_value(source) for _ in range(5)])

    for _ in range(3):
        assert asyncio.run(together()) == ["the value"] * 5

    assert len(made) == 1
    assert all(b"attempt=1" in request.lower() for request in tls_server.requests), "the SDK retries what fails"


@pytest.mark.parametrize(("mode", "count"), [("standard", 1), ("adaptive", 3)])
def test_a_client_with_a_limit_of_rate_is_not_kept(aws_raw: RawServer, made: list[str], mode: str, count: int) -> None:
    """Its limiter has a lock of the loop's."""
    source = SecretsManagerSource(config=Config(retries={"mode": mode}))
    for _ in range(3):
        asyncio.run(fetch_value(source))

    assert len(made) == count


def test_loops_at_the_same_time_have_a_client_each(aws_raw: RawServer, made: list[str]) -> None:
    """A client belongs to one loop while that loop is there."""
    source = SecretsManagerSource()
    aws_raw.let_go.clear()
    threads = [threading.Thread(target=lambda: asyncio.run(fetch_value(source))) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(aws_raw.requests) < 2:
        aws_raw.arrived.wait(0.01)
    aws_raw.let_go.set()
    for thread in threads:
        thread.join()
    asyncio.run(fetch_value(source))

    assert len(made) == 2


def test_another_environment_gets_another_client(
    aws_raw: RawServer, made: list[str], credentials: pytest.MonkeyPatch
) -> None:
    """What the SDK reads may have changed; other variables don't matter."""
    source = SecretsManagerSource()
    counts = []
    for variable in ("FIRST", "OTHER", "AWS_ACCESS_KEY_ID", "AWS_SDK_UA_APP_ID", "no_proxy"):
        credentials.setenv(variable, "x")
        asyncio.run(fetch_value(source))
        counts.append(len(made))

    assert counts == [1, 1, 2, 3, 4]


def test_an_idle_client_stays_and_its_connections_go(
    aws_raw: RawServer, made: list[str], client_clock: ManualClock, any_source: SourceClass
) -> None:
    """A gateway may have dropped them."""
    source = any_source()

    async def use() -> None:
        await fetch_value(source)
        await fetch_value(source)
        client_clock.advance(21)
        await fetch_value(source)
        await source.aclose()

    asyncio.run(use())

    assert len(made) == (any_source is SecretsManagerSource)
    assert aws_raw.connections == 2


def test_a_client_whose_credentials_were_refused_is_replaced(aws_raw: RawServer, made: list[str]) -> None:
    """The next one looks for credentials in the files again; as long as calls of it run, it stays."""
    source = SecretsManagerSource()

    async def use() -> None:
        await fetch_value(source)
        good = aws_raw.bytes
        aws_raw.bytes = refusal("ExpiredTokenException")
        with suppress(CredentialsError):
            await fetch_value(source)
        aws_raw.bytes = good
        assert await fetch_value(source) == "the value"

    asyncio.run(use())
    asyncio.run(fetch_value(source))

    assert len(made) == 2


@pytest.mark.parametrize("event", [after_fork, before_snapshot])
def test_a_fork_and_a_snapshot_leave_no_client(aws_raw: RawServer, made: list[str], event: Any) -> None:
    """A client has locks that a thread may hold, and keys."""
    source = SecretsManagerSource()
    asyncio.run(fetch_value(source))

    event.happen()
    before_snapshot.is_over = False

    asyncio.run(fetch_value(source))
    assert len(made) == 2


def test_refused_credentials_let_go_of_all_spares(aws_raw: RawServer, made: list[str]) -> None:
    """Those that are as old have the same ones; each would fail once more."""
    source = SecretsManagerSource()
    aws_raw.let_go.clear()
    threads = [threading.Thread(target=lambda: asyncio.run(fetch_value(source))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(aws_raw.requests) < 3:
        aws_raw.arrived.wait(0.01)
    aws_raw.let_go.set()
    for thread in threads:
        thread.join()
    good, aws_raw.bytes = aws_raw.bytes, refusal("ExpiredTokenException")
    with pytest.raises(CredentialsError):
        asyncio.run(fetch_value(source))
    aws_raw.bytes = good

    assert [asyncio.run(fetch_value(source)) for _ in range(3)] == ["the value"] * 3
    assert len(made) == 4


def test_a_client_in_use_is_given_to_no_other_loop(aws_raw: RawServer, made: list[str]) -> None:
    """A loop may end all generators, and so the client's, while a call is under way."""
    source = SecretsManagerSource()
    aws_raw.let_go.clear()
    loop = asyncio.new_event_loop()
    task = loop.create_task(fetch_value(source))
    while not aws_raw.requests:
        loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(loop.shutdown_asyncgens())
    aws_raw.let_go.set()

    assert asyncio.run(fetch_value(source)) == "the value"
    assert len(made) == 2
    with suppress(Exception):
        loop.run_until_complete(task)
    loop.close()


def test_after_the_snapshot_clients_are_kept(
    aws_raw: RawServer, made: list[str], credentials: pytest.MonkeyPatch
) -> None:
    """Before it none is, since a snapshot must hold no keys."""
    credentials.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    source = SecretsManagerSource()
    counts = []
    for _ in range(2):
        for _ in range(2):
            asyncio.run(fetch_value(source))
        counts.append(len(made))
        before_snapshot.happen()
    before_snapshot.is_over = False

    assert counts == [2, 3]


def test_no_more_clients_are_kept_than_loops_are_likely(aws_raw: RawServer, made: list[str]) -> None:
    """Of six loops at the same time, four clients stay."""
    factory = SdkClientFactory(None, None, None, None)

    async def at_once(count: int) -> None:
        clients = [factory.open(Lease()) for _ in range(count)]
        for each in clients:
            await each.__aenter__()
        for each in clients:
            await each.__aexit__(None, None, None)

    asyncio.run(at_once(6))
    asyncio.run(at_once(6))

    assert len(made) == 8


def test_the_environment_is_not_kept_in_plain_text(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """What tells that it has changed is a number."""
    credentials.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    factory = SdkClientFactory(None, None, None, None)

    async def use() -> None:
        async with factory.open(Lease()):
            pass

    asyncio.run(use())

    assert CANARY not in repr(vars(factory))


# Before the first call


def test_a_source_is_prepared_without_a_loop(aws_raw: RawServer, made: list[str], any_source: SourceClass) -> None:
    """The client that was made then serves the first fetch; nothing is connected, and no loop stays open."""
    source = any_source()
    source.prepare()
    assert len(made) == (any_source is SecretsManagerSource)
    assert aws_raw.connections == 0

    assert asyncio.run(fetch_value(source)) == "the value"
    assert len(made) == (any_source is SecretsManagerSource)


async def test_inside_a_loop_no_client_is_prepared(aws_raw: RawServer, made: list[str]) -> None:
    """As where a server imports the application; the rest is."""
    source = SecretsManagerSource()
    source.prepare()

    assert made == []
    assert await fetch_value(source) == "the value"
    await source.aclose()


def test_before_a_snapshot_no_client_is_prepared(
    aws_raw: RawServer, made: list[str], credentials: pytest.MonkeyPatch
) -> None:
    """It would hold keys."""
    credentials.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    SecretsManagerSource().prepare()

    assert made == []


@pytest.mark.parametrize("make", [AioSession, aioboto3.Session])
async def test_before_a_snapshot_a_users_session_gets_no_keys(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, make: Any
) -> None:
    """It would keep them, for all clones; what needs none is prepared."""
    credentials.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    found: list[object] = []
    get_credentials = AioSession.get_credentials

    async def noted(session: AioSession) -> Any:
        found.append(session)
        return await get_credentials(session)

    credentials.setattr(AioSession, "get_credentials", noted)
    source = SecretsManagerSource(make())
    await source.warm()
    assert found == []

    assert await fetch_value(source) == "the value"
    assert found
    await source.aclose()


def test_credentials_that_do_not_come_end_the_preparation(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """INIT has no time for it, and the error tells what is the matter."""
    credentials.setattr(client_source, "PREPARE_SECONDS", 0.05)

    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    credentials.setattr(AioSession, "get_credentials", hang)
    with pytest.raises(SecretUnavailableError, match=r"no client could be made in 0\.05 s: where its credentials"):
        SecretsManagerSource().prepare()


def test_a_direct_source_prepares_the_sdk_where_it_is_needed(
    aws_raw: RawServer, made: list[str], credentials: pytest.MonkeyPatch
) -> None:
    """It decides as it does for a fetch."""
    credentials.setenv("AWS_SDK_UA_APP_ID", "app")
    DirectSource().prepare()

    assert made == ["secretsmanager"]


@pytest.mark.parametrize("needs_sdk", [False, True])
async def test_warm_connects(
    aws_raw: RawServer, any_source: SourceClass, credentials: pytest.MonkeyPatch, needs_sdk: bool
) -> None:
    """The first fetch uses the connection; nothing was sent before."""
    if needs_sdk:
        credentials.setenv("AWS_SDK_UA_APP_ID", "app")
    source = any_source()
    await source.warm()
    await asyncio.to_thread(aws_raw.wait_for_open, 1)
    assert aws_raw.requests == []

    assert await fetch_value(source) == "the value"
    assert aws_raw.connections == 1
    await source.aclose()


async def test_warm_succeeds_without_a_connection(aws_raw: RawServer, any_source: SourceClass) -> None:
    """The first fetch tells why there is none."""
    source = any_source(endpoint_url="http://127.0.0.1:1")
    await source.warm()

    assert "Secrets Manager" in str(await fetch_error(source))


LATE = """
import asyncio, logging, os, sys
from asecretcache import SecretCache
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
if "prepare" in sys.argv:
    import aiobotocore.session
os.environ["_X_AMZN_TRACE_ID"] = "Root=1"
for _ in range(2):
    cache = SecretCache()
    asyncio.run(cache.get_secret("name"))
"""


@pytest.mark.parametrize(("variables", "is_told"), [(["AWS_LAMBDA_RUNTIME_API"], True), ([], False)])
@pytest.mark.parametrize("arguments", [[], ["prepare"]])
def test_an_import_within_an_invocation_is_told(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, variables: list[str], is_told: bool, arguments: list[str]
) -> None:
    """Once, with the remedy; not if the SDK was there before, and not elsewhere than in Lambda."""
    for variable in variables:
        credentials.setenv(variable, "127.0.0.1:1")
    command = [sys.executable, "-c", LATE, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)

    told = [line for line in ended.stdout.splitlines() if line.startswith("the AWS SDK was imported")]
    assert len(told) == (is_told and not arguments)
    assert all("make the SecretCache at the module's level, or call prefetch_in_init() there" in line for line in told)


def test_the_import_is_told_with_its_milliseconds(
    aws_raw: RawServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the SDK only seems not to have been imported."""
    caplog.set_level(logging.INFO, "asecretcache")
    monkeypatch.setattr(client_factory, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(client_factory, "is_in_invocation", lambda: True)
    asyncio.run(fetch_value(SecretsManagerSource()))

    assert re.match(r"the AWS SDK was imported within an invocation, which took \d+ ms: make", caplog.messages[0])


@needs_fork
def test_a_fork_waits_for_the_import(aws_raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child would have half of the SDK's modules, for as long as it lives; the thread isn't there."""
    factory = SdkClientFactory(None, None, None, None)
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    check_version = client_factory.check_version

    def take_long() -> None:
        began.set()
        may_end.wait()
        check_version()

    def prepare() -> None:
        factory.prepare()
        ended.set()

    monkeypatch.setattr(client_factory, "check_version", take_long)
    thread = threading.Thread(target=prepare)
    thread.start()
    began.wait()
    threading.Timer(0.1, may_end.set).start()

    # The child may import, too: nothing is held there, nor in the parent.
    assert in_child(lambda: may_end.is_set() and factory.prepare())
    thread.join()
    assert factory.prepare()


@needs_fork
def test_a_fork_does_not_wait_for_ever(aws_raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be made by the very thread that imports."""
    monkeypatch.setattr(client_factory, "FORK_SECONDS", 0.01)
    factory = SdkClientFactory(None, None, None, None)
    children: list[bool] = []
    monkeypatch.setattr(client_factory, "check_version", lambda: children.append(in_child(lambda: True)))

    factory.prepare()

    assert children == [True]


def test_a_client_of_the_users_is_not_prepared() -> None:
    """What it needs, and when, is its maker's business."""
    client = FakeClient()
    SecretsManagerSource(client_factory=client).prepare()

    assert client.opened == 0
