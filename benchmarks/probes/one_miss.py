"""Print the calls of functions of the package that one cold ``await cache.get_secret()`` makes, as JSON.

Usage: one_miss.py REFERENCE. It runs where asecretcache can be imported.

The source is one line that returns a secret made beforehand. A call is a ``call`` event of sys.setprofile in a frame of
the package: a function that is called, or a coroutine that starts or is resumed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import FrameType

import asecretcache
from asecretcache import Secret, SecretCache, SecretRequest

PACKAGE = Path(asecretcache.__file__).parent
SECRET = Secret(name="prod/db", arn="arn:1", version_id="v", secret_string='{"password": "value"}')


class Source:
    async def fetch(self, _request: SecretRequest) -> Secret:
        return SECRET

    async def aclose(self) -> None:
        """Nothing to close."""


async def calls_of(reference: str) -> list[tuple[str, str]]:
    """Return the module and the qualified name of each call, in order."""
    seen: list[tuple[str, str]] = []
    cache = SecretCache(Source())

    def note(frame: FrameType, event: str, _argument: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            seen.append((str(file.relative_to(PACKAGE)), frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        await cache.get_secret(reference)
    finally:
        sys.setprofile(None)
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(calls_of(sys.argv[1]))))
