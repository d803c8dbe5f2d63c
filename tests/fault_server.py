"""Secrets Manager over TLS with all faults that may occur between it and a client; a pytest plugin."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from asecretcache import CredentialsError, SecretCacheError, SecretThrottledError, SecretUnavailableError
from raw_server import GOOD, RawServer, Stage, close, drip, hang, reset

HOST = "secretsmanager.invalid"  # No resolver knows this name.


class FaultServer(RawServer):
    """A server with the secret ``name`` and one of the FAULTS, if it is injected; its address is a host name."""

    def __init__(self, trusted: ssl.SSLContext, untrusted: ssl.SSLContext) -> None:
        super().__init__(trusted, HOST)
        self._trusted = trusted
        self._untrusted = untrusted
        self.resolves = True

    def hold(self, value: str) -> None:
        """Respond with this value from now on."""
        self._good = {**GOOD, "SecretString": value}
        self.answer(self._good)

    def recover(self) -> None:
        """Respond without a fault again."""
        super().recover()
        self.resolves = True
        self.tls = self._trusted
        self.answer(self._good)

    def refuse_connections(self) -> None:
        self.stop_listening()
        self.drop()

    def lose_name(self) -> None:
        self.resolves = False
        self.drop()

    def present_untrusted(self) -> None:
        self.tls = self._untrusted
        self.drop()

    def truncate(self) -> None:
        """Respond with the first half of the value's JSON, as if it were all."""
        whole = json.dumps(self._good).encode()
        self.answer(whole[: len(whole) // 2 + 20])

    def respond_html(self, status: int) -> None:
        """Respond with a web page, as some proxies do."""
        body = f"<html>{self._good['SecretString']}</html>"
        self.answer(body.encode(), status, content_type="text/html; charset=utf-8")

    def respond_plain_text(self) -> None:
        self.answer(self._good["SecretString"].encode(), content_type="text/plain")


class Fault(NamedTuple):
    """A fault, and the error of a caller for whom there is no stale value."""

    name: str
    inject: Callable[[FaultServer], None]
    error: type[SecretCacheError] = SecretUnavailableError
    hangs: bool = False

    @property
    def is_transient(self) -> bool:
        """Whether a stale value is served while the fault lasts."""
        return issubclass(self.error, SecretUnavailableError | SecretThrottledError | CredentialsError)

    def __str__(self) -> str:
        return self.name


def _breaks(name: str, stage: Stage, how: Any) -> Fault:
    return Fault(name, lambda server: server.break_off(stage, how), hangs=how in {hang, drip})


def _refuses(name: str, *refusal: Any, error: type[SecretCacheError] = SecretUnavailableError) -> Fault:
    return Fault(name, lambda server: server.refuse(*refusal), error)


FAULTS = (
    Fault("the connection is refused", FaultServer.refuse_connections),
    Fault("the host name doesn't resolve", FaultServer.lose_name),
    Fault("the certificate isn't trusted", FaultServer.present_untrusted),
    _breaks("reset in the TLS handshake", Stage.ACCEPTED, reset),
    _breaks("reset before the request", Stage.OPEN, reset),
    _breaks("reset before the headers", Stage.ASKED, reset),
    _breaks("reset within the headers", Stage.IN_HEAD, reset),
    _breaks("reset after the headers", Stage.AFTER_HEAD, reset),
    _breaks("reset within the body", Stage.IN_BODY, reset),
    _breaks("closed before the headers", Stage.ASKED, close),
    _breaks("half a head, then closed", Stage.IN_HEAD, close),
    _breaks("half a body, then closed", Stage.IN_BODY, close),
    _breaks("hangs before the TLS handshake", Stage.ACCEPTED, hang),
    _breaks("hangs before it reads the request", Stage.OPEN, hang),
    _breaks("hangs before the headers", Stage.ASKED, hang),
    _breaks("hangs within the headers", Stage.IN_HEAD, hang),
    _breaks("hangs after the headers", Stage.AFTER_HEAD, hang),
    _breaks("hangs within the body", Stage.IN_BODY, hang),
    _breaks("the headers drip", Stage.IN_HEAD, drip),
    _breaks("the body drips", Stage.AFTER_HEAD, drip),
    _refuses("500", "InternalServiceError", "no", 500),
    _refuses("503", "ServiceUnavailable", "no", 503),
    _refuses("throttled", "ThrottlingException", "slow down", 400, error=SecretThrottledError),
    _refuses("the token has expired", "ExpiredTokenException", "no", 400, error=CredentialsError),
    Fault("half of the JSON", FaultServer.truncate),
    Fault("HTML with status 200", partial(FaultServer.respond_html, status=200)),
    Fault("HTML with status 502", partial(FaultServer.respond_html, status=502)),
    Fault("another content type", FaultServer.respond_plain_text),
)


@pytest.fixture
def fault_server(
    credentials: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, _contexts: tuple[ssl.SSLContext, ...]
) -> Iterator[FaultServer]:
    """The healthy server; the environment names it as Secrets Manager."""
    server = FaultServer(*_contexts)
    server.hold("the value")
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        """Resolve the server's name while it is healthy; the system fails to resolve it otherwise."""
        is_known = host in {HOST, HOST.encode()} and server.resolves
        return resolve("127.0.0.1" if is_known else host, *arguments, **options)

    credentials.setattr(socket, "getaddrinfo", getaddrinfo)
    credentials.setenv("AWS_CA_BUNDLE", str(tmp_path_factory.getbasetemp() / "fault-ca.pem"))
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.url)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ...]:
    """A context of the authority in the CA bundle, and one of another authority."""
    import trustme

    contexts = []
    for name in ("fault-ca.pem", "unknown-ca.pem"):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path_factory.getbasetemp() / name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        contexts.append(context)
    return tuple(contexts)
