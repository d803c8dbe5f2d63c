"""Credentials that are found without the SDK: in the environment, and at a container's endpoint."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Final

from asecretcache._sources.direct.connection_pool import ConnectionPool
from asecretcache._sources.direct.dates import parse_date
from asecretcache._sources.direct.http_message import Request, Response
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.direct.sigv4 import Credentials
from asecretcache._sources.exceptions import CredentialRetrievalError, TransportError

# The values are botocore's. Seconds before the expiry from which renewing is tried, and from which it must succeed.
_ADVISORY_REFRESH: Final = 15 * 60.0
_MANDATORY_REFRESH: Final = 10 * 60.0
_ATTEMPTS: Final = 3
_RETRY_DELAY: Final = 1.0
_TIMEOUT: Final = 2.0


def environment_credentials() -> Credentials | None:
    """Return the credentials that the environment variables have now, or None if a key is missing."""
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    token = os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN")
    return Credentials(access_key, secret_key, token or None) if access_key and secret_key else None


class KeptCredentials:
    """The last credentials of a container, and when they expire; the clients of a source share it."""

    __slots__ = ("credentials", "expires_at")

    def __init__(self) -> None:
        self.credentials: Credentials | None = None
        self.expires_at = float("-inf")


class ContainerCredentials:
    """The credentials that ECS, EKS and Lambda SnapStart serve over HTTP, kept until they expire.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html

    It belongs to one loop.

    Args:
        origin: the server.
        target: the path and query of the credentials.
        kept: where they are kept; it may outlive this object.
        clock: the wall clock, by which they expire.
    """

    def __init__(self, origin: Origin, target: str, kept: KeptCredentials, *, clock: Callable[[], float]) -> None:
        self._origin = origin
        self._target = target
        self._kept = kept
        self._clock = clock
        self._lock = asyncio.Lock()

    async def get(self) -> Credentials:
        """Return the credentials, fetched now if they expire soon.

        Raises:
            CredentialRetrievalError: there are no usable ones.
        """
        # While one caller renews them, the others use the old ones as long as they may.
        limit = _MANDATORY_REFRESH if self._lock.locked() else _ADVISORY_REFRESH
        if self._seconds_left() < limit:
            async with self._lock:
                if self._seconds_left() < _ADVISORY_REFRESH:
                    await self._renew()
        assert self._kept.credentials is not None
        return self._kept.credentials

    def _seconds_left(self) -> float:
        return self._kept.expires_at - self._clock()

    async def _renew(self) -> None:
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_RETRY_DELAY)
            if await self._fetch():
                return
        if self._seconds_left() < _MANDATORY_REFRESH:
            raise CredentialRetrievalError

    async def _fetch(self) -> bool:
        """Fetch the credentials once and return whether that worked."""
        pool = ConnectionPool(self._origin, None, clock=self._clock)
        try:
            response = await pool.send(self._request(), connect_timeout=_TIMEOUT, read_timeout=_TIMEOUT)
            return response.status == 200 and self._take(response)
        except (TransportError, OSError, ValueError, LookupError, TypeError):
            return False
        finally:
            pool.close()

    def _request(self) -> Request:
        headers = {"host": self._origin.host_header, "accept": "application/json"}
        path = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        if path is not None:
            with open(path, encoding="utf-8") as file:
                headers["authorization"] = file.read()
        elif "AWS_CONTAINER_AUTHORIZATION_TOKEN" in os.environ:
            headers["authorization"] = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        return Request("GET", self._target, headers)

    def _take(self, response: Response) -> bool:
        """Keep the credentials of a response and return whether they are usable."""
        document = json.loads(response.body)
        expiration = parse_date(document["Expiration"])
        if expiration.tzinfo is None:
            return False
        expires_at = expiration.timestamp()
        keys = (document["AccessKeyId"], document["SecretAccessKey"])
        token = document["Token"] or None  # Of a user, not of a role.
        if expires_at <= self._clock() or not all(isinstance(key, str) and key for key in (*keys, token or "none")):
            return False
        self._kept.credentials, self._kept.expires_at = Credentials(*keys, token), expires_at
        return True
