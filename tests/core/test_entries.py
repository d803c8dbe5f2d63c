"""The stored values: which are kept, which go first, and what belongs to an entry."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asecretcache import Secret
from asecretcache._core.entries import Entry, EntryStore, Record
from asecretcache._models import Key

NAME = "prod/db"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-AbCdEf"
PARTIAL_ARN = ARN[:-7]
OTHER_ARN = "arn:aws:secretsmanager:us-east-1:999999999999:secret:prod/db-GhIjKl"


def new_entry(sequence: int, *, name: str = NAME, arn: str = ARN) -> Entry:
    return Entry(Secret(name=name, arn=arn, version_id=str(sequence), secret_string="canary"), sequence, 10.0, 20.0)


def put_all(store: EntryStore, *keys: Key) -> list[Entry]:
    """Store an entry of another secret by each key, oldest first."""
    entries = [new_entry(sequence, name=f"n{sequence}", arn=f"arn{sequence}") for sequence in range(1, len(keys) + 1)]
    for key, entry in zip(keys, entries, strict=True):
        assert store.put(key, entry)
    return entries


# Eviction


def test_the_oldest_entry_is_evicted_first() -> None:
    """Without reads, entries leave a full store in the order in which they were stored."""
    store = EntryStore(2)

    put_all(store, "a", "b", "c", "d")

    assert list(store.entries) == list(store.records) == ["c", "d"]
    assert store.evictions == 2


def test_an_entry_that_was_read_gets_a_second_chance() -> None:
    """An entry with hits since it was stored is passed over once, and the next oldest goes."""
    store = EntryStore(2)
    read, _ = put_all(store, "read", "unread")
    read.whole.hits += 1

    store.put("third", new_entry(3))

    assert list(store.entries) == ["read", "third"]


def test_a_second_chance_is_used_up_without_new_reads() -> None:
    """An entry that was read once doesn't stay for ever: at its next turn only reads since its chance count."""
    store = EntryStore(2)
    read, _ = put_all(store, "read", "unread")
    read.whole.hits += 1
    store.put("third", new_entry(3))

    store.put("fourth", new_entry(4))

    assert list(store.entries) == ["third", "fourth"]


def test_a_second_chance_is_given_again_for_new_reads() -> None:
    """An entry that is read again and again stays."""
    store = EntryStore(2)
    read, _ = put_all(store, "read", "unread")
    for sequence in (3, 4, 5):
        read.whole.hits += 1
        store.put(f"k{sequence}", new_entry(sequence))

    assert set(store.entries) == {"read", "k5"}


def test_reads_of_a_field_give_its_entry_a_second_chance() -> None:
    """Handlers that read one key of a secret's JSON use the secret as well."""
    store = EntryStore(2)
    entry, _ = put_all(store, "a", "b")
    store.add_field("a", "a:key", field := Record(entry.secret, "v", "v"))
    field.hits += 1

    store.put("c", new_entry(3))

    assert list(store.entries) == ["a", "c"]


def test_when_all_were_read_the_oldest_goes() -> None:
    """Each entry has had its chance then."""
    store = EntryStore(2)
    for entry in put_all(store, "a", "b"):
        entry.whole.hits += 1

    store.put("c", new_entry(3))

    assert list(store.entries) == ["b", "c"]


def test_storing_an_entry_again_makes_it_the_youngest() -> None:
    """The age is that of the value, not that of its key, and replacing a value evicts none."""
    store = EntryStore(2)

    put_all(store, "a", "b", "a", "c")

    assert list(store.entries) == ["a", "c"]
    assert store.evictions == 1


# The order of starts


def test_an_older_fetch_does_not_overwrite_a_newer_one() -> None:
    """The order of the starts decides, not the order in which the responses arrive."""
    store = EntryStore(2)

    assert store.put("a", newer := new_entry(2))
    assert not store.put("a", new_entry(1))

    assert store.entries["a"] is newer
    assert store.records["a"] is newer.whole


def test_a_fetch_from_before_a_refusal_is_not_stored() -> None:
    """Once AWS has refused a value, only a fetch that started after the refused one replaces it."""
    store = EntryStore(2)
    store.put("a", refused := new_entry(1))
    refused.refused_sequence = 3

    assert not store.put("a", new_entry(2))
    assert store.put("a", new_entry(4))


# Ids


def test_a_name_and_its_arn_are_two_entries() -> None:
    """An id is its own key: what is stored by one isn't found by the other."""
    store = EntryStore(9)

    store.put(NAME, by_name := new_entry(1))
    store.put(ARN, by_arn := new_entry(2))

    assert store.entries[NAME] is by_name
    assert store.entries[ARN] is by_arn
    assert len(store.entries) == 2


@pytest.mark.parametrize("secret_id", [NAME, ARN])
def test_dropping_a_secret_drops_what_any_of_its_ids_stored(secret_id: str) -> None:
    """All versions go, by name, by ARN and by a partial ARN."""
    store = EntryStore(9)
    for key in (NAME, ARN, PARTIAL_ARN, (NAME, "AWSPREVIOUS", None), (ARN, None, "v1")):
        store.put(key, new_entry(1))
    store.put("other", new_entry(2, name="other", arn="arn:other"))

    store.drop_secret(secret_id)

    assert list(store.entries) == list(store.records) == ["other"]


def test_dropping_by_name_drops_other_accounts_secrets_of_it() -> None:
    """A name may stand for the secret of that name in any account."""
    store = EntryStore(9)
    store.put(OTHER_ARN, new_entry(1, arn=OTHER_ARN))

    store.drop_secret(NAME)

    assert not store.entries


def test_dropping_by_arn_leaves_other_accounts_secrets() -> None:
    """An ARN stands for one secret only."""
    store = EntryStore(9)
    store.put(ARN, new_entry(1))
    store.put(OTHER_ARN, new_entry(2, arn=OTHER_ARN))

    store.drop_secret(ARN)

    assert list(store.entries) == [OTHER_ARN]


@pytest.mark.parametrize("secret_id", ["prod", "prod/d", PARTIAL_ARN[:-1], ARN + "x", "unknown"])
def test_dropping_goes_by_no_prefix(secret_id: str) -> None:
    """Only exactly the name, the ARN or the id that stored an entry drops it."""
    store = EntryStore(9)
    for key in (NAME, ARN, PARTIAL_ARN):
        store.put(key, new_entry(1))

    store.drop_secret(secret_id)

    assert len(store.entries) == 3


def test_evicting_a_version_leaves_the_others_of_its_secret() -> None:
    """Versions are entries of their own, and are evicted one by one."""
    store = EntryStore(2)

    put_all(store, *(("a", None, f"v{number}") for number in range(4)))

    assert list(store.entries) == [("a", None, "v2"), ("a", None, "v3")]


@pytest.mark.parametrize("key", [PARTIAL_ARN, (PARTIAL_ARN, "AWSPREVIOUS", None)])
def test_a_secret_is_dropped_by_the_id_that_it_is_stored_by(key: Key) -> None:
    """That id may be neither its name nor its ARN, such as a partial ARN; and a stage is no id."""
    store = EntryStore(2)
    store.put(key, new_entry(1))

    store.drop_secret("AWSPREVIOUS")
    assert list(store.entries) == [key]
    store.drop_secret(PARTIAL_ARN)
    assert not store.entries


def test_an_entry_is_dropped_though_its_records_are_gone() -> None:
    """A fork may come between the two removals, and the child finds the store so."""
    store = EntryStore(2)
    entry = new_entry(1)
    store.put("a", entry)
    store.add_field("a", "a:key", Record(entry.secret, "v", "v"))
    store.records.clear()

    store.drop_secret("a")

    assert not store.entries


# Fields


def replace(store: EntryStore) -> None:
    store.put("a", new_entry(3))


def evict(store: EntryStore) -> None:
    store.put("c", new_entry(3))
    store.put("d", new_entry(4))


def drop(store: EntryStore) -> None:
    store.drop_secret("a")


def clear(store: EntryStore) -> None:
    store.clear()


def test_a_field_is_found_by_its_reference_and_has_its_entrys_times() -> None:
    """A read of a reference checks the same times as a read of the whole secret."""
    store = EntryStore(2)
    (entry,) = put_all(store, "a")

    store.add_field("a", "a:key", field := Record(entry.secret, 5, "5"))

    assert store.records["a:key"] is field
    assert (field.value, field.text) == (5, "5")
    assert (field.started_at, field.expires_at) == (10.0, 20.0)
    assert entry.fields == {"a:key": field}
    assert len(store.entries) == 1, "a field isn't counted in max_size"


@pytest.mark.parametrize("remove", [replace, evict, drop, clear])
def test_fields_go_with_their_entry(remove: Callable[[EntryStore], None]) -> None:
    """A field of a value that is gone must not be read."""
    store = EntryStore(2)
    entry, _ = put_all(store, "a", "b")
    store.add_field("a", "a:key", Record(entry.secret, "v", "v"))

    remove(store)

    assert "a:key" not in store.records
    assert set(store.records) == set(store.entries)


@pytest.mark.parametrize("remove", [replace, evict, drop, clear])
def test_a_field_of_an_entry_that_is_gone_is_not_kept(remove: Callable[[EntryStore], None]) -> None:
    """While a thread parsed a version, another may have stored the next one."""
    store = EntryStore(2)
    entry, _ = put_all(store, "a", "b")
    remove(store)

    store.add_field("a", "a:key", Record(entry.secret, "v", "v"))

    assert "a:key" not in store.records
    assert all(not each.fields for each in store.entries.values())


def test_an_entry_keeps_at_most_64_fields() -> None:
    """References are made of text that users choose, so their number is bounded."""
    store = EntryStore(2)
    (entry,) = put_all(store, "a")

    for number in range(100):
        store.add_field("a", f"a:{number}", Record(entry.secret, "v", "v"))

    assert list(entry.fields) == [f"a:{number}" for number in range(64)]
    assert set(store.records) == {"a", *(f"a:{number}" for number in range(64))}


# Counts


@pytest.mark.parametrize("remove", [replace, evict, drop, clear])
def test_hits_outlive_their_entry(remove: Callable[[EntryStore], None]) -> None:
    """Values that are replaced, evicted, dropped and cleared have been read all the same, and so have their fields."""
    store = EntryStore(2)
    entry, _ = put_all(store, "a", "b")
    store.add_field("a", "a:key", field := Record(entry.secret, "v", "v"))
    entry.whole.hits, field.hits = 3, 4
    assert entry.all_hits == store.hits == 7

    remove(store)

    assert store.hits == 7


def test_clearing_counts_no_evictions() -> None:
    """An eviction is a value that had to go for want of room."""
    store = EntryStore(2)
    put_all(store, "a", "b")

    store.clear()

    assert (len(store.entries), store.evictions) == (0, 0)


# Values


def test_a_binary_secrets_entry_has_no_text() -> None:
    """A read of text fails on it before it counts a hit."""
    binary = Secret(name="n", arn="a", version_id="v", secret_binary=b"canary")

    entry = Entry(binary, 1, 0.0, 1.0)

    assert entry.secret is binary
    assert not hasattr(entry.whole, "text")
    assert new_entry(1).whole.text == "canary"


def test_neither_entry_nor_record_shows_the_value() -> None:
    """They may appear in a debugger or in a log of locals."""
    entry = new_entry(1)

    assert "canary" not in repr(entry) + repr(Record(entry.secret, "canary", "canary"))


# Invariants

MANY_IDS = """
import resource
from asecretcache import Secret
from asecretcache._core.entries import Entry, EntryStore, Record

store, peaks = EntryStore(1024), []
for number in range(300_000):
    secret = Secret(name="n", arn=f"arn:{number}", version_id="v1", secret_string="v")
    entry = Entry(secret, number, 0.0, 1.0)
    key = (f"s{number}", None, "v1") if number % 2 else f"s{number}"
    store.put(key, entry)
    if number % 4 == 0:
        store.add_field(key, f"{key}:key", Record(secret, "v", "v"))
    entry.whole.hits += number % 3 == 0
    if number in (30_000, 299_999):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

assert len(store.entries) == 1024
assert store.evictions == 300_000 - 1024
assert len(store.records) <= 2 * 1024
assert peaks[1] < 1.1 * peaks[0], peaks
"""


def test_many_ids_leave_no_more_than_there_is_room_for() -> None:
    """Keys, versions and fields go with what is evicted, and memory stays flat."""
    # In a process of its own: what coverage and pytest keep isn't the store's, and coverage makes it slow.
    subprocess.run([sys.executable, "-c", MANY_IDS], check=True, timeout=120)


keys = st.one_of(st.sampled_from("abcd"), st.tuples(st.sampled_from("abcd"), st.just("S"), st.none()))
operations = st.one_of(
    st.tuples(st.just("put"), keys, st.integers(0, 99)),
    st.tuples(st.just("read"), keys),
    st.tuples(st.just("drop"), st.sampled_from("abcd")),
    st.tuples(st.just("clear")),
)


class Model:
    """What the store should do, in as few words as possible: sequence, hits and hits at the last chance by key."""

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.entries: OrderedDict[Any, list[int]] = OrderedDict()

    def put(self, key: Any, sequence: int) -> None:
        if self.entries.get(key, [-1])[0] > sequence:
            return
        if key not in self.entries and len(self.entries) == self.max_size:
            while (oldest := next(iter(self.entries.values())))[1] != oldest[2]:
                oldest[2] = oldest[1]
                self.entries.move_to_end(next(iter(self.entries)))
            self.entries.popitem(last=False)
        self.entries.pop(key, None)
        self.entries[key] = [sequence, 0, 0]


@given(st.lists(operations, max_size=60), st.integers(1, 5))
def test_the_store_agrees_with_a_plain_model(script: list[tuple[Any, ...]], max_size: int) -> None:
    """Whatever is stored, read and dropped: never more than max_size, and never anything that was dropped."""
    store, model = EntryStore(max_size), Model(max_size)
    for operation, *arguments in script:
        if operation == "put":
            key, sequence = arguments
            model.put(key, sequence)
            store.put(key, new_entry(sequence, name=str(key[0]), arn=f"arn:{key[0]}"))
        elif operation == "read":
            (key,) = arguments
            if key in store.entries:
                store.entries[key].whole.hits += 1
                model.entries[key][1] += 1
        elif operation == "drop":
            (secret_id,) = arguments
            store.drop_secret(secret_id)
            for key in [key for key in model.entries if key[0] == secret_id]:
                del model.entries[key]
        else:
            store.clear()
            model.entries.clear()
        assert [(key, each.sequence) for key, each in store.entries.items()] == [
            (key, each[0]) for key, each in model.entries.items()
        ]
        assert store.records == {key: entry.whole for key, entry in store.entries.items()}
