"""Checks which source the default cache would use, and whether DirectSource is possible here."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, Final

from asecretcache._cli.doctor.context import Context
from asecretcache._cli.doctor.report import Status
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.default import SOURCE, TTL, ttl_of
from asecretcache._sources.direct.environment import Settings, resolve_settings

_SOURCES: Final = {"direct": "DirectSource", "agent": "AgentSource", "aioboto3": "SecretsManagerSource"}


def chosen_source() -> str:
    """Return what ASECRETCACHE_SOURCE is set to, or ""."""
    return os.environ.get(SOURCE, "").strip().lower()


async def check_source(context: Context) -> None:
    """Report the source of the default cache, and why DirectSource isn't possible if it isn't."""
    report, setting = context.report, chosen_source()
    settings = _direct_settings(context)
    if isinstance(settings, str):
        context.direct = settings
    else:
        context.direct = None
        context.region = context.region or settings.region  # Without the SDK no check before has found it.
    is_direct = setting == "direct"
    facts: dict[str, Any] = {
        "source": _SOURCES.get(setting, "SecretsManagerSource"),
        "direct_possible": context.direct is None,
        "direct_reason": context.direct,
        "ttl": os.environ.get(TTL) or None,
    }
    try:
        ttl_of(os.environ.get(TTL, "").strip() or "none")
    except ConfigurationError as exc:
        report.add("source", Status.FAILED, str(exc), **facts)
        return
    if setting not in {"", *_SOURCES}:
        remedy = "write direct, agent or aioboto3"
        report.add("source", Status.FAILED, f"{SOURCE} can't be {setting!r}", remedy, **facts)
    elif setting == "agent":
        text = (
            f"AgentSource, by {SOURCE}: secrets are read from AWS's local provider alone; the checks above are of AWS "
            "itself, which this process needn't reach"
        )
        report.add("source", Status.OK, text, **facts)
    elif is_direct and context.direct is not None:
        remedy = f"change that, or unset {SOURCE}: a cold start is slower with the SDK"
        text = f"DirectSource, by {SOURCE}, but {context.direct}"
        report.add("source", Status.WARNING, text, remedy, **facts)
    elif is_direct:
        report.add("source", Status.OK, f"DirectSource, by {SOURCE}", **facts)
    else:
        possible = f"DirectSource is possible: {SOURCE}=direct makes cold starts faster"
        impossible = f"DirectSource isn't possible: {context.direct}"
        chosen = f"SecretsManagerSource, {'by ' + SOURCE if setting else 'the default'}"
        report.add("source", Status.OK, f"{chosen}; {impossible if context.direct else possible}", **facts)


def _direct_settings(context: Context) -> Settings | str:
    """Return DirectSource's settings here, or why it isn't possible."""
    if importlib.util.find_spec("httptools") is None:
        return "httptools isn't installed (pip install 'asecretcache[direct]')"
    settings = resolve_settings(context.options.region, context.options.endpoint_url)
    return f"the AWS SDK is needed: {settings}" if isinstance(settings, str) else settings
