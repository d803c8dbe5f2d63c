"""The responses of the endpoint where a container finds its credentials."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from asecretcache.testing import ManualClock
from raw_server import http


def container_response(clock: ManualClock, seconds: float = 3600, key: str = "AKIACONTAINER", **change: Any) -> bytes:
    """Credentials that expire in so many seconds; a changed field of None is left out."""
    expiration = datetime.fromtimestamp(clock.now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"AccessKeyId": key, "SecretAccessKey": "canary-key", "Token": "canary-token", "Expiration": expiration}
    return http({name: value for name, value in (fields | change).items() if value is not None})
