"""SecretCache.inject: secrets as keyword arguments."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asecretcache import ConfigurationError, SecretCache, SecretErrorGroup, SecretFormatError
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
    async def connect(host: str, *, user: str, password: str, api_key: str) -> tuple[str, ...]:
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
    async def connect(host: str, password: str, port: int = 5432) -> str:
        """Connect."""
        return f"{host}:{port}"

    assert (connect.__name__, connect.__doc__) == ("connect", "Connect.")
    assert inspect.iscoroutinefunction(connect)
    assert str(inspect.signature(connect)) == "(host: 'str', *, port: 'int' = 5432) -> 'str'"
    assert await connect("here") == "here:5432"


async def test_a_caller_may_override_an_argument(cache: SecretCache, source: InMemorySource) -> None:
    """An argument that is passed, by keyword or by position, isn't fetched."""

    @cache.inject(password="prod/db:password", api_key="prod/api")
    async def connect(host: str, password: str, *, api_key: str) -> tuple[str, ...]:
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
        async def own(self, path: str, api_key: str) -> str:
            return f"{type(self).__name__} {path} {api_key}"

        @classmethod
        @cache.inject(api_key="prod/api")
        async def of_class(cls, *, api_key: str) -> str:
            return f"{cls.__name__} {api_key}"

        @staticmethod
        @cache.inject(api_key="prod/api")
        async def static(api_key: str) -> str:
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
    async def compare(old: str, new: str, same: str) -> tuple[str, ...]:
        return old, new, same

    assert await compare() == ("key-1", "key-2", "key-2")
    assert len(source.calls) == 2


async def test_failures_are_those_of_the_cache(cache: SecretCache) -> None:
    """One group has the errors of all secrets, and the function isn't called."""

    @cache.inject(a="missing", b="prod/api")
    async def never(a: str, b: str) -> None:
        pytest.fail("it was called")

    @cache.inject(a="prod/db:nokey")
    async def nor(a: str) -> None:
        pytest.fail("it was called")

    with pytest.raises(SecretErrorGroup, match="'missing'"):
        await never()
    with pytest.raises(SecretErrorGroup) as caught:
        await nor()
    assert isinstance(caught.value.exceptions[0], SecretFormatError)


async def test_no_frame_of_ours_shows_a_value(cache: SecretCache) -> None:
    """Whether the function raises, or can't be called, or a secret can't be fetched."""

    @cache.inject(password="prod/db:password")
    async def connect(password: str) -> None:
        del password
        raise ArithmeticError

    @cache.inject(password="prod/db:password")
    async def needs_more(host: str, password: str) -> None:
        pytest.fail("it was called")

    @cache.inject(password="prod/db:password", key="missing")
    async def lacks(password: str, key: str) -> None:
        pytest.fail("it was called")

    calls: tuple[tuple[Callable[[], Coroutine[Any, Any, None]], type[Exception]], ...] = (
        (connect, ArithmeticError),
        (lambda: connect(password=PASSWORD), ArithmeticError),
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
        cache.inject(password=["prod/db"])  # type: ignore[arg-type]  # the mistake
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
    async def connect(host: str, password: str, port: int = 1, *more: str, user: str = "app", **others: str) -> str:
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
