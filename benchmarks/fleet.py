"""A simulated function at scale: its calls in a month, what they cost, and the calls in the worst second.

Each execution environment is simulated by itself: when it starts, works, idles and is recycled in the course of a day,
and when each of its secrets is fetched. Single invocations aren't simulated: a working environment is invoked so often
that a secret is fetched in the second in which it expires. The assumptions are printed with the results; the random
numbers are seeded. A call that a quota would refuse is counted once: retries would only add to the calls.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from figures import table

SEED: Final = 20_251
RATES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
SECRETS: Final = 5
TTL: Final = 3600.0
JITTER: Final = 0.1
DAY: Final = 86_400
DAYS_A_MONTH: Final = 30
# How far the rate moves from its mean in the course of a day, as a fraction.
SWING: Final = 0.8
INVOCATION_SECONDS: Final = 0.1
LIFETIME: Final = (2 * 3600.0, 6 * 3600.0)
IDLE_SECONDS: Final = 600.0
STEP: Final = 10

USD_A_CALL: Final = 0.05 / 10_000
QUOTAS: Final = {"GetSecretValue": 10_000, "DescribeSecret": 40_000, "BatchGetSecretValue": 100}
MAX_BATCH: Final = 20

#: What INIT takes, in seconds, as small.py measures it; it is billed since August 2025.
INIT_SECONDS: Final = {"aioboto3": 0.425, "DirectSource": 0.089}
INIT_GB: Final = 0.5
USD_A_GB_SECOND: Final = 1.66667e-5

# A deploy: ten functions, each with as many new environments as Lambda starts at once.
DEPLOY_FUNCTIONS: Final = 10
DEPLOY_ENVIRONMENTS: Final = 1_000
DEPLOY_SECONDS: Final = 10
DEPLOY_HOURS: Final = 2.5

ASSUMPTIONS: Final = f"""\
- invocations take {INVOCATION_SECONDS} s; the rate goes up and down by {SWING:.0%} of its mean in a day;
- an environment serves one invocation at a time; as many are needed as work on average, and two standard deviations
  more; one that isn't needed idles, and ends after {IDLE_SECONDS / 60:.0f} minutes; each is recycled after \
{LIFETIME[0] / 3600:.0f} to {LIFETIME[1] / 3600:.0f} hours;
- every invocation reads {SECRETS} secrets; a ttl is {TTL / 3600:.0f} h; no secret is rotated, and no call fails;
- no cache: {SECRETS} GetSecretValue an invocation; the article: {SECRETS} an environment, never again;
- official clients: DescribeSecret and GetSecretValue at first, then DescribeSecret at each expiry, drawn anew from
  [ttl / 2, ttl] (aws-secretsmanager-caching 1.2 for Python);
- asecretcache: GetSecretValue at first and at each expiry, drawn from [ttl x {1 - JITTER}, ttl]; with batch=True,
  secrets of one environment that are due in the same second go together, up to {MAX_BATCH} a call;
- {USD_A_CALL * 10_000} USD per 10,000 calls, storage not included; how batch calls are billed isn't stated publicly,
  so they are counted and not priced;
- INIT of a cold start: {INIT_SECONDS["aioboto3"]} s with aioboto3, {INIT_SECONDS["DirectSource"]} s with DirectSource \
(small.py), at {INIT_GB * 1024:.0f} MB and {USD_A_GB_SECOND} USD per GB-second;
- quotas per region: {", ".join(f"{name} {quota:,}/s" for name, quota in QUOTAS.items())};
- a month is {DAYS_A_MONTH} days like the simulated one, which follows another that isn't counted; seed {SEED}."""

# The life of an environment: begin and end of each stretch in which it is invoked.
Life = list[tuple[float, float]]
# Draws the seconds until a value must be fetched again.
Draw = Callable[[random.Random], float]


class Strategy(NamedTuple):
    """How a client fetches.

    Attributes:
        draw: draws how long a value is served; None: as long as the environment lives.
        describes: whether it calls DescribeSecret first of all, and at an expiry nothing else.
        batch: whether secrets that are due in the same second are fetched with one call.
    """

    draw: Draw | None
    describes: bool = False
    batch: bool = False


STRATEGIES: Final = {
    "the article": Strategy(None),
    "official clients": Strategy(lambda chance: chance.uniform(TTL / 2, TTL), describes=True),
    "asecretcache, jitter=0": Strategy(lambda _: TTL),
    "asecretcache": Strategy(lambda chance: chance.uniform(TTL * (1 - JITTER), TTL)),
    "asecretcache, batch=True": Strategy(lambda chance: chance.uniform(TTL * (1 - JITTER), TTL), batch=True),
}


class Traffic:
    """The calls within a stretch of time, by operation and second."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.seconds = {operation: [0] * (end - begin) for operation in QUOTAS}

    def add(self, operation: str, when: float, count: int = 1) -> None:
        second = int(when) - self.begin
        if 0 <= second < len(self.seconds[operation]):
            self.seconds[operation][second] += count

    def fetch(self, when: float, secrets: int, strategy: Strategy, *, is_first: bool) -> None:
        """Count the calls of one environment for this many secrets, which are due in one second."""
        if strategy.describes:
            self.add("DescribeSecret", when, secrets)
            if is_first:
                self.add("GetSecretValue", when, secrets)
            return
        if strategy.batch:
            # A single one that is left over is fetched with GetSecretValue.
            batches, rest = divmod(secrets, MAX_BATCH)
            self.add("BatchGetSecretValue", when, batches + (rest > 1))
            secrets = rest if rest == 1 else 0
        self.add("GetSecretValue", when, secrets)

    def totals(self) -> dict[str, Any]:
        """Return the calls and the worst second, by operation."""
        return {
            operation: {"calls": sum(seconds), "peak": max(seconds)}
            for operation, seconds in self.seconds.items()
            if any(seconds)
        }


def rate_at(mean: float, when: float) -> float:
    return mean * (1 + SWING * math.sin(2 * math.pi * when / DAY))


class Environment:
    """An execution environment: when it is recycled, and the stretches in which it is invoked."""

    __slots__ = ("ends", "life")

    def __init__(self, begins: float, chance: random.Random) -> None:
        self.ends = begins + chance.uniform(*LIFETIME)
        self.life: Life = []

    def stop(self, since: float, when: float) -> None:
        self.life.append((since, when))


def lives(mean: float, days: int, chance: random.Random) -> list[Life]:
    """Return the environments of a function over some days; the one that became idle last is invoked first."""
    done: list[Life] = []
    # Two stacks: the environments that work, and those that idle; each with the time since when.
    working: list[tuple[Environment, float]] = []
    idle: list[tuple[Environment, float]] = []
    # When each is recycled, and its place in the stack of workers; an item is void once the environment has left it.
    recycled: list[tuple[float, int, int, Environment]] = []
    order = itertools.count()

    def invoke(place: int, environment: Environment, when: float) -> None:
        working[place : place + 1] = [(environment, when)]
        heapq.heappush(recycled, (environment.ends, next(order), place, environment))

    for when in range(0, days * DAY, STEP):
        load = rate_at(mean, when) * INVOCATION_SECONDS
        # The most that work at the same time in this step; it varies as arrivals do.
        needed = max(1, round(load + (2 + chance.gauss(0, 0.5)) * math.sqrt(load)))
        while recycled and recycled[0][0] <= when:
            ends, _, place, environment = heapq.heappop(recycled)
            if place < len(working) and working[place][0] is environment:
                environment.stop(working[place][1], ends)
                done.append(environment.life)
                invoke(place, Environment(ends, chance), ends)
        while len(working) > needed:
            environment, since = working.pop()
            environment.stop(since, when)
            idle.append((environment, when))
        while len(working) < needed:
            if not idle:
                begins = when + chance.uniform(0, STEP)
                invoke(len(working), Environment(begins, chance), begins)
                continue
            environment, since = idle.pop()
            if when - since < IDLE_SECONDS and environment.ends > when:
                invoke(len(working), environment, when)
            else:
                # It was idle for too long, or is due to be recycled.
                done.append(environment.life)
    for environment, since in working:
        environment.stop(since, min(environment.ends, days * DAY))
        done.append(environment.life)
    return done + [environment.life for environment, _ in idle]


def fetches(life: Life, draw: Draw | None, chance: random.Random) -> Iterator[float]:
    """Yield the times at which one secret is fetched: it is due, and the environment is invoked."""
    yield life[0][0]
    if draw is None:
        return
    due = life[0][0] + draw(chance)
    for begin, end in life:
        due = max(due, begin)
        while due < end:
            yield due
            due += draw(chance)


def traffic(environments: list[Life], strategy: Strategy, begin: int, end: int, chance: random.Random) -> Traffic:
    """Return the calls of the environments between two times."""
    calls = Traffic(begin, end)
    for life in environments:
        if life[-1][1] < begin:
            continue
        by_second: dict[int, int] = {}
        for _ in range(SECRETS):
            for when in fetches(life, strategy.draw, chance):
                by_second[int(when)] = by_second.get(int(when), 0) + 1
        first = int(life[0][0])
        for second, secrets in by_second.items():
            calls.fetch(second, secrets, strategy, is_first=second == first)
    return calls


def month(mean: float) -> dict[str, Any]:
    """Return the figures of a month at a mean rate, by strategy."""
    chance = random.Random(SEED)
    environments = lives(mean, 2, chance)
    counted = [life for life in environments if life[0][0] >= DAY]
    steps = [rate_at(mean, DAY + second) for second in range(DAY)]
    found: dict[str, Any] = {
        "no cache": {
            # The worst second of a day is three standard deviations above the highest rate.
            "GetSecretValue": {
                "calls": round(sum(steps)) * SECRETS,
                "peak": round(max(steps) + 3 * math.sqrt(max(steps))) * SECRETS,
            }
        }
    }
    for name, strategy in STRATEGIES.items():
        found[name] = traffic(environments, strategy, DAY, 2 * DAY, random.Random(SEED)).totals()
    for operations in found.values():
        for figures in operations.values():
            figures["calls"] *= DAYS_A_MONTH
    return {"cold starts": len(counted) * DAYS_A_MONTH, "strategies": found}


def deploy() -> dict[str, Any]:
    """Return the calls after a deploy, by second: all environments start within seconds and live for some hours."""
    chance = random.Random(SEED)
    end = int(DEPLOY_HOURS * 3600)
    environments: list[Life] = [
        [(chance.uniform(0, DEPLOY_SECONDS), float(end))] for _ in range(DEPLOY_FUNCTIONS * DEPLOY_ENVIRONMENTS)
    ]
    found = {}
    for name, strategy in STRATEGIES.items():
        calls = traffic(environments, strategy, 0, end, random.Random(SEED))
        # Only the seconds with calls.
        found[name] = {
            operation: {second: count for second, count in enumerate(seconds) if count}
            for operation, seconds in calls.seconds.items()
            if any(seconds)
        }
    return found


def simulate() -> dict[str, Any]:
    return {"assumptions": ASSUMPTIONS, "months": {str(rate): month(rate) for rate in RATES}, "deploy": deploy()}


def usd_of_init(month: dict[str, Any], client: str) -> float:
    """Return what INIT of the cold starts of a month costs."""
    return float(month["cold starts"]) * INIT_SECONDS[client] * INIT_GB * USD_A_GB_SECOND


def usd(operations: dict[str, Any]) -> float:
    """Return what the calls of a month cost, batches not included."""
    calls = [int(figures["calls"]) for name, figures in operations.items() if name != "BatchGetSecretValue"]
    return USD_A_CALL * sum(calls)


def peaks(operations: dict[str, int]) -> str:
    """Return the worst seconds as text, with the ratio to a quota that is exceeded."""
    shown = []
    for operation, peak in operations.items():
        ratio = peak / QUOTAS[operation]
        short = operation.replace("SecretValue", "").replace("Secret", "")
        shown.append(f"{short} {peak:,}" + (f" ({ratio:.1f} x quota)" if ratio > 1 else ""))
    return ", ".join(shown)


def report(found: dict[str, Any]) -> str:
    rows = []
    for rate, each in found["months"].items():
        for name, operations in each["strategies"].items():
            batches = operations.get("BatchGetSecretValue", {"calls": 0})["calls"]
            singles = sum(figures["calls"] for figures in operations.values()) - batches
            rows.append(
                (
                    f"{int(rate):,}/s  {name}",
                    f"{each['cold starts']:,}",
                    f"{singles:,}",
                    f"{batches:,}" if batches else "-",
                    f"{usd(operations):,.2f}" + (" + batches" if batches else ""),
                    peaks({operation: figures["peak"] for operation, figures in operations.items()}),
                )
            )
    head = ("mean invocations", "cold starts", "calls a month", "batches", "USD a month", "peak calls a second")
    months = table("A function's month", head, rows)
    inits = [
        (f"{int(rate):,}/s", *(f"{usd_of_init(each, client):,.2f}" for client in INIT_SECONDS))
        for rate, each in found["months"].items()
    ]
    months += "\n" + table("INIT of its cold starts, USD a month", ("mean invocations", *INIT_SECONDS), inits)
    parts = []
    for name, operations in found["deploy"].items():
        first, second = (
            {
                operation: max((count for at, count in calls.items() if begin <= int(at) < end), default=0)
                for operation, calls in operations.items()
            }
            for begin, end in itertools.pairwise((0, 1_200, 5_400))
        )
        parts.append((name, peaks(first), peaks(second)))
    size = (
        f"{DEPLOY_FUNCTIONS} functions, {DEPLOY_FUNCTIONS * DEPLOY_ENVIRONMENTS:,} environments in {DEPLOY_SECONDS} s"
    )
    burst = table(f"A deploy: {size}", ("", "peak at the deploy, calls/s", "peak an hour later, calls/s"), parts)
    return f"{months}\n{burst}\n\nAssumed:\n{found['assumptions']}"


if __name__ == "__main__":
    print(report(simulate()))
