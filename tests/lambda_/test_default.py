"""The article's flow: the environment first, then the cache, then one call; bootstrap is all or nothing."""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any

import pytest

from asecretcache import (
    AgentSource,
    CacheStats,
    ConfigurationError,
    DirectSource,
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretsManagerSource,
    bootstrap,
    get_default_cache,
    get_secret,
    get_secrets,
    set_default_cache,
)
from asecretcache._process_events import before_snapshot
from asecretcache.testing import InMemorySource, ManualClock


async def test_secret_id_names_the_secret(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reference SECRET_ID is read, which may be a reference itself."""
    monkeypatch.setenv("SECRET_ID", "prod/api")
    assert [await get_secret() for _ in range(3)] == ["key-1"] * 3
    monkeypatch.setenv("SECRET_ID", "prod/db:password")
    assert [await get_secret() for _ in range(3)] == ["hunter2"] * 3
    assert len(source.calls) == 2


async def test_a_missing_secret_id_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SECRET_ID, or with an empty one, the error says what to set."""
    says = "set the environment variable SECRET_ID to a name or ARN, or pass a reference"
    for value in (None, ""):
        if value is not None:
            monkeypatch.setenv("SECRET_ID", value)
        with pytest.raises(ConfigurationError, match=says):
            await get_secret()
        with pytest.raises(ConfigurationError, match=says):
            await bootstrap()


async def test_a_reference_is_read_through_the_default_cache(default: SecretCache, source: InMemorySource) -> None:
    """All parts of a reference, from the default cache's memory at the second time."""
    for _ in range(2):
        assert await get_secret("prod/api") == "key-1"
        assert await get_secret("prod/db:port") == "5432"
        assert await get_secret("prod/db:user:AWSCURRENT") == "app"
    assert len(source.calls) == 2
    assert default.stats() == CacheStats(hits=4, misses=2, get_calls=2)
    with pytest.raises(ConfigurationError, match="must be a str"):
        await get_secret(["prod/api"])  # type: ignore[arg-type]  # the mistake


async def test_a_stored_secret_of_a_deployment_costs_no_call(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """get_secret returns it and bootstrap leaves it, again and again; it never counts as bootstrap's own."""
    monkeypatch.setenv("STORED_SECRET", "from the shell")
    for _ in range(2):
        assert await get_secret() == "from the shell"
        await bootstrap()
        assert os.environ["STORED_SECRET"] == "from the shell"
    assert not source.calls
    before_snapshot.happen()
    before_snapshot.is_over = False
    assert os.environ["STORED_SECRET"] == "from the shell"


async def test_an_empty_stored_secret_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the article, an empty string is no secret."""
    monkeypatch.setenv("STORED_SECRET", "")
    monkeypatch.setenv("SECRET_ID", "prod/api")

    assert await get_secret() == "key-1"


async def test_a_rotated_secret_arrives_within_the_ttl(
    source: InMemorySource, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What bootstrap wrote itself doesn't count as a deployment's, so the cache decides."""
    monkeypatch.setenv("SECRET_ID", "prod/api")
    await bootstrap()
    await bootstrap()
    assert os.environ["STORED_SECRET"] == "key-1"
    assert len(source.calls) == 1

    source.rotate("prod/api", "key-2")
    clock.advance(100)
    assert await get_secret() == "key-2"
    await bootstrap()
    assert os.environ["STORED_SECRET"] == "key-2"


async def test_bootstrap_fills_several_variables(source: InMemorySource) -> None:
    """Each secret is fetched once, however many variables are made of it."""
    await bootstrap({"DB_USER": "prod/db:user", "DB_PORT": "prod/db:port", "DB_PASSWORD": "prod/db:password"})

    assert (os.environ["DB_USER"], os.environ["DB_PORT"], os.environ["DB_PASSWORD"]) == ("app", "5432", "hunter2")
    assert len(source.calls) == 1


async def test_a_variable_of_the_deployment_wins(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's shell overrides a secret, and no call is made for it; its reference is checked all the same."""
    monkeypatch.setenv("DB_PASSWORD", "local")

    await bootstrap({"DB_PASSWORD": "prod/db:password", "API_KEY": "prod/api"})

    assert (os.environ["DB_PASSWORD"], os.environ["API_KEY"]) == ("local", "key-1")
    await bootstrap({"DB_PASSWORD": "prod/db:password"})
    assert [request.secret_id for request in source.calls] == ["prod/api"]
    with pytest.raises(ConfigurationError, match="has 5 parts"):
        await bootstrap({"DB_PASSWORD": "a:b:c:d:e"})


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ("unknown", SecretNotFoundError, "unknown"),
        ("prod/db:nope", SecretFormatError, "the object has 5 keys"),
        ("prod/db:none", SecretFormatError, "has null at key 'none'"),
        ("prod/key", SecretFormatError, "get_secret_binary"),
    ],
)
async def test_bootstrap_is_all_or_nothing(reference: str, error: type[Exception], says: str) -> None:
    """If one secret fails, os.environ is as it was."""
    before = dict(os.environ)
    with pytest.raises(SecretErrorGroup, match=says) as caught:
        await bootstrap({"API_KEY": "prod/api", "OTHER": reference})

    assert [type(each) for each in caught.value.exceptions] == [error]
    assert dict(os.environ) == before


@pytest.mark.parametrize("value", ["hunter2\0", "hunter2\ud800"])
async def test_a_value_that_no_variable_can_hold_is_refused(source: InMemorySource, value: str) -> None:
    """Before any is written, by an error that names variable and secret, and not the value."""
    source.rotate("odd", value)
    before = dict(os.environ)
    told = "the value of secret 'odd' can't be put into the environment variable OTHER"
    remedy = "it has a NUL or can't be encoded; read it with get_secret() instead"
    with pytest.raises(SecretFormatError, match=rf"\A{told}: {re.escape(remedy)}\Z") as caught:
        await bootstrap({"API_KEY": "prod/api", "OTHER": "odd"})

    assert caught.value.secret_id == "odd"
    assert caught.value.__context__ is None
    assert dict(os.environ) == before
    ours = caught.value.__traceback__.tb_next  # type: ignore[union-attr]  # it was raised; the first is this test's
    shown = "".join(traceback.TracebackException(caught.type, caught.value, ours, capture_locals=True).format())
    assert "key-1" not in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("variable", ["", "A=B", "A\0", 7, "\ud800"])
async def test_a_name_that_no_variable_can_have_is_refused(source: InMemorySource, variable: Any) -> None:
    """Before anything is fetched."""
    with pytest.raises(ConfigurationError, match="can't be an environment variable"):
        await bootstrap({variable: "prod/api"})
    assert not source.calls


async def test_the_one_value_of_bootstrap_is_checked_too(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the secret that SECRET_ID names."""
    source.rotate("odd", "hunter2\0")
    monkeypatch.setenv("SECRET_ID", "odd")
    with pytest.raises(SecretFormatError, match=r"\Athe value of secret 'odd' can't be put into .* STORED_SECRET: "):
        await bootstrap()

    assert "STORED_SECRET" not in os.environ


async def test_bootstrap_takes_a_mapping() -> None:
    """A list of references names no variables."""
    with pytest.raises(ConfigurationError, match="takes a mapping of variables to references, not list"):
        await bootstrap(["prod/api"])  # type: ignore[arg-type]  # the mistake


async def test_what_bootstrap_wrote_can_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a snapshot, the variables that nothing has changed since are removed."""
    await bootstrap({"API_KEY": "prod/api", "DB_USER": "prod/db:user"})
    monkeypatch.setenv("DB_USER", "changed since")

    before_snapshot.happen()
    before_snapshot.is_over = False

    assert "API_KEY" not in os.environ
    assert os.environ["DB_USER"] == "changed since"


async def test_several_secrets_are_keyed_by_reference(default: SecretCache, source: InMemorySource) -> None:
    """Two keys of one secret are one call, and from memory the result is the same."""
    wanted = {"prod/api": "key-1", "prod/db:user": "app", "prod/db:port": "5432"}
    for _ in range(2):
        assert await get_secrets(*wanted) == wanted
    assert len(source.calls) == 2
    assert default.stats().hits == 3
    with pytest.raises(ConfigurationError, match=r"get_secrets\('a', 'b'\)"):
        await get_secrets(["prod/api"])  # type: ignore[arg-type]  # the mistake


async def test_the_log_says_where_a_secret_came_from(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the article's words: a fetch at INFO, a hit and the environment at DEBUG; never the value."""
    caplog.set_level(logging.DEBUG, "asecretcache")
    monkeypatch.setenv("SECRET_ID", "prod/api")
    await get_secret()
    await get_secret()
    await get_secret("prod/db:password")
    await get_secret("prod/db:password")
    monkeypatch.setenv("STORED_SECRET", "hunter2")
    await get_secret()
    await get_secrets("prod/api", "prod/db:password")
    await bootstrap()
    await bootstrap({"STORED_SECRET": "prod/api"})

    records = [record for record in caplog.records if record.name == "asecretcache"]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("INFO", "secret prod/api was fetched from Secrets Manager"),
        ("DEBUG", "secret prod/api was in the cache"),
        ("INFO", "secret prod/db was fetched from Secrets Manager"),
        ("DEBUG", "secret prod/db:password was in the cache"),
        ("DEBUG", "STORED_SECRET was in the environment"),
        ("DEBUG", "secret prod/api was in the cache"),
        ("DEBUG", "secret prod/db:password was in the cache"),
        ("DEBUG", "STORED_SECRET was in the environment"),
        ("DEBUG", "STORED_SECRET was in the environment"),
    ]
    fields = [(record.__dict__.get("secret_id"), record.__dict__.get("outcome")) for record in records]
    hit = ("prod/db", "hit")
    assert fields[1:4] == [("prod/api", "hit"), ("prod/db", "fetched"), hit]
    assert fields[5:7] == [("prod/api", "hit"), hit]


async def test_each_hit_is_counted(default: SecretCache) -> None:
    """The module-level function has the hit path of its own."""
    for _ in range(4):
        await get_secret("prod/api")

    assert default.stats().hits == 3


async def test_hits_are_not_logged_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    """With the level at INFO only fetches are logged."""
    caplog.set_level(logging.INFO, "asecretcache")
    for _ in range(2):
        await get_secret("prod/api")
        await get_secrets("prod/api")

    assert caplog.messages == ["secret prod/api was fetched from Secrets Manager"]


@pytest.mark.parametrize(("setting", "ttl"), [("60", 60.0), ("none", None), ("None", None), ("", 3600.0), (" 5 ", 5.0)])
def test_the_environment_sets_the_default_ttl(setting: str, ttl: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASECRETCACHE_TTL is in seconds, or ``none`` for one call per execution environment."""
    monkeypatch.setenv("ASECRETCACHE_TTL", setting)
    set_default_cache(None)

    assert repr(get_default_cache()) == f"<SecretCache 0 secrets ttl={ttl}>"
    assert get_default_cache() is get_default_cache()


@pytest.mark.parametrize("setting", ["-1", "nan", "inf", "soon"])
@pytest.mark.parametrize("read", [get_secret, get_secrets])
async def test_a_bad_ttl_names_the_variable(setting: str, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use raises, and says what the variable may be."""
    monkeypatch.setenv("ASECRETCACHE_TTL", setting)
    set_default_cache(None)
    with pytest.raises(
        ConfigurationError, match=r"\AASECRETCACHE_TTL can't be .*: give seconds, such as 3600, or none for no expiry\Z"
    ):
        await read("prod/api")


def test_a_ttl_that_is_no_number_is_told_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands in the environment."""
    monkeypatch.setenv("ASECRETCACHE_TTL", "soon")
    set_default_cache(None)
    with pytest.raises(
        ConfigurationError,
        match=r"^ASECRETCACHE_TTL can't be 'soon': give seconds, such as 3600, or none for no expiry$",
    ):
        get_default_cache()


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("direct", DirectSource),
        (" Direct ", DirectSource),
        ("agent", AgentSource),
        ("aioboto3", SecretsManagerSource),
        ("", SecretsManagerSource),
    ],
)
@pytest.mark.parametrize("ttl", ["", "60"])
async def test_the_environment_sets_the_default_source(
    setting: str, kind: type, ttl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASECRETCACHE_SOURCE chooses the source, and the default cache closes the one that was made for it."""
    closed: list[type] = []

    async def aclose(self: object) -> None:
        closed.append(type(self))

    for source in (AgentSource, DirectSource, SecretsManagerSource):
        monkeypatch.setattr(source, "aclose", aclose)
    monkeypatch.setenv("ASECRETCACHE_SOURCE", setting)
    monkeypatch.setenv("ASECRETCACHE_TTL", ttl)
    set_default_cache(None)
    await get_default_cache().aclose()

    assert closed == [kind]


async def test_a_bad_source_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use raises, and says what the variable may be."""
    monkeypatch.setenv("ASECRETCACHE_SOURCE", "boto")
    set_default_cache(None)
    with pytest.raises(ConfigurationError, match="ASECRETCACHE_SOURCE must be direct, agent or aioboto3, not 'boto'"):
        await get_secret("prod/api")


def test_the_default_cache_must_be_a_secret_cache(source: InMemorySource) -> None:
    """A source, for example, is refused."""
    with pytest.raises(ConfigurationError, match="must be a SecretCache, not InMemorySource"):
        set_default_cache(source)  # type: ignore[arg-type]  # the mistake


async def test_replacing_the_default_cache_closes_nothing(default: SecretCache) -> None:
    """Whoever made the old cache may still use it."""
    other = SecretCache(InMemorySource({"prod/api": "other"}))
    set_default_cache(other)

    assert get_default_cache() is other
    assert await get_secret("prod/api") == "other"
    assert await default.get_secret("prod/api") == "key-1"
