"""The HTTP session of the SDK's clients: it verifies every TLS connection and follows no redirect.

The SDK's own session accepts a certificate of any host, behind a proxy any certificate at all, and follows redirects
with the session token. Importing this module imports aiohttp and the SDK.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import ProxyConfiguration, get_cert_path, mask_proxy_url
from yarl import URL

from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._sources.tls_context import UNVERIFIED, check_context, trust, verifying_context


class VerifyingSession:
    """Sends requests of one client of the SDK; ``http_session_cls`` of an AioConfig.

    It belongs to one event loop. It takes the arguments that the SDK gives its own session, of which it can't use
    ``socket_options``.

    Args:
        verify: the path of a CA bundle, or True for certifi's or botocore's.
        proxies: URLs of proxies by the scheme of the request's URL.
        timeout: seconds to connect and to wait for the next bytes; or one number for both.
        max_pool_connections: how many connections may be open at the same time.
        socket_options: not used.
        client_cert: the path of a client certificate, or of it and its key.
        proxies_config: ``proxy_ca_bundle`` and ``proxy_client_cert``.
        connector_args: arguments of aiohttp's TCPConnector.

    Attributes:
        sessions: aiohttp's sessions by proxy, and whether the proxy has the endpoint's own name.

    Raises:
        ConfigurationError: connections would not be verified.
    """

    def __init__(
        self,
        *,
        verify: str | bool = True,
        proxies: Mapping[str, str] | None = None,
        timeout: Any = None,
        max_pool_connections: int = 10,
        socket_options: object = None,  # noqa: ARG002  # the SDK's session can't use it either
        client_cert: str | tuple[str, str] | None = None,
        proxies_config: Mapping[str, Any] | None = None,
        connector_args: Mapping[str, Any] | None = None,
    ) -> None:
        if not verify:
            raise ConfigurationError(UNVERIFIED)
        self.sessions: dict[tuple[str | None, bool], aiohttp.ClientSession] = {}
        self._bundle = get_cert_path(verify)
        self._client_cert = client_cert
        self._proxies = ProxyConfiguration(proxies, proxies_config)
        self._limit = max_pool_connections
        self._connector_args = dict(connector_args or {})
        connect_timeout, read_timeout = timeout if isinstance(timeout, (list, tuple)) else (timeout, timeout)
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout, sock_read=read_timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        while self.sessions:
            await self.sessions.popitem()[1].close()

    async def send(self, request: Any) -> Any:
        """Send one of the SDK's requests; return the SDK's response, which has been read.

        Raises:
            botocore.exceptions.HTTPClientError: no response, or half of one, came; a subclass.
            ConfigurationError: the connection would not be verified.
        """
        url, proxy = request.url, self._proxies.proxy_url_for(request.url)
        try:
            target = URL(url, encoded=True)
            response = await self._session(proxy, target.raw_host).request(
                request.method,
                target,
                headers={name: _text(value) for name, value in request.headers.items()}
                | {"Accept-Encoding": "identity"},
                data=request.body,
                allow_redirects=False,
                proxy=proxy,
                proxy_headers=self._proxies.proxy_headers_for(proxy) if proxy else None,
            )
            headers = {name.decode().lower(): value.decode() for name, value in response.raw_headers}
            answer = AioAWSResponse(url, response.status, headers, response)
            await answer.content
        except SecretCacheError:
            raise
        except Exception as exc:  # noqa: BLE001  # aiohttp raises errors of many classes
            error = _botocore_error(exc, request, proxy)
        else:
            return answer
        finally:
            del request, proxy  # Tracebacks show locals, and these hold the session token and a password.
        # Outside of the except block, or the context would be shown, which quotes the password too.
        raise error

    def _session(self, proxy: str | None, host: str | None) -> aiohttp.ClientSession:
        has_same_host = proxy is not None and URL(proxy).raw_host == host
        session = self.sessions.get((proxy, has_same_host))
        if session is None:
            arguments = self._connector_args.copy()
            context = self._context(arguments.pop("ssl_context", None), proxy, has_same_host=has_same_host)
            connector = aiohttp.TCPConnector(limit=self._limit, ssl=context, **arguments)
            _abort_when_closed(connector)
            session = self.sessions[proxy, has_same_host] = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                skip_auto_headers={"Content-Type"},
                auto_decompress=False,
                # Proxies and credentials are the SDK's to find.
                trust_env=False,
            )
        return session

    def _context(self, given: ssl.SSLContext | None, proxy: str | None, *, has_same_host: bool) -> ssl.SSLContext:
        """Return the context of all connections through a proxy, or of direct ones if it is None."""
        endpoint = verifying_context(self._bundle) if given is None else check_context(given)
        _load_client_certificate(endpoint, self._client_cert, "client_cert")
        # Of one name, the two can't be told apart by it: then the proxy has to be trusted as the endpoint is.
        if proxy is None or has_same_host or URL(proxy).scheme != "https":
            return endpoint
        settings = self._proxies.settings
        to_proxy = verifying_context(self._bundle)
        if settings.get("proxy_ca_bundle") is not None:
            trust(to_proxy, settings["proxy_ca_bundle"])
        _load_client_certificate(to_proxy, settings.get("proxy_client_cert"), "proxy_client_cert")
        return _ContextByHost.of(endpoint, to_proxy, URL(proxy).raw_host)


class CredentialsSession:
    """Stands where the SDK's fetchers of credentials have their session: a new one for each request, on any loop.

    Args:
        timeout: seconds to connect and to wait for the next bytes.
        proxies: URLs of proxies by the scheme of the request's URL.
    """

    def __init__(self, *, timeout: float, proxies: Mapping[str, str] | None = None) -> None:
        self._arguments: dict[str, Any] = {"timeout": timeout, "proxies": proxies}

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[VerifyingSession]:
        """Return a context manager of a session."""
        async with VerifyingSession(**self._arguments) as session:
            yield session


class _ContextByHost(ssl.SSLContext):
    """A context that uses one of two others, by the host: so a proxy's authorities vouch for the proxy alone.

    aiohttp takes one context for both connections. It verifies nothing by itself, and each use checks the context that
    it takes.
    """

    _endpoint: ssl.SSLContext
    _to_proxy: ssl.SSLContext
    _proxy_host: str | None

    @classmethod
    def of(cls, endpoint: ssl.SSLContext, to_proxy: ssl.SSLContext, proxy_host: str | None) -> Self:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._endpoint, context._to_proxy, context._proxy_host = endpoint, to_proxy, proxy_host
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  # as the base class has it
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection with the context of its host."""
        is_proxy = server_hostname == self._proxy_host
        context = check_context(self._to_proxy if is_proxy else self._endpoint)
        return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _load_client_certificate(context: ssl.SSLContext, certificate: Any, setting: str) -> None:
    if certificate is None:
        return
    path, key = certificate if isinstance(certificate, (tuple, list)) else (certificate, None)
    try:
        context.load_cert_chain(path, key)
    except OSError as exc:
        msg = f"{setting} {path!r} can't be used ({exc.strerror}): name a PEM file, or one and its key"
        raise ConfigurationError(msg) from None


def _botocore_error(exc: Exception, request: Any, proxy: str | None) -> Exception:
    """Return the error that botocore's own session would raise, so that the SDK retries and maps it as always."""
    error: Exception
    url = request.url
    match exc:
        case aiohttp.ClientSSLError():
            error = SSLError(endpoint_url=url, error=exc)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            error = ProxyConnectionError(proxy_url=mask_proxy_url(proxy), error=type(exc).__name__)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.http_exceptions.BadStatusLine():
            error = ConnectionClosedError(error=exc, request=request, endpoint_url=url)
        case aiohttp.ConnectionTimeoutError():
            error = ConnectTimeoutError(endpoint_url=url, error=exc)
        case TimeoutError():
            error = ReadTimeoutError(endpoint_url=url, error=exc)
        case aiohttp.ClientConnectionError() | OSError():
            error = EndpointConnectionError(endpoint_url=url, error=exc)
        case _:
            error = HTTPClientError(error=type(exc).__name__)
    return error


def _abort_when_closed(connector: Any) -> None:
    """Abort connections instead of closing them.

    Otherwise asyncio waits up to 30 s for the peer's end of TLS. Most loops end before that, and their sockets would
    stay open, with a warning, if the peer hangs or a gateway has forgotten it.
    """
    with suppress(AttributeError):  # A version of aiohttp that lacks it works too.
        connector._factory = functools.partial(_make_protocol, connector._factory)


def _make_protocol(create: Callable[[], Any]) -> Any:
    protocol = create()
    with suppress(AttributeError):
        protocol.close = protocol.abort
    return protocol
