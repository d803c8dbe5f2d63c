"""The patches of the SDK, aiohttp and asyncio: each attribute exists, and the patch works.

What the patches are for is tested from outside in tests/sources/test_both_sources_*.py.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiobotocore.credentials import AioCredentialResolver
from aiobotocore.session import AioSession
from aiobotocore.utils import AioContainerMetadataFetcher
from botocore.exceptions import SSLError, UnknownServiceError
from botocore.loaders import JSONFileLoader, Loader

from asecretcache._sources.sdk.client_factory import new_session
from asecretcache._sources.sdk.http_session import CredentialsSession
from asecretcache._sources.sdk.patches import (
    SERVICE,
    abandon_client,
    close_transport,
    patch_credentials,
    patch_loader,
    read_model,
)
from raw_server import RawServer

# Credentials


def credentials_server(raw_server: RawServer) -> None:
    """Let a server respond as a container's endpoint of credentials."""
    raw_server.answer(
        {"AccessKeyId": "AKIA", "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    )


async def test_a_patched_session_gets_a_containers_credentials(
    bare_environment: pytest.MonkeyPatch, raw_server: RawServer
) -> None:
    """As any session does."""
    credentials_server(raw_server)
    bare_environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{raw_server.url}/c")
    session = AioSession()
    patch_credentials(session)

    found = await session.get_credentials()

    assert (await found.get_frozen_credentials()).access_key == "AKIA"


async def test_a_containers_endpoint_is_verified(
    bare_environment: pytest.MonkeyPatch, tls_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own session there compares no host names in the oldest version that is supported."""
    credentials_server(tls_server)
    monkeypatch.setattr("certifi.where", lambda: os.environ["AWS_CA_BUNDLE"])
    monkeypatch.setattr("botocore.httpsession.where", lambda: os.environ["AWS_CA_BUNDLE"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        bare_environment.delenv(name, raising=False)
    other_name = tls_server.url.replace("127.0.0.1", "localhost")
    bare_environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{other_name}/c")
    bare_environment.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0)
    session = AioSession()
    patch_credentials(session)

    with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        await session.get_credentials()
    assert tls_server.requests == []


async def test_an_instances_credentials_are_got_by_our_session(bare_environment: pytest.MonkeyPatch) -> None:
    """The SDK's fetcher of them has the attributes that are replaced, and the proxies that it would use."""
    bare_environment.setenv("http_proxy", "http://127.0.0.1:3128")
    bare_environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = AioSession()
    patch_credentials(session)

    await session.get_credentials()

    fetcher = session.get_component("credential_provider").get_provider("iam-role")._role_fetcher
    assert type(fetcher._session) is CredentialsSession
    async with fetcher._session.acquire() as http_session:
        assert http_session._proxies.proxy_url_for("http://169.254.169.254/latest") == "http://127.0.0.1:3128"
    container = session.get_component("credential_provider").get_provider("container-role")._fetcher
    assert type(container._session) is CredentialsSession


async def test_a_session_without_these_providers_is_used_as_it_is() -> None:
    """A version of the SDK may have others."""
    resolver = AioCredentialResolver(providers=[])
    session = AioSession()
    session._components.register_component("credential_provider", resolver)
    patch_credentials(session)

    assert await session.get_credentials() is None


def test_what_isnt_a_client_is_abandoned_without_error() -> None:
    """A client that a user made may have nothing that can be closed."""
    for client in (object(), SimpleNamespace(_endpoint=None)):
        abandon_client(client, abort=True)


# Connections of loops that don't run


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("server", ["aws_raw", "tls_server"])
@pytest.mark.parametrize("is_in_use", [False, True])
@pytest.mark.parametrize("is_ours", [False, True])
def test_the_connections_of_an_abandoned_client_are_closed(
    request: pytest.FixtureRequest,
    factory: Callable[[], asyncio.AbstractEventLoop],
    server: str,
    is_in_use: bool,
    is_ours: bool,
) -> None:
    """Idle ones and those that wait for a response; none is left in the client's pools."""
    raw: RawServer = request.getfixturevalue(server)
    loop = factory()
    session = new_session() if is_ours else AioSession()

    async def open_client() -> Any:
        context = session.create_client(SERVICE)
        client = await context.__aenter__()
        if not is_in_use:
            await client.get_secret_value(SecretId="name")
            return client, context, None
        raw.hang()
        call = asyncio.ensure_future(client.get_secret_value(SecretId="name"))
        await asyncio.to_thread(raw.arrived.wait)
        return client, context, call

    client, context, call = loop.run_until_complete(open_client())
    http_session = client._endpoint.http_session
    sessions = http_session.sessions if is_ours else http_session._sessions
    (pool,) = [each.connector for each in sessions.values()]
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


@pytest.mark.usefixtures("uncached_sdk")
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


@pytest.mark.usefixtures("uncached_sdk")
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
