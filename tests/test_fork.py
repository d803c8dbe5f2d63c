"""The hook for the child of a fork."""

from __future__ import annotations

import gc

from asecretcache._fork import after_fork, run_callbacks
from forks import in_child, needs_fork


class Resettable:
    """An object that notes how often it was reset, in a list that outlives it."""

    def __init__(self, events: list[str], name: str = "reset") -> None:
        self.events = events
        self.name = name

    def reset(self) -> None:
        self.events.append(self.name)

    def reset_otherwise(self) -> None:
        self.events.append("otherwise")


class Freeing(Resettable):
    """An object that frees others when it is reset."""

    def __init__(self, events: list[str], others: list[Resettable]) -> None:
        super().__init__(events, "freeing")
        self.others = others

    def reset(self) -> None:
        super().reset()
        self.others.clear()


def test_methods_are_called_in_the_order_of_their_registration() -> None:
    """The first registered object is reset first."""
    events: list[str] = []
    first, second = Resettable(events, "first"), Resettable(events, "second")
    after_fork(first.reset)
    after_fork(second.reset)

    run_callbacks()

    assert events == ["first", "second"]


def test_an_object_has_one_callback() -> None:
    """A second method of an object replaces its first."""
    events: list[str] = []
    owner = Resettable(events)
    after_fork(owner.reset)
    after_fork(owner.reset_otherwise)

    run_callbacks()

    assert events == ["otherwise"]


def test_a_registered_object_is_freed_and_not_called() -> None:
    """The registration keeps no object alive."""
    events: list[str] = []
    after_fork(Resettable(events).reset)
    gc.collect()

    run_callbacks()

    assert events == []


def test_a_callback_is_called_though_another_object_dies_meanwhile() -> None:
    """Freeing objects within a callback, as the garbage collector may, leaves no other callback out."""
    events: list[str] = []
    doomed = [Resettable(events, "doomed")]
    freeing, second = Freeing(events, doomed), Resettable(events, "second")
    for each in (doomed[0], freeing, second):
        after_fork(each.reset)
    del each

    run_callbacks()

    assert events[-2:] == ["freeing", "second"]
    assert not doomed


@needs_fork
def test_the_callback_runs_in_the_child_alone() -> None:
    """After a fork the child calls it once and the parent doesn't."""
    events: list[str] = []
    owner = Resettable(events)
    after_fork(owner.reset)

    assert in_child(lambda: events == ["reset"])
    assert in_child(lambda: events == ["reset"])
    assert events == []
