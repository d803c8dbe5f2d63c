"""Credentials that need no SDK: of the environment, and of a container's endpoint."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Final

from asecretcache._sources.direct.connection_pool import Connections
from asecretcache._sources.direct.http_message import Request
from asecretcache._sources.direct.origin import Origin
from asecretcache._sources.direct.sigv4 import Credentials
from asecretcache._sources.exceptions import CredentialRetrievalError, TransportError

# As botocore has them: seconds before the end at which renewing is tried, and at which it must succeed; and how.
_ADVISORY: Final = 15 * 60.0
_MANDATORY: Final = 10 * 60.0
_ATTEMPTS: Final = 3
_PAUSE: Final = 1.0
_TIMEOUT: Final = 2.0


def environment_credentials() -> Credentials | None:
    """Return what the environment says now, or None if it doesn't."""
    environment = os.environ
    access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = environment.get("AWS_SECURITY_TOKEN") or environment.get("AWS_SESSION_TOKEN")
    return Credentials(access_key, secret_key, token or None)


class ContainerCredentials:
    """The credentials that ECS, EKS and Lambda SnapStart serve over HTTP, kept until they end. Belongs to one loop.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
    """

    def __init__(self, origin: Origin, target: str, *, clock: Callable[[], float]) -> None:
        self._origin = origin
        self._target = target
        self._clock = clock
        self._lock = asyncio.Lock()
        self._found: Credentials | None = None
        self._ends_at = 0.0

    async def get(self) -> Credentials:
        """Return them, fetched now if they are about to end.

        Raises:
            CredentialRetrievalError: there are none that could be used.
        """
        # While somebody renews them the others use what there is.
        if self._found is None or self._left() < (_MANDATORY if self._lock.locked() else _ADVISORY):
            async with self._lock:
                if self._found is None or self._left() < _ADVISORY:
                    await self._renew()
        assert self._found is not None
        return self._found

    def _left(self) -> float:
        return self._ends_at - self._clock()

    async def _renew(self) -> None:
        headers = self._headers()
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE)
            if await self._fetch(headers):
                return
        if self._found is None or self._left() < _MANDATORY:
            raise CredentialRetrievalError

    def _headers(self) -> _Headers:
        headers = _Headers({"host": self._origin.header, "accept": "application/json"})
        try:
            path = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            if path is not None:
                with open(path, encoding="utf-8") as file:
                    headers["authorization"] = file.read()
            elif "AWS_CONTAINER_AUTHORIZATION_TOKEN" in os.environ:
                headers["authorization"] = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        except (OSError, ValueError):
            headers["authorization"] = "\n"
        if any(end in headers.get("authorization", "") for end in "\r\n"):
            headers.clear()
        if headers:
            return headers
        raise CredentialRetrievalError

    async def _fetch(self, headers: _Headers) -> bool:
        """Fetch them once and say whether that worked."""
        connections = Connections(self._origin, None, clock=self._clock)
        try:
            response = await connections.send(
                Request("GET", self._target, headers), connect_timeout=_TIMEOUT, read_timeout=_TIMEOUT
            )
            return response.status == 200 and self._take(response.body)
        except (TransportError, ValueError, LookupError, TypeError):
            return False
        finally:
            connections.close()

    def _take(self, body: bytes) -> bool:
        from datetime import datetime  # In 3.11 it takes 2 ms, which who needs no container is spared.

        answer = json.loads(body)
        ends_at = datetime.fromisoformat(answer["Expiration"]).timestamp()
        if ends_at <= self._clock():
            return False
        found = Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])
        if not all(isinstance(part, str) and part for part in found):
            return False
        self._found, self._ends_at = found, ends_at
        return True


class _Headers(dict[str, str]):
    """They hold a token; the repr doesn't show it."""

    def __repr__(self) -> str:
        return "<headers>"
