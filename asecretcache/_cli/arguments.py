"""Types of command-line arguments: each checks a text, and its error says what to write instead."""

from __future__ import annotations

import argparse
import math
import re
from contextlib import suppress
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from asecretcache._exceptions import ConfigurationError
from asecretcache._references import WRITE_ARN, SecretReference, parse_reference

#: What ``add_subparsers`` returns; its class is private, and takes no parameters at run time.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

HelpFormatter: Final = argparse.RawDescriptionHelpFormatter

# The names of secrets that AWS's services manage have an exclamation mark, such as rds!db-...:
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/service-linked-secrets.html
_NAME_PATTERN: Final = r"[A-Za-z0-9/_+=.@!-]+"
_SECRET_ARN_PATTERN: Final = rf"arn:aws[a-z-]*:secretsmanager:([a-z0-9-]*|\*):([0-9]{{12}}|\*|):secret:{_NAME_PATTERN}"
_KEY_ARN_PATTERN: Final = r"arn:aws[a-z-]*:kms:([a-z0-9-]+|\*):([0-9]{12}|\*):key/([A-Za-z0-9-]+|\*)"


#: With others, products and quotients of them would become infinite, which JSON hasn't, or 0.
_LEAST, _MOST = 1e-15, 1e15


def reference(text: str) -> SecretReference:
    """Return a parsed secret reference whose secret may be named in a policy."""
    try:
        parsed = parse_reference(text)
    except ConfigurationError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    secret_id = parsed.secret_id
    if secret_id.startswith("arn:"):
        if not re.fullmatch(_SECRET_ARN_PATTERN, secret_id):
            raise argparse.ArgumentTypeError(f"{secret_id!r} isn't the ARN of a secret: {WRITE_ARN}")
    elif not re.fullmatch(_NAME_PATTERN, secret_id):
        msg = f"{secret_id!r} can't be the name of a secret: write letters, digits and /_+=.@-! only, such as prod/db"
        raise argparse.ArgumentTypeError(msg)
    return parsed


def region(text: str) -> str:
    """Return the name of a region."""
    if re.fullmatch(r"[a-z0-9-]+", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} isn't the name of a region: write one such as eu-west-1")


def endpoint_url(text: str) -> str:
    """Return the URL of an endpoint."""
    with suppress(ValueError):
        parts = urlsplit(text)
        # Reading the port checks it.
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return text
    # Not the text, which may have a password.
    raise argparse.ArgumentTypeError("that isn't the URL of an endpoint: write one such as https://HOST[:PORT]")


def key_arn(text: str) -> str:
    """Return the ARN of a KMS key; a policy can't name a key by an alias or an id."""
    if re.fullmatch(_KEY_ARN_PATTERN, text):
        return text
    msg = (
        f"{text!r} isn't the ARN of a KMS key: write arn:aws:kms:REGION:ACCOUNT:key/KEY-ID; "
        "aws kms describe-key --key-id ALIAS-OR-ID prints it"
    )
    raise argparse.ArgumentTypeError(msg)


def positive(text: str) -> float:
    """Return a number above 0."""
    return _number(text, "a number above 0, such as 10 or 0.5", is_zero_allowed=False)


def not_negative(text: str) -> float:
    """Return a number of at least 0."""
    return _number(text, "a number of at least 0, such as 10 or 0.5", is_zero_allowed=True)


def positive_int(text: str) -> int:
    """Return an integer of at least 1."""
    if re.fullmatch(r"[0-9]{1,12}", text) and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} can't be used: write a whole number of at least 1, such as 5")


def ttl(text: str) -> float:
    """Return seconds; infinity for none."""
    return (
        math.inf if text.lower() == "none" else _number(text, "seconds, such as 3600, or none", is_zero_allowed=False)
    )


def _number(text: str, what: str, *, is_zero_allowed: bool) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if _LEAST <= number <= _MOST or (is_zero_allowed and number == 0):
        return number
    raise argparse.ArgumentTypeError(f"{text!r} can't be used: write {what}")
