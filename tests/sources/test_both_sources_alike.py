"""DirectSource answers as the SDK does, whatever a server, an endpoint of credentials or the environment says."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any, Final

import pytest
from aiobotocore.utils import AioContainerMetadataFetcher

from asecretcache import DirectSource, SecretCacheError, SecretsManagerSource, SecretSource
from raw_server import GOOD, RawServer, http, serve
from source_helpers import NAME

MISSING: Final = object()
#: What may stand in a field's place.
ODD: Final[tuple[object, ...]] = (MISSING, None, "", "x", "é\u20ac", 0, 5, -1.5, True, [], ["x"], [None], {}, {"a": 1})
SECONDS: Final = (1700000000, 1.7e9, -1, 1e11, 1e300, -1e300, 10**400, float("nan"), float("inf"))
DATES: Final = (
    *("1700000000.25", "1e999", "nan", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.123456Z", "2023-11-14T22:13:20"),
    *("2023-11-14T22:13:20+01:00", "2023-11-14", "20231114T221320Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    *("Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20 -0500", "14 Nov 2023 22:13:20", "2023-13-45T99:99Z"),
)
BASE64: Final = ("AP8=", "AP8", "AP-_", "A P 8 =", "====", "AP8=AP8=", "AP8=\n", "é")


async def outcome(source: SecretSource) -> tuple[object, ...]:
    """What a caller learns: the fields of the secret, or the error's class and text."""
    try:
        secret = await source.fetch(NAME)
    except SecretCacheError as exc:
        # The SDK's own errors tell a place in the SDK.
        return type(exc).__name__, str(exc).partition(" (")[0], exc.is_transient
    fields = secret.name, secret.arn, secret.version_id, secret.version_stages, secret.created_date
    return *fields, secret.secret_string, secret.secret_binary


async def differences(
    set_up: Callable[[Any], None], variants: Mapping[str, object], *, clients: int = 1
) -> dict[str, tuple[object, ...]]:
    """Both outcomes, the SDK's first, of each variant whose outcomes differ.

    Args:
        set_up: makes a variant what the sources will meet.
        variants: by what is special about them.
        clients: 1 if the variants have one client of each source, 0 if each variant has its own.
    """
    found: dict[str, tuple[object, ...]] = {}
    sources: list[SecretSource] = []
    for label, variant in variants.items():
        set_up(variant)
        if not sources:
            sources = [SecretsManagerSource(), DirectSource()]
        sdk, direct = [await outcome(source) for source in sources]
        if sdk != direct:
            found[label] = sdk, direct
        if not clients or label == list(variants)[-1]:
            for source in sources:
                await source.aclose()
            sources = []
    return found


def changed(whole: Mapping[str, object], field: str, *values: object) -> dict[str, object]:
    """A document for each of the values that a field may have, by what is changed."""
    documents = {f"{field}={value!r}": {**whole, field: value} for value in values}
    return {
        label: {name: value for name, value in document.items() if value is not MISSING}
        for label, document in documents.items()
    }


@pytest.fixture
def respond(aws_raw: RawServer, delays: object) -> Callable[[bytes], None]:
    """Sets the response of Secrets Manager; retries don't wait."""
    return functools.partial(setattr, aws_raw, "bytes")


async def test_a_response(respond: Callable[[bytes], None]) -> None:
    """Each field is missing, of another type, or in another form."""
    bodies: dict[str, Any] = {}
    for field in GOOD:
        bodies |= changed(GOOD, field, *ODD)
    bodies |= changed(GOOD, "CreatedDate", *SECONDS, *DATES)
    binary = {name: value for name, value in GOOD.items() if name != "SecretString"}
    bodies |= changed(binary, "SecretBinary", *ODD, *BASE64)
    for field in ("SecretBinary", "Unknown", "ResponseMetadata"):
        bodies |= {f"{field} besides": GOOD | {field: "x"}}
    bodies |= {
        text: text.encode() for text in ("", "{", "null", "[]", "5", '"x"', "{}", "\ufeff{}", '{"Name": "\\ud800"}')
    }

    assert await differences(respond, {label: http(body) for label, body in bodies.items()}) == {}


async def test_a_refusal(respond: Callable[[bytes], None]) -> None:
    """By each of a code's forms, with each status, and with dates that no clock has."""
    bodies: dict[str, Any] = {"no JSON": b"<html>", "a list": [], "nothing": b""}
    code = "AccessDeniedException"
    for field in ("__type", "code", "message", "Message"):
        bodies |= changed({"__type": code, "message": "no"}, field, *ODD, f"aws#{code}", f"{code}:http://x/", "#", ":")
    for code in ("InvalidRequestException", "ResourceNotFoundException", "NewException", "503", "ThrottlingException"):
        bodies |= changed({"message": "it is marked for deletion"}, "__type", code)
    variants = {f"{status} {label}": http(body, status) for label, body in bodies.items() for status in (400, 500)}
    for text in ("Signature expired: x", "Signature not yet current: x", "The request signature does not match"):
        body = {"__type": "InvalidSignatureException", "message": text}
        now = time.time()
        for date in ("", "x", "Mon, 01 Jan 99999 00:00:00 GMT", formatdate(now, usegmt=True), formatdate(now + 3600)):
            variants[f"{text} at {date}"] = http(body, 400, f"Date: {date}")

    assert await differences(respond, variants) == {}


@pytest.fixture
def respond_with_keys(
    aws_raw: RawServer, credentials: pytest.MonkeyPatch, delays: object
) -> Iterator[Callable[[bytes], None]]:
    """Sets the response of a container's endpoint of credentials."""
    credentials.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        credentials.delenv(name, raising=False)
    for container in serve():
        credentials.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/c")
        yield functools.partial(setattr, container, "bytes")


async def test_the_credentials_of_a_container(respond_with_keys: Callable[[bytes], None]) -> None:
    """Each field is missing, of another type, or in another form."""
    soon = (datetime.now(UTC) + timedelta(hours=6)).replace(microsecond=0)
    keys = {"AccessKeyId": "AKIA", "SecretAccessKey": "s", "Token": "t", "Expiration": soon.isoformat()}
    bodies: dict[str, Any] = {"whole": keys, "no JSON": b"<html>", "nothing": b"", "a list": [], "null": b"null"}
    # The SDK signs with keys that are no text, and DirectSource doesn't.
    for field in keys:
        bodies |= changed(keys, field, MISSING)
    bodies |= changed(keys, "Token", None, "") | changed(keys, "Expiration", *ODD)
    forms = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S", "%s", "%a, %d %b %Y %H:%M:%S GMT")
    bodies |= changed(keys, "Expiration", *(soon.strftime(form) for form in forms), "2001-01-01T00:00:00Z")
    variants = {label: http(body, content_type="application/json") for label, body in bodies.items()}
    variants |= {f"{status}": http(keys, status) for status in (201, 301, 400, 404, 500)}

    assert await differences(respond_with_keys, variants, clients=0) == {}
