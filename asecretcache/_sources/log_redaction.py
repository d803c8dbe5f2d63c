"""Keeps secret values and session tokens out of the SDK's DEBUG log, for this package's calls alone."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

# At DEBUG, parsers logs response bodies; auth the canonical request with the session token, and the signature; endpoint
# requests with their headers; hooks the arguments of handlers; httpsession and utils exceptions and the metadata of
# credentials. The other modules are listed for what a later version may log. aiobotocore's modules log under botocore's
# names today, but not in every version.
_MODULES: Final = (
    "auth awsrequest client credentials endpoint hooks httpchecksum httpsession parsers retries.standard retryhandler "
    "tokens utils"
).split()
LOGGERS: Final = tuple(f"{package}.{module}" for package in ("botocore", "aiobotocore") for module in _MODULES)

_is_redacted: ContextVar[bool] = ContextVar("asecretcache.is_redacted", default=False)


def _is_loggable(record: logging.LogRecord) -> bool:
    """Drop records below WARNING that are logged in the context of one of this package's calls."""
    return record.levelno >= logging.WARNING or not _is_redacted.get()


@functools.cache  # At import it would cost time, and create loggers that the process may never need.
def _install_filter() -> None:
    for name in LOGGERS:
        # A logger's filter doesn't see the records of its children, so each logger needs one.
        logging.getLogger(name).addFilter(_is_loggable)


@contextmanager
def redacted() -> Iterator[None]:
    """Keep calls made in this block, and the tasks that they start, out of the SDK's log.

    botocore.history isn't covered: it records only after the process has enabled it and added a handler of its own, and
    it can't tell one call from another.
    """
    _install_filter()
    token = _is_redacted.set(True)
    try:
        yield
    finally:
        # The garbage collector ends the coroutine of a dead loop in another context, where there is nothing to reset.
        with suppress(ValueError):
            _is_redacted.reset(token)
