"""Credentials of the SDK's sessions: verified when they are got, and renewed on any loop."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from asecretcache._sources.sdk.patches import patch_fetchers
from asecretcache._sources.sdk.verified_client import create_client


def share_over_loops(session: Any) -> None:
    """Let the credentials of a session, whose client is used on one loop after another, be renewed on each of them."""
    find = session.get_credentials

    async def get_credentials() -> Any:
        found = await find()
        _free_lock(found)
        return found

    session.get_credentials = get_credentials


async def adopt(session: Any) -> None:
    """Let a user's session get credentials for this package: on any loop, and by verified connections.

    Its credentials hold one lock, which belongs to the first loop that had to wait for it. The clients that it makes
    for the user stay as they are.
    """
    if not isinstance(session.create_client, _CreateClient):
        session.create_client = _CreateClient(session.create_client)
    patch_fetchers(session.get_component("credential_provider"))
    found = await _Renewal(session.get_credentials)()
    _free_lock(found)
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


def _free_lock(found: Any) -> None:
    """Replace the lock of credentials that are renewed: it would belong to the first loop that had to wait for it.

    A loop that dies while it holds the lock would never release it.
    """
    if isinstance(getattr(found, "_refresh_lock", None), asyncio.Lock):
        found._refresh_lock = _LockOfLoop()


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
