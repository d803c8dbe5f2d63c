"""What is fetched and what is asked for: two immutable records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Never

from asecretcache._exceptions import ConfigurationError, SecretFormatError

if TYPE_CHECKING:
    # In 3.11 its import takes 2 ms, of 60 that DirectSource starts in, and few read the date.
    from datetime import datetime

CURRENT: Final = "AWSCURRENT"
_MAX_ID_LENGTH: Final = 2048  # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
_ARN_COLONS: Final = 6
ARN_SUFFIX: Final = 7  # a hyphen and six characters


class Secret:
    """One version of one secret, as Secrets Manager returned it.

    Immutable, so any task, loop or thread may share it. Its repr, str and format never show the value, it can't be
    pickled, and a copy is the object itself: the value goes nowhere that nobody asked for it.

    Attributes:
        name: the friendly name.
        arn: the full ARN.
        version_id: the unique id of the version.
        version_stages: the staging labels of the version, such as ``("AWSCURRENT",)``.
        created_date: when the version was created, or None if the source doesn't say; a source may give it in seconds
            since the epoch.
        secret_string: the text, or None for a binary secret.
        secret_binary: the bytes, or None for a text secret.
        fetched_at: when it was fetched, in seconds since the epoch.
    """

    __slots__ = (
        "_created",
        "arn",
        "fetched_at",
        "name",
        "secret_binary",
        "secret_string",
        "version_id",
        "version_stages",
    )
    _created: Any  # a datetime or seconds; get_type_hints() finds no datetime here
    name: str
    arn: str
    version_id: str
    version_stages: tuple[str, ...]
    secret_string: str | None
    secret_binary: bytes | None
    fetched_at: float

    def __init__(
        self,
        *,
        name: str,
        arn: str,
        version_id: str,
        version_stages: tuple[str, ...] = (CURRENT,),
        created_date: datetime | float | None = None,
        secret_string: str | None = None,
        secret_binary: bytes | None = None,
        fetched_at: float | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "arn", arn)
        put(self, "version_id", version_id)
        is_staged = isinstance(version_stages, (tuple, list))
        put(self, "version_stages", tuple(version_stages) if is_staged else ())
        put(self, "_created", created_date)
        put(self, "secret_string", secret_string)
        put(self, "secret_binary", secret_binary)
        put(self, "fetched_at", time.time() if fetched_at is None else fetched_at)
        # Last, when there is a repr for whoever shows this frame's locals; del is for the same reader.
        if (secret_string is None) == (secret_binary is None) or not is_staged:
            del secret_string, secret_binary
            msg = f"a Secret has either secret_string or secret_binary; {name!r} was given both or neither"
            if not is_staged:
                msg = f"version_stages is a tuple of staging labels, not {type(version_stages).__name__}"
            raise ConfigurationError(msg, secret_id=name)

    @property
    def created_date(self) -> datetime | None:
        """When the version was created, in local time as the SDK has it."""
        created: datetime | float | None = self._created
        if not isinstance(created, int | float):
            return created
        from datetime import UTC, datetime

        return datetime.fromtimestamp(created, UTC).astimezone()

    def _text(self, secret_id: str) -> str:
        """Return the text, or raise SecretFormatError that names what to call instead."""
        if self.secret_string is None:
            msg = f"secret {secret_id!r} is binary, not text: read it with get_secret_binary()"
            raise SecretFormatError(msg, secret_id=secret_id)
        return self.secret_string

    def _bytes(self, secret_id: str) -> bytes:
        """Return the bytes, or raise SecretFormatError that names what to call instead."""
        if self.secret_binary is None:
            msg = f"secret {secret_id!r} is text, not binary: read it with get_secret()"
            raise SecretFormatError(msg, secret_id=secret_id)
        return self.secret_binary

    def __setattr__(self, name: str, _value: object) -> Never:
        # An assignment of a secret to the wrong attribute must not show it, nor this frame's locals.
        del _value
        msg = f"a Secret is immutable: {name!r} can't be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> Never:
        msg = f"a Secret is immutable: {name!r} can't be deleted"
        raise AttributeError(msg)

    def _fields(self) -> tuple[object, ...]:
        return self.created_date, *(getattr(self, slot) for slot in self.__slots__ if slot != "_created")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self.arn, self.version_id))

    def __repr__(self) -> str:
        kind = "secret_binary" if self.secret_string is None else "secret_string"
        return f"<Secret name={self.name!r} arn={self.arn!r} version_id={self.version_id!r} {kind}=***>"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce_ex__(self, _protocol: object) -> Never:
        msg = "a Secret can't be pickled: its value would be written out; pass the secret's id instead"
        raise TypeError(msg)


class SecretRequest(NamedTuple):
    """Which version of which secret: what a source is asked to fetch. Made by ``SecretRequest.of``, which checks it."""

    secret_id: str
    version_stage: str | None = None
    version_id: str | None = None

    @classmethod
    def of(cls, secret_id: object, version_stage: object = None, version_id: object = None) -> SecretRequest:
        """Return the request for these arguments, AWSCURRENT being the same as no stage at all.

        Raises:
            ConfigurationError: something is not a str, is empty or too long, or a name has a colon.
        """
        secret_id = _check(secret_id)
        stage = _optional("version_stage", version_stage, 256)
        version = _optional("version_id", version_id, 64)
        return cls(secret_id, None if stage == CURRENT and version is None else stage, version)

    @property
    def by_name(self) -> SecretRequest:
        """The same by the name that an ARN ends in, with which the secret may be asked for in its own account."""
        if not self.secret_id.startswith("arn:"):
            return self
        return self._replace(secret_id=self.secret_id.rpartition(":")[2][:-ARN_SUFFIX])

    @property
    def key(self) -> Any:
        """What the stores are keyed by: the plain id for the current version, which is the cheapest to look up."""
        return self.secret_id if self.version_stage is None is self.version_id else tuple(self)


def _check(secret_id: object) -> str:
    if not isinstance(secret_id, str):
        msg = f"a secret id is a str (a name or an ARN), not {type(secret_id).__name__}"
        raise ConfigurationError(msg)
    if not secret_id.strip():
        msg = "the secret id is empty: give a secret's name or ARN"
        raise ConfigurationError(msg)
    if len(secret_id) > _MAX_ID_LENGTH:
        msg = f"the secret id has {len(secret_id)} characters and at most {_MAX_ID_LENGTH} are allowed"
        raise ConfigurationError(msg)
    if not secret_id.isprintable():
        msg = f"the secret id {secret_id!r} holds characters that can't be printed: give a secret's name or ARN"
        raise ConfigurationError(msg, secret_id=secret_id)
    colons = secret_id.count(":")
    if colons and not (secret_id.startswith("arn:") and colons == _ARN_COLONS):
        msg = (
            f"the secret id {secret_id!r} has a colon outside an ARN: to read one key of a JSON secret call "
            "get_json(name, key); references such as 'name:key' are read by asecretcache.get_secret()"
        )
        raise ConfigurationError(msg, secret_id=secret_id)
    # Of a member of a str Enum str() would make its name.
    return str.__str__(secret_id)


def _optional(what: str, value: object, longest: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        msg = f"{what} is a str of 1 to {longest} characters or None"
        raise ConfigurationError(msg)
    return value
