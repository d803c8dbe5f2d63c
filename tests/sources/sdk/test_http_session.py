"""The HTTP session of the SDK's clients. That it verifies is tested from outside in test_both_sources_tls.py."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.client_proto import ResponseHandler
from botocore import exceptions as botocore_errors
from botocore.awsrequest import AWSRequest

from asecretcache import ConfigurationError
from asecretcache._sources.sdk import connections, http_session
from asecretcache._sources.sdk.http_session import CredentialsSession, VerifyingSession
from raw_server import RawServer, http


@pytest.fixture
async def session() -> AsyncIterator[VerifyingSession]:
    """A session with a second for everything."""
    async with VerifyingSession(timeout=1) as session:
        yield session


def request_to(url: str, **arguments: Any) -> Any:
    """Return a request as the SDK makes it."""
    return AWSRequest(**({"method": "POST", "url": url, "data": b"{}", "headers": {}} | arguments)).prepare()


async def test_a_request_is_sent_as_the_sdk_wants_it(session: VerifyingSession, raw_server: RawServer) -> None:
    """Headers may be bytes; the URL isn't encoded once more; nothing is compressed."""
    answer = await session.send(request_to(raw_server.url + "/a%2Fb", headers={"X-A": b"bytes", "X-B": "text"}))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert b"the value" in await answer.content
    (sent,) = raw_server.requests
    assert sent.startswith(b"POST /a%2Fb HTTP/1.1\r\n")
    assert b"X-A: bytes" in sent
    assert b"X-B: text" in sent
    assert b"Accept-Encoding: identity" in sent
    assert b"Content-Type" not in sent
    assert sent.endswith(b"{}")


async def test_connections_are_kept_and_closed(raw_server: RawServer) -> None:
    """One for all requests in turn; closing twice is closing once."""
    session = VerifyingSession(timeout=(1, 1))
    for _ in range(3):
        await session.send(request_to(raw_server.url))

    await session.close()
    await session.close()

    assert raw_server.connections == 1
    raw_server.wait_for_open(0)


async def test_a_limit_of_connections_is_kept(raw_server: RawServer) -> None:
    """It is the SDK's max_pool_connections."""
    async with VerifyingSession(max_pool_connections=3, connector_args={"ttl_dns_cache": 9}) as session:
        await session.send(request_to(raw_server.url))
        (made,) = session.sessions.values()

        assert made.connector is not None
        assert made.connector.limit == 3


@pytest.mark.parametrize("verify", [False, "", None])
def test_a_session_that_would_not_verify_is_refused(verify: Any) -> None:
    """There is no switch that turns verification off."""
    with pytest.raises(ConfigurationError, match="would not be verified: AWS_CA_BUNDLE"):
        VerifyingSession(verify=verify)


def unverified() -> ssl.SSLContext:
    """Return a context that verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def nameless() -> ssl.SSLContext:
    """Return a context that compares no host names."""
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


@pytest.mark.parametrize("make", [unverified, nameless])
async def test_a_given_context_must_verify(tls_server: RawServer, make: Callable[[], ssl.SSLContext]) -> None:
    """``ssl_context`` is an argument of aiohttp's connector that the SDK passes on."""
    async with VerifyingSession(connector_args={"ssl_context": make()}) as session:
        with pytest.raises(ConfigurationError, match="would not verify the server's certificate and host name"):
            await session.send(request_to(tls_server.url))

    assert tls_server.requests == []


async def test_a_given_context_that_verifies_is_used(tls_server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may trust what it likes."""
    import os

    context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
    async with VerifyingSession(timeout=9, connector_args={"ssl_context": context}) as session:
        assert (await session.send(request_to(tls_server.url))).status_code == 200


# Client certificates


async def test_a_client_certificate_is_shown(tls_server: RawServer, tmp_path: Path) -> None:
    """In one file, or in two with its key; the server may demand it."""
    import os

    authority = trustme.CA()
    issued = authority.issue_cert("client.example")
    both, certificate, key = (str(tmp_path / name) for name in ("both.pem", "cert.pem", "key.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(both)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    assert tls_server.tls is not None
    authority.configure_trust(tls_server.tls)
    tls_server.tls.verify_mode = ssl.CERT_REQUIRED

    given: list[Any] = [both, (certificate, key)]
    for each in given:
        async with VerifyingSession(timeout=9, verify=os.environ["AWS_CA_BUNDLE"], client_cert=each) as session:
            assert (await session.send(request_to(tls_server.url))).status_code == 200


WRONG_FILES = [("nowhere.pem", "No such file or directory"), (__file__, r"\[SSL\] PEM lib.*")]


@pytest.mark.parametrize(("name", "says"), WRONG_FILES)
async def test_a_wrong_client_certificate_is_named(tls_server: RawServer, name: str, says: str) -> None:
    """So is what it must be."""
    async with VerifyingSession(client_cert=name) as session:
        with pytest.raises(ConfigurationError, match=rf"^client_cert '.*' can't be used \({says}\): name a PEM file"):
            await session.send(request_to(tls_server.url))


async def test_a_wrong_certificate_for_the_proxy_is_named(tls_server: RawServer) -> None:
    """It is a setting of its own."""
    proxies, config = {"https": "https://localhost:1"}, {"proxy_client_cert": "nowhere.pem"}
    async with VerifyingSession(proxies=proxies, proxies_config=config) as session:
        with pytest.raises(ConfigurationError, match=r"^proxy_client_cert 'nowhere.pem' can't be used"):
            await session.send(request_to(tls_server.url))


# Errors


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (aiohttp.ServerDisconnectedError(), "ConnectionClosedError"),
        (aiohttp.ClientPayloadError(), "ConnectionClosedError"),
        (aiohttp.http_exceptions.BadStatusLine("x"), "ConnectionClosedError"),
        (aiohttp.ConnectionTimeoutError(), "ConnectTimeoutError"),
        (aiohttp.SocketTimeoutError(), "ReadTimeoutError"),
        (TimeoutError(), "ReadTimeoutError"),
        (aiohttp.ClientOSError(), "EndpointConnectionError"),
        (aiohttp.ClientConnectionResetError(), "EndpointConnectionError"),
        (OSError(), "EndpointConnectionError"),
        (aiohttp.InvalidURL("x"), "HTTPClientError"),
        (ValueError("the header"), "HTTPClientError"),
    ],
)
async def test_errors_are_those_of_botocores_session(
    session: VerifyingSession, monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: str
) -> None:
    """So that the SDK retries as always; none has what aiohttp raised as its context."""

    async def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(aiohttp.ClientSession, "request", fail)

    request = request_to("http://127.0.0.1")
    with pytest.raises(botocore_errors.BotoCoreError) as caught:
        await session.send(request)

    assert type(caught.value).__name__ == kind
    told = caught.value.kwargs
    if kind == "HTTPClientError":
        assert told["error"] == type(raised).__name__
    else:
        assert (told["error"], told["endpoint_url"]) == (raised, "http://127.0.0.1")
    if kind == "ConnectionClosedError":
        assert isinstance(caught.value, botocore_errors.HTTPClientError)
        assert caught.value.request is request
    assert caught.value.__context__ is None
    assert "the header" not in str(caught.value)


async def test_a_refused_connection_is_named(session: VerifyingSession) -> None:
    """With the endpoint that it was for."""
    with pytest.raises(botocore_errors.EndpointConnectionError, match=r"http://127\.0\.0\.1:1"):
        await session.send(request_to("http://127.0.0.1:1"))


async def test_a_proxy_that_is_down_is_named_without_its_password() -> None:
    """botocore masks it too."""
    async with VerifyingSession(proxies={"http": "http://user:pa55@127.0.0.1:1"}) as session:
        with pytest.raises(botocore_errors.ProxyConnectionError) as caught:
            await session.send(request_to("http://127.0.0.1:2"))

    assert "pa55" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert caught.value.kwargs["error"] == "ClientProxyConnectionError"


async def test_a_response_that_is_cut_off_is_an_error(session: VerifyingSession, raw_server: RawServer) -> None:
    """It is read within the call, so that the SDK can try again."""
    raw_server.first(http(b"0123456789")[:-5])

    with pytest.raises(botocore_errors.ConnectionClosedError):
        await session.send(request_to(raw_server.url))


# aiohttp's inside


async def test_connections_are_aborted_when_they_are_closed(session: VerifyingSession, raw_server: RawServer) -> None:
    """aiohttp has the attributes by which that is done."""
    await session.send(request_to(raw_server.url))
    (made,) = session.sessions.values()

    assert made.connector is not None
    protocol = made.connector._factory()
    assert protocol.close == protocol.abort


async def test_without_these_attributes_connections_are_closed_as_before(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version of aiohttp that lacks them works, without the patch."""
    missing = ["_factory", "abort"]

    class Protocol(ResponseHandler):
        def __getattribute__(self, name: str) -> Any:
            if name == "abort":
                raise AttributeError
            return super().__getattribute__(name)

    class Connector(connections.Connector):
        def __getattribute__(self, name: str) -> Any:
            if name in missing:
                missing.remove(name)
                raise AttributeError
            if name == "_factory":
                return lambda: Protocol(self._loop)
            return super().__getattribute__(name)

    monkeypatch.setattr(http_session, "Connector", Connector)
    for is_missing in (True, False):
        async with VerifyingSession() as session:
            assert (await session.send(request_to(raw_server.url))).status_code == 200
            assert ("_factory" in missing) is False, is_missing
    raw_server.wait_for_open(0)


async def test_a_session_for_credentials_makes_one_for_each_request(raw_server: RawServer) -> None:
    """So a loop that dies leaves none behind."""
    made = CredentialsSession(timeout=1)
    for _ in range(2):
        async with made.acquire() as session:
            await session.send(request_to(raw_server.url, method="GET", data=None))

    assert raw_server.connections == 2
    raw_server.wait_for_open(0)
