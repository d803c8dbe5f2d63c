"""Keeps secret values and session tokens out of the SDK's DEBUG log, for our calls alone."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

# Who logs what at DEBUG: parsers the answer's body; auth the canonical request, which holds the session token, and the
# signature; endpoint the request with its headers; hooks the arguments of handlers; httpsession and utils exceptions
# and metadata of credentials; client and credentials are there for what a later version may add. The same modules of
# aiobotocore log under botocore's names today; not in every version.
_MODULES: Final = (
    "auth",
    "awsrequest",
    "client",
    "credentials",
    "endpoint",
    "hooks",
    "httpchecksum",
    "httpsession",
    "parsers",
    "retries.standard",
    "retryhandler",
    "tokens",
    "utils",
)
LOGGERS: Final = tuple(f"{package}.{module}" for package in ("botocore", "aiobotocore") for module in _MODULES)

_ours: ContextVar[bool] = ContextVar("asecretcache.redacted", default=False)


class _Redaction(logging.Filter):
    """Drops what is said below WARNING in the context of one of our calls; every other record passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not _ours.get()


@functools.cache  # Once; at import it would make loggers that nobody may need, and take its time.
def _install() -> None:
    redaction = _Redaction()
    for name in LOGGERS:
        # A filter of a logger doesn't see what its children log, hence one for each.
        logging.getLogger(name).addFilter(redaction)


@contextmanager
def redacted() -> Iterator[None]:
    """Keep what is called inside, and the tasks it starts, out of the SDK's log.

    botocore.history isn't covered: it records only after code of the process has enabled it and given it a handler
    of its own, and it can't be told about single calls.
    """
    _install()
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)
