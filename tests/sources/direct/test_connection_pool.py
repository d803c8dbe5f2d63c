"""Connections: how they are made, kept, dropped, and how they fail."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme

from asecretcache._sources.direct import connection_pool, http_message, tls
from asecretcache._sources.direct.connection_pool import ConnectionPool, NoResponseError
from asecretcache._sources.direct.http_message import Request, Response
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.direct.tls import TLSContextProvider
from asecretcache._sources.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from asecretcache.testing import ManualClock
from raw_server import RawServer, http
from source_helpers import LOOP_FACTORIES, assert_quiet


def pool_for(server: RawServer, clock: ManualClock, tls_provider: TLSContextProvider | None = None) -> ConnectionPool:
    parsed = Origin.parse(server.url)
    assert parsed is not None
    return ConnectionPool(parsed[0], tls_provider, clock=clock)


async def body_of(pool: ConnectionPool, **timeouts: float) -> bytes:
    """Send a request and return the body of the response."""
    request = Request("POST", "/", {"host": "h", "content-length": "2"}, b"{}")
    response = await pool.send(request, **({"connect_timeout": 5, "read_timeout": 5} | timeouts))
    return bytes(response.body)


@pytest.mark.parametrize(
    ("response", "connections"),
    [
        (http(b"ok"), 1),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        (http(b"ok", 200, "Connection: close"), 2),
        (http(b"ok") + b" and more", 2),
        (http(b"ok") + http(b"bad"), 2),
        (b"HTTP/1.1 200 X\r\n\r\nok", 2),
    ],
    ids=["length", "chunked", "close", "more", "two", "until the end"],
)
async def test_a_connection_is_used_again_unless_its_response_was_the_last(
    raw_server: RawServer, clock: ManualClock, response: bytes, connections: int
) -> None:
    """The connection of a last response is closed at once."""
    raw_server.bytes = response
    raw_server.is_patient = not response.endswith(b"200 X\r\n\r\nok")
    pool = pool_for(raw_server, clock)

    assert await body_of(pool) == b"ok"
    await asyncio.to_thread(raw_server.wait_for_open, 2 - connections)
    assert await body_of(pool) == b"ok"
    pool.close()

    assert raw_server.connections == connections


@pytest.mark.parametrize(
    "response",
    [
        b"220 smtp.example ESMTP\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 X\r\nX: " + 66_000 * b"x",
    ],
    ids=["another protocol", "truncated", "endless headers"],
)
async def test_a_malformed_response_closes_its_connection(
    raw_server: RawServer, clock: ManualClock, response: bytes
) -> None:
    """The error says that the connection ended too early, after the response had begun."""
    raw_server.bytes = response
    raw_server.is_patient = len(response) > 65536
    pool = pool_for(raw_server, clock)

    with pytest.raises(ConnectionClosedError) as caught:
        await body_of(pool)

    assert type(caught.value) is ConnectionClosedError
    await asyncio.to_thread(raw_server.wait_for_open, 0)


async def test_an_endless_body_closes_its_connection(
    raw_server: RawServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool doesn't read on when the response is too long."""
    monkeypatch.setattr(http_message, "MAX_BODY", 10)
    pool = pool_for(raw_server, clock)

    with pytest.raises(ConnectionClosedError):
        await body_of(pool)

    await asyncio.to_thread(raw_server.wait_for_open, 0)


async def test_no_response_is_an_error_of_its_own(raw_server: RawServer, clock: ManualClock) -> None:
    """On a new connection it is raised."""
    raw_server.bytes = b""

    with pytest.raises(NoResponseError):
        await body_of(pool_for(raw_server, clock))


async def test_a_slow_response_is_a_read_timeout(raw_server: RawServer, clock: ManualClock) -> None:
    """The error names the server, and the connection is closed."""
    raw_server.hang()

    with pytest.raises(ReadTimeoutError, match=r"127\.0\.0\.1.* in 0\.05 s"):
        await body_of(pool_for(raw_server, clock), read_timeout=0.05)

    raw_server.let_go.set()
    await asyncio.to_thread(raw_server.wait_for_open, 0)


async def test_a_cancelled_request_closes_its_connection(raw_server: RawServer, clock: ManualClock) -> None:
    """The rest of its response must not be read as the response to another request."""
    raw_server.hang()
    pool = pool_for(raw_server, clock)
    task = asyncio.create_task(body_of(pool))
    await asyncio.to_thread(raw_server.arrived.wait)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    raw_server.let_go.set()
    assert b"the value" in await body_of(pool)
    pool.close()
    assert raw_server.connections == 2


async def test_a_header_that_cant_be_sent_closes_the_connection(raw_server: RawServer, clock: ManualClock) -> None:
    """Nothing of the request is sent."""
    with pytest.raises(ValueError, match="header"):
        await pool_for(raw_server, clock).send(
            Request("GET", "/", {"host": "h", "x": "a\nb"}), connect_timeout=5, read_timeout=5
        )

    await asyncio.to_thread(raw_server.wait_for_open, 0)
    assert raw_server.requests == []


@pytest.mark.parametrize("response", [http({"a": 1}), b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nok"], ids=range(2))
async def test_nothing_of_a_response_is_left(raw_server: RawServer, clock: ManualClock, response: bytes) -> None:
    """Not even until the garbage collector runs."""
    raw_server.bytes = response
    pool = pool_for(raw_server, clock)
    gc.collect()
    gc.disable()
    try:
        with suppress(ConnectionClosedError):
            await body_of(pool)
        left = [each for each in gc.get_objects() if isinstance(each, Response)]
    finally:
        gc.enable()
    pool.close()

    assert left == []


# Idle connections


async def test_unrequested_bytes_close_an_idle_connection(raw_server: RawServer, clock: ManualClock) -> None:
    """They must not become the next response."""
    pool = pool_for(raw_server, clock)
    await body_of(pool)
    raw_server.send_unrequested(http({"not": "requested"}))
    await asyncio.to_thread(raw_server.wait_for_open, 0)

    assert b"the value" in await body_of(pool)
    pool.close()
    assert raw_server.connections == 2


async def test_a_dead_idle_connection_closes_the_other_idle_ones(raw_server: RawServer, clock: ManualClock) -> None:
    """They are likely to be dead for the same reason; the request is sent again on a new connection."""
    pool = pool_for(raw_server, clock)
    await asyncio.gather(*(body_of(pool) for _ in range(3)))
    assert raw_server.connections == 3

    raw_server.first(b"")
    assert b"the value" in await body_of(pool)

    await asyncio.to_thread(raw_server.wait_for_open, 1)
    assert raw_server.connections == 4
    assert pool.close()
    assert not pool.close()


@pytest.mark.parametrize("step", [21.0, -30.0])
async def test_each_idle_connection_grows_old_by_itself(raw_server: RawServer, clock: ManualClock, step: float) -> None:
    """After 20 s by the wall clock, or after it was set back, a connection isn't used again."""
    pool = pool_for(raw_server, clock)
    await asyncio.gather(body_of(pool), body_of(pool))
    clock.advance(step)
    await body_of(pool)
    assert raw_server.connections == 3
    await body_of(pool)
    pool.close()

    assert raw_server.connections == 3
    await asyncio.to_thread(raw_server.wait_for_open, 0)


def test_a_request_of_a_dead_loop_closes_its_connection(
    raw_server: RawServer, clock: ManualClock, recwarn: pytest.WarningsRecorder
) -> None:
    """When the coroutine is closed, the socket is closed without the loop."""
    raw_server.hang()
    loop = asyncio.new_event_loop()
    coroutine = body_of(pool_for(raw_server, clock))
    task: Any = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.to_thread(raw_server.arrived.wait))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

    task._log_destroy_pending = False  # asyncio's own message about a task that never ends
    coroutine.close()
    del task
    gc.collect()

    raw_server.let_go.set()
    raw_server.wait_for_open(0)
    assert [str(warning.message) for warning in recwarn if "asyncio" not in str(warning.filename)] == []


# Connecting


@pytest.fixture
def full() -> Iterator[Origin]:
    """A server that accepts no more connections, so that connecting takes until it is given up."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fill = [socket.socket() for _ in range(3)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        yield Origin(False, *server.getsockname())
        for each in fill:
            each.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name have these addresses."""

    async def resolve(_: object, port: int) -> list[Any]:
        kinds = [socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts]
        found = [(host, port, 0, 0)[: 4 if ":" in host else 2] for host in hosts]
        return [(kind, socket.SOCK_STREAM, 6, "", address) for kind, address in zip(kinds, found, strict=True)]

    monkeypatch.setattr(connection_pool, "resolve", resolve)


async def test_a_server_that_accepts_no_connection_is_given_up(full: Origin, clock: ManualClock) -> None:
    """After connect_timeout the error names the server."""
    with pytest.raises(ConnectTimeoutError, match=r"to 127\.0\.0\.1.* in 0\.05 s"):
        await body_of(ConnectionPool(full, None, clock=clock), connect_timeout=0.05)


@pytest.mark.every_loop
@pytest.mark.parametrize("addresses", [("127.0.0.2", "127.0.0.1"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
async def test_the_next_address_is_tried(
    raw_server: RawServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    """Where one refuses, or one of IPv6 and IPv4 leads nowhere."""
    resolve_to(monkeypatch, *addresses)
    pool = pool_for(raw_server, clock)

    assert b"the value" in await body_of(pool)
    pool.close()


async def test_an_address_that_leads_nowhere_takes_half_a_second(
    raw_server: RawServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the other family's turn comes, before the first one's other addresses."""
    port, tried = raw_server.server_address[1], []
    resolve_to(monkeypatch, "::1", "::2", "127.0.0.1")
    monkeypatch.setattr(connection_pool, "NEXT_ADDRESS_AFTER", 0.01)
    loop = asyncio.get_running_loop()
    sock_connect = loop.sock_connect

    async def connect(sock: socket.socket, address: Any) -> None:
        tried.append(address)
        await (asyncio.Event().wait() if ":" in address[0] else sock_connect(sock, address))

    monkeypatch.setattr(loop, "sock_connect", connect)
    pool = pool_for(raw_server, clock)

    assert b"the value" in await body_of(pool)
    pool.close()
    assert tried == [("::1", port, 0, 0), ("127.0.0.1", port)]


async def test_an_address_of_an_unknown_family_is_passed_over(
    raw_server: RawServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system's kernel has no IPv6."""
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    monkeypatch.setattr(socket, "AF_INET6", 9999)
    pool = pool_for(raw_server, clock)

    assert b"the value" in await body_of(pool)
    pool.close()


async def test_a_name_without_an_address_is_an_error(
    raw_server: RawServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so."""
    resolve_to(monkeypatch)

    with pytest.raises(EndpointConnectionError, match=r"127\.0\.0\.1 has no address"):
        await body_of(pool_for(raw_server, clock))


@pytest.mark.every_loop
@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("::1", "127.0.0.1")])
async def test_a_cancelled_connect_leaves_no_socket(
    tls_server: RawServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    """Wherever it is cancelled; Python would warn of a socket that nobody closed."""
    resolve_to(monkeypatch, *addresses)
    for step in range(40):
        pool = pool_for(tls_server, clock, TLSContextProvider(os.environ["AWS_CA_BUNDLE"], is_aws_endpoint=False))
        task = asyncio.create_task(body_of(pool))
        await asyncio.sleep(step / 4000)
        task.cancel()
        await asyncio.wait([task])
        pool.close()
    gc.collect()

    await asyncio.to_thread(tls_server.wait_for_open, 0)


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("::1", "127.0.0.1")])
@pytest.mark.parametrize("factory", LOOP_FACTORIES)
def test_a_loop_that_is_closed_while_it_connects_is_quiet(
    full: Origin,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    factory: Callable[[], asyncio.AbstractEventLoop],
    addresses: tuple[str, ...],
) -> None:
    """No warning, no log."""
    resolve_to(monkeypatch, *addresses)

    def script() -> None:
        loop = factory()
        task: Any = loop.create_task(body_of(ConnectionPool(full, None, clock=clock)))
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        task._log_destroy_pending = False  # asyncio's own message about a task that never ends
        task.get_coro().close()

    assert_quiet(script, caplog)


async def test_a_refused_connection_names_the_server(clock: ManualClock) -> None:
    """The text quotes the system's error."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        pool = ConnectionPool(Origin(False, *bound.getsockname()), None, clock=clock)

        with pytest.raises(EndpointConnectionError, match=r"no connection to 127\.0\.0\.1"):
            await body_of(pool)


@pytest.mark.parametrize("labels", [("Amazon Root CA 1", "Other"), ("Other", "Amazon Root CA 1"), ("Other", "Others")])
async def test_the_whole_bundle_is_trusted_after_amazons_roots(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, tmp_path: Path, clock: ManualClock, labels: tuple[str, str]
) -> None:
    """The server's authority is found wherever it stands in the bundle."""
    certificates = Path(os.environ["AWS_CA_BUNDLE"]).read_bytes(), trustme.CA().cert_pem.bytes()
    bundle = tmp_path / "cacert.pem"
    texts = [f'\n# Label: "{label}"\n{pem.decode()}' for pem, label in zip(certificates, labels, strict=True)]
    bundle.write_text("".join(texts), encoding="utf-8")
    credentials.setattr(tls, "default_bundle", lambda: str(bundle))
    pool = pool_for(tls_server, clock, TLSContextProvider(None, is_aws_endpoint=True))

    assert b"the value" in await body_of(pool)
    pool.close()

    assert len(tls_server.requests) == 1


async def test_concurrent_first_connections_share_the_whole_bundle(
    tls_server: RawServer, credentials: pytest.MonkeyPatch, tmp_path: Path, clock: ManualClock
) -> None:
    """An authority of a company's own stands at the end of certifi's bundle; no connection fails for that."""
    bundle = tmp_path / "cacert.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + Path(os.environ["AWS_CA_BUNDLE"]).read_bytes())
    credentials.setattr(tls, "default_bundle", lambda: str(bundle))
    pool = pool_for(tls_server, clock, TLSContextProvider(None, is_aws_endpoint=True))

    assert [b"the value" in body for body in await asyncio.gather(*(body_of(pool) for _ in range(10)))] == [True] * 10
    pool.close()


async def test_an_authority_outside_of_the_bundle_is_refused(tls_server: RawServer, clock: ManualClock) -> None:
    """Nothing is sent, however often it is tried."""
    pool = pool_for(tls_server, clock, TLSContextProvider(None, is_aws_endpoint=True))

    for _ in range(2):
        with pytest.raises(SSLError, match=r"to 127\.0\.0\.1"):
            await body_of(pool)

    assert tls_server.requests == []


async def test_a_slow_response_on_a_used_connection_is_a_read_timeout(
    raw_server: RawServer, clock: ManualClock
) -> None:
    """As on a new one."""
    pool = pool_for(raw_server, clock)
    await body_of(pool)
    raw_server.hang()

    with pytest.raises(ReadTimeoutError):
        await body_of(pool, read_timeout=0.05)

    raw_server.let_go.set()
    assert raw_server.connections == 1


async def test_a_connection_may_be_idle_for_20_seconds(raw_server: RawServer, clock: ManualClock) -> None:
    """It is used again then."""
    pool = pool_for(raw_server, clock)
    await body_of(pool)
    clock.advance(20.0)
    await body_of(pool)
    pool.close()

    assert raw_server.connections == 1
