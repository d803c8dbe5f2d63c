"""The example of a server as it stands, behind Mangum, which runs its lifespan in each invocation."""

from __future__ import annotations

from fastapi_lifespan import app
from mangum import Mangum

from asecretcache import sync_handler

lambda_handler = sync_handler(Mangum(app))
