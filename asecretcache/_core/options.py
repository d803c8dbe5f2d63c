"""The options of a cache, as one record that all its parts share, and how they are checked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from asecretcache._exceptions import ConfigurationError
from asecretcache._models import SecretRequest


class CacheOptions(NamedTuple):
    """See SecretCache for their meaning; ``monotonic`` shows a freeze that the wall clock doesn't."""

    ttl: float | None
    ttl_by_secret: Mapping[str, float | None]
    jitter: float
    stale_while_revalidate: float
    stale_if_error: float
    fetch_timeout: float
    max_size: int
    batch: bool
    clock: Callable[[], float]
    monotonic: Callable[[], float]

    @classmethod
    def checked(cls, **given: object) -> CacheOptions:
        """Return the options of these arguments of SecretCache, or raise ConfigurationError."""
        jitter = seconds("jitter", given["jitter"], remedy="give a fraction of the ttl from 0 to 1")
        if jitter > 1:
            raise ConfigurationError(f"jitter must be a fraction of the ttl from 0 to 1, not {jitter!r}")
        timeout = seconds("fetch_timeout", given["fetch_timeout"], remedy="give seconds above zero", zero=False)
        max_size, batch = given["max_size"], given["batch"]
        clock = time.time if given["clock"] is None else given["clock"]
        if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 1:
            raise ConfigurationError(f"max_size must be a whole number of values, at least 1, not {max_size!r}")
        if not isinstance(batch, bool):
            raise ConfigurationError(f"batch must be True or False, not {type(batch).__name__}")
        if not callable(clock):
            msg = f"clock must be a callable that returns seconds, such as time.time, not {type(clock).__name__}"
            raise ConfigurationError(msg)
        return cls(
            ttl=_ttl("ttl", given["ttl"]),
            ttl_by_secret=_ttls(given["ttl_by_secret"]),
            jitter=jitter,
            stale_while_revalidate=seconds("stale_while_revalidate", given["stale_while_revalidate"]),
            stale_if_error=seconds("stale_if_error", given["stale_if_error"]),
            fetch_timeout=timeout,
            max_size=max_size,
            batch=batch,
            clock=clock,
            monotonic=time.monotonic,
        )


def seconds(what: str, value: object, *, remedy: str = "give seconds, or 0 for none", zero: bool = True) -> float:
    """Return ``value`` as a float; raise ConfigurationError if it isn't a finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{what} must be a number, not {type(value).__name__}: {remedy}")
    if not math.isfinite(value) or value < 0 or (not zero and value == 0):
        raise ConfigurationError(f"{what} can't be {value!r}: {remedy}")
    return float(value)


def _ttl(what: str, value: object) -> float | None:
    return None if value is None else seconds(what, value, remedy="give seconds, or None for no expiry")


def _ttls(ttl_by_secret: object) -> dict[str, float | None]:
    if ttl_by_secret is None:
        return {}
    if not isinstance(ttl_by_secret, Mapping):
        msg = f"ttl_by_secret must map names or ARNs to seconds, it can't be {type(ttl_by_secret).__name__}"
        raise ConfigurationError(msg)
    return {SecretRequest(id_).secret_id: _ttl(f"the ttl of {id_!r}", ttl) for id_, ttl in ttl_by_secret.items()}
