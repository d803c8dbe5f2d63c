"""Running a function in the child of a fork."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
R = TypeVar("R")


def needs_fork(test: Callable[P, R]) -> Callable[P, R]:
    """Mark a test that forks: skipped where the system can't, and without Python's warning about threads."""
    # From 3.12 on Python warns of forks where the process has threads; that is what is tested.
    for mark in (
        pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
        pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    ):
        mark(test)
    return test


def in_child(function: Callable[[], object]) -> bool:
    """Return whether a function returns something true in a child of a fork of this process."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        status = 1
        try:
            status = 0 if function() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
