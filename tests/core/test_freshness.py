"""The pure decisions: until when a value is served, and when a failed fetch may be retried."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asecretcache import (
    ConfigurationError,
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretFormatError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.entries import Entry
from asecretcache._core.freshness import RetrySpacing, back_off, is_fresh, may_serve_stale, new_entry, random_fraction
from asecretcache._core.options import CacheOptions

NAME = "prod/db"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-AbCdEf"
DOWN = SecretUnavailableError("down")
THROTTLED = SecretThrottledError("slow down")
DENIED = SecretAccessDeniedError("no")


def options(ttl: float | None, jitter: float = 0.0, **others: Any) -> CacheOptions:
    defaults: dict[str, Any] = {"ttl_by_secret": None, "stale_while_revalidate": 0.0, "stale_if_error": 0.0}
    unused = {"fetch_timeout": 10.0, "max_size": 9, "batch": False, "clock": None}
    return CacheOptions.checked(ttl=ttl, jitter=jitter, **(defaults | others), **unused)


def entry_of(options: CacheOptions, request: SecretRequest | None = None) -> Entry:
    """An entry of prod/db whose fetch started at 1,000 s."""
    secret = Secret(name=NAME, arn=ARN, version_id="v", secret_string="canary")
    return new_entry(options, request or SecretRequest(NAME), secret, 7, 1000.0)


# Expiry


def test_an_entry_has_its_times_from_the_start_of_its_fetch() -> None:
    """Its age counts from there, since the value may have been read at any time since."""
    entry = entry_of(options(100))

    assert (entry.sequence, entry.started_at, entry.expires_at) == (7, 1000.0, 1100.0)


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_an_expiry_lies_within_the_jitter(ttl: float, jitter: float) -> None:
    """It is drawn from [ttl * (1 - jitter), ttl]."""
    lifetime = entry_of(options(ttl, jitter)).expires_at - 1000.0

    assert ttl * (1 - jitter) - 1e-6 <= lifetime <= ttl + 1e-6


def test_expiries_differ_from_draw_to_draw() -> None:
    """Environments that started together must not fetch together."""
    given = options(3600, 0.1)

    assert len({entry_of(given).expires_at for _ in range(100)}) > 90


def test_the_random_fraction_comes_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clones of a snapshot share the state of other generators, and would expire and retry together."""
    for drawn, fraction in ((b"\x00", 0.0), (b"\x80", 0.5), (b"\xff", 1.0)):
        monkeypatch.setattr("os.urandom", lambda length, drawn=drawn: drawn * length)
        assert random_fraction() == pytest.approx(fraction, abs=0.01)
        assert 0.0 <= random_fraction() < 1.0


@pytest.mark.parametrize(
    ("ttl", "stage", "version_id", "expires_at"),
    [
        (None, None, None, math.inf),
        (10.0, None, "v", math.inf),
        (10.0, "AWSPREVIOUS", None, 1010.0),
        (10.0, "AWSCURRENT", "v", 1010.0),
    ],
    ids=["no ttl", "an id alone", "a stage", "an id with a stage"],
)
def test_what_can_not_change_never_expires(
    ttl: float | None, stage: str | None, version_id: str | None, expires_at: float
) -> None:
    """The value of a version stays, but a staging label may move."""
    entry = entry_of(options(ttl), SecretRequest(NAME, stage, version_id))

    assert entry.expires_at == expires_at


@pytest.mark.parametrize("requested", [NAME, ARN])
@pytest.mark.parametrize("configured", [NAME, ARN])
def test_a_ttl_of_a_secrets_own_holds_for_its_name_and_arn(requested: str, configured: str) -> None:
    """Whichever of the two the request and ttl_by_secret use."""
    given = options(100, ttl_by_secret={"other": 1, configured: 5})

    assert entry_of(given, SecretRequest(requested)).expires_at == 1005.0


def test_a_ttl_of_the_requested_id_wins() -> None:
    """The id that the caller uses is the closest description."""
    given = options(100, ttl_by_secret={NAME: 5, ARN: None})

    assert entry_of(given, SecretRequest(NAME)).expires_at == 1005.0
    assert entry_of(given, SecretRequest(ARN)).expires_at == math.inf


# What may be served


@pytest.mark.parametrize(("now", "fresh"), [(999.0, False), (1000.0, True), (1099.0, True), (1100.0, False)])
def test_a_value_is_fresh_from_its_start_to_its_expiry(now: float, *, fresh: bool) -> None:
    """If the clock was set back before the start, the age is unknown, so the value isn't fresh."""
    assert is_fresh(entry_of(options(100)), now) is fresh


@pytest.mark.parametrize(
    ("now", "error", "may"),
    [
        (999.0, DOWN, False),
        (1050.0, DOWN, False),
        (1100.0, None, True),
        (1119.9, None, True),
        (1119.9, DENIED, True),
        (1120.0, None, False),
        (1120.0, DENIED, False),
        (1120.0, DOWN, True),
        (1399.9, THROTTLED, True),
        (1400.0, DOWN, False),
    ],
)
def test_when_a_stale_value_may_be_served(now: float, error: SecretCacheError | None, *, may: bool) -> None:
    """Within stale-while-revalidate always, within stale-if-error after a transient failure."""
    given = options(100, stale_while_revalidate=20, stale_if_error=300)

    assert may_serve_stale(entry_of(given), error, now) is may


@pytest.mark.parametrize(
    "error",
    [
        DENIED,
        SecretNotFoundError("gone"),
        SecretDecryptionError("no key"),
        ConfigurationError("no region"),
        CredentialsError("revoked"),
        SecretFormatError("not JSON"),
        SecretCacheError("new"),
    ],
)
def test_stale_if_error_is_for_transient_failures_only(error: SecretCacheError) -> None:
    """What AWS refuses must not be served from memory beyond its ttl, nor must a mistake be hidden."""
    given = options(100, stale_if_error=300)

    assert not may_serve_stale(entry_of(given), error, 1100.0)


@pytest.mark.parametrize(
    ("lost", "error", "may"), [(2, None, True), (3, None, False), (4, None, False), (3, DOWN, True)]
)
def test_after_three_lost_refreshes_a_read_waits(lost: int, error: SecretCacheError | None, *, may: bool) -> None:
    """Each was cut off before it ended, so the next would be too; a failure is another matter."""
    entry = entry_of(options(100, stale_while_revalidate=20, stale_if_error=300))
    entry.lost_refreshes = lost

    assert may_serve_stale(entry, error, 1110.0) is may


def test_what_counts_is_whether_the_error_is_transient() -> None:
    """Expired credentials are transient once a source has had good ones, whatever the class says."""
    error = CredentialsError("expired")
    error.is_transient = True
    given = options(100, stale_if_error=300)

    assert may_serve_stale(entry_of(given), error, 1100.0)


def test_a_refused_value_is_never_served_stale() -> None:
    """Not within stale-while-revalidate either."""
    given = options(100, stale_while_revalidate=20, stale_if_error=300)
    entry = entry_of(given)
    entry.refused_sequence = 8

    assert not may_serve_stale(entry, DOWN, 1100.0)
    assert is_fresh(entry, 1050.0), "within its ttl it is"


# Retries


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60), (1000, 60)]
)
def test_the_back_off_doubles_up_to_a_minute(failures: int, longest: float) -> None:
    """Half of it is random, so that environments that failed together don't retry together."""
    drawn = [back_off(failures) for _ in range(50)]

    assert all(longest / 2 <= seconds <= longest for seconds in drawn)
    assert len(set(drawn)) > 40


def test_while_a_stale_value_is_served_a_failure_blocks_the_retry() -> None:
    """For its back-off, at least 1 s and at most 2 s after the first failure."""
    retries = RetrySpacing(9)

    retries.record_failure(NAME, DOWN, 1000.0, is_stale_served=True)

    assert list(retries.failures) == [NAME]
    assert retries.failures[NAME].blocks_retry(1000.9)
    assert not retries.failures[NAME].blocks_retry(1002.0)


@pytest.mark.parametrize(
    ("now", "is_retrying", "is_known"),
    [
        (1000.0, False, True),
        (1059.9, False, True),
        (1060.0, False, False),
        (1060.0, True, True),
        (999.9, False, False),
        (999.9, True, False),
    ],
)
def test_a_failure_is_known_for_a_minute_and_during_a_retry(now: float, *, is_retrying: bool, is_known: bool) -> None:
    """Soon after it no reader of a stale value waits for a retry; a clock that was set back ends that."""
    retries = RetrySpacing(9)

    retries.record_failure(NAME, DOWN, 1000.0, is_stale_served=True)

    assert retries.failures[NAME].is_known(now, is_retrying=is_retrying) is is_known


def test_the_back_off_grows_with_each_failure_and_ends_with_success() -> None:
    """After a success it starts over."""
    retries = RetrySpacing(9)
    for _ in range(3):
        retries.record_failure(NAME, DOWN, 1000.0, is_stale_served=True)
    assert retries.failures[NAME].number == 3
    assert retries.failures[NAME].blocks_retry(1003.9)

    del retries.failures[NAME]

    retries.record_failure(NAME, DOWN, 1000.0, is_stale_served=True)
    assert retries.failures[NAME].number == 1


@pytest.mark.parametrize(
    "error", [THROTTLED, DENIED, SecretNotFoundError("gone"), SecretDecryptionError("no key")], ids=str
)
def test_a_refusal_or_throttle_is_held_for_a_second(error: SecretCacheError) -> None:
    """A typo at 1,000 invocations a second must not cost 1,000 calls."""
    retries = RetrySpacing(9)

    retries.record_failure(NAME, error, 1000.0, is_stale_served=False)

    held = retries.failures[NAME]
    assert held.error is error
    assert [held.is_held(now) for now in (1000.0, 1000.9, 1001.0)] == [True, True, False]
    assert [held.blocks_retry(now) for now in (1000.0, 1000.9, 1001.0)] == [True, True, False]


@pytest.mark.parametrize("error", [DOWN, ConfigurationError("no region"), CredentialsError("none"), SecretCacheError()])
def test_no_other_failure_is_held(error: SecretCacheError) -> None:
    """Without a value to serve each caller may try."""
    retries = RetrySpacing(9)

    retries.record_failure(NAME, error, 1000.0, is_stale_served=False)

    assert not retries.failures


def test_a_failure_that_a_stale_value_hides_is_not_held() -> None:
    """Only what AWS refuses or throttles is an answer."""
    retries = RetrySpacing(9)

    retries.record_failure(NAME, DOWN, 1000.0, is_stale_served=True)

    assert not retries.failures[NAME].is_held(1000.0)


def test_a_clock_that_was_set_back_ends_back_off_and_hold() -> None:
    """They must not last until the clock has caught up."""
    retries = RetrySpacing(9)

    retries.record_failure(NAME, THROTTLED, 1000.0, is_stale_served=True)

    assert retries.failures[NAME].is_held(1000.0)
    assert retries.failures[NAME].blocks_retry(1000.0)
    assert not retries.failures[NAME].is_held(999.9)
    assert not retries.failures[NAME].blocks_retry(999.9)


def test_the_oldest_failures_are_forgotten() -> None:
    """What is remembered of failures is bounded by max_size."""
    retries = RetrySpacing(2)

    for name in "abcad":
        retries.record_failure(name, THROTTLED, 0.0, is_stale_served=False)

    assert list(retries.failures) == ["a", "d"]


@pytest.mark.parametrize("secret_id", [NAME, ARN, ARN[:-7]])
def test_failures_are_forgotten_by_whichever_id(secret_id: str) -> None:
    """All versions of the secret, by name and by ARN; those of others stay."""
    retries = RetrySpacing(9)
    for key in (NAME, ARN, (NAME, "AWSPREVIOUS", None), "other"):
        retries.record_failure(key, THROTTLED, 0.0, is_stale_served=False)

    retries.forget_secret(secret_id)

    assert list(retries.failures) == ["other"]


def test_all_failures_can_be_forgotten() -> None:
    """As clear() needs it."""
    retries = RetrySpacing(9)
    retries.record_failure(NAME, THROTTLED, 0.0, is_stale_served=False)

    retries.forget_secret(None)

    assert not retries.failures


def test_a_value_without_a_ttl_may_be_stale_in_the_moment_of_its_start() -> None:
    """With ttl=0 it starts and expires in the same moment."""
    given = options(0.0, stale_while_revalidate=5.0)
    entry = entry_of(given)

    assert may_serve_stale(entry, None, entry.started_at)
    assert not may_serve_stale(entry, None, entry.started_at - 0.001)
