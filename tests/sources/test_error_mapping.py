"""Exceptions of botocore, and error codes of AWS, as errors of this package."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as sdk

from asecretcache import (
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._sources.error_mapping import malformed_response, to_code_error, to_error
from asecretcache._sources.retry_quota import THROTTLING_CODES
from source_helpers import CANARY

MALFORMED = "malformed response: if it goes on, check the endpoint and any proxy"
PROFILE = "the AWS profile or config file can't be used"
ENDPOINT = "bad region or endpoint"
TIMED_OUT = "the connection to Secrets Manager timed out"


def client_error(
    code: Any, status: Any = 400, message: Any = CANARY, operation: str = "GetSecretValue"
) -> sdk.ClientError:
    """An error as botocore makes it of a response."""
    metadata = {"HTTPStatusCode": status, "RequestId": "12345678-aaaa"}
    return sdk.ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, operation)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ResourceNotFoundException", SecretNotFoundError),
        ("AccessDeniedException", SecretAccessDeniedError),
        ("AccessDenied", SecretAccessDeniedError),
        ("DecryptionFailure", SecretDecryptionError),
        *((code, SecretThrottledError) for code in THROTTLING_CODES),
        ("InternalServiceError", SecretUnavailableError),
        ("InternalServiceErrorException", SecretUnavailableError),
        ("ServiceUnavailable", SecretUnavailableError),
        ("UnrecognizedClientException", CredentialsError),
        ("InvalidSignatureException", CredentialsError),
        ("ExpiredToken", CredentialsError),
        ("ExpiredTokenException", CredentialsError),
        ("ValidationException", ConfigurationError),
        ("InvalidParameterException", ConfigurationError),
        ("InvalidRequestException", SecretCacheError),
    ],
)
def test_a_known_code_has_its_error_and_may_be_the_cause(code: str, expected: type) -> None:
    """The error has the secret's id, AWS's code and request id, and nothing of AWS's message."""
    mapped = to_error(client_error(code), "name")

    assert type(mapped.error) is expected
    assert mapped.is_chainable
    assert (mapped.error.secret_id, mapped.error.code, mapped.error.request_id) == ("name", code, "12345678-aaaa")
    assert "'name'" in str(mapped.error)
    assert code in str(mapped.error)
    assert CANARY not in str(mapped.error)


def test_a_secret_marked_for_deletion_is_not_found() -> None:
    """An InvalidRequestException whose message speaks of deletion is SecretNotFoundError."""
    error = to_error(client_error("InvalidRequestException", message="it was marked for deletion."), "name").error

    assert type(error) is SecretNotFoundError
    assert "deletion" in str(error)


def test_an_unknown_code_is_kept_in_the_base_class() -> None:
    """A code that isn't known but looks like one is SecretCacheError, without a cause."""
    mapped = to_error(client_error("BrandNewException"), "name")

    assert type(mapped.error) is SecretCacheError
    assert mapped.error.code == "BrandNewException"
    assert not mapped.is_chainable


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (CANARY, 400, SecretUnavailableError),
        (f"<html>{CANARY}", 400, SecretUnavailableError),
        ("BrandNewException", 500, SecretUnavailableError),
        ("503", 503, SecretUnavailableError),
        (None, None, SecretUnavailableError),
        ({"a": 1}, 400, SecretUnavailableError),
        ("429", 429, SecretThrottledError),
    ],
)
def test_a_malformed_code_is_transient_and_not_shown(code: Any, status: Any, expected: type) -> None:
    """Text that isn't a code is neither shown nor chained, and the status decides."""
    mapped = to_error(client_error(code, status), "name")

    assert type(mapped.error) is expected
    assert not mapped.is_chainable
    assert mapped.error.code is None
    assert CANARY not in str(mapped.error)


def test_a_malformed_request_id_is_left_out() -> None:
    """A request id is part of the message, so it must look like one."""
    raised = client_error("AccessDenied")
    raised.response["ResponseMetadata"]["RequestId"] = f"<{CANARY}>"

    error = to_error(raised, "name").error

    assert error.request_id is None
    assert CANARY not in str(error)


def test_a_client_error_without_any_attribute_is_malformed() -> None:
    """A version of the SDK may call it otherwise; nothing is known of it then."""

    class ClientError(Exception):
        __module__ = "botocore.exceptions"

    mapped = to_error(ClientError(), "name")

    assert type(mapped.error) is SecretUnavailableError
    assert not mapped.is_chainable


def test_a_client_error_without_a_response_is_malformed() -> None:
    """An error of the SDK can be mapped whatever its form is."""
    raised = client_error("AccessDenied")
    raised.response = None

    mapped = to_error(raised, None)

    assert type(mapped.error) is SecretUnavailableError
    assert not mapped.is_chainable


# Credentials


@pytest.mark.parametrize(
    ("raised", "remedy", "is_chainable"),
    [
        (sdk.NoCredentialsError(), "AWS_ACCESS_KEY_ID", True),
        (sdk.PartialCredentialsError(provider="env", cred_var="x"), "AWS_ACCESS_KEY_ID", True),
        (sdk.UnauthorizedSSOTokenError(), "aws sso login", True),
        (sdk.CredentialRetrievalError(provider="p", error_msg=CANARY), "could not be retrieved", False),
        (sdk.MetadataRetrievalError(error_msg=CANARY), "could not be retrieved", False),
        (client_error("ExpiredTokenException"), "renew", True),
        (client_error("RequestTimeTooSkewed"), "clock", True),
        (client_error("ExpiredTokenException", operation="AssumeRole"), "renew", True),
    ],
)
def test_missing_and_expired_credentials_may_be_renewed(raised: Exception, remedy: str, is_chainable: bool) -> None:
    """They are CredentialsErrors that can become transient, and their text says what to do."""
    mapped = to_error(raised, "name")

    assert type(mapped.error) is CredentialsError
    assert (mapped.is_renewable, mapped.is_chainable) == (True, is_chainable)
    assert remedy in str(mapped.error)
    assert CANARY not in str(mapped.error)
    assert not mapped.error.is_transient


@pytest.mark.parametrize(
    "raised",
    [
        client_error("UnrecognizedClientException"),
        client_error("InvalidSignatureException"),
        client_error("AccessDenied", operation="AssumeRole"),
        client_error("InvalidIdentityToken", operation="AssumeRoleWithWebIdentity"),
    ],
)
def test_refused_credentials_are_not_renewable(raised: Exception) -> None:
    """Neither AWS's refusal of a key nor STS's refusal of a role may be taken for a passing failure."""
    mapped = to_error(raised, "name")

    assert type(mapped.error) is CredentialsError
    assert not mapped.is_renewable
    assert not mapped.error.is_transient


def test_a_refused_role_is_not_about_the_secret() -> None:
    """STS denies the role, not access to the secret."""
    error = to_error(client_error("AccessDenied", operation="AssumeRole"), "name").error

    assert "role" in str(error)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ServiceUnavailable", 400, SecretUnavailableError),
        ("X", 503, SecretUnavailableError),
        ("Throttling", 400, SecretThrottledError),
        (None, None, SecretUnavailableError),
    ],
)
def test_sts_may_be_down_or_throttle(code: Any, status: Any, expected: type) -> None:
    """That is as transient as if Secrets Manager were."""
    assert type(to_error(client_error(code, status, operation="AssumeRole"), "name").error) is expected


# Other exceptions of the SDK


@pytest.mark.parametrize(
    ("raised", "remedy"),
    [
        (sdk.NoRegionError(), "AWS_DEFAULT_REGION or give region_name="),
        (sdk.ProfileNotFound(profile="p"), "AWS_PROFILE"),
        (sdk.ParamValidationError(report="r"), "secret id"),
        (sdk.InvalidRegionError(region_name="r!"), "region_name="),
        (sdk.UnknownEndpointError(service_name="s", region_name="r"), "endpoint_url="),
    ],
)
def test_a_wrong_configuration_names_its_remedy(raised: Exception, remedy: str) -> None:
    """A setting that the SDK lacks is a ConfigurationError that says what to set."""
    mapped = to_error(raised, "name")

    assert type(mapped.error) is ConfigurationError
    assert mapped.is_chainable
    assert remedy in str(mapped.error)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (sdk.ConfigParseError(path="p", error=CANARY), ConfigurationError),
        (sdk.InvalidProxiesConfigError(error=CANARY), ConfigurationError),
        (sdk.InvalidDefaultsMode(mode="m", valid_modes="v"), ConfigurationError),
        (ValueError("Invalid endpoint: x"), ConfigurationError),
        (sdk.HTTPClientError(error=CANARY), SecretUnavailableError),
        (sdk.ConnectionClosedError(endpoint_url="u", error=CANARY), SecretUnavailableError),
        (sdk.ProxyConnectionError(proxy_url="u", error=CANARY), SecretUnavailableError),
        (AttributeError(CANARY), SecretUnavailableError),
        (ValueError(CANARY), SecretUnavailableError),
        (KeyError(CANARY), SecretUnavailableError),
        (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, "r"), SecretUnavailableError),
        (sdk.BotoCoreError(), SecretUnavailableError),
    ],
)
def test_what_may_quote_a_response_or_a_file_is_no_cause(raised: Exception, expected: type) -> None:
    """Exceptions that may hold a response, a line of a file or a URL aren't chained."""
    mapped = to_error(raised, "name")

    assert type(mapped.error) is expected
    assert not mapped.is_chainable
    assert CANARY not in str(mapped.error)


@pytest.mark.parametrize(
    "raised",
    [
        sdk.ReadTimeoutError(endpoint_url="u"),
        sdk.ConnectTimeoutError(endpoint_url="u"),
        sdk.EndpointConnectionError(endpoint_url="u"),
        sdk.SSLError(endpoint_url="u", error="e"),
    ],
)
def test_a_failed_connection_is_transient_and_may_be_the_cause(raised: Exception) -> None:
    """Time-outs and failed connections hold no response, so they are chained."""
    mapped = to_error(raised, "name")

    assert type(mapped.error) is SecretUnavailableError
    assert mapped.is_chainable


def test_a_cause_and_its_own_causes_have_no_traceback() -> None:
    """The SDK's frames hold the session token, so all tracebacks of the chain are removed."""
    try:
        try:
            raise OSError
        except OSError:
            raise sdk.EndpointConnectionError(endpoint_url="u")  # noqa: B904  # as the SDK does
    except sdk.EndpointConnectionError as exc:
        to_error(exc, "name")
        raised = exc

    assert raised.__traceback__ is None
    assert raised.__context__ is not None
    assert raised.__context__.__traceback__ is None


def test_codes_inside_a_batch_mean_the_same() -> None:
    """The codes of a batch's items are mapped like those of a call."""
    error = to_code_error("DecryptionFailure", None, "name")

    assert type(error) is SecretDecryptionError
    assert error.code == "DecryptionFailure"


def test_without_a_secret_the_message_is_about_secrets_manager() -> None:
    """The error of a batch names no single secret."""
    assert str(malformed_response(None)).startswith("Secrets Manager: malformed response")
    assert str(malformed_response("name")).startswith("secret 'name': malformed response")


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (
            client_error("AccessDeniedException"),
            "access denied: allow secretsmanager:GetSecretValue on it (AccessDeniedException, request 12345678-aaaa)",
        ),
        (client_error("503", 500), "Secrets Manager is unavailable at present (request 12345678-aaaa)"),
        (client_error("503", 499), f"{MALFORMED} (request 12345678-aaaa)"),
        (sdk.NoRegionError(), "no region: set AWS_DEFAULT_REGION or give region_name="),
        (sdk.InvalidConfigError(error_msg="x"), f"{PROFILE}: check AWS_PROFILE and the file"),
        (ValueError("Invalid endpoint: x"), f"{ENDPOINT}: check region_name=, endpoint_url= and AWS_* variables"),
        (AttributeError(), MALFORMED),
        (sdk.ReadTimeoutError(endpoint_url="x"), f"{TIMED_OUT}: check network and endpoint"),
    ],
)
def test_an_error_is_told_in_one_sentence(raised: Exception, text: str) -> None:
    """Which secret, what happened, what to do; AWS's code and request id in brackets if there are any."""
    error = to_error(raised, "name").error

    assert str(error) == f"secret 'name': {text}"
    assert error.secret_id == "name"


def test_a_refusal_of_another_call_is_about_the_role_below_500() -> None:
    """STS's own codes with a 4xx status are refusals; with 500 it is unavailable."""
    assert type(to_error(client_error("nonsense!", 499, operation="AssumeRole"), "name").error) is CredentialsError
    assert (
        type(to_error(client_error("nonsense!", 500, operation="AssumeRole"), "name").error) is SecretUnavailableError
    )


def test_a_chain_of_causes_that_is_a_circle_ends() -> None:
    """Exceptions may name each other as their context."""
    raised = sdk.NoRegionError()
    raised.__context__ = other = ValueError()
    other.__context__ = raised

    assert type(to_error(raised, "name").error) is ConfigurationError
