"""What a function pays for its secrets in a month: a closed form of the simulation in benchmarks/fleet.py.

All environments work equally, at the mean rate. The simulation has a daily cycle besides, in which environments start
and end: it counts 1.0 to 1.4 times as many calls with a cache, and 1.3 to 3 times as many cold starts.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

#: Seconds.
MONTH: Final = 30 * 86_400.0
#: The life of an environment, in seconds; then it is recycled.
LIFETIME: Final = (2 * 3600.0, 6 * 3600.0)
#: After so many idle seconds an environment ends.
IDLE_SECONDS: Final = 600.0
#: The cache's default.
JITTER: Final = 0.1
#: In how many seconds a deploy starts all environments.
DEPLOY_SECONDS: Final = 10.0
#: GetSecretValue a second, of an account in a region:
#: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
QUOTA: Final = 10_000
#: A function with so many MB has a whole CPU.
MB_OF_A_CPU: Final = 1_769.0

#: The month of these list prices of us-east-1, for x86:
#: https://aws.amazon.com/secrets-manager/pricing/ and https://aws.amazon.com/lambda/pricing/
PRICES_OF: Final = "November 2026"
USD_PER_10000_CALLS: Final = 0.05
USD_PER_GB_SECOND: Final = 1.66667e-5


class Client(NamedTuple):
    """How a function reads its secrets.

    Attributes:
        name: what it is called.
        has_cache: whether it keeps values.
        init_seconds: INIT of a cold start, with a whole CPU.
        first_cpu_seconds: the CPU time of what INIT leaves to the first invocation.
    """

    name: str
    has_cache: bool
    init_seconds: float
    first_cpu_seconds: float


#: Seconds from docs/measured.md, "A small function".
CLIENTS: Final = (
    Client("no cache, aioboto3", has_cache=False, init_seconds=0.434, first_cpu_seconds=0.09),
    Client("asecretcache", has_cache=True, init_seconds=0.374, first_cpu_seconds=0.0),
    Client("asecretcache, DirectSource", has_cache=True, init_seconds=0.087, first_cpu_seconds=0.0),
)


class Function(NamedTuple):
    """A Lambda function.

    Attributes:
        memory: its memory in MB.
        rate: invocations a second.
        secrets: how many secrets each invocation reads.
        environments: how many execution environments it has.
        ttl: seconds; infinity for no expiry.
        latency: seconds that a call takes; the calls of one invocation run concurrently.
        usd_per_10000_calls: the price of calls.
        usd_per_gb_second: the price of running.
    """

    memory: float
    rate: float
    secrets: int
    environments: int
    ttl: float
    latency: float
    usd_per_10000_calls: float = USD_PER_10000_CALLS
    usd_per_gb_second: float = USD_PER_GB_SECOND


class Month(NamedTuple):
    """A month of a function with one client.

    Attributes:
        client: the client's name.
        calls: GetSecretValue.
        usd_calls: what the calls cost.
        usd_cold_starts: what INIT and the rest of the cold starts cost.
        usd_waiting: what the time costs in which invocations wait for calls.
        usd: the sum.
        deploy_calls: calls a second while a deploy starts all environments.
        renewal_calls: calls a second when the values of a deploy expire.
    """

    client: str
    calls: float
    usd_calls: float
    usd_cold_starts: float
    usd_waiting: float
    usd: float
    deploy_calls: float
    renewal_calls: float


def environments_for(rate: float, duration: float) -> int:
    """Return how many environments a rate needs: those that work on average, and three standard deviations more.

    Args:
        rate: invocations a second.
        duration: seconds that an invocation takes.
    """
    load = rate * duration
    return max(1, round(load + 3 * math.sqrt(load)))


def month(function: Function, client: Client) -> Month:
    """Return what a function calls and pays in a month."""
    invocations = function.rate * MONTH
    starts, fetches = cold_starts_and_fetches(function)
    reads = fetches if client.has_cache else invocations
    gb_price = function.memory / 1024 * function.usd_per_gb_second
    first = client.first_cpu_seconds / min(1.0, function.memory / MB_OF_A_CPU)
    # While a deploy starts them, environments are started by invocations.
    begun = min(function.environments / DEPLOY_SECONDS, function.rate)
    if client.has_cache:
        spread = max(1.0, JITTER * function.ttl)
        deploy, renewal = begun, min(function.environments / spread, function.rate) if spread < math.inf else 0.0
    else:
        deploy = renewal = function.rate
    usd_calls = reads * function.secrets / 10_000 * function.usd_per_10000_calls
    usd_cold_starts = starts * (client.init_seconds + first) * gb_price
    usd_waiting = reads * function.latency * gb_price
    return Month(
        client.name,
        reads * function.secrets,
        usd_calls,
        usd_cold_starts,
        usd_waiting,
        usd_calls + usd_cold_starts + usd_waiting,
        deploy * function.secrets,
        renewal * function.secrets,
    )


def cold_starts_and_fetches(function: Function) -> tuple[float, float]:
    """Return a month's cold starts, and how often one secret is fetched with a cache, over all environments."""
    rate = function.rate / function.environments
    shortest, longest = LIFETIME
    recycled = MONTH / ((shortest + longest) / 2)
    # Invocations come at random: a pause longer than that ends the environment, and the next one is a cold start.
    idle_rate = rate * math.exp(-IDLE_SECONDS * rate)
    # A value is fetched at the first invocation after its expiry.
    interval = (1 - JITTER / 2) * function.ttl + 1 / rate
    renewals = _mean_floor(shortest / interval, longest / interval)
    lives = recycled + idle_rate * MONTH
    fetches = lives + recycled * renewals * math.exp(-idle_rate * min(interval, MONTH))
    invocations = rate * MONTH
    return function.environments * min(lives, invocations), function.environments * min(fetches, invocations)


def _mean_floor(low: float, high: float) -> float:
    """Return the mean of a number's integer part, over all numbers between two; 0 if both are 0."""
    return (_floors_to(high) - _floors_to(low)) / (high - low) if high > low else 0.0


def _floors_to(number: float) -> float:
    """Return the integral of the integer part from 0 to a number."""
    whole = math.floor(number)
    return whole * (whole - 1) / 2 + whole * (number - whole)
