"""What is done before the first invocation: sources are prepared and secrets are prefetched."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from asecretcache._cache import SecretCache, live_caches
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._init_phase import INIT_SECONDS, init_budget, is_in_invocation, is_init, is_lambda
from asecretcache._lambda.default import get_default_cache, process
from asecretcache._lambda.loop import invocations
from asecretcache._loops import run_on_new_loop
from asecretcache._process_events import before_snapshot, is_snapshot_taken
from asecretcache._references import parse_reference

_logger: Final = logging.getLogger("asecretcache")

_LEFT_OUT: Final = "prefetch was left out, since the %g s for it are over; the handler will fetch what it needs"
FAILED: Final = "prefetch failed; the handler will fetch what it needs: %s"


#: Runs a coroutine to its end.
Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def check_arguments(name: str, prefetch: Sequence[str], cache: SecretCache | None) -> list[str]:
    """Return the references to prefetch.

    Raises:
        ConfigurationError: an argument of a decorator is wrong.
    """
    if isinstance(prefetch, (str, bytes)) or not isinstance(prefetch, Sequence):
        raise ConfigurationError(f"prefetch must be a list of secret references: {name}(prefetch=['prod/db'])")
    if cache is not None and not isinstance(cache, SecretCache):
        raise ConfigurationError(f"cache must be a SecretCache, not {type(cache).__name__}")
    return [parse_reference(reference).text for reference in prefetch]


class Preparation:
    """The preparations of one handler. A failure is only logged.

    Args:
        references: what is to be prefetched.
        cache: where to; None for the default cache.
        run: runs a coroutine on the loop of the invocations, or on one for the moment.
    """

    def __init__(self, references: list[str], cache: SecretCache | None, run: Run) -> None:
        self._references = references
        self._cache = cache
        self._run_work = run
        self._done_for: int | None = None

    @property
    def _generation(self) -> int:
        return process.generation(self._cache)

    def begin(self) -> None:
        """Prepare now if this is Lambda's INIT; otherwise the first invocation will."""
        is_snapshot = is_snapshot_taken()
        if is_snapshot:
            before_snapshot.hook()
            with suppress(ImportError):
                import snapshot_restore_py

                snapshot_restore_py.register_after_restore(self._after_restore)
        if not is_lambda() or is_in_invocation() or invocations.is_inside_a_loop():
            return
        # A snapshot must hold no values: only the source is warmed, and the secrets are fetched after the restore.
        self._done_for = None if is_snapshot else self._generation
        self._run_work(lambda: self._run_in_init([] if is_snapshot else self._references))

    def run_now(self) -> None:
        """Prepare, unless that has been done for this cache."""
        if self._done_for != self._generation:
            self._run_work(self.run_once)

    async def run_once(self) -> None:
        """Prepare, unless that has been done for this cache."""
        if self._done_for != self._generation:
            self._done_for = self._generation
            # Leave the handler at least as much time again.
            await self._run(self._references, min(INIT_SECONDS, time_left(2 * INIT_SECONDS) / 2))

    def _after_restore(self) -> None:
        """Prefetch in the clone of a snapshot."""
        self._done_for = self._generation
        self._run_work(lambda: self._run_in_init(self._references))

    async def _run_in_init(self, references: list[str]) -> None:
        if not init_budget.left:
            _logger.warning(_LEFT_OUT, INIT_SECONDS)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._run(references, init_budget.left)
        finally:
            init_budget.spend(loop.time() - began)

    async def _run(self, references: list[str], seconds: float) -> None:
        """Fetch the secrets, and prepare the sources of all caches that are in use, or of the default cache."""
        fetching: SecretCache | None = None
        try:
            async with asyncio.timeout(seconds):
                if references:
                    fetching = self._cache or get_default_cache()
                    await _attempt(fetching.prefetch(*references))  # The first fetch prepares its source.
                for cache in live_caches() or [get_default_cache()]:
                    if cache is not fetching:
                        await _attempt(cache.prefetch())
        except TimeoutError:
            _logger.warning("prefetch took longer than %g s and was ended", seconds)
        except SecretCacheError as exc:
            _logger.warning(FAILED, exc)


def prefetch_in_init(*references: str, cache: SecretCache | None = None) -> None:
    """Fetch secrets during Lambda's INIT: a line at the module's level, for a handler that has no decorator.

    ``prefetch_in_init("prod/db")`` needs no event loop. It prepares the source and fetches the secrets, in at most 5 s;
    with SnapStart after the restore. A failure is logged, and is raised when the handler asks for the secret. Without
    references only the source is prepared. Elsewhere than in INIT it does nothing: the first read fetches.

    Args:
        references: as get_secret takes them.
        cache: where to; None for the default cache.

    Raises:
        ConfigurationError: a reference or the cache is wrong.
    """
    preparation = Preparation(check_arguments("prefetch_in_init", references, cache), cache, run_on_new_loop)
    if is_init():
        preparation.begin()


def is_another_handler(function: Any) -> bool:
    """Return whether a function isn't the handler that Lambda was told to call, but one beside it in its module.

    Lambda's handler can't be ``async def``, so where the module has an ``async def`` of that name, it is decorated, and
    the functions of other names are the handlers of other Lambda functions. What has no name, is nested, or stands in a
    module whose handler is made in another way may be called by it.
    """
    module, _, name = os.environ.get("_HANDLER", "").replace("/", ".").rpartition(".")
    own_name = getattr(function, "__name__", name)
    if own_name == name or function.__module__ != module or getattr(function, "__qualname__", "") != own_name:
        return False
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame.f_globals.get("__name__") == module and any(
        getattr(constant, "co_name", "") == name and constant.co_flags & inspect.CO_COROUTINE
        for constant in frame.f_code.co_consts
    )


async def _attempt(prefetch: Coroutine[Any, Any, None]) -> None:
    """Log a failure instead of raising it, unless the failure is a cancellation of this task."""
    try:
        await prefetch
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _logger.warning("prefetch was cancelled from inside; the handler will fetch what it needs")
    except Exception as exc:  # noqa: BLE001 - whatever it is, the handler must start, and meets it where it asks
        _logger.warning(FAILED, exc)
