"""Secrets Manager as moto serves it over HTTP, counting the calls; a pytest plugin."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest

REGION = "eu-west-1"
SESSION_TOKEN = "canary-session-token"  # a fake, looked for in the logs
_TARGET = "HTTP_X_AMZ_TARGET"


class MotoServer:
    """A moto server in a thread of this process."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._application = DomainDispatcherApplication(create_backend_app)
        self._calls: Counter[str] = Counter()
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _count(self, environ: dict[str, Any], start_response: Any) -> Any:
        target = environ.get(_TARGET, "")
        self._calls[target.rpartition(".")[2]] += 1
        return self._application(environ, start_response)

    def calls(self, operation: str = "GetSecretValue") -> int:
        """How many calls of this operation arrived since the last reset."""
        return self._calls[operation]

    def all_calls(self) -> int:
        """How many calls of any operation arrived since the last reset."""
        return self._calls.total()

    def forget_calls(self) -> None:
        """Count from zero."""
        self._calls.clear()

    @cached_property
    def client(self) -> Any:
        """A boto3 client of the server, for arranging; making one takes longer than most tests."""
        import boto3

        return boto3.client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="arrange",
            aws_secret_access_key="arrange",  # a fake
        )

    def create(self, name: str, value: str | bytes) -> str:
        """Create a secret and return its ARN."""
        field = "SecretString" if isinstance(value, str) else "SecretBinary"
        arn: str = self.client.create_secret(Name=name, **{field: value})["ARN"]
        return arn

    def reset(self) -> None:
        """Forget all secrets and calls."""
        import urllib.request

        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")  # our own server
        with urllib.request.urlopen(request) as response:
            response.read()
        self._calls.clear()

    def stop(self) -> None:
        """End the thread and close the sockets."""
        if "client" in vars(self):
            self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def _moto_session() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture
def moto_server(_moto_session: MotoServer) -> MotoServer:
    """The server, without secrets and with its counts at zero."""
    _moto_session.reset()
    return _moto_session


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which the SDK finds nothing: no region, no credentials, no files, no metadata service."""
    others = {"BOTO_CONFIG", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"}
    for name in list(os.environ):
        if name.startswith(("AWS_", "PARAMETERS_SECRETS_")) or name.lower().endswith("_proxy") or name in others:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return monkeypatch


@pytest.fixture
def credentials(bare_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Fake credentials and a region, and no endpoint yet."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKEFAKEFAKEFAKE")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "fake-secret-key")
    bare_environment.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    bare_environment.setenv("AWS_REGION", REGION)
    bare_environment.setenv("AWS_DEFAULT_REGION", REGION)
    return bare_environment


@pytest.fixture
def aws_environment(credentials: pytest.MonkeyPatch, moto_server: MotoServer) -> pytest.MonkeyPatch:
    """Fake credentials, a region, and the moto server as Secrets Manager."""
    credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto_server.url)
    return credentials


@pytest.fixture
def hung_endpoint(aws_environment: pytest.MonkeyPatch) -> Iterator[None]:
    """An endpoint that accepts connections and never responds; the environment names it as Secrets Manager."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        port = server.getsockname()[1]
        aws_environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{port}")
        yield
