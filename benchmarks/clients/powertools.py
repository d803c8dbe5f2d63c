"""The parameters utility of Powertools for AWS Lambda, as its documentation has it."""

from __future__ import annotations

import os

from aws_lambda_powertools.utilities import parameters

TTL = int(os.environ["BENCH_TTL"])


def get(name: str) -> object:
    return parameters.get_secret(name, max_age=TTL)
