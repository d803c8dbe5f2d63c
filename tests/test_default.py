"""The article's flow: the environment first, then the cache, then one call; bootstrap is all or nothing."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator

import pytest

from asecretcache import (
    ConfigurationError,
    DirectSource,
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretRequest,
    SecretsManagerSource,
    bootstrap,
    get_default_cache,
    get_secret,
    get_secrets,
    set_default_cache,
)
from asecretcache._lambda import default as _default
from asecretcache._lambda.default import forget_bootstrapped
from asecretcache.testing import InMemorySource, ManualClock


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(
        {
            "prod/db": '{"user": "u", "password": "hunter2", "port": 5432}',
            "prod/api": "key-1",
            "nul": "a\0b",
            "surrogate": "a\ud800b",
            "binary": b"x",
        }
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def default(source: InMemorySource, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretCache]:
    """A default cache over the source, and an environment that is put back."""
    before = dict(os.environ)
    for variable in ("STORED_SECRET", "SECRET_ID", "ASECRETCACHE_TTL", "ASECRETCACHE_SOURCE"):
        monkeypatch.delenv(variable, raising=False)
    cache = SecretCache(source, clock=clock)
    set_default_cache(cache)
    yield cache
    set_default_cache(None)
    forget_bootstrapped()
    for variable in set(os.environ) - set(before):
        del os.environ[variable]


async def test_secret_id_names_the_secret(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reference SECRET_ID is read, which may be a reference itself."""
    monkeypatch.setenv("SECRET_ID", "prod/api")
    assert [await get_secret() for _ in range(3)] == ["key-1"] * 3
    monkeypatch.setenv("SECRET_ID", "prod/db:password")
    assert await get_secret() == "hunter2"
    assert len(source.calls) == 2


async def test_no_secret_id_names_the_variable() -> None:
    """There is nothing to go by, and the error says what to set."""
    with pytest.raises(ConfigurationError, match="SECRET_ID"):
        await get_secret()
    with pytest.raises(ConfigurationError, match="SECRET_ID"):
        await bootstrap()


async def test_a_stored_secret_of_a_deployment_costs_no_call(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is returned as it is, by get_secret and bootstrap, again and again."""
    monkeypatch.setenv("STORED_SECRET", "from the shell")
    for _ in range(2):
        assert await get_secret() == "from the shell"
        await bootstrap()
        assert os.environ["STORED_SECRET"] == "from the shell"
    assert not source.calls
    forget_bootstrapped()
    assert os.environ["STORED_SECRET"] == "from the shell"


async def test_an_empty_stored_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the article, where an empty string is no secret."""
    monkeypatch.setenv("STORED_SECRET", "")
    monkeypatch.setenv("SECRET_ID", "prod/api")

    assert await get_secret() == "key-1"


async def test_bootstrap_stores_the_secret_and_a_rotation_arrives_within_the_ttl(
    source: InMemorySource, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What bootstrap wrote itself doesn't count as a deployment's, so the cache decides."""
    monkeypatch.setenv("SECRET_ID", "prod/api")
    await bootstrap()
    await bootstrap()
    assert os.environ["STORED_SECRET"] == "key-1"
    assert len(source.calls) == 1

    source.rotate("prod/api", "key-2")
    clock.advance(3600)
    assert await get_secret() == "key-2"
    await bootstrap()
    assert os.environ["STORED_SECRET"] == "key-2"


async def test_several_variables_are_written_at_once(source: InMemorySource) -> None:
    """Each secret is fetched once, however many variables are made of it."""
    await bootstrap({"DB_USER": "prod/db:user", "DB_PORT": "prod/db:port", "DB_PASSWORD": "prod/db:password"})

    assert (os.environ["DB_USER"], os.environ["DB_PORT"], os.environ["DB_PASSWORD"]) == ("u", "5432", "hunter2")
    assert len(source.calls) == 1


async def test_a_variable_of_the_deployment_wins(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's shell overrides a secret, and no call is made for it."""
    monkeypatch.setenv("DB_PASSWORD", "local")

    await bootstrap({"DB_PASSWORD": "prod/db:password", "API_KEY": "prod/api"})

    assert (os.environ["DB_PASSWORD"], os.environ["API_KEY"]) == ("local", "key-1")
    assert [request.secret_id for request in source.calls] == ["prod/api"]


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ("unknown", SecretNotFoundError, "unknown"),
        ("prod/db:nope", SecretFormatError, "'password', 'port', 'user'"),
        ("binary", SecretFormatError, "get_secret_binary"),
    ],
)
async def test_bootstrap_is_all_or_nothing(reference: str, error: type[Exception], says: str) -> None:
    """If one secret can't be had, os.environ is as it was."""
    before = dict(os.environ)
    with pytest.raises(SecretErrorGroup) as caught:
        await bootstrap({"API_KEY": "prod/api", "OTHER": reference})

    assert isinstance(caught.value.exceptions[0], error)
    assert says in str(caught.value.exceptions[0])
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["nul", "surrogate"])
async def test_a_value_that_no_variable_can_hold_is_refused_before_any_is_written(name: str) -> None:
    """The error names variable and secret, and not the value."""
    before = dict(os.environ)
    with pytest.raises(SecretFormatError, match=rf"'{name}'.*OTHER.*get_secret\(\)") as caught:
        await bootstrap({"API_KEY": "prod/api", "OTHER": name})

    assert caught.value.__context__ is None
    assert dict(os.environ) == before
    ours = caught.value.__traceback__.tb_next  # type: ignore[union-attr]  # it was raised; the first is this test's
    trace = traceback.TracebackException(type(caught.value), caught.value, ours, capture_locals=True)
    assert "key-1" not in "".join(trace.format())


@pytest.mark.parametrize("variable", ["", "A=B", "A\0", 7, "\ud800"])
async def test_a_name_that_no_variable_can_have_is_refused(source: InMemorySource, variable: str) -> None:
    """Before anything is fetched."""
    with pytest.raises(ConfigurationError, match="environment variable"):
        await bootstrap({variable: "prod/api"})
    assert not source.calls


async def test_bootstrap_takes_a_mapping() -> None:
    """A list of references names no variables."""
    with pytest.raises(ConfigurationError, match="mapping"):
        await bootstrap(["prod/api"])  # type: ignore[arg-type]  # the mistake


async def test_what_bootstrap_wrote_can_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a snapshot, the variables that nobody changed since are taken out."""
    await bootstrap({"API_KEY": "prod/api", "DB_USER": "prod/db:user"})
    monkeypatch.setenv("DB_USER", "changed since")

    forget_bootstrapped()

    assert "API_KEY" not in os.environ
    assert os.environ["DB_USER"] == "changed since"


async def test_several_secrets_are_keyed_by_reference(source: InMemorySource) -> None:
    """Two keys of one secret are one call."""
    assert await get_secrets("prod/api", "prod/db:user", "prod/db:port") == {
        "prod/api": "key-1",
        "prod/db:user": "u",
        "prod/db:port": "5432",
    }
    assert len(source.calls) == 2


async def test_the_log_says_where_a_secret_came_from(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the article prints it: fetched, then in the cache, or in the environment; never the value."""
    caplog.set_level(logging.INFO, "asecretcache")
    monkeypatch.setenv("SECRET_ID", "prod/api")
    await get_secret()
    await get_secret()
    monkeypatch.setenv("STORED_SECRET", "key-1")
    await get_secret()
    await get_secrets("prod/api")
    await bootstrap({"STORED_SECRET": "prod/api"})

    assert [record.getMessage() for record in caplog.records] == [
        "secret prod/api was fetched from Secrets Manager",
        "secret prod/api was in the cache",
        "STORED_SECRET was in the environment",
        "secret prod/api was in the cache",
        "STORED_SECRET was in the environment",
    ]


@pytest.mark.parametrize(("setting", "ttl"), [("60", 60.0), ("none", None), ("None", None), ("", 3600.0), (" 5 ", 5.0)])
def test_the_environment_sets_the_default_ttl(setting: str, ttl: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds, or none for the article's one call per execution environment."""
    monkeypatch.setenv("ASECRETCACHE_TTL", setting)
    set_default_cache(None)

    assert get_default_cache()._reader.policy.ttl == ttl
    assert get_default_cache() is get_default_cache()


@pytest.mark.parametrize("setting", ["-1", "nan", "soon"])
async def test_a_bad_ttl_names_the_variable(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first use, with what may be given."""
    monkeypatch.setenv("ASECRETCACHE_TTL", setting)
    set_default_cache(None)
    with pytest.raises(ConfigurationError, match=r"ASECRETCACHE_TTL .*none for no expiry"):
        await get_secret("prod/api")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("direct", DirectSource),
        (" Direct ", DirectSource),
        ("aioboto3", SecretsManagerSource),
        ("", SecretsManagerSource),
    ],
)
def test_the_environment_sets_the_default_source(setting: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that starts sooner, or the SDK."""
    monkeypatch.setenv("ASECRETCACHE_SOURCE", setting)
    set_default_cache(None)

    assert type(get_default_cache()._source) is kind


@pytest.mark.parametrize("setting", ["direct", "aioboto3"])
async def test_the_default_cache_closes_its_source(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever was made for it."""
    monkeypatch.setenv("ASECRETCACHE_SOURCE", setting)
    set_default_cache(None)
    source = get_default_cache()._source
    await get_default_cache().aclose()

    with pytest.raises(ConfigurationError, match="source is closed"):
        await source.fetch(SecretRequest("name"))


async def test_a_bad_source_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first use, with what may be given."""
    monkeypatch.setenv("ASECRETCACHE_SOURCE", "boto")
    set_default_cache(None)
    with pytest.raises(ConfigurationError, match="ASECRETCACHE_SOURCE is direct or aioboto3, not 'boto'"):
        await get_secret("prod/api")


def test_the_default_cache_is_a_secret_cache() -> None:
    """A source, say, is refused."""
    with pytest.raises(ConfigurationError, match="InMemorySource"):
        set_default_cache(InMemorySource())  # type: ignore[arg-type]  # the mistake


def test_what_is_to_be_written_shows_no_value() -> None:
    """A traceback with locals would print it."""
    from asecretcache._lambda.default import _Write
    from asecretcache._references import SecretReference

    assert "hunter2" not in repr(_Write("A", "hunter2", SecretReference.parse("a")))


def test_after_a_fork_the_lock_is_new_and_the_cache_is_kept() -> None:
    """What the child's hook does, seen from inside; tests/test_singleflight.py has a real fork."""
    cache, lock = get_default_cache(), _default._process.lock
    _default._after_fork()

    assert _default._process.lock is not lock
    assert get_default_cache() is cache
