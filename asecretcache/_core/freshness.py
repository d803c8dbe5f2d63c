"""Freshness: how long a value may be served. Pure functions of the clock; the words are HTTP's.

Fresh and expired are those of RFC 9111, stale-while-revalidate and stale-if-error those of RFC 5861. Time is wall-clock
time, in seconds since the epoch: a freeze of the execution environment counts as time, and a monotonic clock may stand
still over one. A clock that was set back before a value's birth leaves its age unknown, so it isn't served at all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from asecretcache._exceptions import ConfigurationError
from asecretcache._models import SecretRequest

_BACK_OFF_FIRST: Final = 2.0
_BACK_OFF_LONGEST: Final = 60.0


class FreshnessPolicy(NamedTuple):
    """How long values are served; see SecretCache for what the fields mean."""

    ttl: float | None
    jitter: float
    ttl_by_secret: Mapping[str, float | None]
    stale_while_revalidate: float
    stale_if_error: float

    @classmethod
    def of(
        cls,
        ttl: object,
        jitter: object,
        *,
        ttl_by_secret: object = None,
        stale_while_revalidate: object = 0.0,
        stale_if_error: object = 0.0,
    ) -> FreshnessPolicy:
        """Return the policy for these arguments, or raise ConfigurationError."""
        fraction = seconds("jitter", jitter, remedy="give a fraction of the ttl from 0 to 1")
        if fraction > 1:
            msg = f"jitter is a fraction of the ttl from 0 to 1, not {fraction!r}"
            raise ConfigurationError(msg)
        return cls(
            _ttl("ttl", ttl),
            fraction,
            _ttls(ttl_by_secret),
            seconds("stale_while_revalidate", stale_while_revalidate, remedy="give seconds, or 0 for none"),
            seconds("stale_if_error", stale_if_error, remedy="give seconds, or 0 for none"),
        )

    def expires_at(self, request: SecretRequest, arn: str, name: str, born: float) -> float:
        """Return when a value that was asked for at ``born`` expires; a version named by its id never changes."""
        ids = (each for each in (request.secret_id, arn, name) if each in self.ttl_by_secret)
        ttl = self.ttl_by_secret.get(next(ids, ""), self.ttl)
        if ttl is None or request.version_id is not None:
            return math.inf
        return born + ttl * (1 - self.jitter * _chance())

    def may_serve_while_revalidating(self, born: float, expires_at: float, now: float) -> bool:
        """Whether an expired value may be served at once, while another is fetched."""
        return born <= now < expires_at + self.stale_while_revalidate

    def may_serve_on_error(self, born: float, expires_at: float, now: float) -> bool:
        """Whether an expired value may be served because another could not be fetched."""
        return born <= now < expires_at + self.stale_if_error


def is_fresh(born: float, expires_at: float, now: float) -> bool:
    """Whether a value may be served as it is."""
    return born <= now < expires_at


def back_off(failures: int) -> float:
    """Return the seconds until the next try after so many failures: between 1 s and 2 s, then doubling, at most 60 s.

    The chance in it keeps environments that failed together from trying again together.
    """
    longest = min(_BACK_OFF_LONGEST, _BACK_OFF_FIRST * 2.0 ** min(failures - 1, 10))
    return longest * (1 + _chance()) / 2


def _chance() -> float:
    """Return a number from 0 to 1, less than 1, as random.SystemRandom does, whose module takes longer to import.

    The other generators share their state between the clones of one snapshot; this one asks the kernel.
    """
    # As many bits as a float has: one more, and the largest would be rounded to 1.
    return (int.from_bytes(os.urandom(7)) >> 3) / 2.0**53


def seconds(what: str, value: object, *, remedy: str, zero: bool = True) -> float:
    """Return ``value`` as a float, or raise ConfigurationError if it isn't a finite number, or is below zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{what} is a number, not {type(value).__name__}: {remedy}"
        raise ConfigurationError(msg)
    if not math.isfinite(value) or value < 0 or (not zero and value == 0):
        msg = f"{what} can't be {value!r}: {remedy}"
        raise ConfigurationError(msg)
    return float(value)


def _ttl(what: str, value: object) -> float | None:
    return None if value is None else seconds(what, value, remedy="give seconds, or None for no expiry")


def _ttls(ttl_by_secret: object) -> dict[str, float | None]:
    if ttl_by_secret is None:
        return {}
    if not isinstance(ttl_by_secret, Mapping):
        msg = f"ttl_by_secret maps names or ARNs to seconds, it isn't {type(ttl_by_secret).__name__}"
        raise ConfigurationError(msg)
    return {
        SecretRequest.of(secret_id).secret_id: _ttl(f"the ttl of {secret_id!r}", ttl)
        for secret_id, ttl in ttl_by_secret.items()
    }
