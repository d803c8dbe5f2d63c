"""The store and the freshness policy: what is kept, for how long, and what goes first."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asecretcache import ConfigurationError, Secret, SecretRequest
from asecretcache._core import freshness as _policy
from asecretcache._core.entries import Entry, Store
from asecretcache._core.freshness import FreshnessPolicy, is_fresh


def entry(started: int, expires_at: float = math.inf) -> Entry:
    secret = Secret(name="n", arn="a", version_id=str(started), secret_string="canary")
    return Entry(secret, started=started, born=0.0, expires_at=expires_at)


def test_expired_entries_are_evicted_first_then_the_oldest() -> None:
    """A full store drops what is of no use any more before what is merely old."""
    store = Store(2)
    store.put(SecretRequest("old"), entry(1), now=0)
    store.put(SecretRequest("expired"), entry(2, expires_at=5), now=0)

    store.put(SecretRequest("third"), entry(3), now=10)
    assert set(store.entries) == {"old", "third"}

    store.put(SecretRequest("fourth"), entry(4), now=10)
    assert set(store.entries) == {"third", "fourth"}


def test_storing_again_makes_an_entry_young() -> None:
    """The age is that of the value, not of the name."""
    store = Store(2)
    for started, name in enumerate(["a", "b", "a", "c"]):
        store.put(SecretRequest(name), entry(started), now=0)

    assert set(store.entries) == {"a", "c"}


def test_an_older_fetch_does_not_overwrite_a_newer_one() -> None:
    """The order of the starts decides."""
    store = Store(2)

    assert store.put(SecretRequest("a"), entry(2), now=0)
    assert not store.put(SecretRequest("a"), entry(1), now=0)
    assert store.entries["a"].started == 2


def test_dropping_a_secret_drops_all_its_versions_and_no_other() -> None:
    """Versions named by stage or id go with the current one."""
    store = Store(9)
    requests = [
        SecretRequest("a"),
        SecretRequest("a", "AWSPREVIOUS"),
        SecretRequest("a", None, "v"),
        SecretRequest("b"),
    ]
    for started, request in enumerate(requests):
        store.put(request, entry(started), now=0)

    store.drop("a")
    store.drop("unknown")

    assert list(store.entries) == ["b"]


def test_dropping_a_version_leaves_the_others_of_its_secret() -> None:
    """Evicted one by one, the versions of one secret don't take each other along."""
    store = Store(2)
    for started in range(4):
        store.put(SecretRequest("a", None, f"v{started}"), entry(started), now=0)

    assert [key[2] for key in store.entries] == ["v2", "v3"]


def test_an_entry_that_was_renewed_is_not_evicted_for_its_old_expiry() -> None:
    """What the store remembers of the value before doesn't count."""
    store = Store(2)
    store.put(SecretRequest("old"), entry(1), now=0)
    store.put(SecretRequest("renewed"), entry(2, expires_at=5), now=0)
    store.put(SecretRequest("renewed"), entry(3), now=0)

    store.put(SecretRequest("third"), entry(4), now=10)

    assert set(store.entries) == {"renewed", "third"}


def test_storing_again_and_again_keeps_memory_flat() -> None:
    """What is remembered of replaced entries is swept out in time."""
    store = Store(3)
    for started in range(1000):
        store.put(SecretRequest("a"), entry(started), now=0)

    assert len(store._expiries) < 10


MILLION = """
import math, resource, sys
from asecretcache import Secret, SecretRequest
from asecretcache._core.entries import Entry, Store

store, peaks = Store(1024), []
for number in range(1_000_000):
    secret = Secret(name="n", arn=f"arn:{number}", version_id="v1", secret_string="v")
    entry = Entry(secret, started=number, born=0.0, expires_at=float(number % 3 or math.inf))
    store.put(SecretRequest(f"s{number}", None, "v1" if number % 2 else None), entry, now=number / 1000)
    if number in (100_000, 999_999):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

assert len(store) == len(store._order) == 1024
assert store.evictions == 1_000_000 - 1024
assert len(store.entries) <= 2 * 1024
assert len(store._expiries) <= 3 * 1024 + 1
assert max(len(store._versions), len(store._names), len(store._arns)) <= 1024
assert peaks[1] < 1.1 * peaks[0], peaks
"""


def test_a_million_ids_leave_no_more_than_there_is_room_for() -> None:
    """Of whatever the store keeps: names, their ARNs and versions go with what is evicted, and memory stays flat."""
    # In a process of its own: what coverage and pytest keep isn't the store's, and the former makes it slow.
    subprocess.run([sys.executable, "-c", MILLION], check=True, timeout=120)


def test_an_entry_does_not_show_the_value() -> None:
    """Entries may appear in somebody's debugger."""
    assert "canary" not in repr(entry(1))


keys = st.sampled_from(["a", "b", "c", "d"])
requests = st.builds(SecretRequest, keys, st.sampled_from([None, "S"]), st.sampled_from([None, "v1"]))
operations = st.one_of(
    st.tuples(st.just("put"), requests, st.floats(0, 100)),
    st.tuples(st.just("drop"), keys),
    st.tuples(st.just("clear")),
)


@given(st.lists(operations, max_size=60), st.integers(1, 5))
def test_the_store_agrees_with_a_plain_model(script: list[tuple[Any, ...]], max_size: int) -> None:
    """Whatever is stored and dropped: never more than max_size, and never anything that was dropped."""
    store, now = Store(max_size), 50.0
    model: dict[Any, tuple[int, float]] = {}
    for started, (operation, *arguments) in enumerate(script):
        if operation == "put":
            request, expires_at = arguments
            model.pop(request.key, None)
            model[request.key] = (started, expires_at)
            store.put(request, entry(started, expires_at), now)
            if len(model) > max_size:
                expired = [key for key, each in model.items() if each[1] <= now]
                gone = min(expired, key=lambda key: (model[key][1], model[key][0])) if expired else next(iter(model))
                del model[gone]
        elif operation == "drop":
            store.drop(arguments[0])
            model = {
                key: each for key, each in model.items() if (key if isinstance(key, str) else key[0]) != arguments[0]
            }
        else:
            store.clear()
            model = {}
        assert {key: each.started for key, each in store.entries.items()} == {
            key: each[0] for key, each in model.items()
        }
        assert len(store._expiries) <= 3 * max_size + 2
        assert sum(map(len, store._versions.values())) == sum(isinstance(key, tuple) for key in model)


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_an_expiry_lies_within_the_jitter(ttl: float, jitter: float) -> None:
    """It is drawn from [ttl * (1 - jitter), ttl]."""
    expires_at = FreshnessPolicy.of(ttl, jitter).expires_at(SecretRequest("a"), "arn", "a", 0.0)

    assert ttl * (1 - jitter) <= expires_at <= ttl or math.isclose(expires_at, ttl * (1 - jitter))


def test_expiries_differ_from_draw_to_draw() -> None:
    """Environments that began together don't fetch together."""
    policy = FreshnessPolicy.of(3600, 0.1)

    assert len({policy.expires_at(SecretRequest("a"), "arn", "a", 0.0) for _ in range(100)}) > 90


def test_the_chance_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clones of a snapshot share the state of every other generator, and would expire and retry together."""
    for drawn, chance in ((b"\x00", 0.0), (b"\x80", 0.5), (b"\xff", 1.0)):
        monkeypatch.setattr("os.urandom", lambda length, drawn=drawn: drawn * length)
        assert _policy._chance() == pytest.approx(chance, abs=0.01)
        assert 0.0 <= _policy._chance() < 1.0


@pytest.mark.parametrize(("ttl", "version_id"), [(None, None), (10.0, "v1")])
def test_no_ttl_and_a_version_id_mean_no_expiry(ttl: float | None, version_id: str | None) -> None:
    """A version never changes, and ttl=None is for as long as the process lives."""
    assert FreshnessPolicy.of(ttl, 0.1).expires_at(SecretRequest("a", None, version_id), "arn", "a", 0.0) == math.inf


@pytest.mark.parametrize(("now", "fresh"), [(9.0, False), (10.0, True), (19.0, True), (20.0, False)])
def test_a_value_is_fresh_from_its_birth_to_its_expiry(now: float, *, fresh: bool) -> None:
    """A clock set back before the birth makes the age unknown, so the value isn't fresh."""
    assert is_fresh(10.0, 20.0, now) is fresh


@pytest.mark.parametrize("ttl", [-1, math.nan, math.inf, "60", True])
def test_a_bad_ttl_is_refused(ttl: object) -> None:
    """A ttl is a finite number of seconds, not negative, or None."""
    with pytest.raises(ConfigurationError, match=r"ttl .*None for no expiry"):
        FreshnessPolicy.of(ttl, 0.1)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, math.nan, None])
def test_a_bad_jitter_is_refused(jitter: object) -> None:
    """Jitter is a fraction."""
    with pytest.raises(ConfigurationError, match=r"jitter .*from 0 to 1"):
        FreshnessPolicy.of(60, jitter)
