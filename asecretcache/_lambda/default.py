"""The default cache, and over it the article's flow: the environment first, then the cache, then one call."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from asecretcache._cache import SecretCache
from asecretcache._core.freshness import seconds
from asecretcache._exceptions import ConfigurationError, SecretFormatError
from asecretcache._references import SecretReference
from asecretcache._sources.direct.source import DirectSource
from asecretcache._sources.protocols import SecretSource

SECRET_ID: Final = "SECRET_ID"
STORED_SECRET: Final = "STORED_SECRET"
TTL: Final = "ASECRETCACHE_TTL"
SOURCE: Final = "ASECRETCACHE_SOURCE"

_logger: Final = logging.getLogger("asecretcache")


class _Process:
    """What the process has one of: the default cache, and the variables that bootstrap wrote."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cache: SecretCache | None = None
        self.written: dict[str, str] = {}

    def from_environment(self, variable: str) -> str | None:
        """Return what a deployment, or a developer's shell, put into a variable; None for what bootstrap wrote."""
        value = os.environ.get(variable)
        return value if value and value != self.written.get(variable) else None


_process: Final = _Process()


def _after_fork() -> None:
    """Give the child a lock that no thread of the parent's holds."""
    _process.lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def get_default_cache() -> SecretCache:
    """Return the cache that the module-level functions use, made on first use.

    Its ttl is ASECRETCACHE_TTL in the environment: seconds, or ``none`` for one call per execution environment. Its
    source is a SecretsManagerSource, or with ASECRETCACHE_SOURCE=direct a DirectSource, which starts sooner.

    Raises:
        ConfigurationError: one of them is neither, or DirectSource lacks what it needs.
    """
    with _process.lock:
        if _process.cache is None:
            setting, source = os.environ.get(TTL, "").strip(), _source()
            cache = SecretCache(source, ttl=_ttl(setting)) if setting else SecretCache(source)
            cache._owns_source = True  # It was made for it.
            _process.cache = cache
        return _process.cache


def set_default_cache(cache: SecretCache | None) -> None:
    """Let the module-level functions use this cache; None: make a new one on the next use.

    The cache that is replaced isn't closed: whoever made it does that.
    """
    if cache is not None and not isinstance(cache, SecretCache):
        msg = f"the default cache is a SecretCache, not {type(cache).__name__}"
        raise ConfigurationError(msg)
    with _process.lock:
        _process.cache = cache


async def get_secret(reference: str | None = None) -> str:
    """Return a secret through the default cache.

    Arguments:
        reference: ``name-or-arn:json-key:version-stage:version-id``, trailing parts optional. Without it: the
            environment variable STORED_SECRET if a deployment set it, else the secret that SECRET_ID names.

    Raises:
        SecretCacheError: one of its subclasses; ConfigurationError if there is nothing to go by.
    """
    if reference is None:
        stored = _process.from_environment(STORED_SECRET)
        if stored is not None:
            _logger.info("%s was in the environment", STORED_SECRET)
            return stored
        reference = _secret_id()
    parsed = SecretReference.parse(reference)
    secret, is_fetched = await get_default_cache()._reader.read(parsed.request)
    _log(parsed, is_fetched)
    return parsed.read(secret)


async def get_secrets(*references: str) -> dict[str, str]:
    """Return several secrets through the default cache, by the references asked for, fetched concurrently.

    Raises:
        SecretErrorGroup: with an error for each reference whose secret could not be had.
    """
    parsed = [SecretReference.parse(reference) for reference in references]
    values = await get_default_cache()._read(parsed, _log)
    return {reference.text: value for reference, value in zip(parsed, values, strict=True)}


async def bootstrap(variables: Mapping[str, str] | None = None) -> None:
    """Put secrets into the environment: all of them, or on any failure none.

    A variable that a deployment or a developer's shell has set is left as it is, and costs no call.

    Arguments:
        variables: secret references by the names of the environment variables; without it
            ``os.environ["STORED_SECRET"] = await get_secret()``.

    Raises:
        ConfigurationError: a name can't be that of an environment variable.
        SecretFormatError: a value can't be that of an environment variable.
        SecretErrorGroup: of several secrets some could not be had.
    """
    if variables is None:
        await _bootstrap_one()
        return
    if not isinstance(variables, Mapping):
        msg = f"bootstrap takes a mapping of variables to references, not {type(variables).__name__}"
        raise ConfigurationError(msg)
    wanted: dict[str, SecretReference] = {}
    for variable, reference in variables.items():
        _check_name(variable)
        parsed = SecretReference.parse(reference)
        if _process.from_environment(variable) is None:
            wanted[variable] = parsed
        else:
            _logger.info("%s was in the environment", variable)
    cache, references = get_default_cache(), list(wanted.values())
    # No name in this frame holds the values: a traceback of what _write raises may show locals.
    _write([_Write(*each) for each in zip(wanted, await cache._read(references, _log), references, strict=True)])


def forget_bootstrapped() -> None:
    """Take out of the environment what bootstrap put there and nobody changed since."""
    while _process.written:
        variable, value = _process.written.popitem()
        if os.environ.get(variable) == value:
            del os.environ[variable]


class _Write(NamedTuple):
    variable: str
    value: str
    reference: SecretReference

    def __repr__(self) -> str:
        return f"<_Write {self.variable}=***>"


async def _bootstrap_one() -> None:
    if _process.from_environment(STORED_SECRET) is not None:
        _logger.info("%s was in the environment", STORED_SECRET)
        return
    reference = _secret_id()
    _write([_Write(STORED_SECRET, await get_secret(reference), SecretReference.parse(reference))])


def _write(writes: Iterable[_Write]) -> None:
    """Write all variables, or raise before any is written."""
    for each in writes:
        _check_value(each)
    for each in writes:
        os.environ[each.variable] = _process.written[each.variable] = each.value


def _check_name(variable: object) -> None:
    if not isinstance(variable, str) or not variable or "=" in variable or not _is_encodable(variable):
        msg = f"{variable!r} can't be an environment variable: its name is a str, not empty, without '=' and NUL"
        raise ConfigurationError(msg)


def _check_value(write: _Write) -> None:
    if not _is_encodable(write.value):
        msg = (
            f"the value of secret {write.reference.text!r} can't be put into the environment variable "
            f"{write.variable}: it holds a NUL or can't be encoded; read it with get_secret() instead"
        )
        raise SecretFormatError(msg, secret_id=write.reference.request.secret_id)


def _is_encodable(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # which holds the text: it ends here
        return False


def _secret_id() -> str:
    secret_id = os.environ.get(SECRET_ID)
    if not secret_id:
        msg = (
            f"no secret to get: set the environment variable {SECRET_ID} to a secret's name or ARN, or pass a reference"
        )
        raise ConfigurationError(msg)
    return secret_id


def _source() -> SecretSource | None:
    setting = os.environ.get(SOURCE, "").strip().lower()
    if setting == "direct":
        return DirectSource()
    if setting not in {"", "aioboto3"}:
        msg = f"{SOURCE} is direct or aioboto3, not {setting!r}"
        raise ConfigurationError(msg)
    return None


def _ttl(setting: str) -> float | None:
    if setting.lower() == "none":
        return None
    try:
        value: object = float(setting)
    except ValueError:
        value = setting
    return seconds(TTL, value, remedy="give seconds, or none for no expiry")


def _log(reference: SecretReference, is_fetched: bool) -> None:  # noqa: FBT001 - as SecretCache._read calls it
    if is_fetched:
        _logger.info("secret %s was fetched from Secrets Manager", reference.request.secret_id)
    else:
        _logger.info("secret %s was in the cache", reference.request.secret_id)
