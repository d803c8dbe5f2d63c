"""aws-secretsmanager-caching as in AWS's user guide."""

from __future__ import annotations

import json
import os

import botocore.session
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

client = botocore.session.get_session().create_client("secretsmanager")
config = SecretCacheConfig(secret_refresh_interval=int(os.environ["BENCH_TTL"]))
cache = SecretCache(config=config, client=client)

# Read by probes/hits.py.
ONE = 'cache.get_secret_string("prod/db")'
KEY = 'json.loads(cache.get_secret_string("prod/db"))["password"]'
JSON = 'json.loads(cache.get_secret_string("prod/db"))'
THREE = "; ".join(f'cache.get_secret_string("prod/{name}")' for name in ("db", "api", "mail"))
HITS = {
    "one secret": {ONE: ONE},
    "one key of its JSON": {KEY: KEY},
    "three secrets": {"cache.get_secret_string(...), three times": THREE},
    "its JSON, parsed": {JSON: JSON},
}

__all__ = ["HITS", "json"]  # HITS names it


def get(name: str) -> str:
    value: str = cache.get_secret_string(name)
    return value
