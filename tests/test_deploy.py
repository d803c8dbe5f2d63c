"""The handler of the templates, with the variables that they set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moto_server import MotoServer

HANDLER = Path(__file__).resolve().parents[1] / "deploy" / "handler"
INVOKE = "import json, app; print(json.dumps([app.lambda_handler({}, None) for _ in range(2)]))"


@pytest.fixture
def variables(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> dict[str, str]:
    moto_server.create("prod/db", '{"password": "hunter2"}')
    moto_server.create("prod/api", "key-1")
    return {"SECRET_IDS": "prod/db,prod/api", "ASECRETCACHE_SOURCE": "direct", "PYTHONPATH": str(HANDLER)}


@pytest.mark.parametrize("batch", ["false", "true"])
def test_the_handler_reads_each_secret_once(variables: dict[str, str], moto_server: MotoServer, batch: str) -> None:
    """Singly or in one call; it returns names, and no value shows."""
    environment = {**os.environ, **variables, "BATCH": batch}
    command = [sys.executable, "-P", "-W", "error", "-c", INVOKE]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == [{"read": ["prod/api", "prod/db"]}] * 2
    calls = (moto_server.calls(), moto_server.calls("BatchGetSecretValue"))
    assert calls == ((0, 1) if batch == "true" else (2, 0))


@pytest.mark.parametrize(("name", "says"), [("prod/db", '{"read": ["prod/db"]}'), ("prod/none", "'prod/none'")])
def test_the_service_goes_on(variables: dict[str, str], name: str, says: str) -> None:
    """It prints what it read, or the error, and waits for the next minute."""
    environment = {**os.environ, **variables, "SECRET_IDS": name}
    command = [sys.executable, "-P", str(HANDLER / "service.py")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout
        line = service.stdout.readline()
        assert service.poll() is None
        service.send_signal(signal.SIGTERM)

    assert says in line
