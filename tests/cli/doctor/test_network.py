"""The checks of DNS, TCP and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from asecretcache._cli.doctor import network
from cli_helpers import finding, statuses
from connect_proxy import ConnectProxy
from fault_server import HOST, FaultServer
from raw_server import RawServer, Stage, close

Doctor = Callable[..., tuple[int, dict[str, Any]]]


def test_each_step_of_a_healthy_way(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """DNS tells the addresses, TCP the port, TLS the version and who signed."""
    status, document = doctor("name")

    assert status == 0
    assert finding(document, "dns")["text"].startswith(f"{HOST}: 127.0.0.1 (this host, ")
    assert finding(document, "tcp")["text"].startswith(f"port {fault_server.server_address[1]} of 1 of 1 addresses, ")
    assert finding(document, "tls")["text"].startswith("TLSv1.3, signed by trustme")


def test_a_name_that_does_not_resolve(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Without an address nothing further down the way is tried, and each of that says so."""
    fault_server.lose_name()

    status, document = doctor("name")

    assert status == 1
    assert finding(document, "dns")["text"].startswith(f"{HOST} doesn't resolve (")
    assert "check the name of the region" in finding(document, "dns")["remedy"]
    assert [statuses(document)[check] for check in ("tcp", "tls", "response")] == ["skipped"] * 3
    assert finding(document, "tcp")["text"] == "not checked: the host's name doesn't resolve"
    assert document["secrets"][0]["text"] == "name: not checked: Secrets Manager doesn't answer"
    assert fault_server.requests == []


def test_a_name_server_that_hangs(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """A name server that gives no answer is told apart from a name that doesn't exist."""
    sts.setattr(network, "DNS_SECONDS", 0.0)

    _, document = doctor()

    assert "gave no answer" in finding(document, "dns")["text"]


@pytest.mark.parametrize(
    ("addresses", "kind"),
    [
        (["52.1.2.3", "52.1.2.4"], "public"),
        (["10.0.0.1", "fd00::1"], "private: a VPC endpoint or a network of your own"),
    ],
)
def test_the_kind_of_the_addresses(sts: pytest.MonkeyPatch, doctor: Doctor, addresses: list[str], kind: str) -> None:
    """Private addresses are those of a VPC endpoint; the remedy of each kind is another one."""
    resolve_to(sts, *addresses)
    refuse_all(sts)

    _, document = doctor()

    assert finding(document, "dns")["kind"] == kind
    remedy = finding(document, "tcp")["remedy"]
    assert ("by a VPC endpoint for com.amazonaws.eu-west-1.secretsmanager" in remedy) is (kind == "public")
    assert ("its security group must allow port 443" in remedy) is (kind != "public")
    assert "connection refused" in finding(document, "tcp")["text"]


def test_a_refused_connection(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Where nothing listens, TLS and what follows are skipped."""
    fault_server.refuse_connections()

    status, document = doctor("name")

    assert status == 1
    assert "127.0.0.1: connection refused" in finding(document, "tcp")["text"]
    assert finding(document, "tls")["text"] == "not checked: there is no TCP connection"


def test_a_connection_that_is_dropped(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Where packets vanish, as at a security group, the check ends after some seconds."""
    sts.setattr(network, "TCP_SECONDS", 0.0)

    _, document = doctor()

    assert "127.0.0.1: no answer in 0 s" in finding(document, "tcp")["text"]


@pytest.mark.parametrize(("other", "status"), [("127.0.0.2", "warning"), ("::2", "ok")])
def test_an_address_that_does_not_answer(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, other: str, status: str
) -> None:
    """One of several addresses out of reach is a warning; many networks have no IPv6."""
    resolve_to(sts, other, "127.0.0.1")
    refuse_all(sts, but="127.0.0.1")

    _, document = doctor()

    assert finding(document, "tcp")["status"] == status
    assert "of 1 of 2 addresses" in finding(document, "tcp")["text"]
    assert finding(document, "response")["status"] == "ok"


def test_an_untrusted_authority_is_named(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Who signed the certificate is told, which names the proxy that opens connections; nothing is sent to it."""
    fault_server.present_untrusted()

    status, document = doctor("name")

    assert status == 1
    assert finding(document, "tls")["text"].startswith("the certificate isn't trusted: ")
    assert "signed by trustme v" in finding(document, "tls")["text"]
    assert "AWS_CA_BUNDLE" in finding(document, "tls")["remedy"]
    assert statuses(document)["response"] == "skipped"
    assert fault_server.requests == []


def test_a_certificate_for_another_host(sts: pytest.MonkeyPatch, tls_server: RawServer, doctor: Doctor) -> None:
    """The remedy is another name, not another bundle."""
    resolve_to(sts, "127.0.0.1")

    _, document = doctor("--endpoint-url", f"https://other.example:{tls_server.server_address[1]}")

    assert finding(document, "tls")["remedy"].startswith("the certificate isn't for other.example")


def test_an_expired_certificate(sts: pytest.MonkeyPatch, tls_server: RawServer, tmp_path: Path, doctor: Doctor) -> None:
    """The remedy is the clock, of this system or of the server's owner."""
    import datetime as dt

    authority = trustme.CA()
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_before=past - dt.timedelta(days=1), not_after=past).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    sts.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    tls_server.tls = context

    _, document = doctor()

    assert finding(document, "tls")["remedy"].startswith("set this system's clock")


def test_a_handshake_that_is_broken_off(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """A firewall that ends connections is named as what it may be."""
    fault_server.break_off(Stage.ACCEPTED, close)

    _, document = doctor()

    assert finding(document, "tls")["text"].startswith("the TLS handshake failed (")
    assert "firewall" in finding(document, "tls")["remedy"]


def test_a_handshake_without_an_answer(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """A handshake that hangs ends after some seconds."""
    sts.setattr(network, "TLS_SECONDS", 0.0)

    _, document = doctor()

    assert "didn't answer the TLS handshake in 0 s" in finding(document, "tls")["text"]


def test_a_trust_store_that_can_not_be_used(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """The setting that names the bundle is told."""
    sts.setenv("AWS_CA_BUNDLE", "/no/such/bundle.pem")

    _, document = doctor()

    assert finding(document, "tls")["text"] == "there is no trust store"
    assert "AWS_CA_BUNDLE" in finding(document, "tls")["remedy"]


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_an_empty_trust_store(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, name: str) -> None:
    """A bundle that would turn verification off is told before anything is connected."""
    sts.delenv("AWS_CA_BUNDLE")
    sts.setenv(name, "")

    _, document = doctor()

    assert "AWS_CA_BUNDLE" in finding(document, "endpoint")["remedy"]


def test_behind_a_proxy_its_way_is_checked(sts: pytest.MonkeyPatch, no_names: None, doctor: Doctor) -> None:
    """DNS and TCP are of the proxy, whose remedies are others."""
    sts.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    sts.setenv("HTTPS_PROXY", "http://proxy.example:3128")

    _, document = doctor()

    assert finding(document, "dns")["text"].startswith("proxy.example doesn't resolve")
    assert finding(document, "dns")["remedy"].startswith("check HTTPS_PROXY")
    assert finding(document, "tls")["text"] == "not checked: it goes through the proxy, as the next check does"

    sts.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    _, document = doctor()

    assert finding(document, "tcp")["remedy"].startswith("check HTTPS_PROXY")


def test_the_checks_go_through_a_proxy(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Secrets Manager is reached by a proxy's tunnel alone: its name needn't resolve here."""
    proxy = ConnectProxy(fault_server.server_address[1])
    sts.setenv("HTTPS_PROXY", proxy.url().replace("//", "//user:hidden@"))
    fault_server.resolves = False

    status, document = doctor("name")

    proxy.stop()
    assert status == 0
    assert finding(document, "dns")["host"] == "127.0.0.1"
    assert {request.split()[0] for request in proxy.requests} == {b"CONNECT"}
    assert list(document["secrets"][0]["ms"]) == ["SecretsManagerSource"]
    assert "hidden" not in str(document)


def test_the_group_of_the_key_exchange(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """From Python 3.15 on TLS connections tell it."""
    sts.setattr(ssl.SSLObject, "group", lambda self: "X25519MLKEM768", raising=False)

    _, document = doctor()

    assert finding(document, "tls")["group"] == "X25519MLKEM768"


def resolve_to(patch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        return [found for address in addresses for found in resolve(address, port, type=socket.SOCK_STREAM)]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)


def refuse_all(patch: pytest.MonkeyPatch, *, but: str = "") -> None:
    """Let no address but one accept connections, so that no test reaches another server."""
    connect = asyncio.open_connection

    async def open_connection(address: Any, *arguments: Any, **options: Any) -> Any:
        if address != but:
            raise ConnectionRefusedError(111, "Connection refused")
        return await connect(address, *arguments, **options)

    patch.setattr(asyncio, "open_connection", open_connection)
