"""Who is told when a version of a secret replaces another."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from contextvars import Context
from typing import Final, NamedTuple

from asecretcache._core.entries import Entry
from asecretcache._exceptions import ConfigurationError, origin_of
from asecretcache._models import Key, Secret, SecretRequest

_logger: Final = logging.getLogger("asecretcache")

OnChange = Callable[[Secret], object]


class _Known(NamedTuple):
    """A version, and the place of its fetch in the order of starts."""

    version_id: str
    sequence: int


class Listener:
    """A callback, and the version of its secret that it knows of.

    It keeps that itself: an entry may be evicted or invalidated before the next version comes, and a secret may have an
    entry by its name and one by its ARN, which change one after the other.

    Args:
        request: which secret, by name or ARN, and which label.
        callback: is called with the Secret.
    """

    __slots__ = ("_known", "_request", "callback")

    def __init__(self, request: SecretRequest, callback: OnChange) -> None:
        self._request = request
        self.callback = callback
        # By ARN, and by the keys of the entries: a secret that was deleted and created again has another ARN.
        self._known: dict[Key, _Known] = {}

    @property
    def subject(self) -> str:
        """The name or ARN by which it was registered."""
        return self._request.secret_id

    def learn(self, key: Key, secret: Secret, sequence: int) -> bool:
        """Take note of a stored version, and return whether it replaces another one."""
        id_, stage, version_id = (key, None, None) if isinstance(key, str) else key
        if version_id is not None or stage != self._request.version_stage:
            return False
        if self._request.secret_id not in (id_, secret.name, secret.arn):
            return False
        known = self._known.get(secret.arn) or self._known.get(key)
        if known is not None and known.sequence > sequence:
            return False  # It was fetched before what is known, by another id.
        self._known[secret.arn] = self._known[key] = _Known(secret.version_id, sequence)
        return known is not None and known.version_id != secret.version_id


class Changes:
    """The listeners of a cache. Its state changes under the lock of the loader that owns it.

    Attributes:
        listeners: the listeners, in the order in which they are told.
    """

    def __init__(self) -> None:
        self.listeners: Final[dict[Listener, None]] = {}
        # An event loop keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, request: SecretRequest, callback: OnChange, stored: Iterable[tuple[Key, Entry]]) -> Listener:
        """Register a callback, which isn't told of what is stored already.

        Raises:
            ConfigurationError: it isn't callable, or the request names one version.
        """
        if not callable(callback):
            msg = f"callback must be a function of the Secret, sync or async, not {type(callback).__name__}"
            raise ConfigurationError(msg)
        if request.version_id is not None:
            msg = "on_change takes a secret or one of its staging labels: what a version id names never changes"
            raise ConfigurationError(msg, secret_id=request.secret_id)
        listener = Listener(request, callback)
        for key, entry in stored:
            listener.learn(key, entry.secret, entry.sequence)
        self.listeners[listener] = None
        return listener

    def remove(self, listener: Listener) -> None:
        """Tell this listener nothing more. Idempotent."""
        self.listeners.pop(listener, None)

    def learn(self, key: Key, secret: Secret, sequence: int) -> list[Listener]:
        """Take note of a stored version, and return the listeners that have to be told of it."""
        return [listener for listener in self.listeners if listener.learn(key, secret, sequence)]

    def tell(self, listeners: Iterable[Listener], secret: Secret) -> None:
        """Call the callbacks, on the loop that has fetched the secret. Not under the lock: they may use the cache."""
        for listener in listeners:
            if listener not in self.listeners:
                continue
            # In an empty context, as the fetch: no caller's variables, and not the time-out of the fetch.
            context = Context()
            try:
                result = context.run(listener.callback, secret)
            except Exception as exc:  # noqa: BLE001 - a callback may raise anything
                _log(listener, exc)
                continue
            if inspect.isawaitable(result):
                # Not loop.create_task: an eager task would start here.
                task = asyncio.Task(_await(listener, result), context=context, name=f"on_change {listener.subject!r}")
                # A loop may be closed while it runs; that is no mistake to warn of.
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
                tasks = self._tasks
                tasks.difference_update([each for each in list(tasks) if each.get_loop().is_closed()])
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    def leave_tasks(self) -> set[asyncio.Task[None]]:
        """Return what the callbacks still run, and forget it: after a fork it is the parent's."""
        tasks, self._tasks = self._tasks, set()
        return tasks

    async def aclose(self) -> None:
        """Forget the listeners, cancel what they still run, and wait for what runs on this loop."""
        self.listeners.clear()
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        for task in list(self._tasks):
            if task is current:
                continue  # A callback that closes the cache.
            if task.get_loop() is loop:
                task.cancel()
                await asyncio.wait([task])
            else:
                with suppress(RuntimeError):  # The loop is closed.
                    task.get_loop().call_soon_threadsafe(task.cancel)


async def _await(listener: Listener, awaitable: Awaitable[object]) -> None:
    try:
        await awaitable
    except Exception as exc:  # noqa: BLE001 - a callback may raise anything
        _log(listener, exc)


def _log(listener: Listener, exc: Exception) -> None:
    """Tell of an error by its type and place alone, since its text may hold the value."""
    name = getattr(listener.callback, "__qualname__", type(listener.callback).__name__)
    message = "the on_change callback %s of secret %r raised %s at %s"
    _logger.warning(message, name, listener.subject, type(exc).__name__, origin_of(exc))
