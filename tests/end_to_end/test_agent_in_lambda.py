"""AgentSource beside a stand-in for AWS's local providers, which runs as an extension in AWS's emulator of Lambda."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import agent_server
from runtime_emulator import Emulator

HANDLERS = Path(__file__).parent / "lambda_handlers"
Start = Callable[[str, str], Emulator]


@pytest.fixture
def start(
    emulator_program: Path, with_opt: Callable[[str], tuple[str, ...]], credentials: pytest.MonkeyPatch, tmp_path: Path
) -> Start:
    """Starts a function beside an extension of a kind; the two share the port, and the token in the environment."""

    def start(kind: str, case: str) -> Emulator:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
        file = tmp_path / kind
        file.write_text(f"#!/bin/sh\nexec {sys.executable} -P {agent_server.__file__} {kind}\n", encoding="utf-8")
        put = f"mkdir /opt/extensions; install -m 755 {file} /opt/extensions/{kind}"
        environ = {
            "ASECRETCACHE_SOURCE": "agent",
            "CASE": case,
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": port,
            "REFUSED": str(tmp_path / "refused"),
        }
        return Emulator(emulator_program, "beside_agent.handler", HANDLERS, environ=environ, prefix=with_opt(put))

    return start


def calls(emulator: Emulator) -> int:
    """Count the extension's calls of AWS."""
    return emulator.log.count("AWS was called for prod/api")


def test_one_call_beside_the_extension(start: Start) -> None:
    """The first invocation and a warm one get the secret."""
    with start("extension", "default") as emulator:
        assert [emulator.invoke() for _ in range(2)] == ["the value"] * 2

    assert calls(emulator) == 1
    assert "prefetch" not in emulator.log


def test_a_prefetch_beside_the_extension_is_in_vain(start: Start) -> None:
    """The extension isn't ready in INIT. The log says so, and the first invocation gets the secret."""
    with start("extension", "prefetch") as emulator:
        assert [emulator.invoke() for _ in range(2)] == ["the value"] * 2

    assert calls(emulator) == 1
    assert "prefetch failed" in emulator.log
    assert "wasn't ready in 1.8 s: it serves secrets once Lambda's INIT is over" in emulator.log


def test_a_provider_that_starts_with_the_invocation_is_waited_for(start: Start) -> None:
    """As AWS's script for a layer starts it. The first invocation is refused a connection, and tries again."""
    with start("provider", "provider") as emulator:
        assert [emulator.invoke() for _ in range(2)] == ["the value"] * 2

    assert calls(emulator) == 1
