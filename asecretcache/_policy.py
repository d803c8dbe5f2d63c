"""Freshness: how long a value may be served. Pure functions of the clock; the words are HTTP's (RFC 9111).

Time is wall-clock time, in seconds since the epoch: a freeze of the execution environment counts as time, and a
monotonic clock may stand still over one.
"""

from __future__ import annotations

import math
from random import SystemRandom
from typing import Final, NamedTuple

from asecretcache._errors import ConfigurationError
from asecretcache._secret import SecretRequest

# The other generators share their state between the clones of one snapshot; this one asks the kernel.
_random: Final = SystemRandom()


class FreshnessPolicy(NamedTuple):
    """How long a value is fresh: ``ttl`` seconds (None: for ever) less a random part of up to ``jitter`` of it."""

    ttl: float | None
    jitter: float

    @classmethod
    def of(cls, ttl: object, jitter: object) -> FreshnessPolicy:
        """Return the policy for these arguments, or raise ConfigurationError."""
        if ttl is not None:
            ttl = seconds("ttl", ttl, remedy="give seconds, or None for no expiry")
        fraction = seconds("jitter", jitter, remedy="give a fraction of the ttl from 0 to 1")
        if fraction > 1:
            msg = f"jitter is a fraction of the ttl from 0 to 1, not {fraction!r}"
            raise ConfigurationError(msg)
        return cls(ttl, fraction)

    def expires_at(self, request: SecretRequest, born: float) -> float:
        """Return when a value that was asked for at ``born`` expires; a version named by its id never changes."""
        if self.ttl is None or request.version_id is not None:
            return math.inf
        return born + self.ttl * (1 - self.jitter * _random.random())


def is_fresh(born: float, expires_at: float, now: float) -> bool:
    """Whether a value may be served; not if the clock was set back before its birth, as its age is unknown then."""
    return born <= now < expires_at


def seconds(what: str, value: object, *, remedy: str, zero: bool = True) -> float:
    """Return ``value`` as a float, or raise ConfigurationError if it isn't a finite number, or is below zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{what} is a number, not {type(value).__name__}: {remedy}"
        raise ConfigurationError(msg)
    if not math.isfinite(value) or value < 0 or (not zero and value == 0):
        msg = f"{what} can't be {value!r}: {remedy}"
        raise ConfigurationError(msg)
    return float(value)
