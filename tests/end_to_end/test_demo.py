"""The demo runs, tells success by its exit status, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


def test_the_demo_counts_one_fetch_for_each_secret_and_environment() -> None:
    """Three environments and two secrets are six calls."""
    ended = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, timeout=120, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("fetched 2") == 3
    assert "20 times fewer calls" in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_what_it_started(number: signal.Signals) -> None:
    """On Ctrl-C, as on SIGTERM, in the middle of an environment."""
    with subprocess.Popen(
        [sys.executable, "-u", DEMO], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as demo:
        assert demo.stdout
        assert "cold" in demo.stdout.readline()
        demo.send_signal(number)
        _, said = demo.communicate(timeout=60)

    assert demo.returncode == 130
    assert "interrupted" in said
    # The group of processes that it led is empty.
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
