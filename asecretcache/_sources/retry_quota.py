"""How long to try, and when to try again: the SDK's standard mode, as SecretsManagerSource asks for it.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
"""

from __future__ import annotations

import os
from typing import Final

from asecretcache._core.timeouts import current_fetch_timeout
from asecretcache._sources.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError, TransportError

# One try of three, and room for the back-off between them, must fit into the time that a fetch has.
ATTEMPTS: Final = 3
_CONNECT_TIMEOUT: Final = 2.0
_READ_TIMEOUT: Final = 3.0

_LONGEST: Final = 20.0
_STATUSES: Final = (500, 502, 503, 504)
_TRANSIENT: Final = "RequestTimeout RequestTimeoutException PriorRequestNotComplete"
_THROTTLED: Final = (
    "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException "
    "TooManyRequestsException RequestLimitExceeded LimitExceededException SlowDown BandwidthLimitExceeded "
    "ProvisionedThroughputExceededException TransactionInProgressException EC2ThrottledException"
)
_CODES: Final = frozenset((*_TRANSIENT.split(), *_THROTTLED.split()))

_TOKENS: Final = 500
_COST: Final = 5
_TIMEOUT_COST: Final = 10
_REFUND: Final = 1


def timeouts() -> tuple[float, float]:
    """Return the seconds that one attempt of the current fetch may take to connect, and to wait for the answer."""
    timer = current_fetch_timeout.get()
    third = float("inf") if timer is None else timer.seconds / ATTEMPTS
    return min(_CONNECT_TIMEOUT, third), min(_READ_TIMEOUT, third)


class Retries:
    """The tokens that all calls of one client pay their retries with, so that an outage isn't made worse by them."""

    def __init__(self) -> None:
        self._tokens = _TOKENS

    def pay(self, failure: ClientError | TransportError, attempt: int) -> int:
        """Return what another attempt costs after this one, the first being 1; 0: there is none."""
        if attempt == ATTEMPTS or not is_transient(failure):
            return 0
        cost = _TIMEOUT_COST if isinstance(failure, ConnectTimeoutError | ReadTimeoutError) else _COST
        if cost > self._tokens:
            return 0
        self._tokens -= cost
        return cost

    def refund(self, paid: int) -> None:
        """After a success: give back what its last retry cost, or if it needed none, a little."""
        self._tokens = min(_TOKENS, self._tokens + (paid or _REFUND))


def is_transient(failure: ClientError | TransportError) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(failure, TransportError):
        return True
    status = failure.response["ResponseMetadata"]["HTTPStatusCode"]
    return status in _STATUSES or failure.response["Error"]["Code"] in _CODES


def pause(attempt: int) -> float:
    """Return the seconds to wait before the next attempt; this one is counted from 1."""
    # Not of the random module: clones of a snapshot share its state.
    fraction = int.from_bytes(os.urandom(6)) / 2**48
    return fraction * min(2.0 ** (attempt - 1), _LONGEST)
