"""The default source: against moto over HTTP, and against a server that answers what we tell it."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aioboto3
import boto3
import pytest
import uvloop
from aiobotocore.config import AioConfig
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader

from asecretcache import _exceptions as ours
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._models import SecretRequest
from asecretcache._sources import loop_clients as _client
from asecretcache._sources.loop_clients import LoopClients
from asecretcache._sources.sdk import client_factory as _sdk
from asecretcache._sources.sdk.source import SecretsManagerSource
from raw_server import GOOD, RawServer

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


# Fetching


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
        "import sys; from asecretcache._sources.sdk.source import SecretsManagerSource as S; "
        "S(region_name='eu-west-1', endpoint_url='http://x'); "
        "sys.exit(bool({'aioboto3', 'aiobotocore', 'boto3', 'botocore', 'aiohttp'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fetch_imports_no_more_of_the_sdk_than_it_needs(aws_raw: RawServer) -> None:
    """boto3 and aioboto3 around aiobotocore's session would only cost a cold start their time."""
    code = (
        "import asyncio, sys; from asecretcache import SecretsManagerSource as S, SecretRequest as R\n"
        "async def main():\n"
        "    source = S(); await source.fetch(R('name')); await source.aclose()\n"
        "asyncio.run(main()); print(*{'aioboto3', 'boto3', 'aiobotocore'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["aiobotocore"]


def test_models_are_read_as_the_sdk_reads_them(tmp_path: Path) -> None:
    """Plain or compressed; what isn't there is None, so that it is searched for elsewhere."""
    theirs = JSONFileLoader()
    data = Path(Loader.BUILTIN_DATA_PATH)
    names = ["endpoints", "partitions", "_retry", "secretsmanager/2017-10-17/service-2"]

    for name in names:
        assert _sdk._read_model(str(data / name)) == theirs.load_file(str(data / name)) is not None
    assert {path.suffix for path in data.glob("secretsmanager/*/service-2.*")} >= {".gz"}
    assert _sdk._read_model(str(tmp_path / "nothing")) is None


def test_models_are_read_once_for_all_loops_and_off_them(aws_raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the making of a client asks for is there when it begins, also where two threads have prepared it."""
    read: list[tuple[str, bool]] = []
    read_model = _sdk._read_model

    def noted(path: str) -> Any:
        model = read_model(path)
        if model is not None:
            read.append((Path(path).name, threading.current_thread() is threading.main_thread()))
        return model

    monkeypatch.setattr(_sdk, "_read_model", noted)
    source = SecretsManagerSource()
    for _ in range(3):
        asyncio.run(fetched(source))
    models = Counter(name for name, _ in read)
    opener: Any = vars(source._clients)["_open"].__self__
    opener._prepare()
    opener._prepare()

    assert models.keys() >= {"endpoints", "service-2", "endpoint-rule-set-1"}
    assert set(models.values()) == {1}
    assert not any(is_main for _, is_main in read[: models.total()])
    assert all(session.get_component("data_loader")._cache for session in opener._spares)


def test_the_session_of_a_user_is_left_as_it_is(aws_raw: RawServer) -> None:
    """It may be asked for other services too, and its models are looked for where it looks for them."""

    async def main() -> tuple[Any, str | bytes | None]:
        session = aioboto3.Session()
        source = SecretsManagerSource(session)
        value = await fetched(source)
        await source.aclose()
        return session, value

    session, value = asyncio.run(main())

    assert value == "the value"
    loader = session._session.get_component("data_loader")
    assert "s3" in loader.list_available_services("service-2")
    assert "load_file" not in vars(loader.file_loader)


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

    class Timer(FetchTimeout):
        events: list[str]

        def pause(self) -> None:
            self.events.append("pause")

        def resume(self) -> None:
            self.events.append("resume")

    gate = Gate()
    source = SecretsManagerSource(client_factory=gate, max_concurrency=1)
    timers = [Timer(10, time.time, time.monotonic) for _ in range(2)]

    async def one(timer: Timer) -> None:
        timer.events = []
        current_fetch_timeout.set(timer)
        await source.fetch(NAME)

    tasks = [asyncio.create_task(one(timer)) for timer in timers]
    await turns()
    assert gate.under_way == 1
    assert [timer.events for timer in timers] == [["pause", "resume"], ["pause"]]

    gate.go.set()
    await asyncio.gather(*tasks)
    await source.aclose()
    assert timers[1].events == ["pause", "resume"]
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


@pytest.mark.parametrize(
    ("proxy", "verifies", "compares"),
    [
        (None, True, True),
        ("http://10.0.0.1:3128", True, True),
        ("https://10.0.0.1:3128", True, False),
        (None, False, False),
    ],
)
def test_names_are_compared_where_certificates_are_verified(proxy: str | None, verifies: bool, compares: bool) -> None:
    """An https proxy may have an address for a name, and who turned verification off wants none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE

    connector = _client._connector(lambda _: SimpleNamespace(_ssl=context, _factory=None), proxy)

    assert connector._ssl.check_hostname is compares
