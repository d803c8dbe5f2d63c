"""Makes all checks in order, within one time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from asecretcache._cli.doctor.context import Context, explained
from asecretcache._cli.doctor.identity import check_credentials, check_identity
from asecretcache._cli.doctor.installation import check_installation
from asecretcache._cli.doctor.network import check_dns, check_tcp, check_tls
from asecretcache._cli.doctor.report import Status
from asecretcache._cli.doctor.responses import check_response
from asecretcache._cli.doctor.secrets import check_secrets
from asecretcache._cli.doctor.settings import check_endpoint, check_proxy, check_region
from asecretcache._cli.doctor.source_choice import check_source

#: Each reports what it found, and what it could not check because an earlier one failed.
CHECKS: Final[tuple[tuple[str, Callable[[Context], Awaitable[None]]], ...]] = (
    ("installation", check_installation),
    ("region", check_region),
    ("credentials", check_credentials),
    ("identity", check_identity),
    ("endpoint", check_endpoint),
    ("proxy", check_proxy),
    ("dns", check_dns),
    ("tcp", check_tcp),
    ("tls", check_tls),
    ("response", check_response),
    ("source", check_source),
    ("secrets", check_secrets),
)


async def examine(context: Context) -> None:
    """Make all checks; the context's report has what they found."""
    options, current = context.options, ""
    try:
        async with asyncio.timeout(options.seconds):
            for current, check in CHECKS:
                try:
                    await check(context)
                except Exception as exc:  # noqa: BLE001  # a report must not be lost by one check
                    context.report.add(current, Status.FAILED, "the check itself failed", str(explained(exc)))
    except TimeoutError:
        text = f"stopped after {options.seconds:.0f} s, while checking {current}; nothing after it was checked"
        remedy = "give the function a longer timeout, such as 60 s, or check fewer secrets at a time"
        context.report.add(current, Status.FAILED, text, remedy)
