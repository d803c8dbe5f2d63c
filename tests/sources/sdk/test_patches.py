"""The patches of the SDK, aiohttp and asyncio: each attribute exists, and the patch works.

What the patches are for is tested from outside in tests/sources/test_both_sources_*.py.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiobotocore.session import AioSession
from botocore.exceptions import UnknownServiceError
from botocore.loaders import JSONFileLoader, Loader

from asecretcache._sources.sdk.patches import (
    SERVICE,
    abandon_client,
    close_transport,
    make_connector,
    patch_client,
    patch_loader,
    patch_session,
    read_model,
)
from raw_server import RawServer

# Clients


@pytest.mark.parametrize(
    ("proxy", "verify_mode", "is_verified"),
    [
        (None, ssl.CERT_REQUIRED, True),
        ("http://10.0.0.1:3128", ssl.CERT_REQUIRED, True),
        ("https://10.0.0.1:3128", ssl.CERT_REQUIRED, False),
        (None, ssl.CERT_NONE, False),
    ],
)
def test_host_names_are_verified_where_certificates_are(
    proxy: str | None, verify_mode: ssl.VerifyMode, is_verified: bool
) -> None:
    """A TLS proxy may be named by its address, and a user who turned verification off wants none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = verify_mode

    make_connector(lambda _: SimpleNamespace(_ssl=context, _factory=None), proxy)

    assert context.check_hostname is is_verified


async def test_the_connector_of_a_client_is_patched(aws_raw: RawServer) -> None:
    """A client of this version has the attributes through which host names are verified and connections aborted."""
    session = AioSession()
    patch_session(session)
    async with session.create_client(SERVICE, endpoint_url="https://127.0.0.1") as client:
        connector = client._endpoint.http_session._create_connector(None)

        assert connector._ssl.check_hostname
        protocol = connector._factory()
        assert protocol.close == protocol.abort
        await connector.close()


async def test_an_unpatched_client_doesnt_verify_host_names(aws_raw: RawServer) -> None:
    """If this fails the SDK verifies them by itself, and the patch can go."""
    async with AioSession().create_client(SERVICE, endpoint_url="https://127.0.0.1") as client:
        connector = client._endpoint.http_session._create_connector(None)

        assert not connector._ssl.check_hostname
        await connector.close()


@pytest.mark.parametrize("client", [object(), SimpleNamespace(_endpoint=None)])
def test_a_client_without_the_attributes_is_used_as_it_is(client: Any) -> None:
    """A version of the SDK that lacks them works, without the patch."""
    assert patch_client(client) is client
    abandon_client(client, abort=True)


def test_a_connector_without_the_attributes_is_used_as_it_is() -> None:
    """A version of aiohttp that lacks them works, without the patch."""
    connector = object()

    assert make_connector(lambda _: connector, None) is connector


def test_a_protocol_without_the_attributes_is_used_as_it_is() -> None:
    """A protocol that can't be aborted is closed as before."""
    protocol = object()
    connector = make_connector(lambda _: SimpleNamespace(_ssl=False, _factory=lambda: protocol), None)

    assert connector._factory() is protocol


# Connections of loops that don't run


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("server", ["aws_raw", "tls_server"])
@pytest.mark.parametrize("is_in_use", [False, True])
def test_the_connections_of_an_abandoned_client_are_closed(
    request: pytest.FixtureRequest, factory: Callable[[], asyncio.AbstractEventLoop], server: str, is_in_use: bool
) -> None:
    """Idle ones and those that wait for a response; none is left in the client's pools."""
    raw: RawServer = request.getfixturevalue(server)
    loop = factory()
    session = AioSession()

    async def open_client() -> Any:
        context = session.create_client(SERVICE)
        client = patch_client(await context.__aenter__())
        if not is_in_use:
            await client.get_secret_value(SecretId="name")
            return client, context, None
        raw.hang()
        call = asyncio.ensure_future(client.get_secret_value(SecretId="name"))
        await asyncio.to_thread(raw.arrived.wait)
        return client, context, call

    client, context, call = loop.run_until_complete(open_client())
    (pool,) = [each.connector for each in client._endpoint.http_session._sessions.values()]
    assert len(pool._acquired) == is_in_use
    assert bool(pool._conns) is not is_in_use

    abandon_client(client, abort=True)

    assert not pool._conns
    raw.let_go.set()
    if loop.__class__.__module__.startswith("uvloop"):
        loop.run_until_complete(asyncio.sleep(0))  # uvloop closes its transports itself.
    raw.wait_for_open(0)
    if call is not None:
        call.cancel()
        loop.run_until_complete(asyncio.wait([call]))
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.parametrize("abort", [True, False])
@pytest.mark.parametrize("server", ["raw_server", "tls_server"])
def test_a_transport_of_asyncio_has_the_attributes(request: pytest.FixtureRequest, server: str, abort: bool) -> None:
    """Its socket is closed though its loop is."""
    raw: RawServer = request.getfixturevalue(server)
    context = None
    if raw.tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    loop = asyncio.new_event_loop()
    transport: Any
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, *raw.server_address, ssl=context))
    tcp_transport = transport if context is None else transport._ssl_protocol._transport
    sock, connection_lost = tcp_transport._sock, tcp_transport._call_connection_lost
    raw.wait_for_open(1)
    loop.close()

    close_transport(transport, abort=abort)

    assert tcp_transport._sock is None
    assert tcp_transport._call_connection_lost != connection_lost
    assert sock.fileno() == -1
    raw.wait_for_open(0)
    with suppress(Exception):
        transport.abort()  # A TLS transport would warn that it wasn't.


# Models


def test_models_are_read_as_the_sdk_reads_them(tmp_path: Path) -> None:
    """The contents are the same, plain or compressed, and None if there is no file."""
    data, sdk = Path(Loader.BUILTIN_DATA_PATH), JSONFileLoader()
    names = ["endpoints", "partitions", "_retry", "secretsmanager/2017-10-17/service-2"]

    for name in names:
        assert read_model(str(data / name)) == sdk.load_file(str(data / name)) is not None
    assert {path.suffix for path in data.glob("secretsmanager/*/service-2.*")} >= {".gz"}
    assert read_model(str(tmp_path / "nothing")) is None


def test_a_patched_loader_doesnt_search_for_services() -> None:
    """It finds the models of Secrets Manager, and none of a service that doesn't exist."""
    loader = Loader()
    patch_loader(loader)

    assert loader.list_available_services(type_name="service-2") == [SERVICE]
    assert loader.load_service_model(SERVICE, "service-2") == Loader().load_service_model(SERVICE, "service-2")
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        Loader().load_service_model("no-such-service", "service-2")
    with pytest.raises(Exception, match="no-such-service"):
        loader.load_service_model("no-such-service", "service-2")


def test_a_patched_loader_is_faster() -> None:
    """If this fails the SDK has become fast enough, and the patch can go."""
    seconds = []
    for is_patched in (True, False):
        tries = []
        for _ in range(5):
            loader = Loader()
            if is_patched:
                patch_loader(loader)
            start = time.process_time()
            loader.load_data("endpoints")
            loader.load_service_model(SERVICE, "service-2")
            tries.append(time.process_time() - start)
        seconds.append(min(tries))

    assert seconds[0] < seconds[1]


def test_a_loader_without_the_attributes_is_used_as_it_is() -> None:
    """A version of the SDK that lacks them searches and reads as before."""
    patch_loader(object())
