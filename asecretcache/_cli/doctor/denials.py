"""What to do about a secret that can't be read: the permission that is missing, and who denies it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from asecretcache import _exceptions as errors
from asecretcache._cli.doctor.context import Context
from asecretcache._cli.statements import Statement, decrypt_statements, read_statement, secret_resource

#: What AWS's messages of denied calls say about the policy that decided; nothing else of them is shown.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_POLICIES: Final = (
    "identity-based policy",
    "resource-based policy",
    "VPC endpoint policy",
    "service control policy",
    "resource control policy",
    "permissions boundary",
    "session policy",
)
_KEY_ID_PATTERN: Final = r"[0-9a-f]{8}-[0-9a-f-]{27}|mrk-[0-9a-f]{32}"


def denying_policy(error: errors.SecretCacheError) -> str | None:
    """Return which policy denied a call and how, such as ``no VPC endpoint policy allows it``; None if unknown."""
    response = getattr(error.__cause__, "response", None)
    detail = response.get("Error") if isinstance(response, Mapping) else None
    message = str(detail.get("Message", "")) if isinstance(detail, Mapping) else ""
    for policy in _POLICIES:
        if re.search(rf"explicit deny in an? {policy}", message, re.IGNORECASE):
            return f"there is an explicit deny in a {policy}"
        if re.search(rf"no {policy} allows", message, re.IGNORECASE):
            return f"no {policy} allows it"
    return None


def missing_statements(
    context: Context, error: errors.SecretCacheError, secret_id: str, description: Mapping[str, Any]
) -> list[Statement]:
    """Return the statements that the role needs to read a secret.

    Args:
        context: knows the region and the account.
        error: why it can't be read.
        secret_id: the name or ARN.
        description: what DescribeSecret told of the secret, if it could be asked.
    """
    place = {"region": context.region or "*", "account": context.account, "partition": context.partition}
    resource = secret_resource(str(description.get("ARN", secret_id)), **place)
    _, partition, _, region, account, *_ = resource.split(":")
    key = str(description.get("KmsKeyId") or "")
    if re.fullmatch(_KEY_ID_PATTERN, key):
        key = f"arn:{partition}:kms:{region}:{account}:key/{key}"
    is_known = ":key/" in key
    if isinstance(error, errors.SecretDecryptionError):
        return decrypt_statements([key if is_known else f"arn:{partition}:kms:{region}:{account}:key/KEY-ID"])
    return [read_statement([resource]), *(decrypt_statements([key]) if is_known else [])]


def remedy_of(context: Context, error: errors.SecretCacheError, statements: list[Statement]) -> str | None:
    """Return what to do about a secret that can't be read; None if the error's own text says all."""
    is_of_other_account = _is_of_other_account(context, error.secret_id or "")
    if isinstance(error, errors.SecretAccessDeniedError):
        policy = denying_policy(error)
        if policy is not None and "identity-based" not in policy:
            return f"AWS says that {policy}: change that one; the role's policy needs the statement below as well"
        also = "; another account's secret must allow the role in its own policy, too" if is_of_other_account else ""
        return f"allow {statements[0]['Action']} on it in the role's policy, by the statement below{also}"
    if isinstance(error, errors.SecretDecryptionError):
        unknown = " (put the id of the key in place of KEY-ID)" if "KEY-ID" in str(statements) else ""
        also = "; another account's secret must have a customer key, not the default one" if is_of_other_account else ""
        remedy = f"allow kms:Decrypt in the role's policy, by the statement below{unknown}, and in the key's own policy"
        return remedy + also
    if isinstance(error, errors.SecretNotFoundError) and not is_deleted(error):
        secret_id = error.secret_id or ""
        known = secret_id.split(":")[4] if secret_id.startswith("arn:") else context.account
        account = "the right account" if known in {"", "*"} else f"account {known}"
        region = context.region_of(secret_id) or "the region that is asked"
        return (
            f"check the name, and that the secret is in {region} and in {account}; "
            "aws secretsmanager list-secrets shows what is there"
        )
    return None


def is_deleted(error: errors.SecretCacheError) -> bool:
    """Whether the secret is there, but marked for deletion."""
    return isinstance(error, errors.SecretNotFoundError) and error.code == "InvalidRequestException"


def _is_of_other_account(context: Context, secret_id: str) -> bool:
    return secret_id.startswith("arn:") and context.account not in {"*", secret_id.split(":")[4]}
