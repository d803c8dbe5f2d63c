"""An HTTP request as API Gateway hands it to a function."""

from __future__ import annotations

from typing import Any

REQUEST: dict[str, Any] = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/",
    "rawQueryString": "",
    "headers": {"host": "example"},
    "requestContext": {
        "http": {"method": "GET", "path": "/", "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"},
        "stage": "$default",
    },
    "isBase64Encoded": False,
}
