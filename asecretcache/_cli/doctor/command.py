"""The command ``doctor``, and the same examination for a Lambda function."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Final

from asecretcache._cli.arguments import Commands, HelpFormatter, endpoint_url, reference, region
from asecretcache._cli.doctor.context import Context, Options
from asecretcache._cli.doctor.examination import examine
from asecretcache._cli.doctor.printer import Printer
from asecretcache._cli.doctor.report import Report
from asecretcache._lambda.default import SECRET_ID
from asecretcache._references import SecretReference

_DESCRIPTION: Final = """\
Tell in one run what is wrong with the role, the network or a secret's name. It must run where the role and the network
are: in Lambda, set the handler to asecretcache.doctor.lambda_handler and invoke it with {"references": ["prod/db"]}.

It reads each secret four times at most, and shows neither values nor the names of JSON keys. It takes 30 seconds at
most. The exit status is 0 if all references can be read, 1 if not, and 2 for wrong arguments."""
_EPILOG: Final = """\
examples:
  asecretcache doctor                                   # the secret in SECRET_ID, if set; else the way to AWS alone
  asecretcache doctor prod/db:password prod/api
  asecretcache doctor prod/db prod/api --batch --region eu-west-1
  asecretcache doctor prod/db --endpoint-url https://vpce-0abc.secretsmanager.eu-west-1.vpce.amazonaws.com
  asecretcache doctor prod/db --json | jq .secrets
"""


def add_parser(commands: Commands) -> None:
    """Add the command to those of the command line."""
    parser = commands.add_parser(
        "doctor",
        help="tell what is wrong with the role, the network or a secret's name",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "references",
        metavar="REFERENCE",
        nargs="*",
        type=reference,
        help="a name, an ARN or a reference as for get_secret()",
    )
    parser.add_argument("--region", type=region, help="the region; without it the environment's or the profile's")
    parser.add_argument(
        "--endpoint-url",
        metavar="URL",
        type=endpoint_url,
        help="the endpoint; without it the environment's, else AWS's",
    )
    parser.add_argument("--batch", action="store_true", help="read them by BatchGetSecretValue as well")
    parser.add_argument("--json", action="store_true", help="print one JSON document, and nothing else")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine, print what was found, and return the exit status."""
    try:
        references = tuple(arguments.references) or default_references()
    except argparse.ArgumentTypeError as exc:
        arguments.parser.error(f"{SECRET_ID}: {exc}")
    options = Options(references, arguments.region, arguments.endpoint_url, arguments.batch)
    if arguments.json:
        report = run_examination(options, Report())
        sys.stdout.write(json.dumps(report.to_document(), indent=2) + "\n")
    else:
        printer = Printer(sys.stdout)
        report = run_examination(options, Report(printer.finding))
        printer.end(report)
    return 0 if report.is_good else 1


def run_examination(options: Options, report: Report) -> Report:
    """Make all checks on a loop of their own, and return the report."""
    asyncio.run(examine(Context(options, report)))
    return report


def default_references() -> tuple[SecretReference, ...]:
    """Return the reference in SECRET_ID, which get_secret() reads without an argument, if it is set.

    Raises:
        argparse.ArgumentTypeError: it isn't a reference.
    """
    setting = os.environ.get(SECRET_ID)
    return (reference(setting),) if setting else ()
