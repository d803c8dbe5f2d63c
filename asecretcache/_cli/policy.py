"""The command ``policy``: prints the least IAM policy for some secrets. It makes no call."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from asecretcache._cli.arguments import Commands, HelpFormatter, key_arn, reference
from asecretcache._cli.statements import (
    batch_statement,
    decrypt_statements,
    has_ambiguous_suffix,
    policy_document,
    read_statement,
    secret_resource,
)

_DESCRIPTION: Final = """\
Print the IAM policy that a role needs to read secrets, and nothing more, as JSON. No call to AWS is made.

A name is allowed in each region and account of the role's policy, since it says neither: use ARNs to narrow that.
JSON keys and versions of references don't matter, because IAM allows whole secrets."""
_EPILOG: Final = """\
examples:
  asecretcache policy prod/db prod/api:key
  asecretcache policy arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf
  asecretcache policy prod/db prod/api --batch \\
      --kms arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab > policy.json
"""


def add_parser(commands: Commands) -> None:
    """Add the command to those of the command line."""
    parser = commands.add_parser(
        "policy",
        help="print the least IAM policy for some secrets",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "references",
        metavar="REFERENCE",
        nargs="+",
        type=reference,
        help="a name, an ARN or a reference as for get_secret()",
    )
    parser.add_argument(
        "--batch", action="store_true", help="allow BatchGetSecretValue too, for SecretCache(batch=True)"
    )
    parser.add_argument(
        "--kms",
        metavar="ARN",
        action="append",
        default=[],
        type=key_arn,
        help="a customer key that encrypts the secrets; may be repeated. The default key needs no statement",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the policy on stdout, and on stderr what may be meant otherwise; return the exit status 0."""
    secret_ids = [each.secret_id for each in arguments.references]
    partition = _partition([*secret_ids, *arguments.kms])
    for secret_id in filter(has_ambiguous_suffix, secret_ids):
        sys.stderr.write(
            f"note: {secret_id[-7:]!r} is taken for the six random characters of the ARN {secret_id}; "
            "if it is part of the name, write the whole ARN or the name\n"
        )
    statements = [read_statement(secret_resource(each, partition=partition) for each in secret_ids)]
    statements += [batch_statement()] if arguments.batch else []
    statements += decrypt_statements(arguments.kms)
    sys.stdout.write(json.dumps(policy_document(statements), indent=2) + "\n")
    return 0


def _partition(ids: list[str]) -> str:
    """Return the partition of names: that of the ARNs beside them, if they agree."""
    partitions = {each.split(":")[1] for each in ids if each.startswith("arn:")}
    return partitions.pop() if len(partitions) == 1 else "aws"
