"""The command ``cost``: what a function pays for its secrets in a month, with and without the cache."""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

from asecretcache._cli import cost_model as model
from asecretcache._cli.arguments import Commands, HelpFormatter, not_negative, positive, positive_int, ttl

_DESCRIPTION: Final = """\
Estimate what a Lambda function pays for its secrets in a month with and without the cache, and how many calls a second
it makes at a deploy. It makes no call. The model and its assumptions are printed with the result; all prices and
figures can be given as options."""
_EPILOG: Final = """\
examples:
  asecretcache cost --invocations 100 --secrets 3
  asecretcache cost --memory 128 --invocations 0.01 --ttl none
  asecretcache cost --invocations 2000 --environments 400 --latency 8 --json
"""
_HEAD: Final = ("", "calls a month", "USD: calls", "cold starts", "waiting", "sum", "calls/s: deploy", "after the ttl")


def add_parser(commands: Commands) -> None:
    """Add the command to those of the command line."""
    parser = commands.add_parser(
        "cost",
        help="estimate what a function pays for its secrets",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add("--memory", metavar="MB", type=positive, default=512.0, help="memory of the function (default: 512)")
    add("--invocations", metavar="N", type=positive, default=10.0, help="invocations a second (default: 10)")
    add("--secrets", metavar="K", type=positive_int, default=1, help="secrets that each invocation reads (default: 1)")
    add("--environments", metavar="N", type=positive_int, help="execution environments (default: by the rate)")
    add("--ttl", metavar="S", type=ttl, default=3600.0, help="seconds, or none for no expiry (default: 3600)")
    add("--duration", metavar="MS", type=positive, default=100.0, help="time of an invocation (default: 100)")
    add(
        "--latency",
        metavar="MS",
        type=not_negative,
        default=10.0,
        help="time of a call (default: 10, an assumption; asecretcache doctor measures yours)",
    )
    add(
        "--usd-per-10000-calls",
        metavar="USD",
        type=not_negative,
        default=model.USD_PER_10000_CALLS,
        help=f"price of calls to Secrets Manager (default: {model.USD_PER_10000_CALLS})",
    )
    add(
        "--usd-per-gb-second",
        metavar="USD",
        type=not_negative,
        default=model.USD_PER_GB_SECOND,
        help=f"price of Lambda (default: {model.USD_PER_GB_SECOND}, x86)",
    )
    add("--json", action="store_true", help="print one JSON document, and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the estimate and return the exit status 0."""
    duration = arguments.duration / 1000
    function = model.Function(
        memory=arguments.memory,
        rate=arguments.invocations,
        secrets=arguments.secrets,
        environments=arguments.environments or model.environments_for(arguments.invocations, duration),
        ttl=arguments.ttl,
        latency=arguments.latency / 1000,
        usd_per_10000_calls=arguments.usd_per_10000_calls,
        usd_per_gb_second=arguments.usd_per_gb_second,
    )
    months = [model.month(function, client) for client in model.CLIENTS]
    assumptions = _assumptions(function, None if arguments.environments else duration)
    if arguments.json:
        shown = function._asdict() | {"ttl": None if math.isinf(function.ttl) else function.ttl}
        document = {"function": shown, "months": [each._asdict() for each in months], "assumptions": assumptions}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    lines = [_title(function), "", *_table([_HEAD, *map(_row, months)]), ""]
    lines += _warnings(months)
    lines += ["Assumptions:", *(textwrap.fill(f"- {each}", 110, subsequent_indent="  ") for each in assumptions)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _title(function: model.Function) -> str:
    expiry = "no expiry" if math.isinf(function.ttl) else f"a ttl of {function.ttl:g} s"
    return (
        f"A month of {function.rate:g} invocations a second, {function.secrets} secret(s), {function.memory:g} MB, "
        f"{function.environments:,} environment(s), {expiry}"
    )


def _row(month: model.Month) -> tuple[str, ...]:
    numbers = (month.usd_calls, month.usd_cold_starts, month.usd_waiting, month.usd)
    peaks = (month.deploy_calls, month.renewal_calls)
    return (month.client, f"{month.calls:,.0f}", *map(_amount, numbers), *map(_amount, peaks))


def _amount(number: float) -> str:
    """Return a number with two digits after the point, or four if it is a small one."""
    return f"{number:,.2f}" if number >= 1 or number == 0 else f"{number:.4f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])
        for name, *cells in rows
    ]


def _warnings(months: Sequence[model.Month]) -> list[str]:
    over = [
        f"- {month.client}: {peak / model.QUOTA:,.1f} times the quota"
        for month in months
        if (peak := max(month.deploy_calls, month.renewal_calls)) > model.QUOTA
    ]
    return [f"More than {model.QUOTA:,} calls of GetSecretValue a second are throttled:", *over, ""] if over else []


def _assumptions(function: model.Function, duration: float | None) -> list[str]:
    """State what the estimate rests on.

    Args:
        function: the function.
        duration: seconds of an invocation, if the number of environments follows from it.
    """
    low, high = (seconds / 3600 for seconds in model.LIFETIME)
    needed = (
        f"invocations take {(duration or 0) * 1000:g} ms; as many environments are needed as work on average, and "
        "three standard deviations more"
    )
    idle = model.IDLE_SECONDS / 60
    ends = f"an environment is recycled after {low:g} to {high:g} h, and ends after {idle:g} idle minutes"
    calls = (
        "without a cache each invocation makes a call for each secret, all at the same time; with it, each environment "
        f"makes one at first and at each expiry, drawn from [ttl x {1 - model.JITTER:g}, ttl]"
    )
    waiting = f"a call takes {function.latency * 1000:g} ms, which the invocation is billed for"
    inits = ", ".join(f"{client.init_seconds:g} s ({client.name})" for client in model.CLIENTS)
    starts = (
        f"INIT takes {inits}, and without a cache the first invocation {model.CLIENTS[0].first_cpu_seconds:g} s of a "
        "whole CPU more (docs/measured.md); INIT is billed since August 2025"
    )
    deploy = (
        f"a deploy starts all environments in {model.DEPLOY_SECONDS:g} s; their values expire spread over the jitter"
    )
    prices = (
        f"{function.usd_per_10000_calls:g} USD per 10,000 calls and {function.usd_per_gb_second:g} USD per GB-second; "
        f"the defaults are list prices of us-east-1, x86, as docs/measured.md has them in {model.PRICES_OF} "
        "(aws.amazon.com/secrets-manager/pricing, aws.amazon.com/lambda/pricing); storage and what else the function "
        "does aren't in it"
    )
    cycle = (
        "the rate is the same all day: with a daily cycle (benchmarks/fleet.py) a cache makes 1.0 to 1.4 times as many "
        "calls, and there are 1.3 to 3 times as many cold starts"
    )
    others = [ends, calls, waiting, starts, deploy, prices, cycle]
    return others if duration is None else [needed, *others]
