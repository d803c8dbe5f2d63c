"""AWS Signature Version 4.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from asecretcache._sources.direct.http_message import Request

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Credentials:
    """The keys that sign a request.

    Its repr shows none of them, and it is neither a tuple nor a dataclass, since error trackers show what is in those.
    """

    __slots__ = ("access_key", "secret_key", "token")

    def __init__(self, access_key: str, secret_key: str, token: str | None) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.token = token


def authorization_header(credentials: Credentials, request: Request, *, region: str, service: str) -> str:
    """Return the Authorization header of a request.

    Args:
        credentials: the keys.
        request: the request. The path of its target is percent-encoded and normalized as AWS requires it, and the
            parameters of its query are sorted. It has the headers to sign, by lower-case names; among them host,
            x-amz-date and, with temporary credentials, x-amz-security-token.
        region: the region.
        service: the service's signing name.
    """
    headers, (path, _, query) = request.headers, request.target.partition("?")
    time = headers["x-amz-date"]
    names = sorted(headers)
    signed_names = ";".join(names)
    # A run of white space counts as one blank.
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    canonical_request = "\n".join((request.method, path, query, lines, signed_names, sha256(request.body).hexdigest()))
    scope = (time[:8], region, service, "aws4_request")
    text = "\n".join((_ALGORITHM, time, "/".join(scope), sha256(canonical_request.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (*scope, text):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = "/".join((credentials.access_key, *scope))
    return f"{_ALGORITHM} Credential={credential}, SignedHeaders={signed_names}, Signature={key.hex()}"
