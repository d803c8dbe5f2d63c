"""The one mapper: from what botocore, or our own client, raises and returns to our errors and records.

Nothing here imports botocore: its exceptions are told by the names of their classes, so an error can be mapped
however far the import got, and a name that a version of botocore lacks does no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from asecretcache._exceptions import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._models import ARN_SUFFIX, Secret, SecretRequest


class _Meaning(NamedTuple):
    error: type[SecretCacheError]
    remedy: str


_MISSING = _Meaning(SecretNotFoundError, "there is no such secret or version in this account and region")
_DELETED = _Meaning(SecretNotFoundError, "it is marked for deletion: restore it or ask for another")
_DENIED = _Meaning(SecretAccessDeniedError, "access denied: allow secretsmanager:GetSecretValue on it")
_BATCH_DENIED = _Meaning(
    SecretAccessDeniedError,
    "access denied: allow secretsmanager:BatchGetSecretValue besides GetSecretValue",
)
_BATCH_REFUSED = _Meaning(SecretCacheError, "Secrets Manager refused the batch")
_ENCRYPTED = _Meaning(SecretDecryptionError, "it can't be decrypted: check its KMS key and allow kms:Decrypt")
_THROTTLED = _Meaning(SecretThrottledError, "too many calls: Secrets Manager throttles")
_DOWN = _Meaning(SecretUnavailableError, "Secrets Manager can't answer now")
_NONSENSE = _Meaning(SecretUnavailableError, "an answer that makes no sense")
_OTHER = _Meaning(SecretCacheError, "Secrets Manager refused the call")
_EXPIRED = _Meaning(ConfigurationError, "the credentials have expired: renew them, and check the clock")
_CREDENTIALS = _Meaning(ConfigurationError, "the credentials are not valid: check the access key and session token")
_ARGUMENTS = _Meaning(ConfigurationError, "wrong arguments: check the secret id, version stage and version id")
_ROLE = _Meaning(ConfigurationError, "the credentials were refused while a role was assumed: check its policies")
_NO_REGION = _Meaning(ConfigurationError, "no region: set AWS_DEFAULT_REGION or give region_name=")
_NO_CREDENTIALS = _Meaning(
    ConfigurationError, "no credentials: give the process a role, a profile or AWS_ACCESS_KEY_ID"
)
_PROFILE = _Meaning(ConfigurationError, "the AWS profile or configuration file can't be used: check AWS_PROFILE and it")
_SSO = _Meaning(ConfigurationError, "the single sign-on session has ended: run aws sso login")
_ENDPOINT = _Meaning(
    ConfigurationError, "the region or endpoint is not valid: check region_name=, endpoint_url= and AWS_*"
)
_PROXY = _Meaning(ConfigurationError, "the proxy settings are not valid: check HTTPS_PROXY and proxies_config")
_SETTINGS = _Meaning(ConfigurationError, "a setting of the AWS SDK is not valid: check config= and the AWS_* variables")
_NO_SOURCE = _Meaning(SecretUnavailableError, "the credentials could not be retrieved now")
_TIMEOUT = _Meaning(SecretUnavailableError, "timed out on the way to Secrets Manager")
_CONNECTION = _Meaning(SecretUnavailableError, "no connection to Secrets Manager: check network, endpoint and proxy")

_STALE_CREDENTIALS: Final = "ExpiredToken ExpiredTokenException RequestExpired RequestTimeTooSkewed"
_BAD_CREDENTIALS: Final = (
    "UnrecognizedClientException InvalidClientTokenId InvalidSignatureException SignatureDoesNotMatch "
    "MissingAuthenticationToken MissingAuthenticationTokenException IncompleteSignature IncompleteSignatureException "
    "NotAuthorized OptInRequired AuthFailure"
)
_TOO_MANY: Final = (
    "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException "
    "TooManyRequestsException RequestLimitExceeded LimitExceededException SlowDown BandwidthLimitExceeded "
    "ProvisionedThroughputExceededException"
)
_INTERNAL: Final = (
    "InternalServiceError InternalServiceErrorException InternalFailure InternalServerError InternalError "
    "ServiceUnavailable ServiceUnavailableException RequestTimeout RequestTimeoutException"
)
_WRONG_CALL: Final = (
    "InvalidParameterException ValidationException ValidationError InvalidParameterValue InvalidParameterCombination "
    "MissingParameter InvalidAction UnknownOperationException SerializationException"
)


def _spread(*groups: tuple[str, _Meaning]) -> dict[str, _Meaning]:
    return {name: meaning for names, meaning in groups for name in names.split()}


# AWS's codes, from API_GetSecretValue.html and CommonErrors.html in
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/
_CODES: Final = _spread(
    ("ResourceNotFoundException", _MISSING),
    ("InvalidRequestException", _OTHER),
    ("AccessDeniedException AccessDenied", _DENIED),
    ("DecryptionFailure", _ENCRYPTED),
    (_TOO_MANY, _THROTTLED),
    (_INTERNAL, _DOWN),
    (_STALE_CREDENTIALS, _EXPIRED),
    (_BAD_CREDENTIALS, _CREDENTIALS),
    (_WRONG_CALL, _ARGUMENTS),
)

# botocore's exceptions that say nothing of an answer, so they can be shown as the cause.
_TELLABLE: Final = _spread(
    ("NoCredentialsError PartialCredentialsError NoAuthTokenError", _NO_CREDENTIALS),
    ("NoRegionError", _NO_REGION),
    ("ProfileNotFound ConfigNotFound InfiniteLoopConfigError", _PROFILE),
    ("UnauthorizedSSOTokenError SSOTokenLoadError", _SSO),
    (
        "InvalidRegionError UnknownEndpointError UnknownRegionError EndpointVariantError EndpointResolutionError",
        _ENDPOINT,
    ),
    ("ParamValidationError", _ARGUMENTS),
    ("ReadTimeoutError ConnectTimeoutError", _TIMEOUT),
    ("EndpointConnectionError SSLError", _CONNECTION),
)
# Those whose text or context may quote a file, an answer or a password: a broken line of the credentials file, a
# status line, a proxy's URL.
_UNTELLABLE: Final = _spread(
    ("ConfigParseError InvalidConfigError", _PROFILE),
    ("InvalidProxiesConfigError", _PROXY),
    (
        (
            "InvalidRetryConfigurationError InvalidDefaultsMode UnknownCredentialError MissingDependencyException "
            "InvalidEndpointConfigurationError InvalidIMDSEndpointError InvalidIMDSEndpointModeError "
            "RefreshWithMFAUnsupportedError"
        ),
        _SETTINGS,
    ),
    ("CredentialRetrievalError MetadataRetrievalError TokenRetrievalError", _NO_SOURCE),
    ("HTTPClientError ConnectionError ProxyConnectionError ConnectionClosedError", _CONNECTION),
)

_NAMERS: Final = ("botocore", "aiobotocore", "boto3", "asecretcache")
# Compiled when there is an error to tell, which isn't at every start.
_CODE_SHAPE: Final = r"[A-Z][A-Za-z]{2,60}(?:Exception|Error|Failure|Fault)"
_REQUEST_ID_SHAPE: Final = r"[0-9A-Za-z-]{8,64}"
_OURS: Final = ("GetSecretValue", "BatchGetSecretValue")
_TOO_MANY_STATUS: Final = 429
_EARLIEST, _LATEST = -6e10, 2.5e11  # Of all years that a datetime can have, but for the first and last few.


def to_error(exc: BaseException, secret_id: str | None) -> tuple[SecretCacheError, bool]:
    """Return the error that stands for what the SDK raised, and whether that may be shown as its cause.

    Where it may, its tracebacks are taken off: the SDK's frames hold the request's session token.
    """
    if _is_client_error(exc):
        return _from_client_error(exc, secret_id)
    for name in _botocore_names(exc):
        if name in _TELLABLE:
            _strip(exc)
            return _make(_TELLABLE[name], secret_id), True
        if name in _UNTELLABLE:
            return _make(_UNTELLABLE[name], secret_id), False
    if isinstance(exc, ValueError) and str(exc).startswith("Invalid endpoint"):
        return _make(_ENDPOINT, secret_id), False
    # The parsers let AttributeError, UnicodeDecodeError and the like out, which hold the answer.
    return nonsense(secret_id), False


def to_code_error(
    code: object, message: object, secret_id: str | None, request_id: str | None = None, status: int = 400
) -> tuple[SecretCacheError, bool]:
    """Return the error for one of AWS's codes, and whether the code is a known one.

    The message is only asked whether it speaks of deletion: it never gets into ours, for it may be a malformed body.
    """
    meaning = _CODES.get(code) if isinstance(code, str) else None
    if isinstance(code, str) and meaning is not None:
        if code == "InvalidRequestException" and isinstance(message, str) and "delet" in message.lower():
            meaning = _DELETED
        return _make(meaning, secret_id, code, request_id), True
    if status == _TOO_MANY_STATUS:
        return _make(_THROTTLED, secret_id, None, request_id), False
    if 400 <= status < 500 and isinstance(code, str) and re.fullmatch(_CODE_SHAPE, code):  # HTTP's classes
        return _make(_OTHER, secret_id, code, request_id), False
    return _make(_DOWN if status >= 500 else _NONSENSE, secret_id, None, request_id), False


def nonsense(secret_id: str | None) -> SecretUnavailableError:
    """Return the error for an answer that makes no sense; raise it where no ``except`` block is open."""
    return SecretUnavailableError(_text(_NONSENSE, secret_id, None, None), secret_id=secret_id)


def to_secret(response: object, request: SecretRequest | None) -> Secret | None:
    """Return the record that an answer holds, or None where it makes no sense or answers another question.

    It never raises: the answer is a local of its frame.
    """
    if not isinstance(response, Mapping):
        return None
    name, arn, version_id = (response.get(field) for field in ("Name", "ARN", "VersionId"))
    stages, created = response.get("VersionStages"), response.get("CreatedDate")
    text, data = response.get("SecretString"), response.get("SecretBinary")
    if not (
        isinstance(name, str) and isinstance(arn, str) and isinstance(version_id, str) and name and arn and version_id
    ):
        return None
    if not (isinstance(text, str) and data is None) and not (isinstance(data, bytes) and text is None):
        return None
    stages = [] if stages is None else stages
    if not isinstance(stages, list) or not all(isinstance(stage, str) for stage in stages):
        return None
    if not (created is None or _is_date(created)):
        return None
    if request is not None and not _answers(request, name, arn, version_id):
        return None
    return Secret(
        name=name,
        arn=arn,
        version_id=version_id,
        version_stages=tuple(stages),
        created_date=created,
        secret_string=text,
        secret_binary=data,
    )


def _is_date(created: object) -> bool:
    """Whether this is a date: the SDK's, or as it was sent, seconds since the epoch for which there is one."""
    if isinstance(created, int | float):
        return _EARLIEST < created < _LATEST
    from datetime import datetime  # The SDK, whose date it may be, has imported it.

    return isinstance(created, datetime)


def to_batch(pages: Iterable[object], secret_ids: Sequence[str]) -> dict[str, Secret | SecretCacheError] | None:
    """Return what the answers to a batch hold for each id, as far as they do, or None where they make no sense.

    They name secrets by ARN and name, not by the id that was asked for. ARNs are matched first: a name means a secret
    of the caller's own account, and another account's secret, asked for by its ARN, may have the same name.
    """
    secrets: list[Secret] = []
    outcomes: dict[str, Secret | SecretCacheError] = {}
    for page in pages:
        values = page.get("SecretValues") if isinstance(page, Mapping) else None
        errors = page.get("Errors") if isinstance(page, Mapping) else None
        secrets += filter(None, (to_secret(value, None) for value in (values if isinstance(values, list) else ())))
        for error in errors if isinstance(errors, list) else ():
            secret_id, code, message = (_text_in(error, field) for field in ("SecretId", "ErrorCode", "Message"))
            if secret_id in secret_ids:
                outcomes[secret_id] = to_code_error(code, message, secret_id)[0]
    for secret_id in sorted(secret_ids, key=lambda secret_id: not secret_id.startswith("arn:")):
        found = next((secret for secret in secrets if _is_named(secret_id, secret.name, secret.arn)), None)
        if found is not None and secret_id not in outcomes:
            secrets.remove(found)
            outcomes[secret_id] = found
    return outcomes or None


def _text_in(entry: object, field: str) -> str:
    value = entry.get(field) if isinstance(entry, Mapping) else None
    return value if isinstance(value, str) else ""


def _answers(request: SecretRequest, name: str, arn: str, version_id: str) -> bool:
    return request.version_id in (None, version_id) and _is_named(request.secret_id, name, arn)


def _is_named(secret_id: str, name: str, arn: str) -> bool:
    # A partial ARN lacks the hyphen and the random characters at the end.
    return secret_id in (arn, arn[:-ARN_SUFFIX]) if secret_id.startswith("arn:") else name == secret_id


def _from_client_error(exc: BaseException, secret_id: str | None) -> tuple[SecretCacheError, bool]:
    response = getattr(exc, "response", None)
    error = _mapping(response, "Error")
    metadata = _mapping(response, "ResponseMetadata")
    code, status, request_id = error.get("Code"), metadata.get("HTTPStatusCode"), metadata.get("RequestId")
    if not (isinstance(request_id, str) and re.fullmatch(_REQUEST_ID_SHAPE, request_id)):
        request_id = None
    mapped, known = to_code_error(
        code, error.get("Message"), secret_id, request_id, status if isinstance(status, int) else 0
    )
    if known:
        _strip(exc)
    if getattr(exc, "operation_name", "") == "BatchGetSecretValue":
        # What is wrong with the call as a whole need not be wrong with any of its secrets.
        if isinstance(mapped, SecretAccessDeniedError):
            mapped = _make(_BATCH_DENIED, secret_id, mapped.code, request_id)
        elif code in _CODES and _CODES[code] is _ARGUMENTS:
            mapped = _make(_BATCH_REFUSED, secret_id, mapped.code, request_id)
    # A refusal by STS or single sign-on is about the credentials, not about the secret.
    if getattr(exc, "operation_name", "") not in _OURS and not isinstance(
        mapped, SecretUnavailableError | SecretThrottledError
    ):
        mapped = _make(_ROLE, secret_id, mapped.code, request_id)
    return mapped, known


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _make(
    meaning: _Meaning, secret_id: str | None, code: str | None = None, request_id: str | None = None
) -> SecretCacheError:
    message = _text(meaning, secret_id, code, request_id)
    return meaning.error(message, secret_id=secret_id, code=code, request_id=request_id)


def _text(meaning: _Meaning, secret_id: str | None, code: str | None, request_id: str | None) -> str:
    subject = "Secrets Manager" if secret_id is None else f"secret {secret_id!r}"
    details = ", ".join(detail for detail in (code, request_id and f"request {request_id}") if detail)
    return f"{subject}: {meaning.remedy}" + (f" ({details})" if details else "")


def _botocore_names(exc: BaseException) -> Iterator[str]:
    """Yield the names of the classes that the SDK or our own client gave it, the most special first."""
    for kind in type(exc).__mro__:
        if kind.__module__.partition(".")[0] in _NAMERS:
            yield kind.__name__


def _is_client_error(exc: BaseException) -> bool:
    return "ClientError" in _botocore_names(exc)


def _strip(exc: BaseException) -> None:
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
