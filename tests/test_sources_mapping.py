"""What botocore raises and returns, as our errors and records."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import exceptions as sdk

from asecretcache import _exceptions as ours
from asecretcache._models import SecretRequest
from asecretcache._sources.error_mapping import nonsense, to_code_error, to_error, to_secret

CANARY = "canary-value"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf"
ANSWER: dict[str, Any] = {
    "ARN": ARN,
    "Name": "name",
    "VersionId": "v1",
    "SecretString": CANARY,
    "VersionStages": ["AWSCURRENT"],
    "CreatedDate": datetime(2026, 1, 1, tzinfo=UTC),
}


def client_error(
    code: Any, status: Any = 400, message: Any = CANARY, operation: str = "GetSecretValue"
) -> sdk.ClientError:
    """An error as botocore makes it from an answer."""
    metadata = {"HTTPStatusCode": status, "RequestId": "12345678-aaaa"}
    return sdk.ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, operation)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ResourceNotFoundException", ours.SecretNotFoundError),
        ("AccessDeniedException", ours.SecretAccessDeniedError),
        ("AccessDenied", ours.SecretAccessDeniedError),
        ("DecryptionFailure", ours.SecretDecryptionError),
        ("ThrottlingException", ours.SecretThrottledError),
        ("Throttling", ours.SecretThrottledError),
        ("TooManyRequestsException", ours.SecretThrottledError),
        ("RequestLimitExceeded", ours.SecretThrottledError),
        ("InternalServiceError", ours.SecretUnavailableError),
        ("InternalServiceErrorException", ours.SecretUnavailableError),
        ("ServiceUnavailable", ours.SecretUnavailableError),
        ("UnrecognizedClientException", ours.ConfigurationError),
        ("InvalidSignatureException", ours.ConfigurationError),
        ("ExpiredToken", ours.ConfigurationError),
        ("ExpiredTokenException", ours.ConfigurationError),
        ("ValidationException", ours.ConfigurationError),
        ("InvalidParameterException", ours.ConfigurationError),
        ("InvalidRequestException", ours.SecretCacheError),
    ],
)
def test_a_known_code_becomes_its_error_and_may_be_the_cause(code: str, expected: type) -> None:
    """A code of AWS's gives its own class, with id, code and request id, and without AWS's message."""
    error, chain = to_error(client_error(code), "name")

    assert type(error) is expected
    assert chain
    assert (error.secret_id, error.code, error.request_id) == ("name", code, "12345678-aaaa")
    assert "'name'" in str(error)
    assert code in str(error)
    assert CANARY not in str(error)


def test_a_secret_marked_for_deletion_is_not_found() -> None:
    """InvalidRequestException that speaks of deletion is SecretNotFoundError."""
    error, _ = to_error(client_error("InvalidRequestException", message="it was marked for deletion."), "name")

    assert type(error) is ours.SecretNotFoundError
    assert "deletion" in str(error)


def test_another_well_formed_code_is_the_base_class_without_a_cause() -> None:
    """A code that isn't on the list, but looks like one, is kept in the base class."""
    error, chain = to_error(client_error("BrandNewException"), "name")

    assert type(error) is ours.SecretCacheError
    assert error.code == "BrandNewException"
    assert not chain


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (CANARY, 400, ours.SecretUnavailableError),
        (f"<html>{CANARY}", 400, ours.SecretUnavailableError),
        ("BrandNewException", 500, ours.SecretUnavailableError),
        ("503", 503, ours.SecretUnavailableError),
        (None, None, ours.SecretUnavailableError),
        ({"a": 1}, 400, ours.SecretUnavailableError),
        ("429", 429, ours.SecretThrottledError),
    ],
)
def test_a_garbled_error_is_transient_and_tells_nothing(code: Any, status: Any, expected: type) -> None:
    """What isn't a code is neither shown nor chained; the status decides."""
    error, chain = to_error(client_error(code, status), "name")

    assert type(error) is expected
    assert not chain
    assert error.code is None
    assert CANARY not in str(error)


def test_a_request_id_that_does_not_look_like_one_is_left_out() -> None:
    """A request id goes into the message, so it must look like one."""
    raised = client_error("AccessDenied")
    raised.response["ResponseMetadata"]["RequestId"] = f"<{CANARY}>"

    error, _ = to_error(raised, "name")

    assert error.request_id is None
    assert CANARY not in str(error)


def test_a_client_error_without_its_parts_is_nonsense() -> None:
    """Whatever shape the SDK's error has, mapping it works."""
    raised = client_error("AccessDenied")
    raised.response = None  # what no version does, so far

    error, chain = to_error(raised, None)

    assert type(error) is ours.SecretUnavailableError
    assert not chain


@pytest.mark.parametrize(
    ("code", "expected"),
    [("AccessDenied", ours.ConfigurationError), ("ServiceUnavailable", ours.SecretUnavailableError)],
)
def test_a_refusal_while_a_role_is_assumed_is_about_the_configuration(code: str, expected: type) -> None:
    """STS's refusal isn't the secret's; STS being down is transient."""
    error, _ = to_error(client_error(code, operation="AssumeRole"), "name")

    assert type(error) is expected


@pytest.mark.parametrize(
    ("raised", "remedy"),
    [
        (sdk.NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (sdk.PartialCredentialsError(provider="env", cred_var="x"), "AWS_ACCESS_KEY_ID"),
        (sdk.NoRegionError(), "AWS_DEFAULT_REGION or give region_name="),
        (sdk.ProfileNotFound(profile="p"), "AWS_PROFILE"),
        (sdk.ParamValidationError(report="r"), "secret id"),
        (sdk.InvalidRegionError(region_name="r!"), "region_name="),
        (sdk.UnauthorizedSSOTokenError(), "aws sso login"),
        (sdk.UnknownEndpointError(service_name="s", region_name="r"), "endpoint_url="),
    ],
)
def test_a_wrong_configuration_names_its_remedy(raised: Exception, remedy: str) -> None:
    """What the SDK lacks is a ConfigurationError that says what to set."""
    error, chain = to_error(raised, "name")

    assert type(error) is ours.ConfigurationError
    assert chain
    assert remedy in str(error)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (sdk.ConfigParseError(path="p", error=CANARY), ours.ConfigurationError),
        (sdk.InvalidProxiesConfigError(error=CANARY), ours.ConfigurationError),
        (sdk.InvalidDefaultsMode(mode="m", valid_modes="v"), ours.ConfigurationError),
        (ValueError("Invalid endpoint: x"), ours.ConfigurationError),
        (sdk.CredentialRetrievalError(provider="p", error_msg=CANARY), ours.SecretUnavailableError),
        (sdk.MetadataRetrievalError(error_msg=CANARY), ours.SecretUnavailableError),
        (sdk.HTTPClientError(error=CANARY), ours.SecretUnavailableError),
        (sdk.ConnectionClosedError(endpoint_url="u", error=CANARY), ours.SecretUnavailableError),
        (sdk.ProxyConnectionError(proxy_url="u", error=CANARY), ours.SecretUnavailableError),
        (AttributeError(CANARY), ours.SecretUnavailableError),
        (ValueError(CANARY), ours.SecretUnavailableError),
        (KeyError(CANARY), ours.SecretUnavailableError),
        (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, "r"), ours.SecretUnavailableError),
        (sdk.BotoCoreError(), ours.SecretUnavailableError),
    ],
)
def test_what_may_quote_an_answer_or_a_file_is_no_cause(raised: Exception, expected: type) -> None:
    """Exceptions that can hold an answer, a file's line or a URL aren't chained."""
    error, chain = to_error(raised, "name")

    assert type(error) is expected
    assert not chain
    assert CANARY not in str(error)


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
    """Timeouts and connections hold no answer, so they are shown."""
    error, chain = to_error(raised, "name")

    assert type(error) is ours.SecretUnavailableError
    assert chain


def test_a_cause_has_no_traceback_left() -> None:
    """The SDK's frames hold the session token, so a chained error loses them, and so do its own causes."""
    try:
        try:
            raise OSError
        except OSError:
            raise sdk.EndpointConnectionError(endpoint_url="u")  # noqa: B904  # as the SDK does
    except sdk.EndpointConnectionError as exc:
        to_error(exc, "name")
        raised = exc

    assert raised.__context__ is not None
    assert raised.__context__.__traceback__ is None


def test_a_batch_s_errors_are_mapped_by_code() -> None:
    """The codes inside a batch's answer mean what they mean outside."""
    error, known = to_code_error("DecryptionFailure", None, "name")

    assert type(error) is ours.SecretDecryptionError
    assert known


def test_nonsense_without_a_secret_is_about_secrets_manager() -> None:
    """Where no single secret was asked for, the message has another subject."""
    assert str(nonsense(None)) == "Secrets Manager: an answer that makes no sense"


@pytest.mark.parametrize("asked", ["name", ARN, ARN.removesuffix("-AbCdEf")])
def test_an_answer_becomes_a_record(asked: str) -> None:
    """The answer to a name, an ARN or a partial ARN gives the record."""
    secret = to_secret(ANSWER, SecretRequest(asked))

    assert secret is not None
    assert (secret.name, secret.arn, secret.version_id, secret.secret_string) == ("name", ARN, "v1", CANARY)
    assert secret.version_stages == ("AWSCURRENT",)
    assert secret.created_date == ANSWER["CreatedDate"]


def test_stages_and_date_may_be_missing() -> None:
    """A binary secret without labels and date is a record too."""
    answer = {"ARN": ARN, "Name": "name", "VersionId": "v1", "SecretBinary": b"b"}

    secret = to_secret(answer, SecretRequest("name", None, "v1"))

    assert secret is not None
    assert (secret.secret_binary, secret.version_stages, secret.created_date) == (b"b", (), None)


@pytest.mark.parametrize(
    "change",
    [
        {"ARN": None},
        {"Name": 1},
        {"Name": ""},
        {"Name": "other"},
        {"VersionId": None},
        {"VersionId": "v2"},
        {"SecretString": None},
        {"SecretString": 5},
        {"SecretBinary": b"both"},
        {"SecretString": None, "SecretBinary": "text"},
        {"VersionStages": "AWSCURRENT"},
        {"VersionStages": [1]},
        {"CreatedDate": "yesterday"},
        {"CreatedDate": math.inf},
        {"CreatedDate": math.nan},
        {"CreatedDate": -6e10},
        {"CreatedDate": 2.5e11},
    ],
)
def test_an_answer_that_makes_no_sense_is_none(change: dict[str, Any]) -> None:
    """An answer that lacks a part, or is for something else, gives no record."""
    assert to_secret(ANSWER | change, SecretRequest("name", None, "v1")) is None


@pytest.mark.parametrize("answer", [None, [], "text", {}])
def test_an_answer_of_another_shape_is_none(answer: Any) -> None:
    """What isn't a dict with the fields gives no record."""
    assert to_secret(answer, SecretRequest("name")) is None


def test_an_arn_of_another_secret_is_none() -> None:
    """An ARN's answer must carry that ARN."""
    assert to_secret(ANSWER, SecretRequest(ARN.replace("name", "nam"))) is None
