"""The fakes for users' own tests behave as Secrets Manager and a clock do."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from asecretcache import (
    BatchSource,
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
    async_handler,
    bootstrap,
    get_default_cache,
    get_secret,
    sync_handler,
)
from asecretcache.testing import InMemorySource, ManualClock, RefusedError, RotatingCredentials, use_secrets
from turns import until


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"a": "1", "b": b"2"})


async def test_it_is_a_source_that_counts(source: InMemorySource) -> None:
    """Calls and batches are listed in order, those that fail too, and its repr has their number."""
    assert isinstance(source, BatchSource)
    await source.fetch(SecretRequest("a"))
    with pytest.raises(SecretNotFoundError, match="'c': this InMemorySource has no such secret or version"):
        await source.fetch(SecretRequest("c"))

    assert source.calls == [SecretRequest("a"), SecretRequest("c")]
    await source.fetch_batch(["a", "b"])
    assert source.batches == [("a", "b")]
    assert repr(source) == "<InMemorySource 2 secrets, 3 calls>"


async def test_a_rotation_moves_the_labels(source: InMemorySource) -> None:
    """The new version is current, the one before it previous, and older ones have no label but their id."""
    first = await source.fetch(SecretRequest("a"))
    for value in ("2", "3"):
        source.rotate("a", value)

    async def text(*version: str | None) -> str | None:
        return (await source.fetch(SecretRequest("a", *version))).secret_string

    assert (await text(), await text("AWSPREVIOUS"), await text(None, first.version_id)) == ("3", "2", "1")
    assert (await source.fetch(SecretRequest("a", "AWSPREVIOUS"))).version_stages == ("AWSPREVIOUS",)
    for version in (("AWSPENDING", None), ("AWSCURRENT", first.version_id), (None, "nope")):
        with pytest.raises(SecretNotFoundError):
            await text(*version)


async def test_a_secret_is_found_by_its_arn_too(source: InMemorySource) -> None:
    """By exactly its own ARN, or by all of it but the random end; the account in ARNs can be chosen."""
    arn = (await source.fetch(SecretRequest("a"))).arn
    assert (await source.fetch(SecretRequest(arn))).name == "a"
    assert (await source.fetch(SecretRequest(arn[:-7]))).name == "a"
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest(arn.replace("123456789012", "999999999999")))
    other = InMemorySource({"a": "1"}, account_id="999999999999")
    assert (await other.fetch(SecretRequest("a"))).arn == arn.replace("123456789012", "999999999999")


async def test_a_deleted_secret_is_not_found(source: InMemorySource) -> None:
    """As with AWS; when it is created again it is another secret, with another ARN."""
    arn = (await source.fetch(SecretRequest("a"))).arn
    source.delete("a")
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest("a"))

    again = source.rotate("a", "2")
    assert again.arn != arn
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest("a", "AWSPREVIOUS"))


async def test_failures_are_of_one_secret_or_of_all_and_end(source: InMemorySource) -> None:
    """A failure lasts as often as it was told to, or until recover(); each call raises an instance of its own."""
    error = SecretUnavailableError("down")
    source.fail(error, "a", times=1)
    with pytest.raises(SecretUnavailableError) as caught:
        await source.fetch(SecretRequest("a"))
    assert caught.value is not error
    await source.fetch(SecretRequest("a"))

    source.fail(error)
    for _ in range(2):
        with pytest.raises(SecretUnavailableError):
            await source.fetch(SecretRequest("b"))
    source.recover()
    await source.fetch(SecretRequest("b"))


@pytest.mark.parametrize("wrong", [SecretNotFoundError, ValueError("down")])
def test_it_fails_with_an_error_of_this_package_alone(source: InMemorySource, wrong: Any) -> None:
    """A class, or what a source may not raise, would fail the test in another place."""
    with pytest.raises(ConfigurationError, match=f"not {getattr(wrong, '__name__', 'ValueError')}"):
        source.fail(wrong)


async def test_a_batch_has_an_error_for_each_id_that_fails(source: InMemorySource) -> None:
    """A batch may also be refused as a whole, until recover()."""
    source.fail(SecretUnavailableError("down"), "b", times=1)
    results = await source.fetch_batch(["a", "b", "c"])
    assert isinstance(results["a"], Secret)
    assert [type(results[name]) for name in "bc"] == [SecretUnavailableError, SecretNotFoundError]

    refused = SecretAccessDeniedError("no batches")
    source.fail_batches(refused)
    for _ in range(2):
        with pytest.raises(SecretAccessDeniedError) as caught:
            await source.fetch_batch(["a"])
        assert caught.value is not refused
    source.recover()
    assert isinstance((await source.fetch_batch(["a"]))["a"], Secret)


def test_paused_fetches_are_released_on_whichever_loop_they_are(source: InMemorySource) -> None:
    """Also when one of those loops is closed by then, or a fetch was cancelled."""
    source.pause()
    cache = SecretCache(source)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(source.fetch(SecretRequest("b")))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()

    async def wait() -> str:
        caller = asyncio.create_task(cache.get_secret("a"))
        other = asyncio.create_task(source.fetch(SecretRequest("b")))
        await until(lambda: len(source.calls) == 3)
        source.resume()
        other.cancel()
        await asyncio.wait([other])
        return await caller

    assert asyncio.run(wait()) == "1"


async def test_it_notes_that_it_was_closed(source: InMemorySource) -> None:
    """Tests of code that owns its source can look at ``closed``."""
    await source.aclose()

    assert source.closed


def test_a_clock_stands_until_it_is_moved() -> None:
    """It can be moved either way."""
    clock = ManualClock(100.0)
    clock.advance(5)
    assert clock() == 105.0
    clock.advance(-10)
    assert clock() == 95.0


async def test_a_missing_secret_is_refused_as_aws_does(source: InMemorySource) -> None:
    """With the id and AWS's code."""
    with pytest.raises(SecretNotFoundError) as caught:
        await source.fetch(SecretRequest("missing"))

    assert (caught.value.secret_id, caught.value.code) == ("missing", "ResourceNotFoundException")


async def test_a_version_has_the_time_of_its_rotation(source: InMemorySource) -> None:
    """In UTC, as the SDK gives it."""
    before = datetime.now(UTC)
    source.rotate("prod/db", "new")

    created = (await source.fetch(SecretRequest("prod/db"))).created_date

    assert created is not None
    assert before <= created <= datetime.now(UTC)
    assert created.tzinfo is UTC


# The default cache


async def test_secrets_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's functions and handlers read them, whatever the deployment has set; dicts are JSON."""
    monkeypatch.setenv("STORED_SECRET", "the deployment's")
    with use_secrets({"prod/db": {"password": "hunter2"}, "prod/api": "key"}) as source:
        monkeypatch.setenv("SECRET_ID", "prod/api")
        assert await get_secret("prod/db:password") == "hunter2"
        assert await get_secret() == "key"
        await bootstrap()
        assert os.environ["STORED_SECRET"] == "key"
        source.assert_fetched({"prod/db": 1, "prod/api": 1})

    assert os.environ["STORED_SECRET"] == "the deployment's"


async def test_after_a_block_all_is_as_before(cache: SecretCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default cache, and what bootstrap had written; also if the block raises."""
    monkeypatch.delenv("STORED_SECRET", raising=False)
    monkeypatch.setenv("SECRET_ID", "a")
    with use_secrets({"a": "before"}):
        before = get_default_cache()
        await bootstrap()
        await bootstrap({"OTHER": "a"})
        with pytest.raises(ZeroDivisionError), use_secrets({"a": "1"}, ttl=10.0):
            assert "OTHER" not in os.environ
            await bootstrap({"OTHER": "a", "INNER": "a"})
            await bootstrap()
            raise ZeroDivisionError
        assert get_default_cache() is before
        assert (os.environ["OTHER"], os.environ["STORED_SECRET"]) == ("before", "before")
        # It is still bootstrap's own, so it may be replaced.
        await get_default_cache().refresh("a")
        await bootstrap()
    assert not {"OTHER", "INNER", "STORED_SECRET"} & os.environ.keys()


@pytest.mark.parametrize("decorator", [async_handler, sync_handler])
def test_each_block_sees_a_handlers_prefetch(decorator: Any) -> None:
    """Two tests of one handler count the same calls, whichever runs first."""

    async def read(*_: object) -> str:
        return await get_secret("a")

    run = read if decorator is async_handler else lambda *_: asyncio.run(read())
    handler = decorator(prefetch=["a", "b"])(run)
    for _ in range(2):
        with use_secrets({"a": "1", "b": "2"}) as source:
            assert handler({}, None) == handler({}, None) == "1"
        source.assert_fetched({"a": 1, "b": 1})


async def test_blocks_refuse_what_is_wrong() -> None:
    """At once, with the remedy; and a block is no decorator."""
    with pytest.raises(ConfigurationError, match=r"the value of 'a' must be a str, bytes, or a mapping .*, not int"):
        use_secrets({"a": 5})  # type: ignore[dict-item]  # what is tested
    with pytest.raises(ConfigurationError, match="ttl can't be -1"):
        use_secrets({}, ttl=-1)
    with pytest.raises(TypeError, match="not callable"):
        use_secrets({})(get_secret)  # type: ignore[operator]  # what is tested


async def test_the_kit_refuses_what_is_wrong(source: InMemorySource) -> None:
    """At once, with the remedy and without a value."""
    circle: dict[str, Any] = {}
    circle["hunter2"] = circle
    for call, told in (
        (lambda: InMemorySource(["hunter2"]), "secrets must be a mapping of names to values, not list"),  # type: ignore[arg-type]  # what is tested
        (lambda: source.rotate("a", {"hunter2": object()}), "the value of 'a' must become JSON: give str, numbers"),
        (lambda: source.rotate("a", circle), "the value of 'a' must become JSON"),
        (lambda: source.slow(-1).__enter__(), "seconds can't be -1"),
        (lambda: source.assert_fetched(["a"]), "assert_fetched takes a mapping of references to counts, not list"),  # type: ignore[arg-type]  # what is tested
        (lambda: RotatingCredentials("x", "prod/db"), "source must be the InMemorySource of the test, not str"),  # type: ignore[arg-type]  # what is tested
    ):
        with pytest.raises(ConfigurationError, match=told) as caught:
            call()
        assert caught.value.__context__ is None
        assert "hunter2" not in str(caught.value)
    assert (await source.fetch(SecretRequest("a"))).text == "1"


# Scenarios


async def test_outages_and_throttling_end_with_their_block(source: InMemorySource) -> None:
    """Each raises what the real source would, also in batches; failures that were set before go on afterwards."""
    source.fail(SecretNotFoundError("gone"), "b")
    for block, error, code, text in (
        (source.outage, SecretUnavailableError, None, "^Secrets Manager can't be reached"),
        (source.throttling, SecretThrottledError, "ThrottlingException", "^Secrets Manager throttles"),
        (source.denied, SecretAccessDeniedError, "AccessDeniedException", "^access is denied"),
    ):
        with block():
            with pytest.raises(error, match=text) as caught:
                await source.fetch(SecretRequest("a"))
            with pytest.raises(error, match=text):
                await source.fetch_batch(["a"])
        assert caught.value.code == code
    await source.fetch(SecretRequest("a"))
    with pytest.raises(SecretNotFoundError):
        await source.fetch(SecretRequest("b"))


async def test_a_secret_alone_is_denied(source: InMemorySource) -> None:
    """The others aren't."""
    with source.denied("a"):
        results = await source.fetch_batch(["a", "b"])
    assert isinstance(results["a"], SecretAccessDeniedError)
    assert isinstance(results["b"], Secret)


@pytest.mark.parametrize("wrong", ["prod/db:password", "", 5])
def test_what_fails_is_named_by_its_id(source: InMemorySource, wrong: Any) -> None:
    """A reference with a JSON key would fail no fetch."""
    with pytest.raises(ConfigurationError, match="secret id"), source.denied(wrong):
        pytest.fail("it was taken")


async def test_blocks_that_overlap(source: InMemorySource) -> None:
    """Each ends what it began, in whichever order; a failure that was used up within one isn't there again."""
    source.fail(SecretThrottledError("once"), "a", times=1)
    outage, denied = source.outage(), source.denied("b")
    outage.__enter__()
    denied.__enter__()
    with pytest.raises(SecretThrottledError):
        await source.fetch(SecretRequest("a"))
    outage.__exit__(None, None, None)
    with pytest.raises(SecretAccessDeniedError):
        await source.fetch(SecretRequest("b"))
    denied.__exit__(None, None, None)

    assert all(isinstance(each, Secret) for each in (await source.fetch_batch(["a", "b"])).values())


async def test_a_failure_from_before_a_block_is_back_after_it(source: InMemorySource) -> None:
    """The block only stands in front of it."""
    source.fail(SecretThrottledError("slow down"), "a")
    with source.denied("a"), pytest.raises(SecretAccessDeniedError):
        await source.fetch(SecretRequest("a"))
    with pytest.raises(SecretThrottledError):
        await source.fetch(SecretRequest("a"))


async def test_secrets_that_are_added_meanwhile() -> None:
    """Another thread may do that while one looks for a secret, however often they take turns."""
    source = InMemorySource({f"prod/{number}": "x" for number in range(100)})
    adding = threading.Thread(target=lambda: [source.rotate(f"added/{number}", "x") for number in range(1000)])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        adding.start()
        while adding.is_alive():
            assert (await source.fetch(SecretRequest("prod/99"))).text == "x"
            with pytest.raises(SecretNotFoundError):
                await source.fetch(SecretRequest("missing"))
    finally:
        adding.join()
        sys.setswitchinterval(interval)


@pytest.mark.virtual_time
async def test_a_slow_endpoint(source: InMemorySource) -> None:
    """A fetch takes as long as it is told, or until it times out."""
    cache = SecretCache(source, fetch_timeout=2.0)
    loop = asyncio.get_running_loop()
    with source.slow(1.0):
        await cache.get_secret("a")
        assert loop.time() == pytest.approx(1.0)
    with source.slow(3.0), pytest.raises(SecretUnavailableError, match="took longer than 2 s"):
        await cache.refresh("a")
    await cache.refresh("a")
    assert loop.time() == pytest.approx(3.0)


@pytest.mark.virtual_time
@pytest.mark.parametrize("alternating", [False, True])
async def test_a_rotation_of_credentials(source: InMemorySource, alternating: bool) -> None:
    """Code that refreshes what is refused notices nothing, though Secrets Manager is behind; other code fails."""
    credentials = RotatingCredentials(source, "prod/db", alternating=alternating)
    cache = SecretCache(source, ttl=None)

    async def connect(user: str = "", password: str = "") -> str:
        credentials.check(user, password)
        return user

    usual = cache.inject(user="prod/db:username", password="prod/db:password")(connect)
    careful = cache.inject(user="prod/db:username", password="prod/db:password", refresh_on=RefusedError)(connect)

    users = [await careful()]
    for _ in range(3):
        credentials.rotate(behind=0 if alternating else 2)
        if alternating:
            assert await usual() == users[-1]  # The other user's password is still valid.
            credentials.rotate()
        with pytest.raises(RefusedError, match="refuses this password of 'app"):
            await usual()
        users.append(await careful())

    assert users == ["app"] * 4
    assert credentials.refused >= 6
    value = await cache.get_secret("prod/db:password")
    assert value not in repr((credentials, source, cache))
    source.assert_fetched({"prod/db": 4 if alternating else 10})


async def test_alternating_users_alternate(source: InMemorySource) -> None:
    """The secret names the one whose password was changed last; a password lasts for two rotations."""
    RotatingCredentials(source, "once")
    source.assert_fetched({})
    assert (await source.fetch(SecretRequest("once"))).json("username") == "app"
    credentials = RotatingCredentials(source, "prod/db", alternating=True)
    versions = [(await source.fetch(SecretRequest("prod/db"))).json()]
    for _ in range(2):
        credentials.rotate()
        versions.append((await source.fetch(SecretRequest("prod/db"))).json())

    assert [version["username"] for version in versions] == ["app", "app_clone", "app"]
    for version in (*versions[1:], versions[2]):
        credentials.check(**version)
    assert credentials.accepted == {"app": 2, "app_clone": 1}
    with pytest.raises(RefusedError):
        credentials.check(**versions[0])
    assert repr(credentials) == "<RotatingCredentials 'prod/db' 3 accepted, 1 refused>"
    for nobody in ("nobody", None):
        with pytest.raises(RefusedError):
            credentials.check(nobody, None)  # type: ignore[arg-type]  # as code does that was given no secret


async def test_what_was_fetched_is_asserted(source: InMemorySource) -> None:
    """By reference, with batches; the message says what differs, and no value."""
    await source.fetch(SecretRequest("a"))
    await source.fetch_batch(["a", "b"])
    await source.fetch(SecretRequest("a", "AWSCURRENT", "00000000-0000-4000-8000-000000000001"))

    version = "a::AWSCURRENT:00000000-0000-4000-8000-000000000001"
    source.assert_fetched({"a": 2, "b": 1, version: 1})
    with pytest.raises(AssertionError) as caught:
        source.assert_fetched({"a": 1, "c": 1, version: 3})
    assert str(caught.value) == (
        f"'a' was fetched 2 times, not once; '{version}' was fetched once, not 3 times; "
        "'b' was fetched once, not never; 'c' was fetched never, not once"
    )
    source.calls.clear()
    source.batches.clear()
    source.assert_fetched({})
