"""Checks the way to the endpoint, or to the proxy: DNS, TCP and TLS, each with its time and its remedy."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from contextlib import suppress
from typing import Any, Final

from asecretcache._cli.doctor.certificates import issuer_of, issuer_text
from asecretcache._cli.doctor.context import Context, Host, milliseconds, timed
from asecretcache._cli.doctor.report import Status
from asecretcache._exceptions import ConfigurationError
from asecretcache._sources.sdk.client_factory import bundle_of
from asecretcache._sources.threads import in_thread, resolve
from asecretcache._sources.tls_context import tls_contexts

DNS_SECONDS: Final = 5.0
TCP_SECONDS: Final = 3.0
TLS_SECONDS: Final = 4.0
#: Endpoints have one address in each availability zone.
_MOST_ADDRESSES: Final = 6
_HOST_MISMATCH: Final = 62

_PROXY_REMEDY: Final = "check HTTPS_PROXY, and that the proxy runs and may be reached from here"
_INTERCEPTED: Final = (
    "if a proxy or firewall opens TLS connections, name its authority's certificate in AWS_CA_BUNDLE; else check the "
    "endpoint"
)


async def check_dns(context: Context) -> None:
    """Resolve the name of the host."""
    if context.lacks("dns", "host"):
        return
    assert context.host is not None
    report, host = context.report, context.host
    try:
        async with asyncio.timeout(DNS_SECONDS):
            found, took = await timed(resolve(host.name, host.port))
    except TimeoutError:
        text = f"the name server gave no answer for {host.name} in {DNS_SECONDS:g} s"
        remedy = "check the DNS servers; in a VPC, that UDP and TCP port 53 to its resolver are open"
        report.add("dns", Status.FAILED, text, remedy, host=host.name)
        return
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or type(exc).__name__
        report.add("dns", Status.FAILED, f"{host.name} doesn't resolve ({reason})", _dns_remedy(host), host=host.name)
        return
    context.addresses = list(dict.fromkeys(str(each[4][0]) for each in found))[:_MOST_ADDRESSES]
    shown, kind = ", ".join(context.addresses), _kind(context.addresses)
    text = f"{host.name}: {shown} ({kind}, {milliseconds(took)})"
    report.add("dns", Status.OK, text, host=host.name, addresses=context.addresses, kind=kind, ms=took)


def _dns_remedy(host: Host) -> str:
    if host.is_proxy:
        return _PROXY_REMEDY
    return (
        "check the name of the region, and the endpoint's URL if you set one; in a VPC turn on its DNS support, and "
        "private DNS of the VPC endpoint"
    )


def _kind(addresses: list[str]) -> str:
    parsed = [ipaddress.ip_address(address) for address in addresses]
    if all(each.is_loopback for each in parsed):
        return "this host"
    return "private: a VPC endpoint or a network of your own" if all(each.is_private for each in parsed) else "public"


async def check_tcp(context: Context) -> None:
    """Connect to each address of the host."""
    if context.lacks("tcp", "host", "addresses"):
        return
    assert context.host is not None
    report, host = context.report, context.host
    attempts = await asyncio.gather(*(_connect(address, host.port) for address in context.addresses))
    failures = {
        each: result for each, result in zip(context.addresses, attempts, strict=True) if isinstance(result, str)
    }
    times = {
        each: result for each, result in zip(context.addresses, attempts, strict=True) if not isinstance(result, str)
    }
    facts: dict[str, Any] = {"port": host.port, "ms": times, "failed": failures}
    shown = "; ".join(f"{address}: {reason}" for address, reason in failures.items())
    if not times:
        text = f"no connection to {host.name}, port {host.port} ({shown})"
        report.add("tcp", Status.FAILED, text, _tcp_remedy(context, failures), **facts)
        return
    context.open_address = min(times, key=lambda address: times[address])
    text = f"port {host.port} of {len(times)} of {len(attempts)} addresses, {milliseconds(times[context.open_address])}"
    # Many networks have no route for IPv6, and clients use the other addresses then.
    if any(":" not in address for address in failures):
        remedy = "calls are slow when they try the others first: check the subnets and network ACLs of their zones"
        report.add("tcp", Status.WARNING, f"{text}; {shown}", remedy, **facts)
        return
    report.add("tcp", Status.OK, text, **facts)


async def _connect(address: str, port: int) -> float | str:
    """Return the milliseconds that a connection took, or why there is none."""
    try:
        async with asyncio.timeout(TCP_SECONDS):
            (_, writer), took = await timed(asyncio.open_connection(address, port))
    except TimeoutError:
        return f"no answer in {TCP_SECONDS:g} s"
    except OSError as exc:
        return (os.strerror(exc.errno) if exc.errno else type(exc).__name__).lower()
    writer.transport.abort()
    return took


def _tcp_remedy(context: Context, failures: dict[str, str]) -> str:
    assert context.host is not None
    if context.host.is_proxy:
        return _PROXY_REMEDY
    if _kind(list(failures)) == "public":
        service = f"com.amazonaws.{context.region}.secretsmanager"
        return (
            f"let the network reach it: in a VPC by a VPC endpoint for {service} with private DNS, or by a NAT gateway "
            "(a public subnet alone is not enough for Lambda); elsewhere by the firewall, or a proxy in HTTPS_PROXY"
        )
    return (
        f"if it is a VPC endpoint, its security group must allow port {context.host.port} from here, and this side's "
        "security group and network ACLs must allow the way out; else check that the server runs"
    )


async def check_tls(context: Context) -> None:
    """Do a TLS handshake as the sources do, and say who signed the certificate."""
    if context.lacks("tls", "host"):
        return
    assert context.host is not None
    report, host = context.report, context.host
    if not host.is_tls:
        context.tls = True
        report.add("tls", Status.OK, "none: the endpoint has plain HTTP")
        return
    if host.is_proxy:
        context.tls = True
        report.add("tls", Status.SKIPPED, "not checked: it goes through the proxy, as the next check does")
        return
    if context.lacks("tls", "addresses", "open_address"):
        return
    try:
        bundle = bundle_of(context.session)
        trusted = await in_thread(tls_contexts.get, bundle)
    except ConfigurationError as exc:
        report.add("tls", Status.FAILED, "there is no trust store", str(exc))
        return
    try:
        tls, took = await _handshake(context, trusted)
    except ssl.SSLCertVerificationError as exc:
        await _report_untrusted(context, exc, bundle)
    except TimeoutError:
        text = f"the server didn't answer the TLS handshake in {TLS_SECONDS:g} s"
        remedy = "a firewall or proxy may hold TLS connections: let this host name through, or set HTTPS_PROXY"
        report.add("tls", Status.FAILED, text, remedy)
    except (OSError, EOFError) as exc:
        reason = getattr(exc, "reason", None) or type(exc).__name__
        remedy = "a firewall may end TLS connections, or the server has no TLS: check the firewall and the endpoint"
        report.add("tls", Status.FAILED, f"the TLS handshake failed ({reason})", remedy)
    else:
        context.tls = True
        signer = issuer_text(tls.getpeercert() or {})
        group = _group(tls)
        details = ", ".join(filter(None, (tls.version(), group, f"signed by {signer}", milliseconds(took))))
        facts = {"version": tls.version(), "group": group, "cipher": tls.cipher()[0], "issuer": signer}
        report.add("tls", Status.OK, details, ms=took, ca_bundle=bundle, **facts)


def _group(tls: Any) -> str | None:
    """Return the group of the key exchange, which Python tells from 3.15 on."""
    find = getattr(tls, "group", None)
    return None if find is None else str(find())


async def _handshake(context: Context, trust: ssl.SSLContext) -> tuple[Any, float]:
    """Return the connection's SSLObject, and the milliseconds that TCP and TLS took."""
    assert context.host is not None
    async with asyncio.timeout(TLS_SECONDS):
        connecting = asyncio.open_connection(
            context.open_address, context.host.port, ssl=trust, server_hostname=context.host.name
        )
        (_, writer), took = await timed(connecting)
    tls = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return tls, took


async def _report_untrusted(context: Context, exc: ssl.SSLCertVerificationError, bundle: str) -> None:
    assert context.host is not None
    reason = exc.verify_message or "certificate verify failed"
    # Nothing is sent on this connection: it is only made to name who signed.
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusting.check_hostname, untrusting.verify_mode = False, ssl.CERT_NONE
    signer = "an unknown authority"
    with suppress(OSError, EOFError):
        tls, _ = await _handshake(context, untrusting)
        signer = issuer_of(tls.getpeercert(binary_form=True)) or signer
    text = f"the certificate isn't trusted: {reason}; signed by {signer}"
    remedy = _INTERCEPTED
    if exc.verify_code == _HOST_MISMATCH:
        remedy = f"the certificate isn't for {context.host.name}: give the endpoint by the name in its certificate"
    elif "expired" in reason or "not yet valid" in reason:
        remedy = "set this system's clock; if it is right, the server's certificate must be renewed"
    context.report.add("tls", Status.FAILED, text, remedy, issuer=signer, ca_bundle=bundle)
