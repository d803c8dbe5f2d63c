"""What happens to the whole process: the methods that are called then."""

from __future__ import annotations

import gc

from asecretcache._process_events import ProcessEvent, after_fork
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
    event, events = ProcessEvent(), list[str]()
    first, second = Resettable(events, "first"), Resettable(events, "second")
    event.add(first.reset)
    event.add(second.reset)

    event.happen()

    assert events == ["first", "second"]


def test_an_object_has_one_callback() -> None:
    """A second method of an object replaces its first."""
    event, events = ProcessEvent(), list[str]()
    owner = Resettable(events)
    event.add(owner.reset)
    event.add(owner.reset_otherwise)

    event.happen()

    assert events == ["otherwise"]


def test_a_registered_object_is_freed_and_not_called() -> None:
    """The registration keeps no object alive."""
    event, events = ProcessEvent(), list[str]()
    event.add(Resettable(events).reset)
    gc.collect()

    event.happen()

    assert events == []


def test_a_callback_is_called_though_another_object_dies_meanwhile() -> None:
    """Freeing objects within a callback, as the garbage collector may, leaves no other callback out."""
    event, events = ProcessEvent(), list[str]()
    doomed = [Resettable(events, "doomed")]
    freeing, second = Freeing(events, doomed), Resettable(events, "second")
    for each in (doomed[0], freeing, second):
        event.add(each.reset)
    del each

    event.happen()

    assert events[-2:] == ["freeing", "second"]
    assert not doomed


@needs_fork
def test_the_callback_runs_in_the_child_alone() -> None:
    """After a fork the child calls it once and the parent doesn't."""
    events: list[str] = []
    owner = Resettable(events)
    after_fork.add(owner.reset)

    assert in_child(lambda: events == ["reset"])
    assert in_child(lambda: events == ["reset"])
    assert events == []
