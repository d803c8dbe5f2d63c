"""Secret and SecretRequest: what a source returns and what it is asked for, two immutable records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Never

from asecretcache._exceptions import ConfigurationError, SecretFormatError

if TYPE_CHECKING:
    # Importing datetime takes 2 ms on 3.11, of the 60 ms in which DirectSource starts; few callers read the date.
    from datetime import datetime

CURRENT: Final = "AWSCURRENT"
#: A full ARN ends in the secret's name, a hyphen and six random characters.
ARN_SUFFIX: Final = 7

# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
_MAX_ID_LENGTH: Final = 2048
_MAX_STAGE_LENGTH: Final = 256
_MAX_VERSION_LENGTH: Final = 64
_ARN_COLONS: Final = 6

#: What a value is stored by: the id alone for the current version, which is the cheapest to look up.
Key = str | tuple[str, str | None, str | None]


class Secret:
    """One version of one secret, as Secrets Manager returned it.

    Immutable, so any task, loop or thread may share it. Its repr, str and format never show the value, it can't be
    pickled, and a copy is the object itself.

    Attributes:
        name: the friendly name.
        arn: the full ARN.
        version_id: the unique id of the version.
        version_stages: the staging labels of the version, such as ``("AWSCURRENT",)``.
        created_date: when the version was created, or None if the source doesn't say; a source may give it in seconds
            since the epoch.
        secret_string: the text, or None for a binary secret.
        secret_binary: the bytes, or None for a text secret.
    """

    __slots__ = ("_created", "arn", "name", "secret_binary", "secret_string", "version_id", "version_stages")
    _created: Any  # a datetime or seconds; get_type_hints() finds no datetime here
    name: str
    arn: str
    version_id: str
    version_stages: tuple[str, ...]
    secret_string: str | None
    secret_binary: bytes | None

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
        # Checked last and with the arguments deleted: a traceback may show the locals, and needs a repr of self.
        if (secret_string is None) == (secret_binary is None) or not is_staged:
            del secret_string, secret_binary
            msg = f"a Secret has either secret_string or secret_binary; {name!r} was given both or neither"
            if not is_staged:
                msg = f"version_stages must be a tuple of staging labels, not {type(version_stages).__name__}"
            raise ConfigurationError(msg, secret_id=name)

    @property
    def created_date(self) -> datetime | None:
        """When the version was created, in local time, as the SDK gives it."""
        created: datetime | float | None = self._created
        if not isinstance(created, int | float):
            return created
        from datetime import UTC, datetime

        return datetime.fromtimestamp(created, UTC).astimezone()

    @property
    def text(self) -> str:
        """The text of the secret.

        Raises:
            SecretFormatError: the secret is binary.
        """
        return self._text(self.name)

    def json(self, key: str | None = None) -> Any:
        """Parse the text as JSON and return the document, or the value of one key of its object.

        The text is parsed for each call, so that no caller sees another caller's changes.

        Args:
            key: the key; None for the whole document.

        Raises:
            SecretFormatError: the secret is binary or not JSON, or has no such key.
        """
        return self._json(self.name, key)

    def _text(self, secret_id: str) -> str:
        if self.secret_string is None:
            msg = f"secret {secret_id!r} is binary, not text: read it with get_secret_binary()"
            raise SecretFormatError(msg, secret_id=secret_id)
        return self.secret_string

    def _bytes(self, secret_id: str) -> bytes:
        if self.secret_binary is None:
            msg = f"secret {secret_id!r} is text, not binary: read it with get_secret()"
            raise SecretFormatError(msg, secret_id=secret_id)
        return self.secret_binary

    def _json(self, secret_id: str, key: str | None) -> object:
        import json  # Not for callers that read text alone.

        self._text(secret_id)
        # JSONDecodeError carries the text, and a traceback may show locals. So the error is raised outside of the
        # except block, and when it is raised no local holds the text or the document.
        try:
            document = json.loads(self.secret_string or "")
        except (ValueError, RecursionError):
            problem = "isn't JSON: read it whole with get_secret()"
        else:
            if key is None:
                return document
            if not isinstance(document, dict):
                problem = f"is JSON but not an object, so it has no key {key!r}"
            elif key in document:
                return document[key]
            else:
                # Not which: in a map of API keys, the keys are secrets.
                count = "1 key" if len(document) == 1 else f"{len(document)} keys"
                problem = f"has no key {key!r}: check its spelling; the object has {count}"
            del document
        raise SecretFormatError(f"secret {secret_id!r} {problem}", secret_id=secret_id)

    def __setattr__(self, name: str, _value: object) -> Never:
        # A secret assigned to the wrong attribute must not show in this frame's locals.
        del _value
        raise AttributeError(f"a Secret is immutable: {name!r} can't be set")

    def __delattr__(self, name: str) -> Never:
        raise AttributeError(f"a Secret is immutable: {name!r} can't be deleted")

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
        msg = "a Secret can't be pickled, because its value would be written out: pass the secret's id instead"
        raise TypeError(msg)


class SecretRequest:
    """Which version of which secret a source is asked for; immutable and hashable.

    Attributes:
        secret_id: a name or an ARN.
        version_stage: a staging label; None for AWSCURRENT, or where version_id alone selects the version.
        version_id: the id of a version, or None.
        is_refresh: whether the caller wants what AWS has now: ``refresh``, ``call_with_secret`` after a refusal, or an
            event. A source that has a cache of its own must pass it. Requests that differ in it alone are equal.
        key: what the value is stored by.

    Raises:
        ConfigurationError: an argument isn't a str, is empty or too long, or a name has a colon.
    """

    __slots__ = ("is_refresh", "key", "secret_id", "version_id", "version_stage")
    secret_id: str
    version_stage: str | None
    version_id: str | None
    is_refresh: bool
    key: Key

    def __init__(
        self,
        secret_id: str,
        version_stage: str | None = None,
        version_id: str | None = None,
        *,
        is_refresh: bool = False,
    ) -> None:
        secret_id = _check_id(secret_id)
        stage = None if version_stage is None else _check_text("version_stage", version_stage, _MAX_STAGE_LENGTH)
        version = None if version_id is None else _check_text("version_id", version_id, _MAX_VERSION_LENGTH)
        if stage == CURRENT and version is None:
            stage = None
        put = object.__setattr__
        put(self, "secret_id", secret_id)
        put(self, "version_stage", stage)
        put(self, "version_id", version)
        put(self, "is_refresh", is_refresh)
        put(self, "key", secret_id if stage is version is None else (secret_id, stage, version))

    @classmethod
    def _of_key(cls, key: Key) -> SecretRequest:
        return cls(key) if isinstance(key, str) else cls(*key)

    def _as_refresh(self) -> SecretRequest:
        """Return a request of the same that is a refresh."""
        return SecretRequest(self.secret_id, self.version_stage, self.version_id, is_refresh=True)

    @property
    def reference(self) -> str:
        """The reference that means the same, such as ``prod/db`` or ``prod/db::AWSPREVIOUS``."""
        if isinstance(self.key, str):
            return self.key
        return f"{self.secret_id}::{self.version_stage or ''}:{self.version_id or ''}".rstrip(":")

    def __setattr__(self, name: str, _value: object) -> Never:
        raise AttributeError(f"a SecretRequest is immutable: {name!r} can't be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretRequest):
            return NotImplemented
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        stage = "" if self.version_stage is None else f", version_stage={self.version_stage!r}"
        version = "" if self.version_id is None else f", version_id={self.version_id!r}"
        refresh = ", is_refresh=True" if self.is_refresh else ""
        return f"SecretRequest({self.secret_id!r}{stage}{version}{refresh})"


def may_be_same_secret(one: str, other: str) -> bool:
    """Return whether two ids may name the same secret, as far as ids can tell: a name, a partial and a full ARN may."""
    one, other = (each.split(":", _ARN_COLONS)[-1] for each in (one, other))
    return one == other or one[:-ARN_SUFFIX] == other or one == other[:-ARN_SUFFIX]


def _check_id(secret_id: object) -> str:
    if not isinstance(secret_id, str):
        raise ConfigurationError(f"a secret id must be a str (a name or an ARN), not {type(secret_id).__name__}")
    if not secret_id.strip():
        raise ConfigurationError("the secret id is empty: give a secret's name or ARN")
    if len(secret_id) > _MAX_ID_LENGTH:
        raise ConfigurationError(f"the secret id has {len(secret_id)} characters; at most {_MAX_ID_LENGTH} are allowed")
    if not secret_id.isprintable():
        msg = f"the secret id {secret_id!r} has characters that can't be printed: give a secret's name or ARN"
        raise ConfigurationError(msg, secret_id=secret_id)
    colons = secret_id.count(":")
    if colons and not (secret_id.startswith("arn:") and colons == _ARN_COLONS):
        msg = f"the secret id {secret_id!r} has a colon outside of an ARN: give a secret's name or ARN"
        raise ConfigurationError(msg, secret_id=secret_id)
    # str() of a member of a str Enum would be the member's name.
    return str.__str__(secret_id)


def _check_text(what: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ConfigurationError(f"{what} must be a str of 1 to {longest} characters or None")
    return str.__str__(value)
