"""The default cache, and the article's flow over it: the environment first, then the cache, then one call."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from asecretcache._cache import SecretCache
from asecretcache._core.options import seconds
from asecretcache._exceptions import ConfigurationError, SecretFormatError
from asecretcache._process_events import after_fork, before_snapshot
from asecretcache._references import parse_reference
from asecretcache._sources.agent.source import AgentSource
from asecretcache._sources.direct.source import DirectSource
from asecretcache._sources.protocols import SecretSource

SECRET_ID: Final = "SECRET_ID"
STORED_SECRET: Final = "STORED_SECRET"
TTL: Final = "ASECRETCACHE_TTL"
SOURCE: Final = "ASECRETCACHE_SOURCE"

_logger: Final = logging.getLogger("asecretcache")
_HIT: Final = "secret %s was in the cache"


class Process:
    """What the process has one of: the default cache, and the variables that bootstrap wrote."""

    def __init__(self) -> None:
        self.cache: SecretCache | None = None
        self._replacements = 0
        self.written: dict[str, str] = {}
        self.reset_lock()
        after_fork.add(self.reset_lock)
        before_snapshot.add(self.forget_written)

    def reset_lock(self) -> None:
        """Make a lock that no thread holds; in the child of a fork a thread of the parent may hold the old one."""
        self.lock = threading.Lock()

    def replace_cache(self, cache: SecretCache | None) -> None:
        """Let this be the default cache. Each handler runs its prefetch once more, into it."""
        with self.lock:
            self.cache = cache
            self._replacements += 1

    def generation(self, own: SecretCache | None) -> int:
        """Return a number that changes when the cache to prefetch into is another one.

        Args:
            own: the cache that a handler or an application was given; None: it uses the default cache.
        """
        return self._replacements if own is None else 0

    def from_environment(self, variable: str) -> str | None:
        """Return the value that a deployment, or a developer's shell, gave a variable; None for bootstrap's own."""
        value = os.environ.get(variable)
        if not value or value == self.written.get(variable):
            return None
        _logger.debug("%s was in the environment", variable)
        return value

    def forget_written(self) -> None:
        """Remove from the environment what bootstrap put there and nothing has changed since."""
        while self.written:
            variable, value = self.written.popitem()
            if os.environ.get(variable) == value:
                del os.environ[variable]


#: Of this package's handlers and applications, and of the test kit.
process: Final = Process()

#: The cache that a handler's decorator was given, within that handler.
handler_cache: ContextVar[SecretCache | None] = ContextVar("asecretcache.handler_cache", default=None)


@contextmanager
def use_cache(cache: SecretCache | None) -> Iterator[None]:
    """Let the module-level functions use a cache within a block; None: no other one."""
    if cache is None:
        yield
        return
    token = handler_cache.set(cache)
    try:
        yield
    finally:
        handler_cache.reset(token)


def get_default_cache() -> SecretCache:
    """Return the cache that the module-level functions use: the handler's own, else the process's, made on first use.

    The process's has its ttl from ASECRETCACHE_TTL in the environment: seconds, or ``none`` for one call per execution
    environment. Its source is a SecretsManagerSource, or with ASECRETCACHE_SOURCE=direct a DirectSource, which starts
    sooner, or with ASECRETCACHE_SOURCE=agent an AgentSource, which asks AWS's local provider.

    Raises:
        ConfigurationError: one of these variables has another value, or the source lacks what it needs.
    """
    cache = handler_cache.get()
    if cache is not None:
        return cache
    with process.lock:
        if process.cache is None:
            setting, source = os.environ.get(TTL, "").strip(), _source()
            process.cache = SecretCache(source, ttl=ttl_of(setting)) if setting else SecretCache(source)
            process.cache._owns_source = True  # The source was made for it.
        return process.cache


def set_default_cache(cache: SecretCache | None) -> None:
    """Let the module-level functions use this cache; None: make a new one on the next use.

    Each handler runs its prefetch once more, into it, at its next invocation. The cache that is replaced isn't closed;
    its maker does that.
    """
    if cache is not None and not isinstance(cache, SecretCache):
        raise ConfigurationError(f"the default cache must be a SecretCache, not {type(cache).__name__}")
    process.replace_cache(cache)


async def get_secret(reference: str | None = None) -> str:
    """Return a secret through the default cache.

    Args:
        reference: ``name-or-arn:json-key:version-stage:version-id``, trailing parts optional. Without it: the value of
            the environment variable STORED_SECRET if a deployment set it, else the secret that SECRET_ID names.

    Raises:
        SecretCacheError: one of its subclasses; ConfigurationError if neither a reference nor a variable is given.
    """
    # The hit path of SecretCache.get_secret; a call of it would be felt.
    try:
        cache: Any = handler_cache.get() or process.cache
        found = cache._records[reference]
        if found.started_at <= cache._now() < found.expires_at:
            text: str = found.text
            found.hits += 1
            if _logger.isEnabledFor(logging.DEBUG):
                _log_hit(reference)
            return text
    except (KeyError, TypeError, AttributeError):
        pass
    if reference is not None:
        return await get_default_cache().get_secret(reference)
    return process.from_environment(STORED_SECRET) or await get_secret(_secret_id())


async def get_secrets(*references: str) -> dict[str, str]:
    """Return several secrets through the default cache, by the references; fetched concurrently.

    Raises:
        SecretErrorGroup: with an error for each reference that failed.
    """
    cache = handler_cache.get() or process.cache or get_default_cache()
    texts = cache._store.fresh_texts(references, cache._now())
    if texts is None:
        return await cache.get_secrets(*references)
    if _logger.isEnabledFor(logging.DEBUG):
        for reference in texts:
            _log_hit(reference)
    return texts


async def bootstrap(variables: Mapping[str, str] | None = None) -> None:
    """Put secrets into the environment: all of them, or on any failure none.

    A variable that a deployment or a developer's shell has set is left as it is, and costs no call.

    Args:
        variables: secret references by the names of the environment variables. Without it:
            ``os.environ["STORED_SECRET"] = await get_secret()``.

    Raises:
        ConfigurationError: a name can't be that of an environment variable.
        SecretFormatError: a value can't be that of an environment variable.
        SecretErrorGroup: some of the secrets failed.
    """
    if variables is None:
        if process.from_environment(STORED_SECRET) is None:
            reference = _secret_id()
            _write({STORED_SECRET: reference}, {reference: await get_secret(reference)})
        return
    if not isinstance(variables, Mapping):
        msg = f"bootstrap takes a mapping of variables to references, not {type(variables).__name__}"
        raise ConfigurationError(msg)
    wanted: dict[str, str] = {}
    for variable, reference in variables.items():
        _check_name(variable)
        parsed = parse_reference(reference)
        if process.from_environment(variable) is None:
            wanted[variable] = parsed.text
    if wanted:
        _write(wanted, await get_secrets(*wanted.values()))


def _write(references: Mapping[str, str], texts: dict[str, str]) -> None:
    """Write all variables, or raise before any is written."""
    for variable, reference in references.items():
        if not _is_encodable(texts[reference]):
            texts.clear()  # Error trackers show the locals of a traceback.
            msg = (
                f"the value of secret {reference!r} can't be put into the environment variable {variable}: it has a "
                "NUL or can't be encoded; read it with get_secret() instead"
            )
            raise SecretFormatError(msg, secret_id=parse_reference(reference).secret_id)
    for variable, reference in references.items():
        os.environ[variable] = process.written[variable] = texts[reference]


def _log_hit(reference: str | None) -> None:
    secret_id = None if reference is None else parse_reference(reference).secret_id
    _logger.debug(_HIT, reference, extra={"secret_id": secret_id, "outcome": "hit"})


def _check_name(variable: object) -> None:
    if not isinstance(variable, str) or not variable or "=" in variable or not _is_encodable(variable):
        msg = f"{variable!r} can't be an environment variable: its name must be a str without '=' and NUL, not empty"
        raise ConfigurationError(msg)


def _is_encodable(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # It holds the text, so it ends here.
        return False


def _secret_id() -> str:
    secret_id = os.environ.get(SECRET_ID)
    if not secret_id:
        msg = f"no secret is named: set the environment variable {SECRET_ID} to a name or ARN, or pass a reference"
        raise ConfigurationError(msg)
    return secret_id


def _source() -> SecretSource | None:
    setting = os.environ.get(SOURCE, "").strip().lower()
    if setting == "direct":
        return DirectSource()
    if setting == "agent":
        return AgentSource()
    if setting not in {"", "aioboto3"}:
        raise ConfigurationError(f"{SOURCE} must be direct, agent or aioboto3, not {setting!r}")
    return None


def ttl_of(setting: str) -> float | None:
    """Return the seconds that ASECRETCACHE_TTL holds, or None for no expiry; raise ConfigurationError otherwise."""
    if setting.lower() == "none":
        return None
    remedy = "give seconds, such as 3600, or none for no expiry"
    with suppress(ValueError):
        return seconds(TTL, float(setting), remedy=remedy)
    raise ConfigurationError(f"{TTL} can't be {setting!r}: {remedy}")
