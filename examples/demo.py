"""What the cache is for: async handlers in the real Lambda runtime client, against a Secrets Manager on this machine.

Run it with ``make demo``. It starts moto's server as the Secrets Manager and runs handlers in execution environments,
each a process of its own with AWS's runtime client: what cold and warm invocations cost with the usual code and with
the cache, what an outage and a rotation do, and the price. The calls are counted at the server. The exit status is 0
only if all was seen that is claimed. Nothing of it leaves this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from demo_server import SECRETS, Server
from lambda_local import LambdaEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENTS, INVOCATIONS = 2, 10
PER_ENVIRONMENT = 1_000
MONTH = 100_000_000
USD_PER_CALL = 0.05 / 10_000  # https://aws.amazon.com/secrets-manager/pricing/
EXPECTED = {"user": "app", "has_key": True}
ROTATING = 60

USUAL, CACHE, DIRECT = "aioboto3, the usual code", "asecretcache", "asecretcache, DirectSource"
#: The handler of each way, and the variables that it is run with.
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    USUAL: ("demo_usual.lambda_handler", {}),
    CACHE: ("several_secrets.lambda_handler", {}),
    DIRECT: ("several_secrets.lambda_handler", {"ASECRETCACHE_SOURCE": "direct"}),
}


class Seen(NamedTuple):
    """What one way was seen to cost: milliseconds of INIT and of the invocations, and calls."""

    init: list[float]
    cold: list[float]
    warm: list[float]
    cold_calls: int
    warm_calls: int


class Demo:
    """Runs the acts, and notes what isn't as it is claimed."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.wrong: list[str] = []

    def claim(self, what: str, *, holds: bool) -> None:
        """Note a claim that doesn't hold."""
        if not holds:
            self.wrong.append(what)

    @contextmanager
    def environment(self, handler: str, **variables: str) -> Iterator[LambdaEnvironment]:
        """Yield an execution environment after its INIT."""
        environ = {"AWS_ENDPOINT_URL_SECRETS_MANAGER": self.server.url, "DATABASE": self.server.url, **variables}
        with LambdaEnvironment(handler, Path(__file__).parent, environ) as environment:
            environment.wait_for_init()
            yield environment

    def run(self, way: str) -> Seen:
        """Invoke one way's function in several environments, and print a line for each."""
        handler, variables = WAYS[way]
        seen = Seen([], [], [], 0, 0)
        for number in range(1, ENVIRONMENTS + 1):
            calls, began = self.server.calls.total(), time.perf_counter()
            with self.environment(handler, **variables) as environment:
                seen.init.append((time.perf_counter() - began) * 1000)
                times = []
                for count in range(INVOCATIONS):
                    began = time.perf_counter()
                    self.claim(f"{way} answers", holds=environment.invoke({}).payload == EXPECTED)
                    times.append((time.perf_counter() - began) * 1000)
                    if not count:
                        cold_calls = self.server.calls.total() - calls
            warm_calls = self.server.calls.total() - calls - cold_calls
            seen.cold.append(times[0])
            seen.warm.extend(times[1:])
            seen = seen._replace(cold_calls=cold_calls, warm_calls=seen.warm_calls + warm_calls)
            warm = statistics.median(times[1:])
            print(
                f"  environment {number}   cold start: {cold_calls} calls, INIT {seen.init[-1]:5.0f} ms"
                f" and {times[0]:6.1f} ms   {INVOCATIONS - 1} warm: {warm_calls:2} calls, median {warm:6.1f} ms"
            )
        return seen

    def stop_secrets_manager(self) -> None:
        """Show that values which have expired are served while Secrets Manager can't be reached."""
        with self.environment("several_secrets.lambda_handler", ASECRETCACHE_TTL="1") as environment:
            environment.invoke({})
            time.sleep(1.1)  # The values expire.
            self.server.stop()
            answers = [environment.invoke({}) for _ in range(INVOCATIONS)]
            self.server.start()
        good = sum(answer.payload == EXPECTED for answer in answers)
        lines = [line for line in environment.log.replace("\r", "\n").splitlines() if "stale value is served" in line]
        print(f"  {good} of {len(answers)} invocations answered, with expired values; the log says")
        print(textwrap.indent(textwrap.fill(lines[0].expandtabs(1) if lines else "nothing", _width() - 4), " " * 4))
        self.claim("an outage is survived", holds=good == len(answers))
        self.claim("the log tells of an outage", holds=bool(lines))

    def rotate(self, handler: str) -> tuple[int, int, int]:
        """Rotate the password while invocations run; return how many failed, how many ran, and the calls."""
        failed = 0
        with self.environment(f"demo_handlers.{handler}", ASECRETCACHE_TTL="none") as environment:
            environment.invoke({})
            calls = self.server.calls.total()
            self.server.change_password()
            storing = threading.Timer(0.5, self.server.store_password)  # Until then Secrets Manager has the old one.
            storing.start()
            for _ in range(ROTATING):
                failed += environment.invoke({}).error is not None
                time.sleep(0.02)
            storing.join()
        return failed, ROTATING, self.server.calls.total() - calls


def draw(title: str, values: dict[str, float], unit: str) -> None:
    """Print bars, as wide as the terminal allows."""
    width = _width() - 50
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(f"\n  {title}")
    for name, value in values.items():
        bar = "█" * max(round(value / max(values.values()) * width), 1) if value else ""
        bar = f"\033[3{1 if name == USUAL else 2}m{bar}\033[0m" if is_coloured else bar
        print(f"  {name:27}{value:12,.1f} {unit:4} {bar}")


def _width() -> int:
    return max(min(shutil.get_terminal_size((100, 24)).columns, 120), 60)


def tell_price(seen: dict[str, Seen]) -> None:
    """Print what a month's calls cost, by the calls that were counted."""
    monthly = {}
    for way, each in seen.items():
        a_warm = each.warm_calls / len(each.warm)
        calls = MONTH / PER_ENVIRONMENT * (each.cold_calls + a_warm * (PER_ENVIRONMENT - 1))
        monthly[way] = calls * USD_PER_CALL
    million = f"{MONTH / 1e6:.0f} million invocations, {PER_ENVIRONMENT:,} an environment"
    draw(f"{million}, at 0.05 USD per 10,000 calls", monthly, "USD")


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
    print("Starting a Secrets Manager on this machine: moto's server.", flush=True)
    server = Server()
    demo = Demo(server)
    try:
        server.create_secrets()
        seen = {}
        for way in WAYS:
            print(f"\n{way}: two secrets, {ENVIRONMENTS} environments of {INVOCATIONS} invocations", flush=True)
            seen[way] = demo.run(way)
            is_usual = way == USUAL
            demo.claim(f"{way} fetches each secret at its cold start", holds=seen[way].cold_calls == len(SECRETS))
            warm_calls = len(SECRETS) * len(seen[way].warm) if is_usual else 0
            demo.claim(f"{way} makes {warm_calls} calls when warm", holds=seen[way].warm_calls == warm_calls)
        draw("a warm invocation", {way: statistics.median(each.warm) for way, each in seen.items()}, "ms")
        draw("INIT and the first invocation", {way: first(each) for way, each in seen.items()}, "ms")

        print("\nSecrets Manager is stopped, and the values expire", flush=True)
        demo.stop_secrets_manager()

        print(
            "\nThe database's password is rotated, and Secrets Manager has the new one half a second later", flush=True
        )
        for handler, way in (("logs_in", "the password in memory"), ("logs_in_again", "inject(refresh_on=...)")):
            failed, count, calls = demo.rotate(handler)
            print(f"  {way:24}{failed:3} of {count} invocations failed, {calls} calls", flush=True)
            demo.claim(f"a rotation with {way}", holds=(failed == 0) == (handler == "logs_in_again"))
        tell_price(seen)
    finally:
        server.stop()
    for claim in demo.wrong:
        print(f"FAILED: {claim}", file=sys.stderr)
    return 1 if demo.wrong else 0


def first(seen: Seen) -> float:
    return statistics.median(map(sum, zip(seen.init, seen.cold, strict=True)))


if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; every process that was started has been ended", file=sys.stderr)
        sys.exit(130)
