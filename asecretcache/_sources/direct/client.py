"""A client of Secrets Manager without the SDK. Its methods, responses and errors are those of the SDK's client."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Self

from asecretcache._sources.direct.connection_pool import ConnectionPool
from asecretcache._sources.direct.credentials import ContainerCredentials, KeptCredentials, environment_credentials
from asecretcache._sources.direct.environment import Settings
from asecretcache._sources.direct.http_message import Request, Response
from asecretcache._sources.direct.json_body import client_error, decode, decode_page, parse
from asecretcache._sources.direct.sigv4 import Credentials, authorization_header
from asecretcache._sources.direct.tls import TLSContextProvider
from asecretcache._sources.exceptions import ClientError, TransportError
from asecretcache._sources.retry_quota import ATTEMPTS, RetryQuota, attempt_timeouts, backoff
from asecretcache._version import __version__

__all__ = ["DirectClient", "KeptCredentials"]

# AWS accepts a signature for five minutes: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_MAX_CLOCK_SKEW: Final = 240.0
# What Lambda's own traces consist of.
_PLAIN: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=;-:")
_CLOCK_SKEW_CODES: Final = "InvalidSignatureException SignatureDoesNotMatch RequestTimeTooSkewed RequestExpired".split()


class DirectClient:
    """A client of one loop, and a context manager of itself.

    Args:
        settings: region, server, CA bundle and where credentials are.
        kept: where the credentials of a container are kept; it may outlive this client.
        clock: the wall clock, by which requests are signed, connections grow old and credentials expire.
    """

    def __init__(
        self, settings: Settings, kept: KeptCredentials | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self.meta = _Meta(settings.region)
        self._clock = clock
        self._clock_skew = 0.0
        self._tls: TLSContextProvider | None = None
        if settings.origin.is_tls:
            self._tls = TLSContextProvider(settings.ca_bundle, is_aws_endpoint=settings.is_aws_endpoint)
        self._pool = ConnectionPool(settings.origin, self._tls, clock=clock)
        self._container: ContainerCredentials | None = None
        if settings.container is not None:
            self._container = ContainerCredentials(*settings.container, kept or KeptCredentials(), clock=clock)
        self._last_credentials = environment_credentials()
        self._retry_quota = RetryQuota()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.close_connections():
            # The sockets are closed in the next iteration of the loop, which may otherwise never come.
            await asyncio.sleep(0)

    def prepare(self) -> None:
        """Make the TLS context that any loop's client needs, and import what a look-up of a name does."""
        codecs.lookup("idna")
        if self._tls is not None:
            self._tls.prepare()

    async def connect(self) -> None:
        """Open a connection for the first call."""
        await self._pool.connect(attempt_timeouts()[0])

    def close_connections(self) -> bool:
        """Close the idle connections and return whether there were any."""
        return self._pool.close()

    def abandon(self, *, abort: bool) -> None:
        """Close the connections from outside of the loop, which doesn't run; see ``ClientFactory``."""
        self._pool.abandon(abort=abort)

    async def get_secret_value(self, **arguments: str) -> dict[str, Any]:
        """Return the response in the SDK's form; the keyword arguments are AWS's."""
        return parse(await self._call("GetSecretValue", arguments), decode)

    async def batch_get_secret_value(self, **arguments: Any) -> dict[str, Any]:
        """Return one page of the response in the SDK's form; the keyword arguments are AWS's."""
        return parse(await self._call("BatchGetSecretValue", arguments), decode_page)

    async def _call(self, operation: str, arguments: Mapping[str, Any]) -> Response:
        call = _Call(operation, json.dumps(arguments).encode(), _random_uuid())
        attempt, acquired, is_clock_corrected = 1, 0, False
        while True:
            result = await self._attempt(call, attempt)
            if isinstance(result, Response):
                self._retry_quota.release(acquired)
                return result
            if not is_clock_corrected and self._correct_clock(result):
                is_clock_corrected = True
                continue
            acquired = self._retry_quota.acquire(result, attempt)
            if not acquired:
                try:
                    raise result
                finally:
                    del result  # Break the reference cycle: the error's traceback holds this frame.
            await asyncio.sleep(backoff(attempt))
            attempt += 1

    async def _attempt(self, call: _Call, attempt: int) -> Response | ClientError | TransportError:
        credentials = await self._credentials()
        connect_timeout, read_timeout = attempt_timeouts()
        try:
            request = self._sign(call, attempt, credentials)
            response = await self._pool.send(request, connect_timeout=connect_timeout, read_timeout=read_timeout)
        except TransportError as exc:
            return exc
        return response if response.status < 300 else client_error(response, call.operation)

    async def _credentials(self) -> Credentials:
        if self._container is not None:
            return await self._container.get()
        # Credentials that were removed from the environment are used on, as the SDK does.
        self._last_credentials = environment_credentials() or self._last_credentials
        assert self._last_credentials is not None  # resolve_settings has seen them.
        return self._last_credentials

    def _sign(self, call: _Call, attempt: int, credentials: Credentials) -> Request:
        headers = {
            "host": self._settings.origin.host_header,
            "content-type": "application/x-amz-json-1.1",
            "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock() + self._clock_skew)),
            "x-amz-target": f"secretsmanager.{call.operation}",
        }
        if credentials.token is not None:
            headers["x-amz-security-token"] = credentials.token
        request = Request("POST", "/", headers, call.body)
        authorization = authorization_header(
            credentials, request, region=self._settings.region, service="secretsmanager"
        )
        headers |= {
            "authorization": authorization,
            "accept-encoding": "identity",
            "content-length": str(len(call.body)),
            "user-agent": _user_agent(),
            "amz-sdk-invocation-id": call.invocation_id,
            "amz-sdk-request": f"attempt={attempt}; max={ATTEMPTS}",
            **_trace_header(),
        }
        return request

    def _correct_clock(self, failure: ClientError | TransportError) -> bool:
        """After a signature was refused: sign by the server's clock from now on, if that differs by much.

        Returns:
            Whether it differs, so that another attempt makes sense.
        """
        if not isinstance(failure, ClientError) or failure.response["Error"]["Code"] not in _CLOCK_SKEW_CODES:
            return False
        from email.utils import parsedate_to_datetime  # Seldom needed, and slow to import.

        date = failure.response["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            skew = parsedate_to_datetime(date).timestamp() - self._clock()
        except (ValueError, OverflowError):  # A year that no clock has.
            return False
        old_skew, self._clock_skew = self._clock_skew, skew
        return abs(skew - old_skew) > _MAX_CLOCK_SKEW


class _Meta(NamedTuple):
    """As much as this package reads of what the SDK's clients tell of themselves."""

    region_name: str


class _Call(NamedTuple):
    operation: str
    body: bytes
    invocation_id: str


def _random_uuid() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _user_agent() -> str:
    version, implementation = ".".join(map(str, sys.version_info[:3])), sys.implementation.name
    environment = os.environ.get("AWS_EXECUTION_ENV", "")
    environment = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in environment)
    return (
        f"asecretcache/{__version__} md/direct ua/2.1 os/{sys.platform} "
        f"lang/python#{version} md/pyimpl#{implementation} "
        + (f"exec-env/{environment} " if environment else "")
        + "cfg/retry-mode#standard"
    )


def _trace_header() -> dict[str, str]:
    """Return the header by which Lambda detects functions that call each other in a loop."""
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    if not trace or "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        return {}
    if not _PLAIN.issuperset(trace):
        from urllib.parse import quote  # Not needed for the values that Lambda sets.

        trace = quote(trace, safe="-=;:+&[]{}\"',")
    return {"x-amzn-trace-id": trace}
