"""The checks of the secrets: what is told of each, and which permission is missing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from agent_server import AgentServer
from asecretcache._cli.doctor import secrets
from cli_helpers import finding
from fault_server import FaultServer
from moto_server import MotoServer
from raw_server import ARN, GOOD, http

Doctor = Callable[..., tuple[int, dict[str, Any]]]
RESOURCE = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-??????"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
KEY = f"arn:aws:kms:eu-west-1:123456789012:key/{KEY_ID}"
#: The unsigned call, which AWS refuses.
UNSIGNED = http({"__type": "MissingAuthenticationTokenException", "message": "no"}, 400)


def refused(code: str, message: str = "no") -> bytes:
    """Return the bytes of one of AWS's refusals."""
    return http({"__type": code, "message": message}, 400)


def described(**more: Any) -> bytes:
    """Return the bytes of a response of DescribeSecret."""
    return http({"ARN": ARN, "Name": "name", **more})


@pytest.mark.parametrize(
    ("value", "kind", "keys"),
    [
        ("text", "text", None),
        ("[1]", "text", None),
        (b"\x00", "binary", None),
        ("{}", "JSON with 0 keys", 0),
        ('{"a": 1}', "JSON with 1 key", 1),
    ],
)
def test_the_kind_of_a_value_is_told(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor, value: str | bytes, kind: str, keys: int | None
) -> None:
    """Text, binary, or JSON with a number of keys; and how long two reads took with each source."""
    arn = moto_server.create("prod/db", value)

    status, document = doctor("prod/db")

    [secret] = document["secrets"]
    assert (status, secret["readable"], secret["kind"], secret["json_keys"]) == (0, True, kind, keys)
    assert secret["arn"] == arn
    assert {name: len(times) for name, times in secret["ms"].items()} == {"SecretsManagerSource": 2, "DirectSource": 2}
    assert secret["rotation"] == {"enabled": False, "last": None, "next": None}
    assert moto_server.calls() == 4


def test_with_a_local_provider_it_alone_is_asked(provider: AgentServer, no_names: None, doctor: Doctor) -> None:
    """The process needs no credentials and no way to AWS; those checks fail, and the secret can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASECRETCACHE_SOURCE", "agent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")

        status, document = doctor("name")
        refused, with_batch = doctor("name", "--batch")
        patch.setenv("AWS_TOKEN", "another")
        _, without_token = doctor("name")

    assert (status, list(document["secrets"][0]["ms"])) == (0, ["AgentSource"])
    assert "rotation unknown (DescribeSecret: AWS isn't asked" in document["secrets"][0]["text"]
    assert finding(document, "credentials")["status"] == "failed"
    assert (refused, finding(with_batch, "batch")["text"]) == (1, "AgentSource makes no batches")
    assert "refused the token of AWS_TOKEN" in without_token["secrets"][0]["text"]


def test_only_possible_sources_are_measured(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """Where DirectSource would use the SDK it isn't measured."""
    moto_server.create("prod/db", "x")
    aws.setenv("AWS_SDK_UA_APP_ID", "x")

    _, document = doctor("prod/db")

    assert list(document["secrets"][0]["ms"]) == ["SecretsManagerSource"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('{"user": "x"}', "its JSON key 'password' isn't there"),
        ('{"password": null}', "its JSON key 'password' is null"),
        ("text", "its JSON key 'password' isn't there"),
        (b"bytes", "its JSON key 'password' isn't there"),
    ],
)
def test_a_json_key_that_can_not_be_read(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor, value: str | bytes, problem: str
) -> None:
    """A reference to a JSON key is readable if the key is."""
    moto_server.create("prod/db", value)

    status, document = doctor("prod/db:password")

    assert status == 1
    assert document["secrets"][0]["text"].endswith(problem)
    assert document["secrets"][0]["readable"] is False


def test_a_json_key_that_can_be_read(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """A key that is there is all that a reference needs."""
    moto_server.create("prod/db", '{"password": "x"}')

    assert doctor("prod/db:password")[0] == 0


def test_a_secret_of_another_region(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """A secret that isn't found says which region was asked, and the others are still read."""
    moto_server.create("prod/db", "x")

    status, document = doctor("prod/db", "prod/api", "--region", "us-east-1")

    assert status == 1
    assert document["secrets"][0]["error"] == "SecretNotFoundError"
    assert document["secrets"][0]["text"].endswith("; us-east-1 was asked")
    assert "us-east-1 and in account 123456789012" in document["secrets"][0]["remedy"]
    assert document["secrets"][1]["error"] == "SecretNotFoundError"
    assert document["policy"] is None


def test_an_arn_of_another_region(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """It is asked in the ARN's own region, whichever is configured; so is what else is told of it."""
    arn = moto_server.create("prod/db", "x")

    _, document = doctor(arn, arn.replace("prod/db", "missing"), "--region", "us-east-1")

    found, missing = document["secrets"]
    assert found["readable"]
    assert found["rotation"] == {"enabled": False, "last": None, "next": None}
    assert "the secret is in eu-west-1 and in account 123456789012" in missing["remedy"]


def test_a_missing_permission(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """A denied secret names the permission, and the statement to paste; several are merged into one."""
    fault_server.refuse("AccessDeniedException")

    status, document = doctor("name", "other:key", "name:user")

    assert status == 1
    first = document["secrets"][0]
    assert first["error"] == "SecretAccessDeniedError"
    assert "secretsmanager:GetSecretValue" in first["remedy"]
    assert first["statements"][0]["Resource"] == [RESOURCE]
    assert document["policy"]["Statement"] == [
        {
            "Sid": "ReadSecrets",
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": [RESOURCE, RESOURCE.replace("name", "other")],
        }
    ]


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("because no identity-based policy allows the action", "allow secretsmanager:GetSecretValue on it in the role"),
        ("because no VPC endpoint policy allows the action", "AWS says that no VPC endpoint policy allows it"),
        (
            "with an explicit deny in a service control policy",
            "AWS says that there is an explicit deny in a service control policy",
        ),
    ],
)
def test_the_policy_that_denies_is_told(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, message: str, remedy: str
) -> None:
    """Of AWS's message the kind of the policy is told, since another policy than the role's may have to change."""
    fault_server.refuse("AccessDeniedException", f"User: arn:x is not authorized {message}")

    _, document = doctor("name")

    assert document["secrets"][0]["remedy"].startswith(remedy)


@pytest.mark.parametrize(
    ("description", "resource"),
    [
        (described(KmsKeyId=KEY), KEY),
        (described(KmsKeyId=KEY_ID), KEY),
        (described(KmsKeyId="alias/mine"), "arn:aws:kms:eu-west-1:123456789012:key/KEY-ID"),
        (refused("AccessDeniedException"), "arn:aws:kms:eu-west-1:123456789012:key/KEY-ID"),
    ],
)
def test_a_key_that_may_not_be_used(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, description: bytes, resource: str
) -> None:
    """If KMS denies, kms:Decrypt is what is missing, on the key that DescribeSecret names."""
    fault_server.first(UNSIGNED, refused("AccessDeniedException", "Access to KMS is not allowed"), description)

    status, document = doctor("name")

    assert status == 1
    assert document["secrets"][0]["error"] == "SecretDecryptionError"
    assert document["secrets"][0]["remedy"].startswith("allow kms:Decrypt")
    assert ("KEY-ID" in document["secrets"][0]["remedy"]) is ("KEY-ID" in resource)
    assert document["policy"]["Statement"] == [
        {
            "Sid": "DecryptSecrets",
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": [resource],
            "Condition": {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}},
        }
    ]


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        (refused("AccessDeniedException"), "; another account's secret must allow the role in its own policy, too"),
        (refused("DecryptionFailure"), "; another account's secret must have a customer key, not the default one"),
    ],
)
def test_a_secret_of_another_account(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor, refusal: bytes, remedy: str
) -> None:
    """What two accounts need besides is told where the ARN has another account than the role."""
    fault_server.first(UNSIGNED, refusal, refused("AccessDeniedException"))

    _, document = doctor(ARN.replace("123456789012", "210987654321"))

    assert document["secrets"][0]["remedy"].endswith(remedy)
    assert ":210987654321:" in document["policy"]["Statement"][0]["Resource"][0]


def test_a_source_that_fails_alone_is_named(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """If one source reads the secret and the other doesn't, that is told."""
    fault_server.first(UNSIGNED, http(GOOD), http(GOOD))
    fault_server.refuse("InvalidRequestException")

    _, document = doctor("name")

    assert document["secrets"][0]["text"].startswith("DirectSource alone: ")


def test_a_denied_secret_with_a_key_needs_both(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor
) -> None:
    """Where DescribeSecret may be called, the statement for the customer key is given at once."""
    fault_server.first(UNSIGNED, refused("AccessDeniedException"), described(KmsKeyId=KEY))

    _, document = doctor("name")

    assert [each["Action"] for each in document["policy"]["Statement"]] == [
        "secretsmanager:GetSecretValue",
        "kms:Decrypt",
    ]


def test_another_error_has_its_own_text(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """The package's errors name their remedies."""
    fault_server.first(UNSIGNED, refused("InvalidRequestException", "You can't perform this; it is deleted"))

    _, document = doctor("name")

    assert "marked for deletion: restore it" in document["secrets"][0]["text"]
    assert "was asked" not in document["secrets"][0]["text"]

    fault_server.first(UNSIGNED, refused("InvalidRequestException"))

    _, document = doctor("name")

    assert document["secrets"][0]["code"] == "InvalidRequestException"
    assert "remedy" not in document["secrets"][0]


def test_a_rotated_secret(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """The last and the next rotation are told where DescribeSecret may be called."""
    last = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    rotation = {"RotationEnabled": True, "LastRotatedDate": last.timestamp()}
    fault_server.first(UNSIGNED, *[http(GOOD)] * 4, described(**rotation))

    status, document = doctor("name")

    found = document["secrets"][0]["rotation"]
    assert status == 0
    assert (found["enabled"], found["next"]) == (True, None)
    assert dt.datetime.fromisoformat(found["last"]) == last
    assert "rotated, last 2026-1" in document["secrets"][0]["text"]


def test_a_description_that_is_denied_is_no_failure(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor
) -> None:
    """Reading needs no DescribeSecret."""
    fault_server.first(UNSIGNED, *[http(GOOD)] * 4, refused("AccessDeniedException"))

    status, document = doctor("name")

    assert status == 0
    assert document["secrets"][0]["rotation"] is None
    assert "rotation unknown (DescribeSecret: AccessDeniedException" in document["secrets"][0]["text"]


def test_credentials_that_have_expired_end_the_checks(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor
) -> None:
    """What would fail for each secret in the same way isn't tried again, nor is the batch."""
    fault_server.first(UNSIGNED)
    fault_server.refuse("ExpiredTokenException")

    status, document = doctor("prod/db", "prod/api", "--batch")

    assert status == 1
    assert document["secrets"][0]["error"] == "CredentialsError"
    assert document["secrets"][1]["text"] == "prod/api: not checked, because the one before it failed"
    assert "batch" not in [each["check"] for each in document["checks"]]


def test_a_fetch_that_hangs_is_unavailable(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """If Secrets Manager doesn't answer for a secret, the check ends after some seconds."""
    aws.setattr(secrets, "FETCH_SECONDS", 0.0)

    status, document = doctor("prod/db")

    assert status == 1
    assert document["secrets"][0]["error"] == "SecretUnavailableError"
    assert "didn't answer within 0 s" in document["secrets"][0]["text"]


def test_secrets_by_a_batch(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """With --batch 21 secrets are read by two batches, each secret once."""
    names = [f"s{number}" for number in range(21)]
    for name in names:
        moto_server.create(name, "{}")

    status, document = doctor(*names, "s0", "--batch")

    assert status == 0
    assert finding(document, "batch")["text"].startswith("21 of 21 secrets by BatchGetSecretValue")
    assert moto_server.calls("BatchGetSecretValue") == 2


def test_a_batch_that_may_not_be_read(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """Where single secrets are readable and batches are denied, the statement on ``*`` is missing."""
    fault_server.first(UNSIGNED, *[http(GOOD)] * 4, described())
    fault_server.refuse("AccessDeniedException")

    status, document = doctor("name", "--batch")

    assert status == 1
    assert document["secrets"][0]["readable"] is True
    assert "leave out batch=True" in finding(document, "batch")["remedy"]
    [statement] = document["policy"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("secretsmanager:BatchGetSecretValue", "*")


def test_a_batch_that_fails_otherwise(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """A batch that AWS refuses for another reason lacks no permission."""
    fault_server.first(UNSIGNED, *[http(GOOD)] * 4, described())
    fault_server.refuse("InvalidParameterException")

    status, document = doctor("name", "--batch")

    assert (status, document["policy"]) == (1, None)
    assert "refused the batch" in finding(document, "batch")["text"]


def test_a_secret_that_a_batch_lacks(sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor) -> None:
    """A batch that leaves out a secret is a failure too."""
    fault_server.first(UNSIGNED, *[http(GOOD)] * 4, described())
    error = {"SecretId": "name", "ErrorCode": "AccessDeniedException", "Message": "no"}
    fault_server.answer({"SecretValues": [], "Errors": [error]})

    status, document = doctor("name", "--batch")

    assert status == 1
    assert finding(document, "batch")["unreadable"] == ["name"]
