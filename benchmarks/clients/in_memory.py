"""A source in memory for asecretcache, with the secret of benchmarks/server.py under any id."""

from __future__ import annotations

import json

from asecretcache import Secret, SecretRequest

VALUE = json.dumps(
    {"username": "reader", "password": "correct-horse-battery-staple", "host": "db.example", "port": 5432}
)


class Source:
    async def fetch(self, request: SecretRequest) -> Secret:
        name = request.secret_id
        arn = f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"
        return Secret(name=name, arn=arn, version_id="v", secret_string=VALUE)

    async def aclose(self) -> None:
        """Nothing to close."""
