"""Fixtures for the tests of ``doctor``: the command, run within this process against a server of the test's."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from asecretcache._cli.main import main
from moto_server import MotoServer

#: What the command returns: its exit status, and its JSON document.
Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """The command with --json: nothing but the document is on stdout."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = main(["doctor", "--json", *arguments])
        output = capsys.readouterr()
        document: dict[str, Any] = json.loads(output.out)
        assert output.err == ""
        assert document["ok"] is (status == 0)
        return status, document

    return run


@pytest.fixture
def aws(aws_environment: pytest.MonkeyPatch, moto_server: MotoServer) -> pytest.MonkeyPatch:
    """The moto server as Secrets Manager and as STS."""
    aws_environment.setenv("AWS_ENDPOINT_URL_STS", moto_server.url)
    return aws_environment


@pytest.fixture
def sts(credentials: pytest.MonkeyPatch, moto_server: MotoServer) -> pytest.MonkeyPatch:
    """The moto server as STS alone."""
    credentials.setenv("AWS_ENDPOINT_URL_STS", moto_server.url)
    return credentials


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows no name but that of this host, so that no test asks another server."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in {"127.0.0.1", "localhost"}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
