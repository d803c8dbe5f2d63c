"""A canary value goes through every path, and appears nowhere but in what the caller asked for."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import observe
from asecretcache import (
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretErrorGroup,
    SecretFormatError,
    SecretsManagerSource,
    SecretThrottledError,
    SecretUnavailableError,
    async_handler,
    bootstrap,
    get_secret,
    get_secrets,
    set_default_cache,
)
from asecretcache.testing import InMemorySource, ManualClock
from moto_server import SESSION_TOKEN, MotoServer
from raw_server import RawServer
from turns import until

CANARY = "canary-4711"
NAME, JSON, BINARY, MANY = "prod/db", "prod/json", "prod/binary", ["m1", "m2", "m3"]
DOCUMENT = json.dumps({"password": CANARY, "nul": f"{CANARY}\0", "list": [CANARY], "none": None})
TESTS = str(Path(__file__).parents[1])


def tracked(value: object, depth: int = 6) -> Iterator[str]:
    """Show a frame's local as error trackers do: the items of mappings, sequences and sets, of all else the repr."""
    if isinstance(value, str | bytes | bytearray) or depth == 0:
        yield repr(value)
    elif isinstance(value, Mapping):
        for name, item in list(value.items()):
            yield repr(name)
            yield from tracked(item, depth - 1)
    elif isinstance(value, Sequence | AbstractSet):
        for item in list(value):
            yield from tracked(item, depth - 1)
    else:
        yield repr(value)


class Witness:
    """Sees all that a process can show without being asked for a value."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, what: str, shown: str) -> None:
        self.seen.append(f"{what}: {shown}")

    def exception(self, error: BaseException) -> None:
        """Take down an exception with its chain, notes and attributes, and the locals of all frames but the tests'."""
        told: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            each = waiting.pop()
            if each is None or id(each) in told:
                continue
            told.add(id(each))
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
            attributes = {name: value for name, value in vars(each).items() if name != "response"}
            self.note("exception", repr(each) + str(each) + repr(each.args) + repr(attributes))
            self.note("chain", "".join(traceback.format_exception_only(each)))
            for frame, _ in traceback.walk_tb(each.__traceback__):
                # The tests' own frames hold the values.
                if not frame.f_code.co_filename.startswith(TESTS):
                    self.note(frame.f_code.co_qualname, "; ".join(tracked(frame.f_locals)))

    def objects(self) -> None:
        """Take down the repr of every live object of the package, and of the tasks and futures that it made."""
        for each in gc.get_objects():
            kind = type(each)
            module = kind.__module__ if isinstance(kind.__module__, str) else ""
            if module.partition(".")[0] == "asecretcache" or isinstance(each, asyncio.Task):
                self.note(kind.__name__, f"{each!r} {each!s} {each:}" if isinstance(each, Secret) else repr(each))

    def check(self) -> None:
        assert self.seen
        shown = [each for each in self.seen if CANARY in each or SESSION_TOKEN in each]
        assert not shown, [each[:300] for each in shown]


@pytest.fixture
def witness(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Witness]:
    witness = Witness()
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: witness.note("unraisable", repr(hook)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield witness
        gc.collect()
    for record in caplog.records:
        if record.name.partition(".")[0] not in {"werkzeug", "asyncio"}:
            witness.note(record.name, record.getMessage() + repr(record.__dict__))
    for warning in caught:
        witness.note("warning", str(warning.message))
    told = capfd.readouterr()
    witness.note("output", told.out + told.err)
    set_default_cache(None)
    witness.check()


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(
        {NAME: CANARY, JSON: DOCUMENT, BINARY: CANARY.encode(), **dict.fromkeys(MANY, f"{CANARY} too")}
    )


async def raises(witness: Witness, awaitable: Any) -> BaseException:
    with pytest.raises(Exception) as caught:
        await awaitable
    witness.exception(caught.value)
    return caught.value


class RefusedError(Exception):
    """A function's own."""


async def test_every_way_to_read_and_every_way_to_fail(witness: Witness, source: InMemorySource) -> None:
    """Reads, formats, errors of all kinds, batches, stale values, cancellations, inject and rotations show nothing."""
    clock = ManualClock()
    cache = SecretCache(
        source, batch=True, ttl=100, jitter=0, stale_while_revalidate=10, clock=clock, ttl_by_secret={JSON: 5}
    )
    await cache.get_many(NAME, JSON, BINARY, *MANY)
    for wrong in (
        cache.get_secret(BINARY),
        cache.get_secret_binary(NAME),
        cache.get_json(NAME),
        cache.get_json(JSON, "missing"),
        cache.get_as(JSON, int),
        cache.get_as(NAME, json.loads),
        cache.get_secret(NAME, version_stage="NO-SUCH-STAGE"),
        cache.get_many(NAME, "missing", "gone"),
    ):
        await raises(witness, wrong)
    witness.objects()

    async def refuse(secret: Secret) -> None:
        raise RefusedError

    await raises(witness, cache.call_with_secret(NAME, refuse, refresh_on=RefusedError, refresh_timeout=0))

    @cache.inject(password=f"{JSON}:password")
    async def use(password: str = "", more: str = "") -> None:
        del password, more
        witness.objects()
        raise RefusedError

    await raises(witness, use())
    await raises(witness, use(more=CANARY))
    for error in (
        SecretUnavailableError("down"),
        SecretThrottledError("slow"),
        SecretAccessDeniedError("no"),
        SecretCacheError("new"),
    ):
        source.fail(error)
        source.fail_batches(error)
        clock.advance(105)
        await cache.get_many(NAME, *MANY, return_exceptions=True)
        clock.advance(10)
        outcomes = await cache.get_many(NAME, *MANY, return_exceptions=True)
        for outcome in outcomes.values():
            if isinstance(outcome, SecretCacheError):
                witness.exception(outcome)
        witness.objects()
    source.recover()
    clock.advance(1e6)
    source.pause()
    fetched = len(source.calls) + len(source.batches)
    callers = [asyncio.create_task(cache.get_many(NAME, *MANY)) for _ in range(3)]
    await until(lambda: len(source.calls) + len(source.batches) > fetched)
    witness.objects()
    callers[0].cancel()
    await asyncio.wait(callers[:1])
    source.resume()
    await asyncio.wait(callers)
    cache.invalidate(NAME)
    witness.note("stats", repr(cache.stats()))
    await cache.aclose()
    await raises(witness, cache.get(NAME))
    # The results of these tasks are what the callers asked for.
    del callers


async def test_the_articles_flow_and_the_handler(
    witness: Witness, source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors about values that can't be written, or that a reference doesn't select, don't show them."""
    set_default_cache(SecretCache(source))
    for variable in ("CANARY_A", "CANARY_B"):
        monkeypatch.setenv(variable, "")
    error = await raises(witness, bootstrap({"CANARY_A": NAME, "CANARY_B": f"{JSON}:nul"}))
    assert isinstance(error, SecretFormatError)
    assert not os.environ["CANARY_A"]
    for references in ((f"{NAME}:key",), (BINARY,), (f"{JSON}:missing", NAME, "missing")):
        assert isinstance(await raises(witness, get_secrets(*references)), SecretErrorGroup)
    await raises(witness, get_secret(f"{JSON}:missing"))
    await get_secrets(NAME, f"{JSON}:password")
    witness.objects()

    @async_handler
    async def handler(event: Any, context: Any) -> None:
        held = await get_secret(NAME)
        del held
        raise RefusedError

    def invoke() -> BaseException:
        with pytest.raises(RefusedError) as caught:
            handler({}, None)
        return caught.value

    witness.exception(await asyncio.to_thread(invoke))
    witness.objects()


class _Pair(NamedTuple):
    left: object
    right: object


def test_the_walk_through_locals_finds_values() -> None:
    """Items of lists, tuples, NamedTuples, dicts and sets are shown, so that the tests below can fail."""
    for held in ([CANARY], (CANARY,), _Pair(1, CANARY), {"a": {"b": [CANARY]}}, {CANARY}, {CANARY: 1}, CANARY.encode()):
        assert any(CANARY in shown for shown in tracked({"local": held}))


ERROR_FLOWS: dict[str, Callable[[SecretCache], Any]] = {
    "get_secrets, a key is missing": lambda cache: cache.get_secrets(NAME, f"{JSON}:password", f"{JSON}:missing"),
    "get_secrets, null": lambda cache: cache.get_secrets(NAME, f"{JSON}:list", f"{JSON}:none"),
    "get_secrets, not JSON": lambda cache: cache.get_secrets(f"{JSON}:password", f"{NAME}:password"),
    "get_secrets, binary": lambda cache: cache.get_secrets(NAME, BINARY, f"{JSON}:password:AWSCURRENT"),
    "get_secrets, not found": lambda cache: cache.get_secrets(NAME, f"{JSON}:list", "missing:password"),
    "get_secrets, wrong": lambda cache: cache.get_secrets(NAME, [JSON]),  # type: ignore[arg-type]  # the mistake
    "get_many": lambda cache: cache.get_many(NAME, JSON, "missing"),
    "get_secret, a key is missing": lambda cache: cache.get_secret(f"{JSON}:missing"),
    "get_secret, null": lambda cache: cache.get_secret(f"{JSON}:none:AWSCURRENT"),
    "get_secret, not JSON": lambda cache: cache.get_secret(f"{NAME}:password"),
    "get_secret, binary": lambda cache: cache.get_secret(f"{BINARY}:password"),
    "get_json, a key is missing": lambda cache: cache.get_json(JSON, "missing"),
    "get_json, a key of a reference": lambda cache: cache.get_json(f"{JSON}:missing:AWSCURRENT"),
    "get_json, not JSON": lambda cache: cache.get_json(NAME),
    "get_json, a wrong key": lambda cache: cache.get_json(JSON, ["password"]),  # type: ignore[arg-type]  # as above
    "get_json, a key twice": lambda cache: cache.get_json(f"{JSON}:password", "password"),
    "get_as, of a key": lambda cache: cache.get_as(f"{JSON}:password", int),
    "get_as, of a list": lambda cache: cache.get_as(f"{JSON}:list", _fail_with),
    "get_as, of a text": lambda cache: cache.get_as(NAME, json.loads),
    "get_as, an error of ours": lambda cache: cache.get_as(JSON, _fail_as_we_do),
    "get_secret_binary": lambda cache: cache.get_secret_binary(f"{NAME}::AWSCURRENT"),
    "get, a key": lambda cache: cache.get(f"{JSON}:password"),
    "inject, a key is missing": lambda cache: _injected(cache, password=f"{JSON}:password", other=f"{JSON}:missing"),
    "inject, null": lambda cache: _injected(cache, password=f"{JSON}:none"),
    "inject, it raises": lambda cache: _injected(cache, password=f"{JSON}:password"),
    "inject, it refuses, with a value of the caller": lambda cache: _injected_and_refused(cache, other=CANARY),
    "inject, it can't be called": lambda cache: _injected(cache, CANARY, [CANARY], password=f"{JSON}:password"),
    "bootstrap, a key is missing": lambda cache: bootstrap({"CANARY_A": NAME, "CANARY_B": f"{JSON}:missing"}),
    "bootstrap, NUL": lambda cache: bootstrap({"CANARY_A": f"{JSON}:password", "CANARY_B": f"{JSON}:nul"}),
    "bootstrap, null": lambda cache: bootstrap({"CANARY_A": f"{JSON}:list", "CANARY_B": f"{JSON}:none"}),
    "call_with_secret": lambda cache: cache.call_with_secret(NAME, _refuse, refresh_on=RefusedError, refresh_timeout=0),
}


def _fail_with(text: str) -> None:
    held = [text]
    raise RefusedError(held)


def _fail_as_we_do(text: str) -> None:
    raise SecretFormatError(text, secret_id=text)


async def _refuse(secret: Secret) -> None:
    held = secret.text
    del held
    raise RefusedError


async def _injected(cache: SecretCache, *arguments: Any, **references: str) -> None:
    @cache.inject(**references)
    async def function(*, password: str = "", other: str = "") -> None:
        del password, other
        raise RefusedError

    await function(*arguments)


async def _injected_and_refused(cache: SecretCache, **arguments: Any) -> None:
    @cache.inject(password=f"{JSON}:password", refresh_on=RefusedError, refresh_timeout=0)
    async def function(*, password: str = "", other: str = "") -> None:
        del password, other
        raise RefusedError

    await function(**arguments)


@pytest.mark.parametrize("is_in_memory", [False, True])
@pytest.mark.parametrize("flow", ERROR_FLOWS)
async def test_error_trackers_find_no_value(
    witness: Witness, source: InMemorySource, monkeypatch: pytest.MonkeyPatch, flow: str, *, is_in_memory: bool
) -> None:
    """The locals of every frame of every error are walked as error trackers do, with secrets in memory or not."""
    for variable in ("CANARY_A", "CANARY_B"):
        monkeypatch.setenv(variable, "")
    cache = SecretCache(source)
    set_default_cache(cache)
    if is_in_memory:
        await cache.get_many(NAME, JSON, BINARY)
        await cache.get_secrets(NAME, f"{JSON}:password", f"{JSON}:list")
    with pytest.raises(Exception) as caught:
        await ERROR_FLOWS[flow](cache)
    assert isinstance(caught.value, SecretCacheError | RefusedError | TypeError)
    witness.exception(caught.value)


def test_loops_that_die(witness: Witness, source: InMemorySource) -> None:
    """A loop that is closed in the middle of a fetch leaves nothing that shows the value."""
    cache = SecretCache(source)
    source.pause()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.get_secret(NAME))
    loop.run_until_complete(until(lambda: source.calls))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own task
    source.resume()
    loop.close()
    witness.objects()
    del task, loop
    asyncio.run(cache.get(JSON))
    gc.collect()
    witness.objects()


def test_what_is_copied_pickled_or_formatted(witness: Witness, source: InMemorySource) -> None:
    """A copy of a Secret is itself; neither it nor a cache, its store or its entries can be pickled."""
    cache = SecretCache(source)
    secret = asyncio.run(cache.get(NAME))
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    for each in (secret, cache, observe.loader(cache).store, observe.entry(cache, NAME), [secret], {"a": cache}):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
                pickle.dumps(each, protocol)
            witness.exception(caught.value)
        witness.note("formats", f"{each} {each!r} {each!s:>10} %s" % (each,))
        witness.note("json", json.dumps(each, default=repr, skipkeys=True))


ANSWERS: dict[str, Callable[[RawServer], None]] = {
    "cut off": lambda server: server.answer(json.dumps({"SecretString": CANARY})[:-2].encode()),
    "html": lambda server: server.answer(f"<html>{CANARY}".encode(), content_type="text/html"),
    "wrong types": lambda server: server.answer({"ARN": 1, "Name": [], "SecretString": CANARY}),
    "bad base64": lambda server: server.answer({"SecretBinary": f"!{CANARY}!"}),
    "bad utf-8": lambda server: server.answer(b'{"SecretString": "\xff' + CANARY.encode() + b'"}'),
    "an error that isn't one": lambda server: server.refuse(CANARY, CANARY),
    "a server error": lambda server: server.answer(CANARY.encode(), 500),
    "many": lambda server: server.answer({"SecretValues": [{"SecretString": CANARY}], "Errors": [CANARY]}),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_answers_that_quote_it_over_http(witness: Witness, aws_raw: RawServer, answer: str) -> None:
    """The SDK's own log at DEBUG, its parsers' exceptions and ours hold none of it."""
    ANSWERS[answer](aws_raw)
    async with SecretCache(SecretsManagerSource(config=_impatient()), batch=True) as cache:
        await raises(witness, cache.get_secret(NAME))
        error = await raises(witness, cache.get_many(*MANY))
        assert isinstance(error, SecretErrorGroup)
        witness.objects()


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    """The server has the values before the log is watched, since storing a secret logs it."""
    for name in (NAME, *MANY):
        moto_server.create(name, CANARY)
    return moto_server


async def test_values_over_http(moto: MotoServer, witness: Witness) -> None:
    """With every logger at DEBUG, from the first import to the closing."""
    async with SecretCache(batch=True) as cache:
        await cache.get_secret(NAME)
        await cache.get_many(*MANY, "missing", return_exceptions=True)
        await cache.refresh(NAME)
        witness.objects()


def _impatient() -> Any:
    from aiobotocore.config import AioConfig

    return AioConfig(retries={"total_max_attempts": 1})
