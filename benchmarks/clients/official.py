"""aws-secretsmanager-caching as AWS's user guide has it."""

from __future__ import annotations

import os

import botocore.session
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

client = botocore.session.get_session().create_client("secretsmanager")
config = SecretCacheConfig(secret_refresh_interval=int(os.environ["BENCH_TTL"]))
cache = SecretCache(config=config, client=client)


def get(name: str) -> str:
    value: str = cache.get_secret_string(name)
    return value
