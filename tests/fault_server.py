"""Secrets Manager over TLS, and all that may go wrong between it and a client; a pytest plugin."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from asecretcache import ConfigurationError, SecretCacheError, SecretThrottledError, SecretUnavailableError
from raw_server import GOOD, RawServer, Stage, close, drip, hang, reset

HOST = "secretsmanager.invalid"  # A name that no resolver knows.


class FaultServer(RawServer):
    """It holds the secret ``name`` and can be told to fail, in one of the FAULTS; its address is a host name."""

    def __init__(self, trusted: ssl.SSLContext, untrusted: ssl.SSLContext) -> None:
        super().__init__(trusted, HOST)
        self._trusted = trusted
        self._untrusted = untrusted
        self.resolves = True

    def hold(self, value: str) -> None:
        """Answer with this value from now on."""
        self._good = {**GOOD, "SecretString": value}
        self.answer(self._good)

    def recover(self) -> None:
        """Do without fault again what it is there for."""
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
        """Answer with the first half of the value's JSON, as if that were all."""
        whole = json.dumps(self._good).encode()
        self.answer(whole[: len(whole) // 2 + 20])

    def speak_html(self, status: int) -> None:
        """Answer as a proxy does that knows better."""
        body = f"<html>{self._good['SecretString']}</html>"
        self.answer(body.encode(), status, content_type="text/html; charset=utf-8")

    def speak_plainly(self) -> None:
        self.answer(self._good["SecretString"].encode(), content_type="text/plain")


class Fault(NamedTuple):
    """Something that goes wrong, and the error that it is for a caller who has no value to fall back on."""

    name: str
    befall: Callable[[FaultServer], None]
    error: type[SecretCacheError] = SecretUnavailableError
    hangs: bool = False

    @property
    def is_transient(self) -> bool:
        """Whether a stale value is served meanwhile."""
        return issubclass(self.error, SecretUnavailableError | SecretThrottledError)

    def __str__(self) -> str:
        return self.name


def _breaks(name: str, stage: Stage, how: Any) -> Fault:
    return Fault(name, lambda server: server.break_off(stage, how), hangs=how in {hang, drip})


def _answers(name: str, *answer: Any, error: type[SecretCacheError] = SecretUnavailableError) -> Fault:
    return Fault(name, lambda server: server.refuse(*answer), error)


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
    _answers("500", "InternalServiceError", "no", 500),
    _answers("503", "ServiceUnavailable", "no", 503),
    _answers("throttled", "ThrottlingException", "slow down", 400, error=SecretThrottledError),
    _answers("the token has expired", "ExpiredTokenException", "no", 400, error=ConfigurationError),
    Fault("half of the JSON", FaultServer.truncate),
    Fault("HTML with status 200", partial(FaultServer.speak_html, status=200)),
    Fault("HTML with status 502", partial(FaultServer.speak_html, status=502)),
    Fault("another content type", FaultServer.speak_plainly),
)


@pytest.fixture
def fault_server(
    credentials: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, _contexts: tuple[ssl.SSLContext, ...]
) -> Iterator[FaultServer]:
    """The server, healthy, standing for Secrets Manager in the environment."""
    server = FaultServer(*_contexts)
    server.hold("the value")
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        """Know the server's name while it is healthy; what happens to one that isn't known is the system's affair."""
        is_ours = host in {HOST, HOST.encode()} and server.resolves
        return look_up("127.0.0.1" if is_ours else host, *arguments, **options)

    credentials.setattr(socket, "getaddrinfo", getaddrinfo)
    credentials.setenv("AWS_CA_BUNDLE", str(tmp_path_factory.getbasetemp() / "fault-ca.pem"))
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.url)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ...]:
    """A context of the authority in the CA bundle, and one of another."""
    import trustme

    contexts = []
    for name in ("fault-ca.pem", "nobodys-ca.pem"):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path_factory.getbasetemp() / name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        contexts.append(context)
    return tuple(contexts)
