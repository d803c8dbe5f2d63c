"""The demo runs, tells success by its exit status, and leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


def test_the_demo_shows_what_it_claims() -> None:
    """A line for each environment, and pictures: plain text where it isn't a terminal."""
    ended = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, timeout=300, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("cold start: 2 calls") == 6
    assert ended.stdout.count("9 warm:  0 calls") == 4
    assert "10 of 10 invocations answered, with expired values" in ended.stdout
    assert " 0 of 60 invocations failed" in ended.stdout
    assert "\x1b" not in ended.stdout
    # Its secrets are hexadecimal numbers of 32 bytes.
    assert not re.search(r"[0-9a-f]{16}", ended.stdout)
    assert max(map(len, ended.stdout.splitlines())) <= 120


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_what_it_started(number: signal.Signals) -> None:
    """On Ctrl-C, as on SIGTERM, in the middle of an environment."""
    with subprocess.Popen(
        [sys.executable, "-u", DEMO], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as demo:
        assert demo.stdout
        while "cold" not in demo.stdout.readline():
            pass
        demo.send_signal(number)
        _, said = demo.communicate(timeout=60)

    assert demo.returncode == 130
    assert "interrupted" in said
    # The group of processes that it led is empty, once the system has collected those that were killed.
    ended_by = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < ended_by:
            os.killpg(demo.pid, 0)
            time.sleep(0.05)
