"""Maps exceptions of botocore and of the direct client, and AWS's error codes, to this package's errors.

Exceptions are recognised by the names of their classes. So nothing of botocore is imported, an error can be mapped even
if the SDK's import failed halfway, and it does no harm if a version of botocore lacks one of the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from asecretcache import _exceptions as errors
from asecretcache._core.timeouts import network_hint
from asecretcache._models import SecretRequest
from asecretcache._sources import error_meanings as meanings
from asecretcache._sources.error_meanings import Meaning


class MappedError(NamedTuple):
    """An error of this package, and what is known of the exception that it stands for.

    Attributes:
        error: the error to raise.
        is_chainable: whether the exception may be its cause: it holds neither a value nor a token.
        is_renewable: whether the credentials are missing or have expired, so that they may be renewed while the process
            runs. Credentials that AWS refuses are not.
    """

    error: errors.SecretCacheError
    is_chainable: bool
    is_renewable: bool


# Modules that parse responses; the one that looks at what is parsed, and what that calls for it, besides all else that
# it calls; and those that get credentials.
_PARSERS: Final = frozenset(("botocore.parsers", "aiobotocore.parsers"))
_ENDPOINT_MODULE: Final = "aiobotocore.endpoint"
_OF_ENDPOINT: Final = (_ENDPOINT_MODULE, "botocore.model")
_OF_CREDENTIALS: Final = frozenset(
    f"{package}.{module}" for package in ("botocore", "aiobotocore") for module in ("credentials", "tokens", "utils")
)

_PACKAGES: Final = ("botocore", "aiobotocore", "boto3", "asecretcache")
# Not compiled at import: most starts see no error.
_CODE_PATTERN: Final = r"[A-Z][A-Za-z]{2,60}(?:Exception|Error|Failure|Fault)"
_REQUEST_ID_PATTERN: Final = r"[0-9A-Za-z-]{8,64}"


def to_error(exc: BaseException, secret_id: str | None) -> MappedError:
    """Return the error for an exception that a client raised.

    An exception that may be the error's cause loses its tracebacks, because the SDK's frames hold the session token.
    """
    if isinstance(exc, errors.SecretCacheError):
        # Raised within the SDK by what this package gave it.
        return MappedError(exc._copy(secret_id), is_chainable=False, is_renewable=False)
    # The names of the classes that the SDK or the direct client defines, the most special first.
    names = [kind.__name__ for kind in type(exc).__mro__ if kind.__module__.partition(".")[0] in _PACKAGES]
    if "ClientError" in names:
        return _from_client_error(exc, secret_id)
    for name in names:
        if name in meanings.CHAINABLE:
            _remove_tracebacks(exc)
            # Lambda's log doesn't show causes.
            reason = str(exc) if name in meanings.TELLING else None
            return _mapped(meanings.CHAINABLE[name], secret_id, is_chainable=True, reason=reason)
        if name in meanings.NOT_CHAINABLE:
            return _mapped(meanings.NOT_CHAINABLE[name], secret_id)
    if isinstance(exc, ValueError) and str(exc).startswith("Invalid endpoint"):
        return _mapped(meanings.ENDPOINT, secret_id)
    return _from_other(exc, secret_id)


def _from_other(exc: BaseException, secret_id: str | None) -> MappedError:
    """Map an exception that isn't of the SDK, or that it raises for what has no name above."""
    if isinstance(exc, TimeoutError):
        return _mapped(meanings.TIMEOUT, secret_id)
    if isinstance(exc, OSError) and exc.filename is None:
        return _mapped(meanings.CONNECTION, secret_id)
    place, modules = _origin(exc)
    if not _PARSERS.isdisjoint(modules) or (_ENDPOINT_MODULE in modules and modules[-1] in _OF_ENDPOINT):
        # They raise AttributeError, UnicodeDecodeError and others, which hold the response.
        return _mapped(meanings.MALFORMED, secret_id)
    if isinstance(exc, ImportError):
        _remove_tracebacks(exc)
        return _mapped(meanings.NOT_IMPORTED, secret_id, is_chainable=True, reason=f"{type(exc).__name__}: {exc}")
    if isinstance(exc, OSError):
        _remove_tracebacks(exc)
        reason = f"{type(exc).__name__}: {exc.strerror}: {exc.filename!r}"
        return _mapped(meanings.NO_FILE, secret_id, is_chainable=True, reason=reason)
    # Its text may hold anything.
    meaning = meanings.UNKNOWN if _OF_CREDENTIALS.isdisjoint(modules) else meanings.NOT_RETRIEVED
    return _mapped(meaning, secret_id, reason=f"{type(exc).__name__} at {place}")


def _origin(exc: BaseException) -> tuple[str, list[str]]:
    """Return the file and line where an exception was raised, and the modules that it has passed, that one last."""
    place, modules = "an unknown place", []
    trace = exc.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        modules.append(str(trace.tb_frame.f_globals.get("__name__")))
        trace = trace.tb_next
    return place, modules


def explain(error: errors.SecretCacheError, request: SecretRequest, region: object) -> None:
    """Add to an error what of the request may have been wrong: its stage or version, or the region.

    Args:
        error: the error, which the caller has made.
        request: what was asked for.
        region: the region of the client, if it is known.
    """
    if not isinstance(error, (errors.SecretNotFoundError, errors.SecretAccessDeniedError)):
        return
    details = []
    if isinstance(error, errors.SecretNotFoundError):
        details += [f"version_stage={request.version_stage!r} was asked for"] if request.version_stage else []
        details += [f"version_id={request.version_id!r} was asked for"] if request.version_id else []
    if isinstance(region, str):
        of_arn = request.secret_id.split(":")[3] if request.secret_id.startswith("arn:") else region
        if of_arn != region:
            details.append(f"its ARN is of {of_arn}, and {region} was called, as the client_factory= has it")
        elif error.code == "ResourceNotFoundException":
            details.append(f"{region} was asked")
    error.args = ("; ".join((str(error), *details)),)


def to_code_error(code: object, message: object, secret_id: str) -> errors.SecretCacheError:
    """Return the error for the code that a batch has for one of its secrets; see ``_read_code``."""
    meaning, shown_code = _read_code(code, message, 400)
    return _mapped(meaning, secret_id, code=shown_code).error


def malformed_response(secret_id: str | None) -> errors.SecretCacheError:
    """Return the error for a response that isn't valid, or isn't for this request.

    Raise it outside of any ``except`` block: a ``__context__`` might hold the response.
    """
    return _mapped(meanings.MALFORMED, secret_id).error


def _read_code(code: object, message: object, status: int) -> tuple[Meaning, str | None]:
    """Return what one of AWS's error codes means, and the code if it may be shown.

    Args:
        code: the code, or whatever stands in its place in the response.
        message: AWS's message. It is only searched for a word and never shown, because it may be part of a malformed
            response.
        status: the HTTP status.
    """
    if isinstance(code, str) and code in meanings.CODES:
        return _by_message(meanings.CODES[code], code, message if isinstance(message, str) else ""), code
    if status == 429:
        return meanings.THROTTLED, None
    if 400 <= status < 500 and isinstance(code, str) and re.fullmatch(_CODE_PATTERN, code):
        return meanings.REFUSED, code
    return meanings.UNAVAILABLE if status >= 500 else meanings.MALFORMED, None


def _by_message(meaning: Meaning, code: str, message: str) -> Meaning:
    """Return what a code means where only AWS's message tells that."""
    if code == "InvalidRequestException" and "delet" in message.lower():
        return meanings.DELETED
    if meaning == meanings.DENIED and re.search(r"Access to KMS|\bkms:[A-Z]", message):
        return meanings.NOT_DECRYPTED
    if meaning == meanings.BAD_KEYS and re.search(r"Signature (expired|not yet current)", message):
        return meanings.CLOCK
    return meaning


def _from_client_error(exc: BaseException, secret_id: str | None) -> MappedError:
    response = getattr(exc, "response", None)
    error, metadata = _mapping(response, "Error"), _mapping(response, "ResponseMetadata")
    # The SDK reads the request's id from a body that it can read.
    headers = _mapping(metadata, "HTTPHeaders")
    status, request_id = metadata.get("HTTPStatusCode"), metadata.get("RequestId") or headers.get("x-amzn-requestid")
    if not isinstance(status, int):
        status = 0
    if not (isinstance(request_id, str) and re.fullmatch(_REQUEST_ID_PATTERN, request_id)):
        request_id = None
    meaning, code = _read_code(error.get("Code"), error.get("Message"), status)
    operation = getattr(exc, "operation_name", "")
    if operation == "BatchGetSecretValue":
        meaning = meanings.IN_BATCH.get(meaning, meaning)
    elif operation != "GetSecretValue":
        meaning = _of_sts(meaning, error.get("Code"), status)
    # A code that isn't known may be part of a malformed response.
    is_chainable = code in meanings.CODES
    if is_chainable:
        _remove_tracebacks(exc)
    return _mapped(meaning, secret_id, is_chainable=is_chainable, code=code, request_id=request_id)


def _of_sts(meaning: Meaning, code: object, status: int) -> Meaning:
    """Return what an error means of a call of STS or single sign-on, which gets credentials."""
    if code in meanings.STS_UNAVAILABLE_CODES:
        return meanings.STS_UNAVAILABLE
    # With a 4xx status, a code of STS's own, such as InvalidIdentityToken, is a refusal.
    if meaning == meanings.MALFORMED and not 400 <= status < 500:
        return meanings.MALFORMED
    return meanings.OF_STS.get(meaning, meanings.ROLE_REFUSED)


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _mapped(
    meaning: Meaning, secret_id: str | None, *, is_chainable: bool = False, reason: str | None = None, **aws: str | None
) -> MappedError:
    """Make the error.

    Args:
        meaning: its class and text.
        secret_id: the secret, or None.
        is_chainable: see MappedError.
        reason: what else is known.
        aws: AWS's code and request_id.
    """
    kind, text = meaning
    subject = "Secrets Manager" if secret_id is None else f"secret {secret_id!r}"
    if meaning in (meanings.TIMEOUT, meanings.CONNECTION):
        text += network_hint()
    request = f"request {aws['request_id']}" if aws.get("request_id") else None
    details = ", ".join(detail for detail in (aws.get("code"), request, reason) if detail)
    message = f"{subject}: {text}" + (f" ({details})" if details else "")
    return MappedError(kind(message, secret_id=secret_id, **aws), is_chainable, meaning in meanings.RENEWABLE)


def _remove_tracebacks(exc: BaseException) -> None:
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
