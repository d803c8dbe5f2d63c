"""The JSON bodies of Secrets Manager's responses: records in the SDK's form, and its errors."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from asecretcache._sources.direct.dates import parse_date
from asecretcache._sources.direct.http_message import Response
from asecretcache._sources.exceptions import ClientError, ResponseParserError


def client_error(response: Response, operation: str) -> ClientError:
    """Return the error that botocore's parser of the JSON protocol makes of a response.

    Raises:
        ResponseParserError: the response isn't in that protocol; this error doesn't hold it.
    """
    document: Any = {}
    with suppress(ValueError):
        document = json.loads(response.body)
    code = document.get("__type", str(response.status)) if isinstance(document, dict) else document
    if code is not None and not isinstance(code, str):
        del response, document, code  # A traceback may show locals.
        raise ResponseParserError
    # One of its forms is "aws.protocol#Code:http://...".
    code = code and code.partition(":")[0].rpartition("#")[2]
    return ClientError(
        {
            "Error": {"Code": code, "Message": document.get("message", document.get("Message", ""))},
            "ResponseMetadata": {
                "HTTPStatusCode": response.status,
                "HTTPHeaders": response.headers,
                "RequestId": response.headers.get("x-amzn-requestid"),
            },
        },
        operation,
    )


def parse(response: Response, decode: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return the decoded body of a response, or raise ResponseParserError, which doesn't hold it."""
    with suppress(ValueError, TypeError, RecursionError):
        return decode(json.loads(response.body))
    del response  # A traceback may show locals.
    raise ResponseParserError


def decode_page(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a page of a batch with the SDK's types; see ``decode``."""
    page = dict(document)
    page["SecretValues"] = [decode(value) for value in page.get("SecretValues") or ()]
    return page


def decode(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the SDK's types, except that the date stays a number until it is read."""
    decoded = dict(record)
    if decoded.get("SecretBinary") is not None:
        decoded["SecretBinary"] = binascii.a2b_base64(decoded["SecretBinary"])
    if decoded.get("VersionStages") is not None:
        decoded["VersionStages"] = list(decoded["VersionStages"])
    created = decoded.get("CreatedDate")
    if isinstance(created, str):
        # AWS sends numbers, but some stand-ins send text.
        try:
            decoded["CreatedDate"] = float(created)
        except ValueError:
            decoded["CreatedDate"] = parse_date(created)
    return decoded
