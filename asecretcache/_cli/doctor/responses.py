"""Checks that Secrets Manager answers, by a call that AWS refuses, and compares its clock with this system's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final

from asecretcache._cli.doctor.context import Context, explained, milliseconds, timed
from asecretcache._cli.doctor.report import Status
from asecretcache._sources.log_redaction import redacted

RESPONSE_SECONDS: Final = 7.0
#: AWS refuses a signature that is five minutes old: https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html
_WRONG_CLOCK: Final = 270.0
_INEXACT_CLOCK: Final = 30.0
#: Of a secret that needn't exist: an unsigned call is refused before anybody looks for it.
_SECRET_ID: Final = "asecretcache-doctor"
_CODE_PATTERN: Final = r"[A-Z][A-Za-z]{2,60}"


async def check_response(context: Context) -> None:
    """Call DescribeSecret without a signature: any of AWS's own errors shows that Secrets Manager can be reached."""
    if context.lacks("response", "session", "host", "addresses", "open_address", "tls"):
        return
    report, began = context.report, context.clock()
    try:
        with redacted():
            async with asyncio.timeout(RESPONSE_SECONDS):
                response, took = await timed(_call(context))
    except Exception as exc:  # noqa: BLE001  # the SDK raises errors of many classes
        report.add("response", Status.FAILED, "Secrets Manager doesn't answer", str(explained(exc)))
        return
    code, status, headers = response
    facts: dict[str, Any] = {"http_status": status, "code": code, "ms": took}
    if status >= 500 or (status != 200 and not re.fullmatch(_CODE_PATTERN, code)):
        text = f"something answers with HTTP {status}, but not as Secrets Manager does"
        report.add("response", Status.FAILED, text, "check the endpoint and any proxy on the way", **facts)
        return
    context.answers = True
    report.add("response", Status.OK, f"Secrets Manager answers, {milliseconds(took)} with the connection", **facts)
    _check_clock(context, headers, (began + context.clock()) / 2)


async def _call(context: Context) -> tuple[str, int, Mapping[str, str]]:
    """Return the code of the error, the HTTP status and the headers of an unsigned call."""
    from botocore.exceptions import ClientError

    async with context.client("secretsmanager", is_signed=False) as client:
        try:
            response: Any = await client.describe_secret(SecretId=_SECRET_ID)
        except ClientError as exc:
            response = exc.response
    metadata = response["ResponseMetadata"]
    code = str(response.get("Error", {}).get("Code", ""))
    return code, int(metadata["HTTPStatusCode"]), metadata.get("HTTPHeaders", {})


def _check_clock(context: Context, headers: Mapping[str, str], now: float) -> None:
    skew = None
    with suppress(KeyError, ValueError, OverflowError):
        # The header has whole seconds, cut off.
        skew = now - (parsedate_to_datetime(headers["date"]).timestamp() + 0.5)
    if skew is None:
        context.report.add("clock", Status.SKIPPED, "not checked: the response has no date")
        return
    facts: dict[str, Any] = {"skew_seconds": round(skew, 1)}
    if abs(skew) <= _INEXACT_CLOCK:
        context.report.add("clock", Status.OK, f"within {max(1, round(abs(skew)))} s of the server's", **facts)
        return
    text = f"{abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the server's clock"
    remedy = "set this system's clock, by NTP or chrony: AWS refuses signatures that are five minutes off"
    status = Status.FAILED if abs(skew) > _WRONG_CLOCK else Status.WARNING
    context.report.add("clock", status, text, remedy, **facts)
