"""Credentials of the SDK's sessions, kept over clients: a client ends with its loop, and after it was idle for 20 s.

Otherwise each client would ask the instance, the container or STS anew, and fail if that is out of reach for a moment.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from asecretcache._process_events import before_snapshot
from asecretcache._sources.sdk.patches import patch_fetchers
from asecretcache._sources.sdk.verified_client import create_client

# botocore renews credentials this long before they expire.
_ADVISORY_REFRESH = 15 * 60


class KeptCredentials:
    """The last temporary credentials that a source's sessions have found. Any thread may use it."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def forget(self) -> None:
        """Let the next client look for credentials."""
        self._kept = None

    def attach(self, session: Any) -> None:
        """Let a session, which makes clients of one loop, use and keep them.

        A snapshot must hold none, so nothing is kept where one is taken.
        """
        if before_snapshot.is_ahead:
            return
        find = session.get_credentials

        async def get_credentials() -> Any:
            found = self._usable(find)
            if found is None:
                found = await find()
                self._watch(found)
            # A client outlives its loop, which may have died while it held the lock.
            if isinstance(getattr(found, "_refresh_lock", None), asyncio.Lock):
                found._refresh_lock = _LockOfLoop()
            return found

        session.get_credentials = get_credentials

    def _usable(self, find: Any) -> Any:
        """Return credentials of what is kept, if that doesn't have to be renewed yet, else None."""
        from aiobotocore.credentials import AioRefreshableCredentials

        kept = self._kept
        if kept is None:
            return None

        async def renew() -> Any:
            found = await find()
            self._watch(found)
            return await _metadata_of(found)

        made = AioRefreshableCredentials.create_from_metadata(kept.metadata, renew, kept.method)
        return None if made.refresh_needed(_ADVISORY_REFRESH) else made

    def _watch(self, found: Any) -> None:
        """Keep temporary credentials, now if they are known, and whenever they are renewed."""
        renew = getattr(found, "_refresh_using", None)
        if renew is None or found.method == "env":
            return  # Keys in the environment or a file cost nothing to find again.
        if found._expiry_time is not None:
            self._kept = _Kept(_metadata(found), found.method)

        async def renew_and_keep() -> Any:
            metadata = await renew()
            self._kept = _Kept(metadata, found.method)
            return metadata

        found._refresh_using = renew_and_keep


class _Kept:
    """Keys, and how they were found. No dict in a frame, since a traceback may show locals."""

    __slots__ = ("metadata", "method")

    def __init__(self, metadata: Any, method: str) -> None:
        self.metadata = metadata
        self.method = method


async def _metadata_of(found: Any) -> Any:
    """Return keys in the form in which the SDK renews credentials."""
    await found.get_frozen_credentials()
    return _metadata(found)


def _metadata(found: Any) -> dict[str, Any]:
    return {
        "access_key": found._access_key,
        "secret_key": found._secret_key,
        "token": found._token,
        "expiry_time": found._expiry_time.isoformat(),
    }


async def adopt(session: Any) -> None:
    """Let a user's session get credentials for this package: on any loop, and by verified connections.

    Its credentials hold one lock, which belongs to the first loop that had to wait for it. The clients that it makes
    for the user stay as they are.
    """
    if not isinstance(session.create_client, _CreateClient):
        session.create_client = _CreateClient(session.create_client)
    patch_fetchers(session.get_component("credential_provider"))
    found = await _Renewal(session.get_credentials)()
    if isinstance(getattr(found, "_refresh_lock", None), asyncio.Lock):
        found._refresh_lock = _LockOfLoop()
    renew = getattr(found, "_refresh_using", None)
    if renew is not None and not isinstance(renew, _Renewal):
        found._refresh_using = _Renewal(renew)


# Whether the credentials that are being got are for this package.
_for_us: ContextVar[bool] = ContextVar("asecretcache.credentials_for_us", default=False)


class _CreateClient:
    """Makes clients for a session; those that get credentials for this package, such as STS's, are verified."""

    def __init__(self, create: Callable[..., Any]) -> None:
        self._create = create

    def __call__(self, *args: Any, **arguments: Any) -> Any:
        return create_client(self._create, *args, **arguments) if _for_us.get() else self._create(*args, **arguments)


class _Renewal:
    """Gets credentials for this package."""

    def __init__(self, renew: Callable[[], Any]) -> None:
        self._renew = renew

    async def __call__(self) -> Any:
        token = _for_us.set(True)
        try:
            found = self._renew()
            return await found if inspect.isawaitable(found) else found
        finally:
            _for_us.reset(token)


class _LockOfLoop:
    """A lock for each event loop: threads that renew at the same time only do it twice."""

    def __init__(self) -> None:
        self._locks: MutableMapping[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    def _mine(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def locked(self) -> bool:
        """Whether a task of the running loop holds it."""
        return self._mine().locked()

    async def __aenter__(self) -> None:
        await self._mine().acquire()

    async def __aexit__(self, *_: object) -> None:
        self._mine().release()
