"""The parameters utility of Powertools for AWS Lambda, as in its documentation."""

from __future__ import annotations

import os

from aws_lambda_powertools.utilities import parameters

TTL = int(os.environ["BENCH_TTL"])

# Read by probes/hits.py.
ONE = 'parameters.get_secret("prod/db", max_age=TTL)'
KEY = 'parameters.get_secret("prod/db", transform="json", max_age=TTL)["password"]'
JSON = 'parameters.get_secret("prod/db", transform="json", max_age=TTL)'
THREE = "; ".join(f'parameters.get_secret("prod/{name}", max_age=TTL)' for name in ("db", "api", "mail"))
HITS = {
    "one secret": {ONE: ONE},
    "one key of its JSON": {KEY: KEY},
    "three secrets": {"parameters.get_secret(...), three times": THREE},
    "its JSON, parsed": {JSON: JSON},
}


def get(name: str) -> object:
    return parameters.get_secret(name, max_age=TTL)
