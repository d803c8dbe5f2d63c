"""Checks the region, the endpoint and the proxies: what they are, and which setting they come from."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from asecretcache._cli.doctor.context import Context, Host, explained
from asecretcache._cli.doctor.report import Status
from asecretcache._sources.sdk.client_factory import check_bundle

_REGION_REMEDY = "set AWS_DEFAULT_REGION, name the region in the profile, or give --region"


async def check_region(context: Context) -> None:
    """Report the region and where it comes from."""
    if context.lacks("region", "session"):
        return
    report = context.report
    try:
        region, origin = _region(context)
    except Exception as exc:  # noqa: BLE001  # a config file that can't be parsed, a profile that doesn't exist
        report.add("region", Status.FAILED, "the AWS settings can't be read", str(explained(exc)))
        return
    ignored = os.environ.get("AWS_REGION")
    if not region:
        also = f"; AWS_REGION={ignored} isn't read by the SDK for Python" if ignored else ""
        empty = f": {origin} is empty" if origin in os.environ else ""
        report.add("region", Status.FAILED, f"no region is set{empty}{also}", _REGION_REMEDY)
        return
    context.region = region
    facts: dict[str, Any] = {"region": region, "from": origin}
    if ignored and ignored != region and context.options.region is None:
        text = f"{region}, from {origin}; AWS_REGION={ignored} isn't read by the SDK for Python"
        report.add("region", Status.WARNING, text, f"set AWS_DEFAULT_REGION={ignored} if that is the one", **facts)
        return
    report.add("region", Status.OK, f"{region}, from {origin}", **facts)


def _region(context: Context) -> tuple[str | None, str]:
    session = context.session
    session.get_scoped_config()  # It raises if the profile doesn't exist.
    configured = session.get_config_variable("region")
    if context.options.region is not None:
        return context.options.region, "the argument"
    names = session.session_var_map["region"][1]
    for name in [names] if isinstance(names, str) else names:
        if name in os.environ:
            return configured, name
    return configured, f"the profile {session.profile or 'default'!r}"


async def check_endpoint(context: Context) -> None:
    """Report the endpoint of Secrets Manager."""
    if context.lacks("endpoint", "session", "region"):
        return
    report, session = context.report, context.session
    try:
        check_bundle(session)  # As the source does: the SDK's own error doesn't name the setting.
        async with context.client("secretsmanager") as client:
            parts = urlsplit(client.meta.endpoint_url)
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except Exception as exc:  # noqa: BLE001  # the SDK raises errors of many classes
        report.add("endpoint", Status.FAILED, "the endpoint can't be determined", str(explained(exc)))
        return
    # Without a user and password, which a URL may have.
    shown_host = f"[{host}]" if ":" in host else host
    context.endpoint = f"{parts.scheme}://{shown_host}" + (f":{parts.port}" if parts.port else "")
    context.host = Host(host, port, parts.scheme == "https", is_proxy=False)
    origin = _endpoint_origin(context)
    variants = {
        "FIPS": bool(session.get_config_variable("use_fips_endpoint")),
        "dual-stack": bool(session.get_config_variable("use_dualstack_endpoint")),
    }
    kinds = [name for name, is_used in variants.items() if is_used]
    text = ", ".join((context.endpoint, f"from {origin}", *kinds))
    facts: dict[str, Any] = {
        "url": context.endpoint,
        "from": origin,
        "fips": variants["FIPS"],
        "dual_stack": variants["dual-stack"],
    }
    report.add("endpoint", Status.OK, text, **facts)


def _endpoint_origin(context: Context) -> str:
    if context.options.endpoint_url is not None:
        return "the argument"
    if str(context.session.get_config_variable("ignore_configured_endpoint_urls")).lower() != "true":
        for name in ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"):
            if os.environ.get(name):
                return name
        settings: dict[str, Any] = context.session.get_scoped_config()
        if {"services", "endpoint_url"} & settings.keys():
            return "the profile's settings"
    return "the region"


async def check_proxy(context: Context) -> None:
    """Report the proxy that calls go through, if any. Its password isn't shown."""
    if context.lacks("proxy", "endpoint"):
        return
    from botocore.httpsession import ProxyConfiguration
    from botocore.utils import get_environ_proxies

    assert context.host is not None
    assert context.endpoint is not None
    report, url = context.report, context.endpoint
    proxy = ProxyConfiguration(get_environ_proxies(url)).proxy_url_for(url)
    if proxy is None:
        names = [name for name in os.environ if name.lower() == f"{urlsplit(url).scheme}_proxy" and os.environ[name]]
        why = f"none: NO_PROXY exempts the endpoint from {names[0]}" if names else "none"
        report.add("proxy", Status.OK, why, proxy=None)
        return
    parts = urlsplit(proxy)
    port = 0
    with suppress(ValueError):
        port = parts.port or (443 if parts.scheme == "https" else 80)
    # An "@" later on means that a password has a slash, and what looks like host and port are its parts.
    if not parts.hostname or not port or "@" in parts.path + parts.query + parts.fragment:
        context.host = None
        remedy = "HTTPS_PROXY must be a URL such as http://proxy.example:3128"
        report.add("proxy", Status.FAILED, "what the variable holds isn't the URL of a proxy", remedy)
        return
    context.host = Host(parts.hostname, port, context.host.is_tls, is_proxy=True)
    # Not botocore's masked URL, which shows parts of some passwords.
    shown = f"{parts.scheme}://{parts.hostname}:{port}"
    report.add("proxy", Status.OK, f"{shown}; the following checks are of the way to it", proxy=shown)
