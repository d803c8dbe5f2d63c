"""The quota of retries, the back-off between attempts and their time-outs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._sources.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError, TransportError
from asecretcache._sources.retry_quota import THROTTLING_CODES, RetryQuota, attempt_timeouts, backoff, is_retryable


def client_error(code: Any, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}, "x")


def test_retries_use_up_the_quota_and_successes_refill_it() -> None:
    """As in botocore, a retry after a time-out costs 10 of 500 tokens, any other 5, and a success gives them back."""
    quota = RetryQuota()

    assert [quota.acquire(ConnectTimeoutError(), attempt=1) for _ in range(51)] == [10] * 50 + [0]
    for _ in range(4):
        quota.release(0)
    assert quota.acquire(TransportError(), attempt=1) == 0
    quota.release(0)
    assert quota.acquire(TransportError(), attempt=1) == 5
    quota.release(10)
    assert quota.acquire(TransportError(), attempt=2) == 5
    for _ in range(3):
        quota.release(400)
    assert [quota.acquire(TransportError(), attempt=1) for _ in range(101)] == [5] * 100 + [0]


def test_the_third_attempt_is_the_last() -> None:
    """After three attempts there is no other, whatever the quota says."""
    assert RetryQuota().acquire(TransportError(), attempt=3) == 0


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (TransportError(), True),
        (ReadTimeoutError(), True),
        *((client_error(code), True) for code in THROTTLING_CODES),
        (client_error("RequestTimeout"), True),
        (client_error("InternalServiceError", 500), True),
        (client_error("X", 503), True),
        (client_error("X", 501), False),
        (client_error("AccessDeniedException"), False),
        (client_error({"not": "a code"}), False),
    ],
)
def test_transient_failures_are_retried(failure: ClientError | TransportError, expected: bool) -> None:
    """Failed connections, throttling, time-outs of the server and four statuses are transient; refusals are not."""
    assert is_retryable(failure) is expected
    assert bool(RetryQuota().acquire(failure, attempt=1)) is expected


def test_the_backoff_is_random_and_doubles_up_to_20_seconds() -> None:
    """The first delay is at most a second."""
    drawn = [[backoff(attempt) for _ in range(200)] for attempt in (1, 2, 9)]

    for delays, longest in zip(drawn, (1, 2, 20), strict=True):
        assert min(delays) >= 0
        assert longest / 2 < max(delays) <= longest


@pytest.mark.parametrize(("seconds", "expected"), [(None, (2.0, 3.0)), (7.5, (2.0, 2.5)), (3.0, (1.0, 1.0))])
def test_an_attempt_gets_a_third_of_the_time(seconds: float | None, expected: tuple[float, float]) -> None:
    """It gets at most 2 s to connect and 3 s for each wait for the response."""
    timeout = None if seconds is None else FetchTimeout(seconds, time.time, time.monotonic)
    token = current_fetch_timeout.set(timeout)

    assert attempt_timeouts() == expected
    current_fetch_timeout.reset(token)
