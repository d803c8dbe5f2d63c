"""Whether this is Lambda's INIT, in which work costs least.

In INIT a function has the CPU of a large one; in an invocation it has the share of its memory, at 128 MB a fourteenth
of one.
"""

from __future__ import annotations

import os
import sys


def is_lambda() -> bool:
    """Return whether Lambda's runtime is around."""
    return "AWS_LAMBDA_RUNTIME_API" in os.environ


def is_init() -> bool:
    """Return whether the handler's module is being imported by Lambda's runtime, or by a server that starts in it.

    No variable says so. The runtime sets that of the trace for each invocation, unless several run at the same time.
    So what counts is that a module is being imported by the caller, and no invocation imports it.
    """
    if not is_lambda() or "_X_AMZN_TRACE_ID" in os.environ:
        return False
    is_importing = False
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        is_importing |= code.co_filename == "<frozen importlib._bootstrap>"
        if code.co_name == "handle_event_request":  # In awslambdaric's bootstrap.
            return False
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return is_importing
