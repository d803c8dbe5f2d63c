"""The command ``asecretcache``: its subcommands and exit statuses."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from asecretcache._cli import cost, policy
from asecretcache._cli.arguments import HelpFormatter
from asecretcache._cli.doctor import command as doctor
from asecretcache._version import __version__

_COMMANDS: Final = (doctor, policy, cost)
_EPILOG: Final = """\
examples:
  asecretcache doctor prod/db:password
  asecretcache policy prod/db prod/api:key
  asecretcache cost --invocations 100 --secrets 3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments; None for the process's.

    Raises:
        SystemExit: the arguments are wrong (status 2), or --help or --version was asked for (status 0).
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asecretcache",
        description="Tools for AWS Secrets Manager around the library asecretcache.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"asecretcache {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser
