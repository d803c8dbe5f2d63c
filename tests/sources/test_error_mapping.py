"""Exceptions of botocore, and error codes of AWS, as errors of this package."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from asecretcache import (
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._sources import exceptions as direct
from asecretcache._sources.error_mapping import explain, malformed_response, to_code_error, to_error
from asecretcache._sources.retry_quota import THROTTLING_CODES
from source_helpers import CANARY

MALFORMED = "malformed response: if it goes on, check the endpoint and any proxy"
PROFILE = "the AWS profile or config file can't be used"
ENDPOINT = "bad region or endpoint"
TIMED_OUT = "the connection to Secrets Manager timed out"
CLOCK = "AWS refused the time of the signature: set the system's clock"
SDK = "the AWS SDK can't be imported: install aioboto3"
PARTS = ", with all that it needs, for this Python and architecture"
UNKNOWN = "the call failed on this side: check the AWS settings and the installation"


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
        (sdk.PartialCredentialsError(provider="env", cred_var="AWS_X"), "found in env, missing: AWS_X)", True),
        (sdk.UnauthorizedSSOTokenError(), "aws sso login", True),
        (sdk.CredentialRetrievalError(provider="p", error_msg=CANARY), "could not be retrieved", False),
        (sdk.MetadataRetrievalError(error_msg=CANARY), "could not be retrieved", False),
        (client_error("ExpiredTokenException"), "renew", True),
        (FileNotFoundError(2, "No such file", "/run/token"), "FileNotFoundError: No such file: '/run/token'", True),
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
        (sdk.ProfileNotFound(profile="p"), "AWS_PROFILE and the file (The config profile (p) could not be found)"),
        (sdk.ParamValidationError(report="r"), "secret id"),
        (sdk.InvalidRegionError(region_name="r!"), "(Provided region_name 'r!' doesn't match"),
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
        (ResponseParserError(CANARY), SecretUnavailableError),
        (direct.ResponseParserError(), SecretUnavailableError),
        (TimeoutError(CANARY), SecretUnavailableError),
        (ConnectionResetError(104, CANARY), SecretUnavailableError),
        (AttributeError(CANARY), ConfigurationError),
        (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, "r"), ConfigurationError),
        (sdk.BotoCoreError(), ConfigurationError),
        (sdk.DataNotFoundError(data_path=CANARY), ConfigurationError),
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
        (direct.ResponseParserError(), MALFORMED),
        (client_error("RequestTimeTooSkewed"), f"{CLOCK} (RequestTimeTooSkewed, request 12345678-aaaa)"),
        (ImportError("no aiohttp"), f"{SDK}{PARTS} (ImportError: no aiohttp)"),
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


@pytest.mark.parametrize(
    ("code", "status", "expected", "text"),
    [
        ("ThrottlingException", 400, SecretThrottledError, "no credentials: the service that gives them throttles"),
        ("InternalFailure", 500, SecretUnavailableError, "no credentials: the service that gives them is unavailable"),
        ("IDPCommunicationError", 400, SecretUnavailableError, "no credentials: the service that gives them is unav"),
        ("ExpiredTokenException", 400, CredentialsError, "the credentials have expired: renew them"),
        ("InvalidIdentityToken", 400, CredentialsError, "the credentials were refused when assuming a role"),
    ],
)
def test_the_errors_of_sts_are_not_secrets_managers(code: str, status: int, expected: type, text: str) -> None:
    """They say that it is credentials that are missing, and may be transient."""
    error = to_error(client_error(code, status, operation="AssumeRoleWithWebIdentity"), "name").error

    assert type(error) is expected
    assert str(error).startswith(f"secret 'name': {text}")


@pytest.mark.parametrize(
    "message",
    [
        "Access to KMS is not allowed",
        "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: kms:Decrypt on this resource",
    ],
)
def test_a_denial_by_kms_is_about_the_key(message: str) -> None:
    """AWS gives it the code of any other denial."""
    raised = client_error("AccessDeniedException")
    raised.response["Error"]["Message"] = message

    error = to_error(raised, "name").error

    assert type(error) is SecretDecryptionError
    assert "allow kms:Decrypt" in str(error)
    assert type(to_code_error("AccessDeniedException", message, "name")) is SecretDecryptionError


def test_a_denial_of_a_secret_whose_name_has_kms_is_about_the_secret() -> None:
    """Only the action and AWS's sentence count."""
    raised = client_error("AccessDeniedException")
    raised.response["Error"]["Message"] = (
        "not authorized to perform: secretsmanager:GetSecretValue on resource: kms-key"
    )

    assert type(to_error(raised, "name").error) is SecretAccessDeniedError


@pytest.mark.parametrize("when", ["expired", "not yet current"])
def test_a_signature_of_another_time_is_about_the_clock(when: str) -> None:
    """AWS gives it the code of a wrong key; a stale value may be served meanwhile."""
    raised = client_error("InvalidSignatureException")
    raised.response["Error"]["Message"] = f"Signature {when}: 20260101T000000Z is now earlier than 20260102T000000Z"

    error = to_error(raised, "name").error

    assert type(error) is SecretUnavailableError
    assert "set the system's clock" in str(error)


def test_a_batch_that_is_denied_is_told_its_only_resource() -> None:
    """IAM grants it on no single secret."""
    raised = client_error("AccessDeniedException", operation="BatchGetSecretValue")

    assert 'secretsmanager:BatchGetSecretValue as well, which takes the Resource "*"' in str(
        to_error(raised, None).error
    )


def test_a_request_id_may_be_in_the_headers_alone() -> None:
    """If the body can't be read, the SDK doesn't know it otherwise."""
    raised = client_error("503", 503)
    raised.response["ResponseMetadata"] = {"HTTPStatusCode": 503, "HTTPHeaders": {"x-amzn-requestid": "87654321-bbbb"}}

    assert to_error(raised, "name").error.request_id == "87654321-bbbb"


def raised_in(*modules: str, exc: Exception) -> Exception:
    """Return an exception that the last of these modules has raised, called by the one before, and so on."""
    fail: Any = None
    for module in reversed(modules):
        names: dict[str, Any] = {"__name__": module, "go_on": fail}
        exec("def fail(exc):\n    if go_on: go_on(exc)\n    raise exc", names)
        fail = names["fail"]
    try:
        fail(exc)
    except Exception as raised:  # whatever was given
        return raised
    raise AssertionError


@pytest.mark.parametrize(
    "modules",
    [
        ("botocore.parsers", "json"),
        ("aiobotocore.parsers",),
        ("aiobotocore.endpoint",),
        ("aiobotocore.endpoint", "botocore.model"),
    ],
)
@pytest.mark.parametrize("raised", [AttributeError(CANARY), KeyError(CANARY), ImportError(CANARY)])
def test_what_is_raised_while_a_response_is_parsed_is_about_it(modules: tuple[str, ...], raised: Exception) -> None:
    """Nothing of the exception is shown, since it may hold the response."""
    mapped = to_error(raised_in(*modules, exc=raised), "name")

    assert str(mapped.error) == f"secret 'name': {MALFORMED}"
    assert not mapped.is_chainable


def test_what_is_raised_while_credentials_are_got_is_about_them() -> None:
    """A container's endpoint may leave out a field, for example; they may be renewed."""
    mapped = to_error(raised_in("aiobotocore.credentials", exc=KeyError(CANARY)), "name")

    assert type(mapped.error) is CredentialsError
    assert mapped.is_renewable
    assert re.search(r"could not be retrieved: .* \(KeyError at <string>:3\)$", str(mapped.error))


def test_what_is_raised_elsewhere_is_told_by_type_and_place() -> None:
    """It happened on this side, before AWS answered."""
    for modules in (("aiobotocore.endpoint", "aiohttp.connector"), ("botocore.model",)):
        error = to_error(raised_in(*modules, exc=TypeError(CANARY)), "name").error

        assert str(error) == f"secret 'name': {UNKNOWN} (TypeError at <string>:3)"
    assert str(to_error(TypeError(CANARY), "name").error).endswith("(TypeError at an unknown place)")


@pytest.mark.parametrize(
    "raised",
    [ImportError("no aiohttp"), FileNotFoundError(2, "No such file", "token"), TimeoutError(), OSError(5, "no")],
)
def test_errors_of_python_name_the_secret_and_hold_no_frames(raised: Exception) -> None:
    """What is missing may be shown as the cause; of others it isn't known what they hold."""
    mapped = to_error(raised_in("aiohttp.connector", exc=raised), "name")

    assert str(mapped.error).startswith("secret 'name': ")
    is_missing = isinstance(raised, ImportError | FileNotFoundError)
    assert mapped.is_chainable is is_missing
    assert (raised.__traceback__ is None) is is_missing


@pytest.mark.parametrize(
    "raised", [sdk.ConnectTimeoutError(endpoint_url="u"), sdk.EndpointConnectionError(endpoint_url="u")]
)
def test_in_lambda_a_failed_connection_hints_at_the_vpc(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is the usual cause there."""
    assert "VPC" not in str(to_error(raised, "name").error)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")

    assert "a function in a VPC needs a VPC endpoint for Secrets Manager, or NAT" in str(to_error(raised, "name").error)


OTHER_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:name-AbCdEf"


@pytest.mark.parametrize(
    ("kind", "request_", "region", "text"),
    [
        (SecretNotFoundError, SecretRequest("name"), "eu-west-1", "no; eu-west-1 was asked"),
        (SecretNotFoundError, SecretRequest("name", "blue"), None, "no; version_stage='blue' was asked for"),
        (
            SecretNotFoundError,
            SecretRequest("name", "blue", "v1"),
            "eu-west-1",
            "no; version_stage='blue' was asked for; version_id='v1' was asked for; eu-west-1 was asked",
        ),
        (
            SecretAccessDeniedError,
            SecretRequest(OTHER_ARN, "blue"),
            "eu-west-1",
            "no; its ARN is of us-east-1, and eu-west-1 was called, as the client_factory= has it",
        ),
        (SecretNotFoundError, SecretRequest(OTHER_ARN), "us-east-1", "no; us-east-1 was asked"),
        (SecretNotFoundError, SecretRequest(OTHER_ARN), None, "no"),
        (SecretUnavailableError, SecretRequest(OTHER_ARN, "blue"), "eu-west-1", "no"),
    ],
)
def test_what_the_request_may_have_wrong_is_explained(
    kind: type[SecretCacheError], request_: SecretRequest, region: str | None, text: str
) -> None:
    """A stage or version that doesn't exist, or an ARN of another region than the client's."""
    error = kind("no", code="ResourceNotFoundException" if kind is SecretNotFoundError else None)

    explain(error, request_, region)

    assert str(error) == text


def test_a_chain_of_causes_that_is_a_circle_ends() -> None:
    """Exceptions may name each other as their context."""
    raised = sdk.NoRegionError()
    raised.__context__ = other = ValueError()
    other.__context__ = raised

    assert type(to_error(raised, "name").error) is ConfigurationError
