"""What is done before the first invocation: INIT, prefetch, SnapStart; test_awslambdaric.py has the runtime."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretCache,
    SecretRequest,
    SecretUnavailableError,
    async_handler,
    bootstrap,
    get_default_cache,
    get_secret,
    prefetch_in_init,
    set_default_cache,
    sync_handler,
)
from asecretcache._cache import live_caches
from asecretcache._init_phase import init_budget
from asecretcache.testing import InMemorySource
from simulation.virtual_loop import VirtualTime
from virtual_runner import Context

NAME, VALUE = "prod/api", "key-1"


class WarmSource(InMemorySource):
    """A source that counts its preparations."""

    warmed = 0
    raises: Callable[[], BaseException] | None = None

    async def warm(self) -> None:
        self.warmed += 1
        if self.raises is not None:
            raise self.raises()


def test_the_prefetch_precedes_the_first_invocation() -> None:
    """Outside of Lambda it happens at the first invocation, once, into the handler's cache; keys are ignored."""
    source = InMemorySource({NAME: VALUE, "b": '{"k": 1}'})
    seen: list[int] = []

    @async_handler(prefetch=[NAME, "b:k", "b:other"], cache=SecretCache(source))
    async def handler(event: object, context: object) -> str:
        seen.append(len(source.calls))
        return await get_secret(NAME)

    assert not source.calls
    assert handler(None, None) == handler(None, None) == VALUE
    assert seen == [2, 2]


@pytest.mark.usefixtures("lambda_init")
def test_during_init_the_prefetch_is_done_at_import(source: InMemorySource) -> None:
    """With Lambda's runtime around, decorating is enough."""

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert len(source.calls) == 1
    assert handler(None, None) == VALUE
    assert len(source.calls) == 1


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize("has_own_cache", [False, True])
def test_a_default_cache_that_is_set_after_init_is_prefetched_into(source: InMemorySource, has_own_cache: bool) -> None:
    """At the next invocation, once; a handler with a cache of its own has no need of it."""
    own = WarmSource({NAME: VALUE})
    later = WarmSource({NAME: "later"})

    @async_handler(prefetch=[NAME], cache=SecretCache(own) if has_own_cache else None)
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    set_default_cache(cache := SecretCache(later))

    assert handler(None, None) == handler(None, None) == (VALUE if has_own_cache else "later")
    assert [call.secret_id for call in later.calls] == ([] if has_own_cache else [NAME])
    assert (later.warmed, cache.stats().misses) == (0, 0)


@pytest.mark.usefixtures("lambda_init")
async def test_inside_a_running_loop_init_does_nothing(source: InMemorySource) -> None:
    """INIT can't block there; the first invocation does its work."""

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> None: ...

    assert not source.calls
    await asyncio.to_thread(handler, None, None)
    assert len(source.calls) == 1


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize("prefetch", [[], [NAME]])
def test_init_prepares_the_sources_of_all_caches_in_use(default: SecretCache, prefetch: list[str]) -> None:
    """Also of a cache that is no handler's; a source that fetches prepares itself."""
    sources = [WarmSource({NAME: VALUE}) for _ in range(2)]
    caches = [SecretCache(source) for source in sources]

    @async_handler(prefetch=prefetch, cache=caches[0])
    async def handler(event: object, context: object) -> None: ...

    assert [source.warmed for source in sources] == [0 if prefetch else 1, 1]
    assert [len(source.calls) for source in sources] == [len(prefetch), 0]


@pytest.mark.usefixtures("lambda_init")
def test_init_prepares_the_default_cache_if_no_cache_is_in_use(
    default: SecretCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made then, so that the imports are done before the first invocation."""
    source = WarmSource()
    monkeypatch.setattr("asecretcache._cache.SecretsManagerSource", lambda: source)
    asyncio.run(default.aclose())
    set_default_cache(None)
    gc.collect()
    assert live_caches() == []

    @async_handler
    async def handler(event: object, context: object) -> None: ...

    assert source.warmed == 1
    assert live_caches() == [get_default_cache()]


@pytest.mark.usefixtures("lambda_init")
def test_a_default_cache_that_cannot_be_made_does_not_fail_init(
    default: SecretCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable with a wrong value is logged, and raised where the handler asks for a secret."""
    monkeypatch.setenv("ASECRETCACHE_TTL", "soon")
    set_default_cache(None)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    (message,) = caplog.messages
    assert re.search("prefetch failed.*ASECRETCACHE_TTL", message)
    with pytest.raises(ConfigurationError, match="ASECRETCACHE_TTL"):
        handler(None, None)


@pytest.mark.usefixtures("lambda_init")
def test_a_failing_prefetch_is_logged_and_leaves_no_trace(
    source: InMemorySource, default: SecretCache, caplog: pytest.LogCaptureFixture
) -> None:
    """INIT goes on, and the handler fetches for itself."""
    source.fail(SecretUnavailableError("down", secret_id=NAME), times=1)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "prefetch failed; the handler will fetch what it needs" in caplog.text
    assert f"secret '{NAME}': down" in caplog.text
    assert default.peek(NAME) is None
    assert handler(None, None) == VALUE


@pytest.mark.usefixtures("lambda_init")
def test_a_prefetch_during_init_is_ended_after_five_seconds(
    source: InMemorySource, caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime
) -> None:
    """Lambda gives INIT ten; the fetch is cancelled with it."""
    source.pause()

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert virtual_time.now == 5.0
    assert caplog.messages == ["prefetch took longer than 5 s and was ended"]
    source.resume()
    assert handler(None, None) == VALUE
    assert len(source.calls) == 2


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize(
    ("raises", "says"),
    [
        (asyncio.CancelledError, r"\Aprefetch was cancelled from inside; the handler will fetch what it needs\Z"),
        (TimeoutError, "prefetch failed"),
        (lambda: LookupError("models"), "prefetch failed.*models"),
    ],
)
def test_preparations_that_raise_do_not_fail_init(
    raises: Callable[[], BaseException], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the other sources are prepared; a source whose own tasks are cancelled counts as failed."""
    source, other = WarmSource({NAME: VALUE}), WarmSource()
    source.raises = raises
    kept = SecretCache(source), SecretCache(other)

    @async_handler(cache=kept[0])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert (source.warmed, other.warmed) == (1, 1)
    (message,) = caplog.messages
    assert re.search(says, message)
    assert handler(None, None) == VALUE


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ctrl_c_during_the_prefetch_is_not_swallowed() -> None:
    """A cancellation from outside ends INIT."""

    class Interrupted(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            signal.raise_signal(signal.SIGINT)
            return await super().fetch(request)

    # A shell lets its background jobs ignore the signal, and the suite may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):

            @async_handler(prefetch=[NAME], cache=SecretCache(Interrupted({NAME: VALUE})))
            async def handler(event: object, context: object) -> None: ...
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("seconds", "ends_at"), [(4.0, 1.8), (60.0, 5.0)])
def test_a_prefetch_at_the_first_invocation_leaves_the_handler_time(
    source: InMemorySource, caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime, seconds: float, ends_at: float
) -> None:
    """It takes at most half of the time before the deadline, and never more than during INIT."""
    source.pause()

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> float:
        return virtual_time.now

    assert handler(None, Context(seconds)) == pytest.approx(ends_at)
    assert f"prefetch took longer than {ends_at:g} s" in caplog.text


def test_a_snapshot_holds_no_values_and_the_restore_prefetches(
    hooks: tuple[list[Any], list[Any]],
    source: InMemorySource,
    default: SecretCache,
    monkeypatch: pytest.MonkeyPatch,
    lambda_init: None,
) -> None:
    """Before the snapshot only sources are prepared; values, the loop and bootstrap's variables are dropped."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    loops: list[asyncio.AbstractEventLoop] = []
    warm = WarmSource({NAME: VALUE})
    other = SecretCache(warm)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        loops.append(asyncio.get_running_loop())
        return await get_secret(NAME)

    assert (len(source.calls), warm.warmed) == (0, 1)
    asyncio.run(bootstrap({"FROM_SECRET": NAME}))
    asyncio.run(other.get(NAME))
    handler(None, None)
    for hook in hooks[0]:
        hook()
    assert default.peek(NAME) is other.peek(NAME) is None
    assert loops[0].is_closed()
    assert "FROM_SECRET" not in os.environ

    for hook in hooks[1]:
        hook()
    assert default.peek(NAME)
    default.invalidate(NAME)
    assert handler(None, None) == VALUE
    assert len(source.calls) == 3, "the invocation after the restore prefetches nothing"


def test_without_the_snapshot_library_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is in Lambda's own runtime, and need not be elsewhere."""
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)

    @async_handler
    async def handler(event: int, context: object) -> int:
        return event

    assert handler(1, None) == 1


@pytest.mark.usefixtures("lambda_init")
def test_after_a_restore_without_hooks_the_first_invocation_prefetches(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library of the hooks may be missing; what is fetched after the snapshot is no part of it."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    seen: list[int] = []

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> None:
        seen.append(len(source.calls))

    assert not source.calls
    handler(None, None)
    assert seen == [1]


@pytest.mark.parametrize("is_init", [True, False])
def test_a_prefetch_that_failed_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_init: bool
) -> None:
    """The handler fetches what it needs; a later invocation prefetches nothing."""
    if is_init:
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    source = InMemorySource({NAME: VALUE})
    source.fail(SecretUnavailableError("down"))

    @async_handler(prefetch=[NAME], cache=SecretCache(source))
    async def handler(event: object, context: object) -> None:
        pass

    handler(None, None)
    handler(None, None)

    assert len(source.calls) == 1


# Several handlers


MODULE = """
from asecretcache import async_handler

{definition}

@async_handler(prefetch=["prod/other"])
async def other(event, context):
    return "other"
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Imports a module of a text, as Lambda's runtime does during INIT for the handler of this name."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(text: str, configured: str, name: str = "functions") -> ModuleType:
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        monkeypatch.setenv("_HANDLER", configured)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return load


DECORATED = '@async_handler(prefetch=["prod/api"])\nasync def create(event, context):\n    return "create"'


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize(
    ("definition", "configured", "prefetched"),
    [
        (DECORATED, "functions.create", ["prod/api"]),
        (DECORATED, "functions.other", ["prod/other"]),
        ("import functools\n" + DECORATED, "functions.create", ["prod/api"]),
        # It calls the other one, or makes a handler of it.
        ("def create(event, context):\n    return other(event, context)", "functions.create", ["prod/other"]),
        ("make = lambda: other", "functions.create", ["prod/other"]),
        (DECORATED, "elsewhere.create", ["prod/api", "prod/other"]),
        (DECORATED, "", ["prod/api", "prod/other"]),
    ],
)
def test_only_the_configured_handler_prefetches_during_init(
    source: InMemorySource, load: Callable[..., ModuleType], definition: str, configured: str, prefetched: list[str]
) -> None:
    """The functions beside it are the handlers of other Lambda functions; in doubt a handler prefetches."""
    source.rotate("prod/other", "x")

    load(MODULE.format(definition=definition), configured)

    assert [call.secret_id for call in source.calls] == prefetched


@pytest.mark.usefixtures("lambda_init")
def test_a_handler_may_be_configured_by_a_path(source: InMemorySource, load: Callable[..., ModuleType]) -> None:
    """Lambda takes a slash for the dot of a package."""
    source.rotate("prod/other", "x")

    load(MODULE.format(definition=DECORATED), "services/functions.other", "services.functions")

    assert [call.secret_id for call in source.calls] == ["prod/other"]


@pytest.mark.usefixtures("lambda_init")
def test_a_handler_that_was_passed_over_prefetches_when_it_is_called(
    source: InMemorySource, load: Callable[..., ModuleType]
) -> None:
    """As outside of Lambda."""
    source.rotate("prod/other", "x")
    module = load(MODULE.format(definition=DECORATED), "functions.create")

    assert module.other({}, None) == "other"

    assert [call.secret_id for call in source.calls] == ["prod/api", "prod/other"]


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize(
    "made",
    ["inner = lambda: async_handler(prefetch=['prod/api'])(Handler())", "def make():\n    {nested}\n    return nested"],
)
def test_a_handler_without_a_name_of_its_own_prefetches(
    source: InMemorySource, load: Callable[..., ModuleType], made: str
) -> None:
    """What is an object, or nested in a function, may be called by the configured one."""
    nested = "@async_handler(prefetch=['prod/api'])\n    async def nested(event, context):\n        return 1"
    text = f"""
from asecretcache import async_handler

class Handler:
    async def __call__(self, event, context):
        return 1

{made.format(nested=nested)}

(inner if "inner" in globals() else make)()

async def create(event, context):
    return 2
"""
    load(text, "functions.create")

    assert [call.secret_id for call in source.calls] == ["prod/api"]


@pytest.mark.usefixtures("lambda_init")
def test_a_synchronous_handler_beside_the_configured_one_waits(
    source: InMemorySource, load: Callable[..., ModuleType]
) -> None:
    """It is the handler of another Lambda function, and prefetches when it is called."""
    text = """
from asecretcache import async_handler, sync_handler

@sync_handler(prefetch=["prod/db"])
def another(event, context):
    return 1

@async_handler(prefetch=["prod/api"])
async def create(event, context):
    return 2
"""
    module = load(text, "functions.create")
    assert [call.secret_id for call in source.calls] == ["prod/api"]

    assert module.another(None, None) == 1
    assert [call.secret_id for call in source.calls] == ["prod/api", "prod/db"]


@pytest.mark.parametrize("is_snapshot", [False, True])
@pytest.mark.usefixtures("lambda_init")
def test_all_handlers_together_have_five_seconds(
    source: InMemorySource,
    caplog: pytest.LogCaptureFixture,
    virtual_time: VirtualTime,
    hooks: tuple[list[Any], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    is_snapshot: bool,
) -> None:
    """Of INIT, or of the hooks after a restore; the others' prefetches are left out, and each says so."""
    if is_snapshot:
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    source.pause()
    for _ in range(3):
        async_handler(prefetch=[NAME])(Nameless())
    for hook in hooks[0] + hooks[1]:
        hook()

    assert virtual_time.now == 5.0
    left_out = "prefetch was left out, since the 5 s for it are over; the handler will fetch what it needs"
    assert caplog.messages == ["prefetch took longer than 5 s and was ended", left_out, left_out]


class Nameless:
    """An object that is a handler."""

    async def __call__(self, event: object, context: object) -> None: ...


class PreparedSource(WarmSource):
    """A source that notes when it was prepared without a loop."""

    prepared = 0

    def prepare(self) -> None:
        self.prepared += 1


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lambda_init: None) -> Callable[[str], ModuleType]:
    """Imports a text as the function's module, as Lambda's runtime does during INIT."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)

    def load(text: str) -> ModuleType:
        name = f"function_of_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(f"from {__name__} import *\n{text}", encoding="utf-8")
        return importlib.import_module(name)

    monkeypatch.setitem(sys.modules, __name__, sys.modules[PreparedSource.__module__])
    return load


def test_a_cache_that_is_made_during_init_prepares_its_source(importing: Callable[[str], ModuleType]) -> None:
    """Whatever will run its coroutines; a cache that is made later prepares nothing."""
    module = importing("cache = SecretCache(source := PreparedSource())")
    assert (module.source.prepared, module.source.warmed) == (1, 0)

    later = PreparedSource()
    SecretCache(later)
    assert later.prepared == 0


def test_a_source_that_cannot_be_prepared_does_not_fail_init(
    importing: Callable[[str], ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    """The first fetch meets what is wrong."""
    importing(
        "class Failing(PreparedSource):\n"
        "    def prepare(self) -> None:\n"
        "        raise ConfigurationError('a mistake')\n"
        "cache = SecretCache(Failing())"
    )

    assert caplog.messages == ["the source could not be prepared; the first fetch will do it: a mistake"]


def test_what_caches_prepare_counts_as_inits_time(
    importing: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later caches are left to the first fetch, and a decorator has what is left."""
    module = importing(
        "import time\n"
        "class Slow(PreparedSource):\n"
        "    def prepare(self) -> None:\n"
        "        super().prepare()\n"
        "        time.sleep(0.02)\n"
        "init_budget.left = 0.01\n"
        "caches = [SecretCache(first := Slow()), SecretCache(second := Slow())]"
    )

    assert (module.first.prepared, module.second.prepared) == (1, 0)
    assert init_budget.left == 0


@pytest.mark.parametrize("decorate", [async_handler, sync_handler])
def test_in_an_invocation_decorating_fetches_nothing(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch, lambda_init: None, decorate: Any
) -> None:
    """It would take the invocation's time; the decorated handler prefetches when it is called."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1")
    handler = Nameless() if decorate is async_handler else Ordinary()
    decorate(prefetch=[NAME])(handler)

    assert not source.calls


class Ordinary:
    """An object that is a synchronous handler."""

    def __call__(self, event: object, context: object) -> None: ...


def test_a_line_of_the_module_prefetches(
    importing: Callable[[str], ModuleType], source: InMemorySource, default: SecretCache
) -> None:
    """It needs no loop, and leaves none as the current one."""
    importing(f"prefetch_in_init({NAME!r}, 'prod/db:password')")

    assert {call.secret_id for call in source.calls} == {NAME, "prod/db"}
    assert default.peek(NAME)
    assert asyncio.run(get_secret("prod/db:password")) == "hunter2"
    assert len(source.calls) == 2


def test_a_line_of_the_module_does_nothing_elsewhere(source: InMemorySource) -> None:
    """Neither where Lambda's runtime isn't, nor in an invocation."""
    prefetch_in_init(NAME)

    assert not source.calls


def test_a_line_of_the_module_prefetches_after_a_restore(
    importing: Callable[[str], ModuleType],
    source: InMemorySource,
    hooks: tuple[list[Any], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A snapshot holds no values."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    importing(f"prefetch_in_init({NAME!r})")
    assert not source.calls
    for hook in hooks[0] + hooks[1]:
        hook()

    assert len(source.calls) == 1


def test_a_line_of_the_module_takes_a_cache(importing: Callable[[str], ModuleType]) -> None:
    """Without references its source is prepared, on a loop for the moment."""
    module = importing("cache = SecretCache(source := WarmSource())\nprefetch_in_init(cache=cache)")

    assert module.source.warmed == 1


@pytest.mark.parametrize(
    ("arguments", "says"), [(((5,), {}), "int"), (((), {"cache": 5}), "cache must be a SecretCache")]
)
def test_a_line_of_the_module_checks_its_arguments(arguments: Any, says: str) -> None:
    """Everywhere, so that a mistake shows on the developer's machine."""
    with pytest.raises(ConfigurationError, match=says):
        prefetch_in_init(*arguments[0], **arguments[1])


@pytest.mark.parametrize("ttl", [None, 3600.0])
def test_a_cache_without_a_handler_drops_its_values_before_a_snapshot(
    hooks: tuple[list[Any], list[Any]], monkeypatch: pytest.MonkeyPatch, ttl: float | None
) -> None:
    """The hook is the cache's: a plain handler, or Mangum, may have fetched during INIT."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    source = InMemorySource({NAME: "at publish time"})
    caches = [SecretCache(source, ttl=ttl), SecretCache(source)]
    for cache in caches:
        asyncio.run(cache.get_secret(NAME))
    assert len(hooks[0]) == 1, "one hook for all"
    hooks[0][0]()
    source.rotate(NAME, "now")

    assert [cache.peek(NAME) for cache in caches] == [None, None]
    assert asyncio.run(caches[0].get_secret(NAME)) == "now"


def test_elsewhere_nothing_is_hooked(hooks: tuple[list[Any], list[Any]]) -> None:
    """A server takes no snapshot."""
    SecretCache(InMemorySource())

    @async_handler
    async def handler(event: int, context: object) -> None: ...

    assert hooks == ([], [])
