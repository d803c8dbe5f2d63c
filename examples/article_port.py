"""The pattern from Node, ported: bootstrap() before the work, then read the environment.

The function's environment has SECRET_ID, the name or ARN of a secret. The first invocation of an execution environment
pays for one GetSecretValue; the log says whether the secret was in the cache or was fetched.
"""

from __future__ import annotations

import os
from typing import Any

from asecretcache import async_handler, bootstrap


@async_handler
async def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    await bootstrap()
    secret = os.environ["STORED_SECRET"]
    # The article returns the secret itself; a real handler would rather use it.
    return {"characters": len(secret)}
