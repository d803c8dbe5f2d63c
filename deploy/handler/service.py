"""The same work as a service, for ECS: it reads the secrets once a minute, and prints their names."""

from __future__ import annotations

import asyncio
import json

from app import read_secrets

from asecretcache import SecretCacheError

INTERVAL = 60.0


async def main() -> None:
    """Work until the process is ended."""
    while True:
        try:
            print(json.dumps({"read": sorted(await read_secrets())}), flush=True)
        except SecretCacheError as error:
            # The texts of these errors have no values.
            print(json.dumps({"error": str(error)}), flush=True)
        await asyncio.sleep(INTERVAL)


if __name__ == "__main__":
    asyncio.run(main())
