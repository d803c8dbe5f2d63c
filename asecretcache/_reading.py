"""A secret's text as something else: parsed JSON, or whatever a caller's function makes of it.

What goes wrong in parsing carries the text: JSONDecodeError has the document, pydantic prints the input. So nothing of
it is passed on, neither as a cause nor in a frame's locals.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from asecretcache._exceptions import ConfigurationError, SecretFormatError
from asecretcache._models import Secret

T = TypeVar("T")


def read_json(secret: Secret, secret_id: str, key: str | None) -> object:
    """Parse the secret's text anew and return it, or the value of one key of it.

    Raises:
        SecretFormatError: without a trace of the text, which JSONDecodeError would carry.
    """
    import json  # Not for those who read text alone.

    # No name in this frame holds the text or the document when an error is raised: a traceback may show locals.
    is_json, names = False, None
    if secret.secret_string is None:
        secret._text(secret_id)
    try:
        document = json.loads(secret.secret_string or "")
        is_json = True
    except (ValueError, RecursionError):
        document = None
    if is_json and key is None:
        return document
    if isinstance(document, dict):
        if key in document:
            return document[key]
        names = ", ".join(sorted(map(repr, document)))
    del document
    if not is_json:
        msg = f"secret {secret_id!r} isn't JSON: read it whole with get_secret()"
    elif names is None:
        msg = f"secret {secret_id!r} is JSON but not an object, so it has no key {key!r}"
    else:
        msg = f"secret {secret_id!r} has no key {key!r}; it has {names or 'none'}"
    raise SecretFormatError(msg, secret_id=secret_id)


def check_parser(parse: object) -> None:
    """Raise ConfigurationError unless ``parse`` can make something of a text."""
    if not callable(parse) or inspect.iscoroutinefunction(parse):
        msg = (
            "parse is a function of the secret's text, such as json.loads or a pydantic model's model_validate_json, "
            f"not {'a coroutine function' if callable(parse) else type(parse).__name__}"
        )
        raise ConfigurationError(msg)


def read_as(secret: Secret, secret_id: str, parse: Callable[[str], T]) -> T:
    """Return what ``parse`` makes of the secret's text.

    Raises:
        SecretFormatError: it is binary, or ``parse`` raised; told by the type of what it raised alone.
    """
    if secret.secret_string is None:
        secret._text(secret_id)
    try:
        return parse(secret.secret_string or "")
    except Exception as exc:  # noqa: BLE001 - whatever it is may hold the text, which stops here
        kind = type(exc).__name__
    name = getattr(parse, "__qualname__", type(parse).__name__)
    msg = f"secret {secret_id!r} can't be read by {name}: it raised {kind}"
    raise SecretFormatError(msg, secret_id=secret_id)
