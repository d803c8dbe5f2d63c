"""Every TLS connection of both sources is verified, direct or through a proxy, and no redirect is followed."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import aiobotocore
import pytest
import trustme
from aiobotocore.config import AioConfig
from botocore.config import Config

from asecretcache import ConfigurationError, SecretsManagerSource, SecretUnavailableError
from connect_proxy import ConnectProxy
from raw_server import GOOD, RawServer, http, serve
from source_helpers import SourceClass, fetch_error, fetch_value

# A name that no server of ours has.
ELSEWHERE = "secretsmanager.invalid"
# Before, asyncio leaves a future without its exception when a TLS handshake within TLS fails.
TLS_IN_TLS = pytest.mark.filterwarnings("ignore:.*_SSLPipe|Exception ignored:pytest.PytestUnraisableExceptionWarning")


class Authority(NamedTuple):
    """An authority of our own, and the file of its certificate."""

    ca: trustme.CA
    bundle: str

    def context(self, host: str) -> ssl.SSLContext:
        """Return the context of a server of this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(host).configure_cert(context)
        return context


@pytest.fixture
def new_authority(tmp_path: Path) -> Callable[[], Authority]:
    """Makes authorities."""
    made: list[Authority] = []

    def make() -> Authority:
        authority = Authority(trustme.CA(), str(tmp_path / f"ca-{len(made)}.pem"))
        authority.ca.cert_pem.write_to_path(authority.bundle)
        made.append(authority)
        return authority

    return make


@pytest.fixture
def trusted(new_authority: Callable[[], Authority], credentials: pytest.MonkeyPatch) -> Authority:
    """The authority in AWS_CA_BUNDLE; attempts are few."""
    authority = new_authority()
    credentials.setenv("AWS_CA_BUNDLE", authority.bundle)
    credentials.setenv("AWS_SESSION_TOKEN", "the-token")
    return authority


class Tunnel(NamedTuple):
    """A server, and the proxy through which it is reached."""

    server: RawServer
    proxy: ConnectProxy


SetUp = Callable[..., Tunnel]


@pytest.fixture
def set_up(credentials: pytest.MonkeyPatch, trusted: Authority) -> Iterator[SetUp]:
    """Runs a server behind a proxy until the test ends; the environment names both.

    The arguments are the server's TLS context, the proxy's (without it the proxy speaks plain HTTP), the name by which
    the server is asked for, and the proxy's user with a password.
    """
    running: list[tuple[Iterator[RawServer], ConnectProxy]] = []

    def run(
        certificate: ssl.SSLContext, proxys: ssl.SSLContext | None = None, *, host: str = ELSEWHERE, user: str = ""
    ) -> Tunnel:
        servers = serve(certificate)
        server = next(servers)
        proxy = ConnectProxy(server.server_address[1], proxys)
        running.append((servers, proxy))
        credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"https://{host}")
        credentials.setenv("HTTPS_PROXY", proxy.url().replace("//", f"//{user}"))
        return Tunnel(server, proxy)

    yield run
    for servers, proxy in running:
        next(servers, None)
        proxy.stop()


# Proxies


async def test_a_server_behind_a_proxy_is_reached(set_up: SetUp, trusted: Authority, any_source: SourceClass) -> None:
    """The proxy is asked for a tunnel to the endpoint, whose certificate is good."""
    tunnel = set_up(trusted.context(ELSEWHERE))
    source = any_source()

    assert await fetch_value(source) == "the value"

    await source.aclose()
    requests = tunnel.proxy.requests
    assert [head.partition(b"\r\n")[0] for head in requests] == [f"CONNECT {ELSEWHERE}:443 HTTP/1.1".encode()]
    assert b"the-token" not in b"".join(requests)


@pytest.mark.every_loop
@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("wrong", ["authority", "name"])
@pytest.mark.parametrize("is_bundle_set", [True, False])
async def test_a_server_behind_a_proxy_is_verified(
    credentials: pytest.MonkeyPatch,
    set_up: SetUp,
    trusted: Authority,
    new_authority: Callable[[], Authority],
    any_source: SourceClass,
    wrong: str,
    is_bundle_set: bool,
) -> None:
    """A man in the middle without a good certificate gets no request, so no token."""
    authority, host = (new_authority(), ELSEWHERE) if wrong == "authority" else (trusted, "evil.example")
    tunnel = set_up(authority.context(host))
    if not is_bundle_set:
        credentials.delenv("AWS_CA_BUNDLE")

    error = await fetch_error(any_source())

    assert type(error) is SecretUnavailableError
    assert type(error.__cause__).__name__ == "SSLError"
    assert tunnel.server.requests == []


@TLS_IN_TLS
@pytest.mark.every_loop
@pytest.mark.parametrize("has_own_bundle", [True, False])
async def test_a_proxy_over_tls_is_used(
    set_up: SetUp, trusted: Authority, new_authority: Callable[[], Authority], has_own_bundle: bool
) -> None:
    """It may have an authority of its own; the endpoint's is another."""
    authority = new_authority() if has_own_bundle else trusted
    set_up(trusted.context(ELSEWHERE), authority.context("127.0.0.1"))
    config = Config(proxies_config={"proxy_ca_bundle": authority.bundle}) if has_own_bundle else None
    source = SecretsManagerSource(config=config)

    assert await fetch_value(source) == "the value"
    await source.aclose()


@TLS_IN_TLS
@pytest.mark.every_loop
@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("host", [ELSEWHERE, "127.0.0.1"])
async def test_a_proxys_authority_vouches_for_the_proxy_alone(
    set_up: SetUp, new_authority: Callable[[], Authority], host: str
) -> None:
    """A certificate for AWS's name that the proxy's authority has issued is refused, even if both have one name."""
    authority = new_authority()
    tunnel = set_up(authority.context(host), authority.context("127.0.0.1"), host=host)

    error = await fetch_error(SecretsManagerSource(config=Config(proxies_config={"proxy_ca_bundle": authority.bundle})))

    assert type(error) is SecretUnavailableError
    assert bool(tunnel.proxy.requests) is (host == ELSEWHERE)
    assert tunnel.server.requests == []


@pytest.mark.every_loop
@pytest.mark.usefixtures("delays")
@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_proxy_over_tls_is_verified(
    set_up: SetUp, trusted: Authority, new_authority: Callable[[], Authority], wrong: str
) -> None:
    """Its password goes to nobody else, so it gets no request."""
    authority, host = (new_authority(), "127.0.0.1") if wrong == "authority" else (trusted, "evil.example")
    tunnel = set_up(trusted.context(ELSEWHERE), authority.context(host), user="user:pa55@")

    error = await fetch_error(SecretsManagerSource())

    assert type(error) is SecretUnavailableError
    assert tunnel.proxy.requests == []
    assert "pa55" not in repr(error.__cause__)


@pytest.mark.usefixtures("delays")
async def test_a_proxy_that_refuses_is_named_without_its_password(set_up: SetUp, trusted: Authority) -> None:
    """Its password goes out as the proxy's, and is in no error."""
    tunnel = set_up(trusted.context(ELSEWHERE), user="user:pa55@")
    tunnel.proxy.status = b"407 Proxy Authentication Required"

    error = await fetch_error(SecretsManagerSource())

    assert str(error).startswith("secret 'name': no connection to Secrets Manager: check network, endpoint and proxy")
    assert b"Proxy-Authorization: Basic" in tunnel.proxy.requests[0]
    assert error.__cause__ is None


# CA bundles


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        ("", "empty"),
        ("nowhere.pem", r"'nowhere\.pem' can't be read: No such file or directory"),
        (__file__, "has no certificate that can be read"),
    ],
)
async def test_a_ca_bundle_that_is_no_bundle_is_refused(
    tls_server: RawServer,
    credentials: pytest.MonkeyPatch,
    any_source: SourceClass,
    variable: str,
    bundle: str,
    says: str,
) -> None:
    """An empty one doesn't turn verification off; nothing is sent."""
    credentials.delenv("AWS_CA_BUNDLE")
    credentials.setenv(variable, bundle)

    error = await fetch_error(any_source())

    assert type(error) is ConfigurationError
    assert re.search(f"{says}.*AWS_CA_BUNDLE|AWS_CA_BUNDLE.*{says}", str(error))
    assert error.secret_id == "name"
    assert tls_server.requests == []


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(
    tls_server: RawServer, raw_server: RawServer, source_class: SourceClass, status: int
) -> None:
    """Another host would get the session token, and its answer would be the secret."""
    raw_server.answer({**GOOD, "SecretString": "of another host"})
    tls_server.bytes = http(b"", status, f"Location: {raw_server.url}/")

    error = await fetch_error(source_class())

    assert type(error) is SecretUnavailableError
    assert len(tls_server.requests) == 1
    assert raw_server.requests == []


# SDKs and sessions that aren't known


async def test_an_sdk_with_a_known_race_is_refused(aws_raw: RawServer, credentials: pytest.MonkeyPatch) -> None:
    """aiobotocore 3.8 makes its connector in a coroutine that two calls may run at the same time."""
    credentials.setattr(aiobotocore, "__version__", "3.8.0")

    error = await fetch_error(SecretsManagerSource())

    assert type(error) is ConfigurationError
    assert "aiobotocore 3.8.0" in str(error)
    assert aws_raw.requests == []


async def test_another_http_session_is_refused(aws_raw: RawServer) -> None:
    """The SDK's session for httpx doesn't verify what ours does."""
    from aiobotocore.httpxsession import HttpxSession

    class Session(HttpxSession):  # type: ignore[misc]  # the SDK has no types
        """The validation of aiobotocore 2 needs httpx for the other."""

    error = await fetch_error(SecretsManagerSource(config=AioConfig(http_session_cls=Session)))

    assert type(error) is ConfigurationError
    assert "http_session_cls Session" in str(error)
    assert aws_raw.requests == []
