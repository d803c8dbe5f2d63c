"""What AWS's error codes and the exceptions of botocore and of the direct client mean: tables."""

from __future__ import annotations

from typing import Final

from asecretcache import _exceptions as errors
from asecretcache._sources.retry_quota import THROTTLING_CODES

# What a code or an exception means: the class and the text of an error.
Meaning = tuple[type[errors.SecretCacheError], str]

NOT_FOUND = errors.SecretNotFoundError, "there is no such secret or version in this account and region"
DELETED = errors.SecretNotFoundError, "it is marked for deletion: restore it, or ask for another secret"
DENIED = errors.SecretAccessDeniedError, "access denied: allow secretsmanager:GetSecretValue on it"
BATCH_DENIED = (
    errors.SecretAccessDeniedError,
    'access denied: allow secretsmanager:BatchGetSecretValue as well, which takes the Resource "*" only',
)
NOT_DECRYPTED = errors.SecretDecryptionError, "it can't be decrypted: check its KMS key and allow kms:Decrypt"
THROTTLED = errors.SecretThrottledError, "throttled: too many calls to Secrets Manager"
REFUSED = errors.SecretCacheError, "Secrets Manager refused the call"
BATCH_REFUSED = errors.SecretCacheError, "Secrets Manager refused the batch"

UNAVAILABLE = errors.SecretUnavailableError, "Secrets Manager is unavailable at present"
MALFORMED = errors.SecretUnavailableError, "malformed response: if it goes on, check the endpoint and any proxy"
TIMEOUT = errors.SecretUnavailableError, "the connection to Secrets Manager timed out: check network and endpoint"
CONNECTION = errors.SecretUnavailableError, "no connection to Secrets Manager: check network, endpoint and proxy"

CLOCK = errors.SecretUnavailableError, "AWS refused the time of the signature: set the system's clock"

EXPIRED = errors.CredentialsError, "the credentials have expired: renew them"
MISSING = errors.CredentialsError, "no credentials: give a role, profile, or AWS_ACCESS_KEY_ID and its secret key"
NOT_RETRIEVED = errors.CredentialsError, "the credentials could not be retrieved: check the role, endpoint or command"
SSO_ENDED = errors.CredentialsError, "the single sign-on session has ended: run aws sso login"
STS_THROTTLED = errors.SecretThrottledError, "no credentials: the service that gives them throttles the calls"
STS_UNAVAILABLE = errors.SecretUnavailableError, "no credentials: the service that gives them is unavailable"
NO_FILE = errors.CredentialsError, "a file or command that the AWS settings name can't be used"
RENEWABLE: Final = (EXPIRED, MISSING, NOT_RETRIEVED, SSO_ENDED, NO_FILE)
BAD_KEYS = errors.CredentialsError, "AWS refused the credentials: check the access key, secret key and session token"
ROLE_REFUSED = errors.CredentialsError, "the credentials were refused when assuming a role: check the role's policies"

ARGUMENTS = errors.ConfigurationError, "wrong arguments: check the secret id, version stage and version id"
NO_REGION = errors.ConfigurationError, "no region: set AWS_DEFAULT_REGION or give region_name="
PROFILE = errors.ConfigurationError, "the AWS profile or config file can't be used: check AWS_PROFILE and the file"
ENDPOINT = errors.ConfigurationError, "bad region or endpoint: check region_name=, endpoint_url= and AWS_* variables"
PROXY = errors.ConfigurationError, "the proxy settings are not valid: check HTTPS_PROXY and proxies_config"
SETTINGS = errors.ConfigurationError, "a setting of the AWS SDK is not valid: check config= and AWS_* variables"
NOT_IMPORTED = (
    errors.ConfigurationError,
    "the AWS SDK can't be imported: install aioboto3, with all that it needs, for this Python and architecture",
)
UNKNOWN = errors.ConfigurationError, "the call failed on this side: check the AWS settings and the installation"


def _by_name(*rows: tuple[Meaning, str]) -> dict[str, Meaning]:
    return {name: meaning for meaning, names in rows for name in names.split()}


# From API_GetSecretValue.html and CommonErrors.html in
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/
CODES: Final = _by_name(
    (NOT_FOUND, "ResourceNotFoundException"),
    (REFUSED, "InvalidRequestException"),
    (DENIED, "AccessDeniedException AccessDenied"),
    (NOT_DECRYPTED, "DecryptionFailure"),
    (THROTTLED, " ".join(THROTTLING_CODES)),
    (UNAVAILABLE, "InternalServiceError InternalServiceErrorException InternalFailure InternalServerError"),
    (
        UNAVAILABLE,
        "InternalError ServiceUnavailable ServiceUnavailableException RequestTimeout RequestTimeoutException",
    ),
    (EXPIRED, "ExpiredToken ExpiredTokenException"),
    (CLOCK, "RequestExpired RequestTimeTooSkewed"),
    (BAD_KEYS, "UnrecognizedClientException InvalidClientTokenId InvalidSignatureException SignatureDoesNotMatch"),
    (BAD_KEYS, "IncompleteSignature IncompleteSignatureException MissingAuthenticationToken"),
    (BAD_KEYS, "MissingAuthenticationTokenException NotAuthorized OptInRequired AuthFailure"),
    (ARGUMENTS, "InvalidParameterException InvalidParameterValue InvalidParameterCombination InvalidAction"),
    (
        ARGUMENTS,
        "ValidationException ValidationError MissingParameter UnknownOperationException SerializationException",
    ),
)
# What some of them mean of a batch: the arguments of its call may be wrong though those of each secret are right.
IN_BATCH: Final = {DENIED: BATCH_DENIED, ARGUMENTS: BATCH_REFUSED}
# What they mean of a call that gets credentials.
OF_STS: Final = {THROTTLED: STS_THROTTLED, UNAVAILABLE: STS_UNAVAILABLE, EXPIRED: EXPIRED, CLOCK: CLOCK}
STS_UNAVAILABLE_CODES: Final = ("IDPCommunicationError",)
# botocore's exceptions that quote nothing secret, so they can be shown as the cause.
CHAINABLE: Final = _by_name(
    (MISSING, "NoCredentialsError PartialCredentialsError NoAuthTokenError"),
    (NO_REGION, "NoRegionError"),
    (PROFILE, "ProfileNotFound ConfigNotFound InfiniteLoopConfigError"),
    (SSO_ENDED, "UnauthorizedSSOTokenError SSOTokenLoadError"),
    (ENDPOINT, "InvalidRegionError UnknownEndpointError UnknownRegionError EndpointVariantError"),
    (ENDPOINT, "EndpointResolutionError"),
    (ARGUMENTS, "ParamValidationError"),
    (TIMEOUT, "ReadTimeoutError ConnectTimeoutError"),
    (CONNECTION, "EndpointConnectionError SSLError"),
)
# Of these, those whose text names what is wrong: a profile, a variable, a region.
TELLING: Final = ("PartialCredentialsError", "ProfileNotFound", "InvalidRegionError")
# Those whose text or context may quote a line of the credentials file, a response, or the password in a proxy's URL.
NOT_CHAINABLE: Final = _by_name(
    (PROFILE, "ConfigParseError InvalidConfigError"),
    (PROXY, "InvalidProxiesConfigError"),
    (SETTINGS, "InvalidRetryConfigurationError InvalidDefaultsMode UnknownCredentialError MissingDependencyException"),
    (SETTINGS, "RefreshWithMFAUnsupportedError InvalidEndpointConfigurationError InvalidIMDSEndpointError"),
    (SETTINGS, "InvalidIMDSEndpointModeError"),
    (NOT_RETRIEVED, "CredentialRetrievalError MetadataRetrievalError TokenRetrievalError"),
    (MALFORMED, "ResponseParserError"),
    (CONNECTION, "HTTPClientError ConnectionError ProxyConnectionError ConnectionClosedError"),
)
