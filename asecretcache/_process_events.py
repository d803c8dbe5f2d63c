"""What happens to the whole process: a fork, and a snapshot from which Lambda clones environments.

One hook each, which all objects share that must start afresh then.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast


class ProcessEvent:
    """The methods to call when something happens. Of their objects only weak references are kept."""

    def __init__(self) -> None:
        self._callbacks: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()

    def add(self, method: Callable[[], None]) -> None:
        """Call a bound method whenever it happens, as long as the method's object lives.

        An object has one such method: registering another one replaces it. The method must not raise, because the
        methods of other objects are called after it, in the order in which the objects were registered.
        """
        bound = cast("Any", method)
        self._callbacks[bound.__self__] = bound.__func__

    def happen(self) -> None:
        """Call the registered methods."""
        for owner, function in list(self._callbacks.items()):
            function(owner)


class _Snapshot(ProcessEvent):
    """The snapshot of SnapStart. Lambda's library for its hooks is in its own runtimes, and need not be elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.is_hooked = False
        self.is_over = False

    @property
    def is_ahead(self) -> bool:
        """Whether there will be a snapshot, which must hold neither values nor keys."""
        return is_snapshot_taken() and not self.is_over

    def happen(self) -> None:
        """Call the registered methods."""
        super().happen()
        self.is_over = True

    def add(self, method: Callable[[], None]) -> None:
        super().add(method)
        self.hook()

    def hook(self) -> None:
        """Register with Lambda's library, once, if there will be a snapshot."""
        if not self.is_hooked and is_snapshot_taken():
            with suppress(ImportError):
                import snapshot_restore_py

                snapshot_restore_py.register_before_snapshot(self.happen)
                self.is_hooked = True


def is_snapshot_taken() -> bool:
    """Whether Lambda will take a snapshot of this environment, or has, and this is a clone of it."""
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


#: Before a fork, and after it in the process that forks.
before_fork: Final = ProcessEvent()
after_fork_in_parent: Final = ProcessEvent()
#: In the child of a fork.
after_fork: Final = ProcessEvent()
#: Before the snapshot. What it holds is in every clone, for as long as the function's version is in use.
before_snapshot: Final = _Snapshot()

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(
        before=before_fork.happen, after_in_parent=after_fork_in_parent.happen, after_in_child=after_fork.happen
    )
