"""on_change: who is told when a version of a secret replaces another."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import observe
from asecretcache import ConfigurationError, Secret, SecretCache, SecretRequest, SecretUnavailableError
from asecretcache.testing import InMemorySource, ManualClock
from forks import in_child, needs_fork
from turns import until

NAME = "prod/db"
CANARY = "canary-hunter2"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: "one"})


@pytest.fixture
async def arn(source: InMemorySource) -> str:
    return (await InMemorySource({NAME: "one"}).fetch(SecretRequest(NAME))).arn


def told(cache: SecretCache, reference: str) -> list[str]:
    """Return a list that gets the text of each version that a callback is told of."""
    texts: list[str] = []
    cache.on_change(reference, lambda secret: texts.append(secret.text))
    return texts


async def test_the_first_value_is_no_change(cache: SecretCache, source: InMemorySource) -> None:
    """Nor is a refresh that brings the same version."""
    texts = told(cache, NAME)
    await cache.get(NAME)
    await cache.refresh(NAME)
    assert texts == []

    source.rotate(NAME, "two")
    await cache.refresh(NAME)
    await cache.refresh(NAME)
    assert texts == ["two"]


async def test_what_is_in_memory_already_is_what_a_version_replaces(cache: SecretCache, source: InMemorySource) -> None:
    """Who registers late knows of it."""
    await cache.get(NAME)
    texts = told(cache, NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)

    assert texts == ["two"]


async def test_whatever_brings_it(cache: SecretCache, source: InMemorySource, clock: ManualClock) -> None:
    """A ttl, get_many, a rotation that a function met, and a value after invalidate() or clear()."""
    texts = told(cache, NAME)
    await cache.get(NAME)

    source.rotate(NAME, "by ttl")
    clock.advance(1000)
    await cache.get_secret(NAME)

    source.rotate(NAME, "by get_many")
    clock.advance(1000)
    await cache.get_many(NAME)

    source.rotate(NAME, "by rotation")

    @cache.inject(password=NAME, refresh_on=PermissionError)
    async def connect(password: str = "") -> None:
        if password != "by rotation":
            raise PermissionError

    await connect()

    source.rotate(NAME, "after invalidate")
    cache.invalidate(NAME)
    await cache.get(NAME)

    source.rotate(NAME, "after clear")
    cache.clear()
    await cache.get(NAME)

    assert texts == ["by ttl", "by get_many", "by rotation", "after invalidate", "after clear"]


async def test_a_version_that_comes_by_two_ids_is_told_once(
    cache: SecretCache, source: InMemorySource, arn: str
) -> None:
    """A name and an ARN have an entry each. Listeners by either are told of both."""
    texts, by_arn, other = told(cache, NAME), told(cache, arn), told(cache, "prod/other")
    await cache.get_many(NAME, arn)
    source.rotate(NAME, "two")
    await cache.refresh(arn)
    await cache.refresh(NAME)
    source.rotate(NAME, "three")
    await cache.refresh(NAME)
    await cache.refresh(arn)

    assert texts == by_arn == ["two", "three"]
    assert other == []


async def test_the_first_value_by_another_id_may_be_a_change(
    cache: SecretCache, source: InMemorySource, arn: str
) -> None:
    """The entry by the name still has the version before."""
    texts = told(cache, NAME)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.get(arn)
    assert texts == ["two"]

    await cache.refresh(NAME)
    assert texts == ["two"]


async def test_a_version_that_comes_back_is_a_change(cache: SecretCache) -> None:
    """An operator may move AWSCURRENT back."""
    texts = told(cache, NAME)
    loader = observe.loader(cache)
    for sequence, version in enumerate(("1", "2", "1", "2", "2", "1")):
        secret = Secret(name=NAME, arn="arn", version_id=version, secret_string=version)
        loader.changes.tell(loader.changes.learn(NAME, secret, sequence), secret)

    assert texts == ["2", "1", "2", "1"]


async def test_a_late_result_of_an_older_fetch_is_no_change(cache: SecretCache) -> None:
    """Its version is that of before."""
    texts = told(cache, NAME)
    loader = observe.loader(cache)
    for key, version, sequence in ((NAME, "1", 1), (NAME, "3", 3), ("arn", "1", 0), ("arn", "2", 2)):
        secret = Secret(name=NAME, arn="arn", version_id=version, secret_string=version)
        loader.changes.tell(loader.changes.learn(key, secret, sequence), secret)

    assert texts == ["3"]


async def test_a_secret_that_was_created_again_replaces_the_old_one(cache: SecretCache) -> None:
    """It has another ARN. A secret of the same name in another account doesn't replace it."""
    texts = told(cache, NAME)
    loader = observe.loader(cache)
    for key, arn, version in ((NAME, "old", "1"), (NAME, "new", "2"), ("another", "another", "3")):
        secret = Secret(name=NAME, arn=arn, version_id=version, secret_string=version)
        loader.changes.tell(loader.changes.learn(key, secret, 5), secret)

    assert texts == ["2"]


async def test_labels_are_told_apart(cache: SecretCache, source: InMemorySource) -> None:
    """A reference may name one; a version that is named by its id is no change of any."""
    current, previous = told(cache, NAME), told(cache, f"{NAME}::AWSPREVIOUS")
    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.get(f"{NAME}::AWSPREVIOUS")
    await cache.get(f"{NAME}:::{source.rotate(NAME, 'three').version_id}")
    assert current == previous == []

    await cache.refresh(f"{NAME}::AWSPREVIOUS")
    assert (current, previous) == ([], ["two"])
    await cache.refresh(f"{NAME}::AWSCURRENT")
    assert (current, previous) == (["three"], ["two"])


async def test_what_is_not_stored_is_not_told(cache: SecretCache, source: InMemorySource) -> None:
    """A fetch whose secret was invalidated meanwhile may have read the version of before."""
    texts = told(cache, NAME)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    source.pause()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    cache.invalidate(NAME)
    source.resume()

    assert (await refresh).text == "two"
    assert texts == []
    await cache.get(NAME)
    assert texts == ["two"]


async def test_a_callback_can_be_removed(cache: SecretCache, source: InMemorySource) -> None:
    """By what on_change returns, also twice, and also by another callback of the same change."""
    texts: list[str] = []
    removers = [cache.on_change(NAME, lambda secret: texts.append(secret.text)) for _ in range(2)]

    def remove_all(secret: Secret) -> None:
        for remove in removers:
            remove()

    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)
    assert texts == ["two", "two"]

    texts.clear()
    removers[0]()
    removers[0]()
    cache.on_change(NAME, remove_all)
    removers.append(cache.on_change(NAME, lambda secret: texts.append(secret.text)))
    source.rotate(NAME, "three")
    await cache.refresh(NAME)
    assert texts == ["three"]


@pytest.mark.every_loop
async def test_a_callback_that_removes_another(cache: SecretCache, source: InMemorySource) -> None:
    """The one that is removed isn't told any more, and those after it are."""
    await cache.get(NAME)
    told_of: list[str] = []
    cache.on_change(NAME, lambda _: remove())
    remove = cache.on_change(NAME, lambda _: told_of.append("removed"))
    cache.on_change(NAME, lambda _: told_of.append("later"))
    source.rotate(NAME, "two")
    await cache.refresh(NAME)

    assert told_of == ["later"]


async def test_an_async_callback_has_an_empty_context(cache: SecretCache, source: InMemorySource) -> None:
    """No caller's variables, whoever has caused the fetch; and a name by which debuggers show it."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")
    seen: list[str] = []

    async def callback(_: Secret) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.extend((variable.get(), task.get_name()))

    await cache.get(NAME)
    cache.on_change(NAME, callback)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)
    await until(lambda: seen)

    assert seen == ["none", f"on_change {NAME!r}"]


async def test_an_async_callback_runs_on_the_loop_that_fetched(cache: SecretCache, source: InMemorySource) -> None:
    """In a task of its own and an empty context; the reader that caused it doesn't wait for it."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[Any] = []
    go_on = asyncio.Event()

    async def callback(secret: Secret) -> None:
        await go_on.wait()
        seen.extend((secret.text, variable.get(), asyncio.get_running_loop(), await cache.get_secret(NAME)))

    cache.on_change(NAME, callback)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    variable.set("the reader's")
    await cache.refresh(NAME)
    assert seen == []

    go_on.set()
    await until(lambda: bool(seen))
    assert seen == ["two", "none", asyncio.get_running_loop(), "two"]


async def test_a_plain_function_may_return_what_is_to_be_awaited(cache: SecretCache, source: InMemorySource) -> None:
    """Such as ``lambda secret: pool.expire_connections()``."""
    expired = asyncio.Event()

    async def expire_connections() -> None:
        expired.set()

    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cache.on_change(NAME, lambda secret: expire_connections())
    cache.on_change(NAME, lambda secret: future)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)

    await expired.wait()
    future.set_result(None)


@pytest.mark.parametrize("kind", ["sync", "async", "object"])
async def test_errors_of_callbacks_are_logged_without_the_value(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """They reach no reader, and no other callback."""

    def sync(secret: Secret) -> None:
        raise ValueError(secret.text)

    async def later(secret: Secret) -> None:
        raise ValueError(secret.text)

    class Object:
        def __call__(self, secret: Secret) -> Awaitable[None]:
            return later(secret)

    callbacks: dict[str, Callable[[Secret], object]] = {"sync": sync, "async": later, "object": Object()}
    cache.on_change(NAME, callbacks[kind])
    texts = told(cache, NAME)
    await cache.get(NAME)
    source.rotate(NAME, CANARY)

    assert (await cache.refresh(NAME)).text == CANARY

    await until(lambda: "raised ValueError" in caplog.text)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    name = {"sync": "sync", "async": "later", "object": "Object"}[kind]
    assert record.message.startswith("the on_change callback ")
    assert f"{name} of secret 'prod/db' raised ValueError at {__file__}:" in record.message
    assert CANARY not in caplog.text
    assert texts == [CANARY]


async def test_a_callback_may_use_the_cache(cache: SecretCache, source: InMemorySource) -> None:
    """It is called under no lock: another thread may use the cache meanwhile."""
    seen: list[Any] = []

    def callback(secret: Secret) -> None:
        thread = threading.Thread(target=lambda: seen.append(cache.stats().errors))
        thread.start()
        thread.join(10)
        peeked = cache.peek(NAME)
        seen.append(peeked and peeked.text)

    cache.on_change(NAME, callback)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)

    assert seen == [0, "two"]


async def test_closing_the_cache_ends_its_callbacks(cache: SecretCache, source: InMemorySource) -> None:
    """What they still run is cancelled, but for one that closes the cache itself."""
    ended: list[str] = []

    async def hang(secret: Secret) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hang")

    async def close(secret: Secret) -> None:
        await cache.aclose()
        ended.append("close")

    cache.on_change(NAME, hang)
    cache.on_change(NAME, close)
    await cache.get(NAME)
    source.rotate(NAME, "two")
    await cache.refresh(NAME)

    await until(lambda: len(ended) == 2)
    assert ended == ["hang", "close"]


def test_a_callback_of_a_loop_that_has_ended_is_dropped(source: InMemorySource) -> None:
    """asyncio.run cancels it; where a loop is closed under it, nothing warns."""
    cache = SecretCache(source, ttl=0)

    async def hang(secret: Secret) -> None:
        await asyncio.Event().wait()

    cache.on_change(NAME, hang)
    for number in range(3):
        source.rotate(NAME, str(number))
        asyncio.run(cache.get(NAME))
    loop = asyncio.new_event_loop()
    source.rotate(NAME, "closed")
    loop.run_until_complete(cache.get(NAME))
    loop.close()
    other = asyncio.new_event_loop()
    source.rotate(NAME, "stopped")
    other.run_until_complete(cache.get(NAME))

    asyncio.run(cache.aclose())  # It cancels what the loop that is stopped would go on with.

    with pytest.raises(asyncio.CancelledError):
        other.run_until_complete(asyncio.wait_for(asyncio.gather(*asyncio.all_tasks(other)), 10))
    other.run_until_complete(other.shutdown_asyncgens())
    other.close()


@needs_fork
def test_the_callbacks_of_a_forks_parent_are_the_parents(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the cache in the child doesn't cancel them: that would write to the loop that both processes share."""
    cache = SecretCache(source)
    loop = asyncio.new_event_loop()
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def callback(secret: Secret) -> None:
        await go_on.wait()
        ended.set()

    async def change() -> None:
        await cache.get(NAME)
        source.rotate(NAME, "two")
        await cache.refresh(NAME)

    def close_in_child() -> bool:
        calls: list[object] = []
        monkeypatch.setattr(loop, "call_soon_threadsafe", calls.append)
        asyncio.run(cache.aclose())
        return not calls

    cache.on_change(NAME, callback)
    loop.run_until_complete(change())
    assert in_child(close_in_child)

    go_on.set()
    loop.run_until_complete(asyncio.wait_for(ended.wait(), 60))
    loop.close()


async def test_a_failed_fetch_is_not_told(cache: SecretCache, source: InMemorySource) -> None:
    """The version in memory stays."""
    texts = told(cache, NAME)
    await cache.get(NAME)
    source.fail(SecretUnavailableError("down"))
    with pytest.raises(SecretUnavailableError):
        await cache.refresh(NAME)

    assert texts == []


def test_wrong_arguments_are_refused_at_once(cache: SecretCache) -> None:
    """Each names the remedy."""
    for reference, callback, says in (
        (NAME, "print", "callback must be a function of the Secret, sync or async, not str"),
        (f"{NAME}:password", print, "on_change takes a whole secret"),
        (f"{NAME}:::5f3c", print, "what a version id names never changes"),
        ("", print, "names no secret"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            cache.on_change(reference, callback)  # type: ignore[arg-type]  # the mistakes
