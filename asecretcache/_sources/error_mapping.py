"""Maps exceptions of botocore and of the direct client, and AWS's error codes, to this package's errors.

Exceptions are recognised by the names of their classes. So nothing of botocore is imported, an error can be mapped even
if the SDK's import failed halfway, and it does no harm if a version of botocore lacks one of the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from asecretcache import _exceptions as errors
from asecretcache._sources.retry_quota import THROTTLING_CODES


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


# What a code or an exception means: the class and the text of an error.
_Meaning = tuple[type[errors.SecretCacheError], str]

_NOT_FOUND = errors.SecretNotFoundError, "there is no such secret or version in this account and region"
_DELETED = errors.SecretNotFoundError, "it is marked for deletion: restore it, or ask for another secret"
_DENIED = errors.SecretAccessDeniedError, "access denied: allow secretsmanager:GetSecretValue on it"
_BATCH_DENIED = errors.SecretAccessDeniedError, "access denied: allow secretsmanager:BatchGetSecretValue as well"
_NOT_DECRYPTED = errors.SecretDecryptionError, "it can't be decrypted: check its KMS key and allow kms:Decrypt"
_THROTTLED = errors.SecretThrottledError, "throttled: too many calls to Secrets Manager"
_REFUSED = errors.SecretCacheError, "Secrets Manager refused the call"
_BATCH_REFUSED = errors.SecretCacheError, "Secrets Manager refused the batch"

_UNAVAILABLE = errors.SecretUnavailableError, "Secrets Manager is unavailable at present"
_MALFORMED = errors.SecretUnavailableError, "malformed response: if it goes on, check the endpoint and any proxy"
_TIMEOUT = errors.SecretUnavailableError, "the connection to Secrets Manager timed out: check network and endpoint"
_CONNECTION = errors.SecretUnavailableError, "no connection to Secrets Manager: check network, endpoint and proxy"

_EXPIRED = errors.CredentialsError, "the credentials have expired: renew them, and check the system's clock"
_MISSING = errors.CredentialsError, "no credentials: give a role, profile, or AWS_ACCESS_KEY_ID and its secret key"
_NOT_RETRIEVED = errors.CredentialsError, "the credentials could not be retrieved: check the role, endpoint or command"
_SSO_ENDED = errors.CredentialsError, "the single sign-on session has ended: run aws sso login"
_RENEWABLE: Final = (_EXPIRED, _MISSING, _NOT_RETRIEVED, _SSO_ENDED)
_BAD_KEYS = errors.CredentialsError, "AWS refused the credentials: check the access key, secret key and session token"
_ROLE_REFUSED = errors.CredentialsError, "the credentials were refused when assuming a role: check the role's policies"

_ARGUMENTS = errors.ConfigurationError, "wrong arguments: check the secret id, version stage and version id"
_NO_REGION = errors.ConfigurationError, "no region: set AWS_DEFAULT_REGION or give region_name="
_PROFILE = errors.ConfigurationError, "the AWS profile or config file can't be used: check AWS_PROFILE and the file"
_ENDPOINT = errors.ConfigurationError, "bad region or endpoint: check region_name=, endpoint_url= and AWS_* variables"
_PROXY = errors.ConfigurationError, "the proxy settings are not valid: check HTTPS_PROXY and proxies_config"
_SETTINGS = errors.ConfigurationError, "a setting of the AWS SDK is not valid: check config= and AWS_* variables"


def _by_name(*rows: tuple[_Meaning, str]) -> dict[str, _Meaning]:
    return {name: meaning for meaning, names in rows for name in names.split()}


# From API_GetSecretValue.html and CommonErrors.html in
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/
_CODES: Final = _by_name(
    (_NOT_FOUND, "ResourceNotFoundException"),
    (_REFUSED, "InvalidRequestException"),
    (_DENIED, "AccessDeniedException AccessDenied"),
    (_NOT_DECRYPTED, "DecryptionFailure"),
    (_THROTTLED, " ".join(THROTTLING_CODES)),
    (_UNAVAILABLE, "InternalServiceError InternalServiceErrorException InternalFailure InternalServerError"),
    (
        _UNAVAILABLE,
        "InternalError ServiceUnavailable ServiceUnavailableException RequestTimeout RequestTimeoutException",
    ),
    (_EXPIRED, "ExpiredToken ExpiredTokenException RequestExpired RequestTimeTooSkewed"),
    (_BAD_KEYS, "UnrecognizedClientException InvalidClientTokenId InvalidSignatureException SignatureDoesNotMatch"),
    (_BAD_KEYS, "IncompleteSignature IncompleteSignatureException MissingAuthenticationToken"),
    (_BAD_KEYS, "MissingAuthenticationTokenException NotAuthorized OptInRequired AuthFailure"),
    (_ARGUMENTS, "InvalidParameterException InvalidParameterValue InvalidParameterCombination InvalidAction"),
    (
        _ARGUMENTS,
        "ValidationException ValidationError MissingParameter UnknownOperationException SerializationException",
    ),
)
# What some of them mean of a batch: the arguments of its call may be wrong though those of each secret are right.
_IN_BATCH: Final = {_DENIED: _BATCH_DENIED, _ARGUMENTS: _BATCH_REFUSED}
# botocore's exceptions that quote nothing secret, so they can be shown as the cause.
_CHAINABLE: Final = _by_name(
    (_MISSING, "NoCredentialsError PartialCredentialsError NoAuthTokenError"),
    (_NO_REGION, "NoRegionError"),
    (_PROFILE, "ProfileNotFound ConfigNotFound InfiniteLoopConfigError"),
    (_SSO_ENDED, "UnauthorizedSSOTokenError SSOTokenLoadError"),
    (_ENDPOINT, "InvalidRegionError UnknownEndpointError UnknownRegionError EndpointVariantError"),
    (_ENDPOINT, "EndpointResolutionError"),
    (_ARGUMENTS, "ParamValidationError"),
    (_TIMEOUT, "ReadTimeoutError ConnectTimeoutError"),
    (_CONNECTION, "EndpointConnectionError SSLError"),
)
# Those whose text or context may quote a line of the credentials file, a response, or the password in a proxy's URL.
_NOT_CHAINABLE: Final = _by_name(
    (_PROFILE, "ConfigParseError InvalidConfigError"),
    (_PROXY, "InvalidProxiesConfigError"),
    (_SETTINGS, "InvalidRetryConfigurationError InvalidDefaultsMode UnknownCredentialError MissingDependencyException"),
    (_SETTINGS, "RefreshWithMFAUnsupportedError InvalidEndpointConfigurationError InvalidIMDSEndpointError"),
    (_SETTINGS, "InvalidIMDSEndpointModeError"),
    (_NOT_RETRIEVED, "CredentialRetrievalError MetadataRetrievalError TokenRetrievalError"),
    (_CONNECTION, "HTTPClientError ConnectionError ProxyConnectionError ConnectionClosedError"),
)

_PACKAGES: Final = ("botocore", "aiobotocore", "boto3", "asecretcache")
# Not compiled at import: most starts see no error.
_CODE_PATTERN: Final = r"[A-Z][A-Za-z]{2,60}(?:Exception|Error|Failure|Fault)"
_REQUEST_ID_PATTERN: Final = r"[0-9A-Za-z-]{8,64}"


def to_error(exc: BaseException, secret_id: str | None) -> MappedError:
    """Return the error for an exception that a client raised.

    An exception that may be the error's cause loses its tracebacks, because the SDK's frames hold the session token.
    """
    # The names of the classes that the SDK or the direct client defines, the most special first.
    names = [kind.__name__ for kind in type(exc).__mro__ if kind.__module__.partition(".")[0] in _PACKAGES]
    if "ClientError" in names:
        return _from_client_error(exc, secret_id)
    for name in names:
        if name in _CHAINABLE:
            _remove_tracebacks(exc)
            return _mapped(_CHAINABLE[name], secret_id, is_chainable=True)
        if name in _NOT_CHAINABLE:
            return _mapped(_NOT_CHAINABLE[name], secret_id)
    if isinstance(exc, ValueError) and str(exc).startswith("Invalid endpoint"):
        return _mapped(_ENDPOINT, secret_id)
    # The SDK's parsers raise AttributeError, UnicodeDecodeError and others, which hold the response.
    return _mapped(_MALFORMED, secret_id)


def to_code_error(code: object, message: object, secret_id: str) -> errors.SecretCacheError:
    """Return the error for the code that a batch has for one of its secrets; see ``_read_code``."""
    meaning, shown_code = _read_code(code, message, 400)
    return _mapped(meaning, secret_id, code=shown_code).error


def malformed_response(secret_id: str | None) -> errors.SecretCacheError:
    """Return the error for a response that isn't valid, or isn't for this request.

    Raise it outside of any ``except`` block: a ``__context__`` might hold the response.
    """
    return _mapped(_MALFORMED, secret_id).error


def _read_code(code: object, message: object, status: int) -> tuple[_Meaning, str | None]:
    """Return what one of AWS's error codes means, and the code if it may be shown.

    Args:
        code: the code, or whatever stands in its place in the response.
        message: AWS's message. It is only searched for a word and never shown, because it may be part of a malformed
            response.
        status: the HTTP status.
    """
    if isinstance(code, str) and code in _CODES:
        is_deleted = code == "InvalidRequestException" and isinstance(message, str) and "delet" in message.lower()
        return _DELETED if is_deleted else _CODES[code], code
    if status == 429:
        return _THROTTLED, None
    if 400 <= status < 500 and isinstance(code, str) and re.fullmatch(_CODE_PATTERN, code):
        return _REFUSED, code
    return _UNAVAILABLE if status >= 500 else _MALFORMED, None


def _from_client_error(exc: BaseException, secret_id: str | None) -> MappedError:
    response = getattr(exc, "response", None)
    error, metadata = _mapping(response, "Error"), _mapping(response, "ResponseMetadata")
    status, request_id = metadata.get("HTTPStatusCode"), metadata.get("RequestId")
    if not isinstance(status, int):
        status = 0
    if not (isinstance(request_id, str) and re.fullmatch(_REQUEST_ID_PATTERN, request_id)):
        request_id = None
    meaning, code = _read_code(error.get("Code"), error.get("Message"), status)
    operation = getattr(exc, "operation_name", "")
    if operation == "BatchGetSecretValue":
        meaning = _IN_BATCH.get(meaning, meaning)
    elif operation != "GetSecretValue" and _refuses_role(meaning, status):
        meaning = _ROLE_REFUSED
    # A code that isn't known may be part of a malformed response.
    is_chainable = code in _CODES
    if is_chainable:
        _remove_tracebacks(exc)
    return _mapped(meaning, secret_id, is_chainable=is_chainable, code=code, request_id=request_id)


def _refuses_role(meaning: _Meaning, status: int) -> bool:
    """Whether an error of a call of STS or single sign-on is about the credentials, which it is if it doesn't pass."""
    # With a 4xx status, a code of STS's own, such as InvalidIdentityToken, is a refusal.
    if meaning == _MALFORMED:
        return 400 <= status < 500
    return meaning not in (_THROTTLED, _UNAVAILABLE, _EXPIRED)


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _mapped(meaning: _Meaning, secret_id: str | None, *, is_chainable: bool = False, **aws: str | None) -> MappedError:
    """Make the error; ``aws`` may have a code and a request_id."""
    kind, text = meaning
    subject = "Secrets Manager" if secret_id is None else f"secret {secret_id!r}"
    request = f"request {aws['request_id']}" if aws.get("request_id") else None
    details = ", ".join(detail for detail in (aws.get("code"), request) if detail)
    message = f"{subject}: {text}" + (f" ({details})" if details else "")
    return MappedError(kind(message, secret_id=secret_id, **aws), is_chainable, meaning in _RENEWABLE)


def _remove_tracebacks(exc: BaseException) -> None:
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
