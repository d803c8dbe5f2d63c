"""The options of a cache: checked where they are given."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from asecretcache import ConfigurationError
from asecretcache._core.options import CacheOptions
from asecretcache.testing import ManualClock

RIGHT: dict[str, Any] = {
    "ttl": 60,
    "ttl_by_secret": None,
    "jitter": 0,
    "stale_while_revalidate": 0,
    "stale_if_error": 5,
    "fetch_timeout": 10,
    "max_size": 9,
    "batch": False,
    "clock": None,
}


def test_options_are_kept_as_given() -> None:
    """Numbers of seconds become floats."""
    clock = ManualClock()

    options = CacheOptions.checked(**(RIGHT | {"clock": clock, "ttl_by_secret": {"a": 5, "b": None}, "batch": True}))

    assert options[:-1] == (60.0, {"a": 5.0, "b": None}, 0.0, 0.0, 5.0, 10.0, 9, True, clock)
    assert all(isinstance(each, float) for each in (options.ttl, options.jitter, options.fetch_timeout))


def test_there_may_be_no_ttl() -> None:
    """None is for as long as the process lives."""
    assert CacheOptions.checked(**(RIGHT | {"ttl": None})).ttl is None


def test_by_default_the_clocks_are_the_systems() -> None:
    """The wall clock, and the monotonic one beside it; no secret has a ttl of its own."""
    options = CacheOptions.checked(**RIGHT)

    assert options.clock is time.time
    assert options.monotonic is time.monotonic
    assert options.ttl_by_secret == {}


@pytest.mark.parametrize("ttl", [-1, math.nan, math.inf, "60", True])
def test_a_wrong_ttl_is_refused(ttl: object) -> None:
    """A ttl is a finite number of seconds, not negative, or None."""
    with pytest.raises(ConfigurationError, match=r"^ttl .*: give seconds, or None for no expiry$"):
        CacheOptions.checked(**(RIGHT | {"ttl": ttl}))


@pytest.mark.parametrize("jitter", [-0.1, 1.1, math.nan, None])
def test_a_wrong_jitter_is_refused(jitter: object) -> None:
    """Jitter is a fraction."""
    with pytest.raises(ConfigurationError, match=r"^jitter .*(: give|must be) a fraction of the ttl from 0 to 1"):
        CacheOptions.checked(**(RIGHT | {"jitter": jitter}))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ttl_by_secret": [("a", 1)]}, "ttl_by_secret must map names or ARNs to seconds, it can't be list"),
        ({"ttl_by_secret": {"a": -1}}, "the ttl of 'a' can't be -1"),
        ({"ttl_by_secret": {"a:b": 1}}, "colon"),
        ({"ttl_by_secret": {5: 1}}, "a secret id must be a str"),
        ({"stale_while_revalidate": -1}, "stale_while_revalidate can't be -1: give seconds, or 0 for none"),
        ({"stale_while_revalidate": None}, "stale_while_revalidate must be a number, not NoneType"),
        ({"stale_if_error": math.inf}, "stale_if_error can't be inf"),
        ({"fetch_timeout": 0}, "fetch_timeout can't be 0: give seconds above zero"),
        ({"fetch_timeout": -1}, "fetch_timeout can't be -1"),
        ({"fetch_timeout": math.nan}, "fetch_timeout can't be nan"),
        ({"fetch_timeout": None}, "fetch_timeout must be a number, not NoneType"),
        ({"max_size": 0}, "max_size must be a whole number of values, at least 1, not 0"),
        ({"max_size": 1.5}, r"max_size must be .* not 1\.5"),
        ({"max_size": True}, "max_size must be .* not True"),
        ({"batch": 20}, "batch must be True or False, not int"),
        ({"clock": 12}, r"clock must be a callable that returns seconds, such as time\.time, not int"),
    ],
)
def test_a_wrong_option_is_refused(wrong: dict[str, Any], says: str) -> None:
    """The error names the option and what it must be."""
    with pytest.raises(ConfigurationError, match=says):
        CacheOptions.checked(**(RIGHT | wrong))
