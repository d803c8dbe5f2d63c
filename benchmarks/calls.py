"""Calls at the server, by client: a first get, one after the ttl, 100 secrets, and 100 first gets at once.

    pip install aws-secretsmanager-caching aws-lambda-powertools
    python benchmarks/calls.py

Peers that aren't installed are named as missing. The server is moto's, on loopback, and every call takes 0.2 s there,
so that what is asked for at once is under way at once. The peers are synchronous, so for them that is a thread each.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

SECRETS = [f"secret-{number}" for number in range(100)]
AT_ONCE = 100
DELAY = 0.2
TTL = 1

Row = list[str]


class CountingServer:
    """moto's Secrets Manager, slowed down and counted."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.application: Any = DomainDispatcherApplication(create_backend_app)
        self.calls: Counter[str] = Counter()
        self.delay = 0.0
        server = make_server("127.0.0.1", 0, self.serve, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"

    def serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.calls[environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]] += 1
        time.sleep(self.delay)
        return self.application(environ, start_response)

    def told(self) -> str:
        """The calls since the last time, and how many of them weren't GetSecretValue."""
        total = self.calls.total()
        others = {name: count for name, count in self.calls.items() if name != "GetSecretValue"}
        self.calls.clear()
        return f"{total} ({', '.join(f'{count} {name}' for name, count in others.items())})" if others else str(total)


def in_threads(call: Callable[[], object]) -> None:
    barrier = threading.Barrier(AT_ONCE)

    def work() -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measured(server: CountingServer, make: Callable[[], Any], get: Callable[[Any, str], object]) -> Row:
    """The row of a synchronous client."""
    client = make()
    get(client, SECRETS[0])
    row = [server.told()]
    time.sleep(TTL + 0.2)
    get(client, SECRETS[0])
    row.append(server.told())
    client = make()
    for name in SECRETS:
        get(client, name)
    row.append(server.told())
    client, server.delay = make(), DELAY
    in_threads(lambda: get(client, SECRETS[0]))
    server.delay = 0.0
    return [*row, server.told()]


def official(server: CountingServer, client: Any) -> Row:
    from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

    return measured(
        server,
        lambda: SecretCache(config=SecretCacheConfig(secret_refresh_interval=TTL), client=client),
        lambda cache, name: cache.get_secret_string(name),
    )


def powertools(server: CountingServer, client: Any) -> Row:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

    return measured(
        server, lambda: SecretsProvider(boto3_client=client), lambda provider, name: provider.get(name, max_age=TTL)
    )


async def ours(server: CountingServer, *, batch: bool) -> Row:
    from asecretcache import SecretCache

    async with SecretCache(ttl=TTL, jitter=0, batch=batch) as cache:
        await cache.get_secret(SECRETS[0])
        row = [server.told()]
        await asyncio.sleep(TTL + 0.2)
        await cache.get_secret(SECRETS[0])
        row.append(server.told())
        cache.clear()
        await cache.get_many(SECRETS)
        row.append(server.told())
        cache.clear()
        server.delay = DELAY
        await asyncio.gather(*(cache.get_secret(SECRETS[0]) for _ in range(AT_ONCE)))
        server.delay = 0.0
        return [*row, server.told()]


def main() -> None:
    import boto3
    from botocore.config import Config

    server = CountingServer()
    os.environ.update(
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_ENDPOINT_URL_SECRETS_MANAGER=server.url,
    )
    client = boto3.client("secretsmanager", config=Config(max_pool_connections=AT_ONCE))
    for name in SECRETS:
        client.create_secret(Name=name, SecretString="value")
    server.calls.clear()
    print("client | first get | after the ttl | 100 secrets | 100 first gets at once")
    print(" | ".join(["asecretcache", *asyncio.run(ours(server, batch=False))]))
    print(" | ".join(["asecretcache, batch=True", *asyncio.run(ours(server, batch=True))]))
    peers = (("aws-secretsmanager-caching", official), ("aws-lambda-powertools", powertools))
    for distribution, peer in peers:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            print(f"{distribution} | missing: pip install {distribution}")
            continue
        print(" | ".join([f"{distribution} {version}", *peer(server, client)]))


if __name__ == "__main__":
    main()
