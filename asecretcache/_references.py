"""Secret references: which secret, which version and which JSON key, in one string.

The syntax is that of an ECS task definition, ``name-or-arn:json-key:version-stage:version-id``:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
Trailing parts are optional, and an empty part means the default. A name has no colon, an ARN has exactly six.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from asecretcache._callables import is_async
from asecretcache._exceptions import ConfigurationError, SecretFormatError
from asecretcache._models import SecretRequest

T = TypeVar("T")

_ARN_PARTS: Final = 7
_MAX_PARTS: Final = 4
_SYNTAX: Final = "name-or-arn:json-key:version-stage:version-id"
#: The remedy for an ARN that is no secret's; of the command line too.
WRITE_ARN: Final = "write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"


class SecretReference(NamedTuple):
    """A parsed reference.

    Attributes:
        text: the reference as it was given.
        request: the request for the whole secret.
        json_key: the key of its JSON object that is selected, or None.
        version_stage: the staging label as it was given, also AWSCURRENT; None without one.
        name: what reads of this reference look up in the store, or None.
    """

    text: str
    request: SecretRequest
    json_key: str | None
    version_stage: str | None
    name: object

    @property
    def secret_id(self) -> str:
        """The name or ARN in it."""
        return self.request.secret_id

    def to_text(self, value: object) -> str:
        """Return a selected value as text: a string as it is, anything else as JSON; null is refused."""
        if isinstance(value, str):
            return value
        if value is None:
            msg = f"secret {self.secret_id!r} has null at key {self.json_key!r}: store a value there"
            raise SecretFormatError(msg, secret_id=self.secret_id)
        import json

        return json.dumps(value)

    def whole_request(self, method: str) -> SecretRequest:
        """Return the request, for a method that takes whole secrets.

        Raises:
            ConfigurationError: the reference has a JSON key.
        """
        if self.json_key is not None:
            selected = f"{self.text!r} selects the JSON key {self.json_key!r}"
            msg = f"{method} takes a whole secret, and {selected}: leave the key out, or read it with get_secret()"
            raise ConfigurationError(msg, secret_id=self.secret_id)
        return self.request

    def unversioned_id(self, method: str) -> str:
        """Return the name or ARN in it, for a method that takes secrets with all their versions.

        Raises:
            ConfigurationError: the reference has a JSON key, a stage or a version.
        """
        if self.whole_request(method).version_id is not None or self.version_stage is not None:
            msg = f"{method} takes all versions of a secret, and {self.text!r} names one: leave that out"
            raise ConfigurationError(msg, secret_id=self.secret_id)
        return self.secret_id


def parse_reference(
    text: str, version_stage: str | None = None, version_id: str | None = None, json_key: str | None = None
) -> SecretReference:
    """Return the parsed reference, with the parts that are given apart from it.

    Raises:
        ConfigurationError: the text isn't a str or has another syntax, or a part is given twice.
    """
    if not isinstance(text, str):
        msg = f"a secret reference must be a str such as 'prod/db:password', not {type(text).__name__}"
        raise ConfigurationError(msg)
    parsed = _parse(str.__str__(text))
    if version_stage is None and version_id is None and json_key is None:
        return parsed
    request = parsed.request
    for what, value, present in (
        ("version_stage", version_stage, parsed.version_stage),
        ("version_id", version_id, request.version_id),
        ("key", json_key, parsed.json_key),
    ):
        if value is not None and present is not None:
            msg = f"the secret reference {parsed.text!r} has a {what.replace('_', ' ')} already: leave out {what}="
            raise ConfigurationError(msg, secret_id=request.secret_id)
    name: object = None
    if version_stage is None and version_id is None:
        name = (parsed.text, json_key)
    elif json_key is None:
        name = (parsed.text, version_stage, version_id)
    stage = parsed.version_stage if version_stage is None else version_stage
    version = request.version_id if version_id is None else version_id
    key = parsed.json_key if json_key is None else json_key
    return SecretReference(parsed.text, SecretRequest(request.secret_id, stage, version), key, stage, name)


def parse_several(method: str, references: Iterable[object]) -> list[SecretReference]:
    """Return the parsed references of a method that takes several.

    Raises:
        ConfigurationError: as parse_reference; a list that was passed whole is told how to be passed.
    """
    parsed = []
    for reference in references:
        if isinstance(reference, (list, tuple, set, frozenset)):
            examples = f"write {method}('a', 'b') or {method}(*names)"
            raise ConfigurationError(f"{method} takes each reference as an argument of its own: {examples}")
        parsed.append(parse_reference(reference))  # type: ignore[arg-type]  # it checks that
    return parsed


@lru_cache(maxsize=256)  # Handlers read the same few references in each invocation.
def _parse(text: str) -> SecretReference:
    parts = text.split(":")
    if parts[0] == "arn":
        if len(parts) < _ARN_PARTS:
            msg = f"the secret reference {text!r} is no ARN of a secret: {WRITE_ARN}"
            raise ConfigurationError(msg, secret_id=text)
        parts = [":".join(parts[:_ARN_PARTS]), *parts[_ARN_PARTS:]]
    if len(parts) > _MAX_PARTS:
        msg = f"the secret reference {text!r} has {len(parts)} parts; the syntax is {_SYNTAX}"
        raise ConfigurationError(msg, secret_id=text)
    if not parts[0].strip():
        raise ConfigurationError(f"the secret reference {text!r} names no secret; the syntax is {_SYNTAX}")
    secret_id, json_key, stage, version = (*parts, "", "", "")[:_MAX_PARTS]
    request = SecretRequest(secret_id, stage or None, version or None)
    return SecretReference(text, request, json_key or None, stage or None, text)


def check_parser(parse: object) -> None:
    """Raise ConfigurationError unless ``parse`` is a plain function of a text."""
    if not callable(parse) or is_async(parse):
        kind = "an async function" if callable(parse) else type(parse).__name__
        examples = "json.loads or a pydantic model's model_validate_json"
        raise ConfigurationError(f"parse must be a function of the secret's text, such as {examples}, not {kind}")


def parse_text(text: str, reference: str, parse: Callable[[str], T]) -> T:
    """Return what ``parse`` makes of a secret's text.

    Raises:
        SecretFormatError: ``parse`` raised. Only the type of what it raised is told, since its text may hold the value.
    """
    try:
        return parse(text)
    except Exception as exc:  # noqa: BLE001 - anything may be raised, and may hold the text
        kind = type(exc).__name__
    finally:
        del text  # A traceback may show this frame's locals.
    name = getattr(parse, "__qualname__", type(parse).__name__)
    message = f"secret {reference!r} can't be read by {name}: it raised {kind}"
    raise SecretFormatError(message, secret_id=parse_reference(reference).secret_id)
