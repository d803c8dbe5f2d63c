"""The HTTP session of the SDK's clients: it verifies every TLS connection and follows no redirect.

The SDK's own session accepts a certificate of any host, behind a proxy any certificate at all, and follows redirects
with the session token. Importing this module imports aiohttp and the SDK.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Self

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
from asecretcache._sources.retry_quota import LONGEST_TIMEOUTS, attempt_timeouts
from asecretcache._sources.sdk.connections import (
    ConnectedError,
    Connector,
    ContextByHost,
    Resolver,
    abort_when_closed,
    only_connect,
)
from asecretcache._sources.tls_context import UNVERIFIED, check_context, tls_contexts, trust, verifying_context


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
        sessions: aiohttp's sessions by what decides on their connections.

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
        self.sessions: dict[_Route, aiohttp.ClientSession] = {}
        self._lock = asyncio.Lock()
        self._bundle = get_cert_path(verify)
        self._client_cert = client_cert
        self._proxies = ProxyConfiguration(proxies, proxies_config)
        self._limit = max_pool_connections
        self._connector_args = dict(connector_args or {})
        self._timeouts = tuple(timeout) if isinstance(timeout, (list, tuple)) else (timeout, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later request opens new ones, also on another loop. Idempotent."""
        # Who had to wait for it has bound it to the loop, and a loop that dies may hold it.
        self._lock = asyncio.Lock()
        while self.sessions:
            await self.sessions.popitem()[1].close()

    async def connect(self, url: str) -> None:
        """Open a connection for a later request, and send nothing.

        Raises:
            Exception: there is no connection.
        """
        target, token = URL(url, encoded=True), only_connect.set(True)
        try:
            proxy = self._proxies.proxy_url_for(url)
            with suppress(ConnectedError):
                await (await self._session(target, proxy)).request("GET", target, **self._options(proxy))
        finally:
            only_connect.reset(token)

    async def send(self, request: Any) -> Any:
        """Send one of the SDK's requests; return the SDK's response, which has been read.

        Raises:
            botocore.exceptions.HTTPClientError: no response, or half of one, came; a subclass.
            ConfigurationError: the connection would not be verified.
        """
        url, proxy = request.url, self._proxies.proxy_url_for(request.url)
        try:
            target = URL(url, encoded=True)
            session = await self._session(target, proxy)
            response = await session.request(
                request.method,
                target,
                headers={name: _text(value) for name, value in request.headers.items()}
                | {"Accept-Encoding": "identity"},
                data=request.body,
                **self._options(proxy),
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

    def _options(self, proxy: str | None) -> dict[str, Any]:
        """Return what all requests have; their time-outs are the user's, or those of the current fetch."""
        connect_timeout, read_timeout = attempt_timeouts() if self._timeouts == LONGEST_TIMEOUTS else self._timeouts
        return {
            "timeout": aiohttp.ClientTimeout(sock_connect=connect_timeout, sock_read=read_timeout),
            "allow_redirects": False,
            "proxy": proxy,
            "proxy_headers": self._proxies.proxy_headers_for(proxy) if proxy else None,
        }

    async def _session(self, target: URL, proxy: str | None) -> aiohttp.ClientSession:
        """Return the session for a target, by a proxy or directly; the first caller makes it."""
        key = _Route(proxy, proxy is not None and URL(proxy).raw_host == target.raw_host, target.scheme == "https")
        async with self._lock:
            session = self.sessions.get(key)
            if session is None:
                session = self.sessions[key] = await self._new_session(key)
            return session

    async def _new_session(self, route: _Route) -> aiohttp.ClientSession:
        arguments = {"resolver": Resolver(), **self._connector_args}
        given = arguments.pop("ssl_context", None)
        context = await self._context(given, route)
        connector = Connector(limit=self._limit, ssl=context, **arguments)
        abort_when_closed(connector)
        return aiohttp.ClientSession(
            connector=connector,
            skip_auto_headers={"Content-Type"},
            auto_decompress=False,
            # Proxies and credentials are the SDK's to find.
            trust_env=False,
        )

    async def _context(self, given: ssl.SSLContext | None, route: _Route) -> ssl.SSLContext | bool:
        """Return the context of all connections of a route; True, aiohttp's own, where none of them has TLS."""
        proxy = None if route.proxy is None else URL(route.proxy)
        is_tls_proxy = proxy is not None and proxy.scheme == "https"
        if not route.is_tls and not is_tls_proxy:
            return True
        endpoint = check_context(given) if given is not None else await self._trusting(self._client_cert, "client_cert")
        # Of one name, the two can't be told apart by it: then the proxy has to be trusted as the endpoint is.
        if proxy is None or not is_tls_proxy or route.has_same_host:
            return endpoint
        settings = self._proxies.settings
        certificate, bundle = settings.get("proxy_client_cert"), settings.get("proxy_ca_bundle")
        to_proxy = await self._trusting(certificate, "proxy_client_cert", bundle)
        return ContextByHost.of(endpoint, to_proxy, proxy.raw_host)

    async def _trusting(self, certificate: Any, setting: str, bundle: str | None = None) -> ssl.SSLContext:
        """Return a context: the process's, unless it has to trust another bundle besides, or to show a certificate."""
        if certificate is None and bundle is None:
            return await tls_contexts.get_soon(self._bundle)
        context = verifying_context(self._bundle)
        if bundle is not None:
            trust(context, bundle)
        _load_client_certificate(context, certificate, setting)
        return context


class _Route(NamedTuple):
    """What decides on the connections of requests.

    Attributes:
        proxy: the proxy's URL; None for direct connections.
        has_same_host: whether the proxy has the endpoint's own name.
        is_tls: whether the endpoint has TLS.
    """

    proxy: str | None
    has_same_host: bool
    is_tls: bool


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
