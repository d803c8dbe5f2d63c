"""The functions of the demo that log in to a database whose password is rotated."""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.request
from typing import Any

from asecretcache import async_handler, get_default_cache

USER, PASSWORD = "prod/db:user", "prod/db:password"


class RefusedError(Exception):
    """The database refuses the password."""


async def connect(*, user: str = "", password: str = "") -> str:
    """Log in to the database."""
    request = urllib.request.Request(f"{os.environ['DATABASE']}/login", password.encode())  # the demo's own server
    try:
        await asyncio.to_thread(urllib.request.urlopen, request)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise RefusedError(f"the database refuses the password of {user}") from None
    return user


cache = get_default_cache()
connect_usually = cache.inject(user=USER, password=PASSWORD)(connect)
connect_again = cache.inject(user=USER, password=PASSWORD, refresh_on=RefusedError)(connect)


@async_handler(prefetch=["prod/db"])
async def logs_in(event: dict[str, Any], context: Any) -> str:
    """Log in with the password in memory, whether the database still takes it or not."""
    return await connect_usually()


@async_handler(prefetch=["prod/db"])
async def logs_in_again(event: dict[str, Any], context: Any) -> str:
    """Log in, and once more with a newer password if the database refuses it."""
    return await connect_again()
