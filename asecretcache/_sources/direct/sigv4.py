"""AWS Signature Version 4.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """Who signs; its repr doesn't tell."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "<Credentials ***>"


def authorization(
    credentials: Credentials,
    *,
    region: str,
    service: str,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
) -> str:
    """Return the Authorization header of a request.

    Args:
        path: percent-encoded, as is the query, whose parameters are in order; both as AWS normalizes them.
        headers: all that are to be signed, by lower-case names; among them host, x-amz-date and, with temporary
            credentials, x-amz-security-token.
    """
    time = headers["x-amz-date"]
    names = sorted(headers)
    signed = ";".join(names)
    # Of white space only one blank counts.
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    canonical = "\n".join((method, path, query, lines, signed, sha256(body).hexdigest()))
    scope = (time[:8], region, service, "aws4_request")
    text = "\n".join((_ALGORITHM, time, "/".join(scope), sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (*scope, text):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = "/".join((credentials.access_key, *scope))
    return f"{_ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={key.hex()}"
