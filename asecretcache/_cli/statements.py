"""Statements of IAM policies: the least that reading secrets needs.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_iam-policies.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from asecretcache._models import ARN_SUFFIX

Statement = dict[str, Any]

#: Six random characters end the ARN of a secret. Another secret with the same name, made later, has other ones.
_ANY_SUFFIX: Final = "-??????"
_SUFFIX_PATTERN: Final = r"-[A-Za-z0-9]{6}$"


def secret_resource(secret_id: str, *, region: str = "*", account: str = "*", partition: str = "aws") -> str:
    """Return the ARN by which a policy names a secret.

    Args:
        secret_id: a name, an ARN, or an ARN without its six random characters.
        region: the region of a secret that is named without one; so are account and partition.
        account: the account.
        partition: the partition, such as ``aws-cn``.
    """
    if not secret_id.startswith("arn:"):
        return f"arn:{partition}:secretsmanager:{region}:{account}:secret:{secret_id}{_ANY_SUFFIX}"
    _, own_partition, service, own_region, own_account, kind, name = secret_id.split(":", 6)
    if re.search(_SUFFIX_PATTERN, name):
        name = name[:-ARN_SUFFIX]
    own = (own_partition, service, own_region or region, own_account or account, kind)
    return ":".join(("arn", *own, name + _ANY_SUFFIX))


def has_ambiguous_suffix(secret_id: str) -> bool:
    """Whether an ARN's last six characters may be part of the name: a word or a number, such as "-backup"."""
    return bool(re.fullmatch(r"arn:.*-(?:[a-z]{6}|[0-9]{6})", secret_id))


def read_statement(resources: Iterable[str]) -> Statement:
    """Return the statement that allows to read secrets; each resource is in it once."""
    return _statement("ReadSecrets", "secretsmanager:GetSecretValue", list(dict.fromkeys(resources)))


def batch_statement() -> Statement:
    """Return the statement that allows batches: the action takes no other resource than ``*``.

    A batch returns only what GetSecretValue is allowed on.
    """
    return _statement("ReadSecretsInBatches", "secretsmanager:BatchGetSecretValue", "*")


def decrypt_statements(keys: Iterable[str]) -> list[Statement]:
    """Return the statements that allow Secrets Manager to decrypt with customer keys, one for each region.

    Args:
        keys: the ARNs of the keys. Where one has a region, nothing but that region's Secrets Manager may use it.
    """
    by_region: dict[tuple[str, str], list[str]] = {}
    for key in dict.fromkeys(keys):
        _, partition, _, region, _ = key.split(":", 4)
        by_region.setdefault((partition, region), []).append(key)
    statements: list[Statement] = []
    for (partition, region), several in by_region.items():
        sid = "DecryptSecrets" + ("" if len(by_region) == 1 else str(len(statements) + 1))
        statement = _statement(sid, "kms:Decrypt", several)
        if region != "*":
            statement["Condition"] = {"StringEquals": {"kms:ViaService": _via_service(partition, region)}}
        statements.append(statement)
    return statements


def policy_document(statements: Iterable[Statement]) -> dict[str, Any]:
    """Return a policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _via_service(partition: str, region: str) -> str | list[str]:
    # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
    service = f"secretsmanager.{region}.amazonaws.com"
    # The documentation has one form for all partitions; the endpoints of China have the other one.
    return [service, f"{service}.cn"] if partition == "aws-cn" else service


def _statement(sid: str, action: str, resource: str | list[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}
