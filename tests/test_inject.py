"""SecretCache.inject: secrets as keyword arguments."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import pytest

import observe
from asecretcache import ConfigurationError, SecretAccessDeniedError, SecretCache, SecretErrorGroup, SecretFormatError
from asecretcache.testing import InMemorySource, ManualClock

PASSWORD = "canary-hunter2"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({"prod/db": f'{{"user": "app", "password": "{PASSWORD}"}}', "prod/api": "key-1"})


async def test_secrets_are_passed_at_each_call_and_are_fresh(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """Each secret is fetched once, at the first call, and a rotated one arrives after the ttl."""

    @cache.inject(password="prod/db:password", user="prod/db:user", api_key="prod/api")
    async def connect(host: str, *, user: str = "", password: str = "", api_key: str = "") -> tuple[str, ...]:
        return host, user, password, api_key

    assert not source.calls
    for _ in range(2):
        assert await connect("here") == ("here", "app", PASSWORD, "key-1")
    assert len(source.calls) == 2

    source.rotate("prod/api", "key-2")
    clock.advance(100)
    assert (await connect("here"))[3] == "key-2"


async def test_it_is_still_the_function(cache: SecretCache) -> None:
    """Name, docstring and kind are kept; the signature, seen from outside, lacks what is injected."""

    @cache.inject(password="prod/db:password")
    async def connect(host: str, password: str = "", port: int = 5432) -> str:
        """Connect."""
        return f"{host}:{port}"

    assert (connect.__name__, connect.__doc__) == ("connect", "Connect.")
    assert inspect.iscoroutinefunction(connect)
    assert str(inspect.signature(connect)) == "(host: 'str', *, port: 'int' = 5432) -> 'str'"
    assert await connect("here") == "here:5432"


async def test_a_caller_may_override_an_argument(cache: SecretCache, source: InMemorySource) -> None:
    """An argument that is passed, by keyword or by position, isn't fetched."""

    @cache.inject(password="prod/db:password", api_key="prod/api")
    async def connect(host: str, password: str = "", *, api_key: str = "") -> tuple[str, ...]:
        return host, password, api_key

    assert await connect("here", "mine", api_key="mine too") == ("here", "mine", "mine too")
    assert await connect("here", password="mine", api_key="mine too") == ("here", "mine", "mine too")
    assert not source.calls

    assert await connect("here", "mine") == ("here", "mine", "key-1")
    assert [call.secret_id for call in source.calls] == ["prod/api"]


async def test_methods_and_any_keywords(cache: SecretCache) -> None:
    """inject decorates methods, what is below @classmethod and @staticmethod, and functions that take **kwargs."""

    class Client:
        @cache.inject(api_key="prod/api")
        async def own(self, path: str, api_key: str = "") -> str:
            return f"{type(self).__name__} {path} {api_key}"

        @classmethod
        @cache.inject(api_key="prod/api")
        async def of_class(cls, *, api_key: str = "") -> str:
            return f"{cls.__name__} {api_key}"

        @staticmethod
        @cache.inject(api_key="prod/api")
        async def static(api_key: str = "") -> str:
            return api_key

    @cache.inject(api_key="prod/api", self="prod/db:user")
    async def anything(api_key: str = "", /, **kwargs: Any) -> dict[str, Any]:
        return kwargs

    assert await Client().own("/x") == "Client /x key-1"
    assert await Client.of_class() == "Client key-1"
    assert await Client.static() == "key-1"
    assert await anything() == {"api_key": "key-1", "self": "app"}


async def test_stages_and_versions_are_injected_too(cache: SecretCache, source: InMemorySource) -> None:
    """References are those of get_secret; two arguments may be of one secret."""
    version = source.rotate("prod/api", "key-2").version_id

    @cache.inject(old="prod/api::AWSPREVIOUS", new=f"prod/api:::{version}", same=f"prod/api:::{version}")
    async def compare(old: str = "", new: str = "", same: str = "") -> tuple[str, ...]:
        return old, new, same

    assert await compare() == ("key-1", "key-2", "key-2")
    assert len(source.calls) == 2


async def test_failures_are_those_of_the_cache(cache: SecretCache) -> None:
    """One group has the errors of all secrets, and the function isn't called."""

    @cache.inject(a="missing", b="prod/api")
    async def never(a: str = "", b: str = "") -> None:
        pytest.fail("it was called")

    @cache.inject(a="prod/db:nokey")
    async def nor(a: str = "") -> None:
        pytest.fail("it was called")

    with pytest.raises(SecretErrorGroup, match="'missing'"):
        await never()
    with pytest.raises(SecretErrorGroup) as caught:
        await nor()
    assert isinstance(caught.value.exceptions[0], SecretFormatError)


async def test_no_frame_of_ours_shows_a_value(cache: SecretCache) -> None:
    """Whether the function raises, or can't be called, or a secret can't be fetched."""

    @cache.inject(password="prod/db:password")
    async def connect(password: str = "") -> None:
        del password
        raise ArithmeticError

    @cache.inject(password="prod/db:password", refresh_on=ArithmeticError, refresh_timeout=0)
    async def reconnect(secret: str, password: str = "") -> None:
        del secret, password
        raise ArithmeticError

    @cache.inject(password="prod/db:password")
    async def needs_more(host: str, password: str = "") -> None:
        pytest.fail("it was called")

    @cache.inject(password="prod/db:password", key="missing")
    async def lacks(password: str = "", key: str = "") -> None:
        pytest.fail("it was called")

    calls: tuple[tuple[Callable[..., Coroutine[Any, Any, None]], type[Exception]], ...] = (
        (connect, ArithmeticError),
        (lambda: connect(password=PASSWORD), ArithmeticError),
        (lambda: reconnect(PASSWORD), ArithmeticError),
        (needs_more, TypeError),
        (lambda: lacks(password=PASSWORD), SecretErrorGroup),
    )
    for call, error in calls:
        with pytest.raises(error) as caught:
            await call()
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert PASSWORD not in shown


def test_mistakes_are_told_when_it_is_applied(cache: SecretCache) -> None:
    """The errors are raised at the decoration, not at the first call."""

    async def connect(password: str) -> None:
        del password

    async def positional(password: str, /) -> None:
        del password

    def sync(password: str) -> None:
        del password

    with pytest.raises(
        ConfigurationError, match=r"inject needs the arguments to pass: inject\(password='prod/db:password'\)"
    ):
        cache.inject()
    with pytest.raises(ConfigurationError, match="names no secret"):
        cache.inject(password=":password")
    with pytest.raises(ConfigurationError, match="must be a str"):
        cache.inject(password=["prod/db"])  # type: ignore[call-overload]  # the mistake
    with pytest.raises(ConfigurationError, match="takes references by the names of arguments"):
        cache.inject("prod/db")  # type: ignore[call-overload]  # the mistake
    with pytest.raises(ConfigurationError, match="refresh_on must be the exception"):
        cache.inject(password="prod/db", refresh_on="PermissionError")
    with pytest.raises(ConfigurationError, match="refresh_timeout needs refresh_on"):
        cache.inject(password="prod/db", refresh_timeout=5.0)  # type: ignore[call-overload]  # the mistake
    with pytest.raises(ConfigurationError, match=r"passwort=, which .*connect doesn't take"):
        cache.inject(passwort="prod/db:password")(connect)
    with pytest.raises(ConfigurationError, match="doesn't take by keyword"):
        cache.inject(password="prod/db:password")(positional)
    for other in (sync, staticmethod(connect), "prod/db"):
        with pytest.raises(ConfigurationError, match="async def"):
            cache.inject(password="prod/db:password")(other)  # type: ignore[arg-type]  # the mistake


async def test_what_comes_after_an_injected_argument_is_passed_by_keyword(cache: SecretCache) -> None:
    """By position it would be taken for the secret, so the signature offers it by keyword only."""

    @cache.inject(password="prod/db:password")
    async def connect(
        host: str, password: str = "", port: int = 1, *more: str, user: str = "app", **others: str
    ) -> str:
        return f"{host}:{port} {user}"

    signature = "(host: 'str', *, port: 'int' = 1, user: 'str' = 'app', **others: 'str') -> 'str'"
    assert str(inspect.signature(connect)) == signature
    assert await connect("here", port=2) == "here:2 app"


def test_a_partial_is_named_by_its_class(cache: SecretCache) -> None:
    """A partial has no name of its own."""

    async def connect(password: str, /) -> None:
        del password

    with pytest.raises(ConfigurationError, match="which partial doesn't take by keyword"):
        cache.inject(password="prod/db:password")(functools.partial(connect))


def test_mistakes_are_told_with_their_remedy(cache: SecretCache) -> None:
    """A decorator without arguments, and one above @classmethod."""
    with pytest.raises(ConfigurationError) as caught:
        cache.inject()
    assert str(caught.value) == "inject needs the arguments to pass: inject(password='prod/db:password')"

    def plain(password: str) -> None:
        raise NotImplementedError

    with pytest.raises(ConfigurationError) as caught:
        cache.inject(password="db")(plain)  # type: ignore[arg-type]  # the mistake
    name = "test_mistakes_are_told_with_their_remedy.<locals>.plain"
    remedy = "(put inject below @classmethod and the like)"
    assert str(caught.value) == f"inject decorates `async def` functions, and {name} isn't one {remedy}"


# Rotation


class RefusedError(Exception):
    """The database's."""


class Database:
    """Accepts one pair of user and password at a time, and remembers what it was asked with."""

    def __init__(self, user: str = "app", password: str = PASSWORD) -> None:
        self.accepts = user, password
        self.asked: list[tuple[str, str]] = []

    async def connect(self, host: str, *, user: str = "", password: str = "", api_key: str = "") -> str:
        self.asked.append((user, password))
        await asyncio.sleep(0)
        if (user, password) != self.accepts:
            raise RefusedError(api_key)
        return f"{user}@{host}"


def rotate(source: InMemorySource, database: Database | None, user: str, password: str) -> None:
    source.rotate("prod/db", f'{{"user": "{user}", "password": "{password}"}}')
    if database is not None:
        database.accepts = user, password


def injected(cache: SecretCache, database: Database, **more: Any) -> Callable[..., Coroutine[Any, Any, str]]:
    """Wrap the database's connect."""
    inject = cache.inject(user="prod/db:user", password="prod/db:password", refresh_on=RefusedError, **more)
    return inject(database.connect)


@pytest.mark.every_loop
async def test_after_a_rotation_it_is_called_once_more_with_the_other_user(
    cache: SecretCache, source: InMemorySource
) -> None:
    """User and password are of one version, also where they alternate; a method of an object may be wrapped."""
    database = Database()
    connect = injected(cache, database)
    assert await connect("here") == "app@here"
    rotate(source, database, "app_clone", "two")

    assert await asyncio.gather(*(connect("here") for _ in range(200))) == ["app_clone@here"] * 200

    assert set(database.asked) == {("app", PASSWORD), ("app_clone", "two")}
    assert len(source.calls) == 2


@pytest.mark.parametrize("newer", ["name", "arn"])
async def test_a_name_and_an_arn_of_one_secret_give_one_version(
    cache: SecretCache, source: InMemorySource, newer: str
) -> None:
    """The one that was fetched last, though only one of their two entries has it; a version by its id stays."""
    old = await cache.get("prod/db")
    await cache.get(old.arn)
    rotate(source, None, "app_clone", "two")
    await cache.refresh("prod/db" if newer == "name" else old.arn)

    @cache.inject(user="prod/db:user", password=f"{old.arn}:password", before=f"prod/db:user::{old.version_id}")
    async def connect(user: str = "", password: str = "", before: str = "") -> tuple[str, ...]:
        return user, password, before

    assert await connect() == ("app_clone", "two", "app")
    cache.clear()
    assert await connect() == ("app_clone", "two", "app")


async def test_over_several_secrets_all_are_refreshed(cache: SecretCache, source: InMemorySource) -> None:
    """At once, and the function is called once more if one has changed."""
    database = Database()
    connect = injected(cache, database, api_key="prod/api")
    await connect("here")
    rotate(source, database, "app", "two")

    assert await connect("here") == "app@here"

    assert sorted(call.secret_id for call in source.calls) == ["prod/api"] * 2 + ["prod/db"] * 2


async def test_a_secret_that_is_denied_does_not_keep_another_from_changing(
    cache: SecretCache, source: InMemorySource
) -> None:
    """The denied one is passed as it is in memory."""
    database = Database()
    connect = injected(cache, database, api_key="prod/api")
    await connect("here")
    rotate(source, database, "app", "two")
    source.fail(SecretAccessDeniedError("denied"), "prod/api")

    assert await connect("here") == "app@here"


@pytest.mark.virtual_time
async def test_it_waits_for_the_one_that_may_still_change(source: InMemorySource) -> None:
    """A secret that is denied isn't asked for again; the other is, until it has changed."""
    cache = observe.new_cache(source, monotonic=asyncio.get_running_loop().time)
    database = Database()
    connect = injected(cache, database, api_key="prod/api")
    await connect("here")
    database.accepts = "app", "two"
    source.fail(SecretAccessDeniedError("denied"), "prod/api")
    call = asyncio.create_task(connect("here"))
    await asyncio.sleep(0.5)
    rotate(source, None, "app", "two")

    assert await call == "app@here"

    counts = Counter(call.secret_id for call in source.calls)
    assert counts["prod/api"] == 2
    assert counts["prod/db"] > 2


async def test_without_another_version_its_own_error_is_raised(cache: SecretCache, source: InMemorySource) -> None:
    """Of the first call; with a refresh_timeout of 0 after one refresh of each secret."""
    database = Database(password="another")
    connect = injected(cache, database, refresh_timeout=0)

    with pytest.raises(RefusedError):
        await connect("here")

    assert len(database.asked) == 1
    assert len(source.calls) == 2


async def test_other_errors_are_not_refusals(cache: SecretCache, source: InMemorySource) -> None:
    """refresh_on may be a function of the exception, for drivers that have one for everything."""

    @cache.inject(key="prod/api", refresh_on=lambda error: "401" in str(error))
    async def call(path: str, key: str = "") -> str:
        if key != "key-2":
            raise OSError("500" if path == "/broken" else "401")
        return path

    await cache.get_secret("prod/api")
    source.rotate("prod/api", "key-2")
    with pytest.raises(OSError, match="500"):
        await call("/broken")
    assert len(source.calls) == 1
    assert await call("/") == "/"
    assert len(source.calls) == 2


async def test_what_the_caller_passes_is_not_refreshed(cache: SecretCache, source: InMemorySource) -> None:
    """Without any secret of ours, the error is the caller's matter."""
    database = Database()
    connect = injected(cache, database)

    with pytest.raises(RefusedError):
        await connect("here", user="app", password="mine")

    assert not source.calls


async def test_whatever_can_be_awaited_may_be_wrapped(cache: SecretCache) -> None:
    """Partials, and objects with an async __call__; a class isn't one."""

    class Connect:
        async def __call__(self, password: str = "") -> str:
            return password

    database = Database()
    partial = functools.partial(database.connect, "here", user="app")
    assert await cache.inject(password="prod/db:password")(partial)() == "app@here"
    assert await cache.inject(password="prod/db:password")(Connect())() == PASSWORD
    with pytest.raises(ConfigurationError, match="Connect isn't one"):
        cache.inject(password="prod/db:password")(Connect)  # type: ignore[arg-type]  # the mistake


def test_a_signature_that_cannot_be_read_is_told(cache: SecretCache) -> None:
    """Compiled functions may have none."""

    async def connect(password: str = "") -> str:
        return password

    connect.__signature__ = "none"  # type: ignore[attr-defined]  # as a compiled function has it
    with pytest.raises(ConfigurationError, match=r"signature of .*connect can't be read: wrap it in an `async def`"):
        cache.inject(password="prod/db:password")(connect)


async def test_type_checkers_refuse_nonsense(cache: SecretCache) -> None:
    """mypy, which also reads this file, finds each of these lines wrong."""

    @cache.inject(password="prod/db:password")
    async def connect(host: str, password: str = "") -> int:
        return len(host)

    with pytest.raises(ConfigurationError):
        cache.inject(refresh_on=RefusedError())  # type: ignore[call-overload]  # the mistake
    with pytest.raises(TypeError, match="port"):
        await connect("here", port=1)  # type: ignore[call-arg]  # the mistake
    with pytest.raises(TypeError, match="int"):
        await connect(5)  # type: ignore[arg-type]  # the mistake
    assert_type(await connect("here"), int)
