"""What a local provider means by a response that is no secret: its own plain texts, and AWS's errors in JSON."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

from asecretcache import _exceptions as errors
from asecretcache._sources.agent.settings import AgentSettings
from asecretcache._sources.agent.token import NAMES, variable_in_use
from asecretcache._sources.direct.http_message import Response
from asecretcache._sources.direct.json_body import client_error
from asecretcache._sources.error_meanings import ROLE_REFUSED
from asecretcache._sources.exceptions import ResponseParserError

_NOT_READY: Final = b"not ready to serve traffic"
_NO_ROLE: Final = "Failed to create caching client from role"


def is_not_ready(response: Response) -> bool:
    """Whether the extension asks to try again, since Lambda hasn't told it yet that the environment is ready."""
    return response.status == 400 and _NOT_READY in response.body


def to_exception(response: Response, settings: AgentSettings) -> Exception:
    """Return the exception for a response without a secret: an error of this package, or one that it maps.

    Nothing of the response is in it, but for a code and a message of AWS's.
    """
    code, message = _aws_error(response)
    if code is None:
        return _from_status(response, settings)
    if code in {"TimeoutError", "ConnectionError"}:
        return errors.SecretUnavailableError(f"{settings.subject} has no connection to Secrets Manager ({code})")
    if code == "MaxRolesExceeded":
        msg = f"{settings.subject} has assumed as many roles as it may: raise max_roles in its configuration"
        return errors.ConfigurationError(msg, code=code)
    if code == "AccessDeniedException" and message.startswith(_NO_ROLE):
        kind, text = ROLE_REFUSED
        return kind(f"{settings.subject} can't assume {settings.role_arn}: {text}", code=code)
    return client_error(response, "GetSecretValue")


def _aws_error(response: Response) -> tuple[str | None, str]:
    """Return the code and message of an error in JSON; a code of None if it isn't one."""
    with suppress(ValueError, RecursionError):
        document = json.loads(response.body)
        if isinstance(document, dict) and isinstance(document.get("__type"), str):
            message = document.get("message")
            return document["__type"].partition(":")[0].rpartition("#")[2], message if isinstance(message, str) else ""
    return None, ""


def _from_status(response: Response, settings: AgentSettings) -> Exception:
    status, subject = response.status, settings.subject
    if status in {401, 403}:
        sent = variable_in_use()
        return errors.CredentialsError(
            f"{subject} refused the token of {sent}: {NAMES}, of which the first that is set is sent, must have the "
            "token that it was started with"
        )
    if status == 429:
        return errors.SecretThrottledError(
            f"{subject} has too many connections: lower max_concurrency=, or raise max_conn in its configuration"
        )
    if status in {404, 405}:
        return errors.ConfigurationError(
            f"{subject} doesn't serve secrets (HTTP {status}): check the port, something else may listen there"
        )
    if status == 400 and b"unknown parameter" in response.body:
        return errors.ConfigurationError(f"{subject} doesn't know a parameter: update it{_for_parameters(settings)}")
    if status == 400 and response.body == b"Forwarded":
        return errors.ConfigurationError(f"{subject} refuses requests of proxies: connect to it without one")
    if 400 <= status < 500:
        return errors.SecretCacheError(f"{subject} refused the request (HTTP {status}): its log says why")
    if status >= 500:
        return errors.SecretUnavailableError(f"{subject} is out of order (HTTP {status}): its log says why")
    return ResponseParserError()


def _for_parameters(settings: AgentSettings) -> str:
    """Return how to do without the parameters that not every version knows."""
    return ", or leave out role_arn=" if settings.role_arn else ", or give server='extension'"
