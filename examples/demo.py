"""What the cache saves: an async handler in the real Lambda runtime client, against a Secrets Manager on this machine.

Run it with ``make demo``. It starts moto's server as the Secrets Manager, creates secrets, and runs several_secrets.py
in several execution environments, each a process of its own with AWS's runtime client, invoked many times. The calls
are counted at the server, so whether an invocation fetched is what its calls there say. The exit status is 0 only if
every environment paid for each secret exactly once. Nothing of it leaves this machine.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lambda_local import LambdaEnvironment

ENVIRONMENTS, INVOCATIONS = 3, 20
SECRETS = {"prod/db": '{"user": "app", "password": "hunter2"}', "prod/api": "key-1"}
USD_PER_CALL = 0.05 / 10_000  # https://aws.amazon.com/secrets-manager/pricing/


class SecretsManager:
    """moto's Secrets Manager in a thread, with the calls for values counted on their way in."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.fetches: Counter[str] = Counter()  # by SecretId
        self._application: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _count(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("HTTP_X_AMZ_TARGET") == "secretsmanager.GetSecretValue":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            self.fetches[json.loads(body)["SecretId"]] += 1
            environ["wsgi.input"] = io.BytesIO(body)
        return self._application(environ, start_response)

    def close(self) -> None:
        """End the thread and close the socket."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def create_secrets(url: str) -> None:
    import boto3

    client = boto3.client("secretsmanager", endpoint_url=url)
    for name, value in SECRETS.items():
        client.create_secret(Name=name, SecretString=value)


def run(server: SecretsManager) -> bool:
    """Run all invocations, print a line for each, and return whether every one answered as it should."""
    is_right = True
    environ = {"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.url}
    for number in range(1, ENVIRONMENTS + 1):
        before = server.fetches.copy()
        began = time.perf_counter()
        with LambdaEnvironment("several_secrets.lambda_handler", Path(__file__).parent, environ) as environment:
            environment.wait_for_init()
            for count in range(INVOCATIONS):
                began = time.perf_counter() if count else began
                outcome = environment.invoke({})
                fetched, before = server.fetches - before, server.fetches.copy()
                milliseconds = (time.perf_counter() - began) * 1000
                start = "warm" if count else "cold"
                source = f"fetched {fetched.total()}" if fetched else "cached"
                print(f"environment {number}  invocation {count + 1:3}  {start}  {source:9}  {milliseconds:8.1f} ms")
                is_right &= outcome.payload == {"user": "app", "has_key": True}
                is_right &= fetched == ({} if count else dict.fromkeys(SECRETS, 1))
    return is_right


def summarise(calls: int) -> None:
    without = ENVIRONMENTS * INVOCATIONS * len(SECRETS)
    scale = 100_000_000 / (ENVIRONMENTS * INVOCATIONS)
    print(f"\n{ENVIRONMENTS * INVOCATIONS} invocations in {ENVIRONMENTS} environments, {len(SECRETS)} secrets")
    print(f"{'':16}{'calls':>8}  {'USD':>10}  {'USD for 100 million such invocations':>38}")
    for name, count in (("asecretcache", calls), ("without a cache", without)):
        print(f"{name:16}{count:8}  {count * USD_PER_CALL:10.6f}  {count * scale * USD_PER_CALL:38,.2f}")
    print(f"at 0.05 USD per 10,000 calls; {without / max(calls, 1):.0f} times fewer calls, as counted at the server")


def main() -> int:
    # SIGTERM ends it as Ctrl-C does, through the exits of all context managers, so that no process is left; and so does
    # SIGINT where whoever started it had it ignored, as shells do with what runs in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # A developer's profile, endpoints, proxies or ttl would change what is shown, or lead out of this machine.
    for name in list(os.environ):
        if name.startswith(("AWS_", "ASECRETCACHE_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
    with ExitStack() as stack:
        server = SecretsManager()
        stack.callback(server.close)
        create_secrets(server.url)
        is_right = run(server)
        calls = server.fetches.total()
    summarise(calls)
    if not is_right or calls != ENVIRONMENTS * len(SECRETS):
        print("FAILED: an environment paid more than once for a secret, or an answer was wrong", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; every process that was started has been ended", file=sys.stderr)
        sys.exit(130)
