"""When a call is tried again, as the standard retry mode of the AWS SDKs defines it.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html

SecretsManagerSource gets this behaviour from the SDK, which it tells the number of attempts and their time-outs;
DirectSource gets all of it from here.
"""

from __future__ import annotations

import os
from typing import Final

from asecretcache._core.timeouts import current_fetch_timeout
from asecretcache._sources.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError, TransportError

#: AWS's error codes for too many calls.
THROTTLING_CODES: Final = (
    "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException SlowDown "
    "TooManyRequestsException RequestLimitExceeded LimitExceededException BandwidthLimitExceeded "
    "ProvisionedThroughputExceededException TransactionInProgressException EC2ThrottledException"
).split()
_TRANSIENT_CODES: Final = ("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete")
_TRANSIENT_STATUSES: Final = (500, 502, 503, 504)

ATTEMPTS: Final = 3
#: Seconds to connect, and for each wait for the response. An attempt gets at most a third of a fetch's time, so that
#: three attempts and their back-off can fit into it.
LONGEST_TIMEOUTS: Final = (2.0, 3.0)
_MAX_BACKOFF: Final = 20.0

_QUOTA: Final = 500
_RETRY_COST: Final = 5
_TIMEOUT_RETRY_COST: Final = 10


def attempt_timeouts() -> tuple[float, float]:
    """Return the seconds in which an attempt of the current fetch must connect, and for each wait for the response."""
    timeout = current_fetch_timeout.get()
    third = float("inf") if timeout is None else timeout.seconds / ATTEMPTS
    connect_timeout, read_timeout = LONGEST_TIMEOUTS
    return min(connect_timeout, third), min(read_timeout, third)


class RetryQuota:
    """The tokens that the retries of all calls of one client are paid with, so that an outage gets few retries."""

    def __init__(self) -> None:
        self._tokens = _QUOTA

    def acquire(self, failure: ClientError | TransportError, attempt: int) -> int:
        """Take the tokens for another attempt and return their number; 0 if there must be no other attempt.

        Args:
            failure: the reason why the attempt failed.
            attempt: the number of the attempt that failed, from 1.
        """
        if attempt == ATTEMPTS or not is_retryable(failure):
            return 0
        cost = _TIMEOUT_RETRY_COST if isinstance(failure, ConnectTimeoutError | ReadTimeoutError) else _RETRY_COST
        if cost > self._tokens:
            return 0
        self._tokens -= cost
        return cost

    def release(self, acquired: int) -> None:
        """Give back the tokens of a call's last retry after the call has succeeded; one token if it had no retry."""
        self._tokens = min(_QUOTA, self._tokens + (acquired or 1))


def is_retryable(failure: ClientError | TransportError) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(failure, TransportError):
        return True
    status = failure.response["ResponseMetadata"]["HTTPStatusCode"]
    code = failure.response["Error"]["Code"]
    return status in _TRANSIENT_STATUSES or code in THROTTLING_CODES or code in _TRANSIENT_CODES


def backoff(attempt: int) -> float:
    """Return the seconds to wait after an attempt has failed; the first attempt is number 1."""
    # The random module isn't used, because the clones of a snapshot share its state.
    fraction = int.from_bytes(os.urandom(6)) / 2**48
    return fraction * min(2.0 ** (attempt - 1), _MAX_BACKOFF)
