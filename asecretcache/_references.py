"""Secret references: which secret, and which part of it, in one string.

The syntax is that of an ECS task definition, ``name-or-arn:json-key:version-stage:version-id``:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
Trailing parts may be left out, and an empty part means the default.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from asecretcache._exceptions import ConfigurationError
from asecretcache._models import Secret, SecretRequest
from asecretcache._reading import read_json

_ARN_PARTS: Final = 7
_MAX_PARTS: Final = 4
_SYNTAX: Final = "name-or-arn:json-key:version-stage:version-id"


class SecretReference(NamedTuple):
    """A parsed reference: the request for the whole secret, and the key of its JSON object, if one is wanted."""

    text: str
    request: SecretRequest
    json_key: str | None

    @classmethod
    def parse(cls, text: object) -> SecretReference:
        """Return the reference that ``text`` spells.

        Raises:
            ConfigurationError: it isn't a str, or not of the syntax above.
        """
        if not isinstance(text, str):
            msg = f"a secret reference is a str such as 'prod/db:password', not {type(text).__name__}"
            raise ConfigurationError(msg)
        return _parse(text)

    def read(self, secret: Secret) -> str:
        """Return the text that the reference means: the whole secret, or the value of its key.

        Raises:
            SecretFormatError: the secret is binary, or with a key: isn't a JSON object, or has no such key.
        """
        if self.json_key is None:
            return secret._text(self.request.secret_id)
        value = read_json(secret, self.request.secret_id, self.json_key)
        if isinstance(value, str):
            return value
        import json

        return json.dumps(value)


@lru_cache(maxsize=256)  # Handlers have the same few read at each invocation.
def _parse(text: str) -> SecretReference:
    parts = text.split(":")
    if parts[0] == "arn":
        if len(parts) < _ARN_PARTS:
            msg = f"the secret reference {text!r} is an incomplete ARN: an ARN has six colons"
            raise ConfigurationError(msg, secret_id=text)
        parts = [":".join(parts[:_ARN_PARTS]), *parts[_ARN_PARTS:]]
    if len(parts) > _MAX_PARTS:
        msg = f"the secret reference {text!r} has {len(parts)} parts; the syntax is {_SYNTAX}"
        raise ConfigurationError(msg, secret_id=text)
    if not parts[0].strip():
        msg = f"the secret reference {text!r} names no secret; the syntax is {_SYNTAX}"
        raise ConfigurationError(msg)
    secret_id, json_key, stage, version = (*parts, "", "", "")[:_MAX_PARTS]
    return SecretReference(text, SecretRequest.of(secret_id, stage or None, version or None), json_key or None)
