"""Lambda's INIT, in which work costs least: whether this is it, and how much of its time is left.

In INIT a function has the CPU of a large one; in an invocation it has the share of its memory, at 128 MB a fourteenth
of one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Final

from asecretcache._process_events import before_snapshot

# INIT may take 10 s, and so may the hooks after a restore.
INIT_SECONDS: Final = 5.0


def is_lambda() -> bool:
    """Return whether Lambda's runtime is around."""
    return "AWS_LAMBDA_RUNTIME_API" in os.environ


def is_in_invocation() -> bool:
    """Return whether the caller is known to run in an invocation of AWS's runtime for Python.

    The runtime sets the variable of the trace for each invocation, unless several run at the same time; else its
    function for invocations is on the stack. A server that runs in Lambda has neither.
    """
    if not is_lambda():
        return False
    # In awslambdaric's bootstrap.
    return "_X_AMZN_TRACE_ID" in os.environ or any(code.co_name == "handle_event_request" for code in _stack())


def is_init() -> bool:
    """Return whether the handler's module is being imported by Lambda's runtime, or by a server that starts in it.

    No variable says so. So what counts is that the caller imports a module, and no invocation is known to do it. A
    module that a server imports only for a request isn't told apart.
    """
    return (
        is_lambda()
        and not is_in_invocation()
        and any(code.co_filename == "<frozen importlib._bootstrap>" for code in _stack())
    )


def _stack() -> Iterator[CodeType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


class InitBudget:
    """The seconds that all that the package does in INIT may take together, or in the hooks after a restore."""

    def __init__(self) -> None:
        self.reset()
        before_snapshot.add(self.reset)

    def reset(self) -> None:
        """Start over: a restore has the whole time again."""
        self.left = INIT_SECONDS

    def spend(self, seconds: float) -> None:
        """Take what was needed off what is left."""
        self.left = max(0.0, self.left - seconds)


init_budget: Final = InitBudget()
