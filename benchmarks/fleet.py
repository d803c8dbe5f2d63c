"""A simulated function at scale: its calls in a month, what they cost, and the calls in the worst second.

Each execution environment is simulated by itself: when it starts, works, idles and is recycled in the course of a day,
and when each of its secrets is fetched. Single invocations aren't simulated: a working environment is invoked so often
that a secret is fetched in the second in which it expires. The assumptions are printed with the results; the random
numbers are seeded. A call that a quota would refuse is counted once: retries would only add to the calls, and make
callers wait longer.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from figures import table
from lambda_environments import DAY, IDLE_SECONDS, INVOCATION_SECONDS, LIFETIME, SWING, Life, lives, overlap, rate_at

SEED: Final = 20_251
RATES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
SECRETS: Final = 5
TTL: Final = 3600.0
JITTER: Final = 0.1
DAYS_A_MONTH: Final = 30

# By secret: once a day, the first of them when the rate is highest, the others spread over the day. The days are the
# simulated one and the one before.
ROTATIONS: Final = [
    [day * DAY + (DAY // 4 + secret * DAY // SECRETS) % DAY for day in (0, 1)] for secret in range(SECRETS)
]
# For how long the database takes only the new password while AWSCURRENT is still the old one.
LABEL_LAG: Final = 1.0
# The pauses between refreshes that bring nothing new, doubling, as asecretcache/_core/rotation.py has them.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0

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


def refreshes(refused: float, moved: float) -> Iterator[float]:
    """Yield the times at which a secret that was refused is refreshed, until the label has moved."""
    pause = FIRST_PAUSE
    while refused < moved:
        yield refused
        refused += pause
        pause = min(LONGEST_PAUSE, 2 * pause)
    yield refused


# Those of an environment that is invoked all the time.
REFRESHES: Final = list(refreshes(0.0, LABEL_LAG))

ASSUMPTIONS: Final = f"""\
- invocations take {INVOCATION_SECONDS} s; the rate goes up and down by {SWING:.0%} of its mean in a day;
- an environment serves one invocation at a time; as many are needed as work on average, and two standard deviations
  more; one that isn't needed idles, and ends after {IDLE_SECONDS / 60:.0f} minutes; each is recycled after \
{LIFETIME[0] / 3600:.0f} to {LIFETIME[1] / 3600:.0f} hours;
- every invocation reads {SECRETS} secrets; a ttl is {TTL / 3600:.0f} h; no call fails;
- each secret is rotated once a day, one of them when the rate is highest; the database refuses the old password at
  once (rotation of a single user), the label moves {LABEL_LAG:.0f} s later, and every invocation logs in anew;
- no cache: {SECRETS} GetSecretValue an invocation; the article: {SECRETS} an environment, never again;
- official clients: DescribeSecret and GetSecretValue at first, then DescribeSecret at each expiry, drawn anew from
  [ttl / 2, ttl], and GetSecretValue if the version has changed (aws-secretsmanager-caching 1.2 for Python);
- asecretcache: GetSecretValue at first and at each expiry, drawn from [ttl x {1 - JITTER}, ttl]; with batch=True,
  secrets of one environment that are due in the same second go together, up to {MAX_BATCH} a call;
- refresh_on: at a rotation an environment that works makes {len(REFRESHES)} calls for the secret; its callers wait \
{REFRESHES[-1]:.1f} s,
  longer if the quota is exceeded; one that idles makes one call at its next invocation;
- {USD_A_CALL * 10_000} USD per 10,000 calls, storage not included; how batch calls are billed isn't stated publicly,
  so they are counted and not priced;
- INIT of a cold start: {INIT_SECONDS["aioboto3"]} s with aioboto3, {INIT_SECONDS["DirectSource"]} s with DirectSource \
(small.py), at {INIT_GB * 1024:.0f} MB and {USD_A_GB_SECOND} USD per GB-second;
- quotas per region: {", ".join(f"{name} {quota:,}/s" for name, quota in QUOTAS.items())};
- a month is {DAYS_A_MONTH} days like the simulated one, which follows another that isn't counted; seed {SEED}."""

# Draws the seconds until a value must be fetched again.
Draw = Callable[[random.Random], float]


class Strategy(NamedTuple):
    """How a client fetches.

    Attributes:
        draw: draws how long a value is served; None: as long as the environment lives.
        kept_until: what ends the use of a password that was replaced.
        describes: whether it calls DescribeSecret first of all, and at an expiry nothing else unless rotated.
        batch: whether secrets that are due in the same second are fetched with one call.
        refresh_on: whether a secret that is refused is refreshed while its callers wait.
    """

    draw: Draw | None
    kept_until: str
    describes: bool = False
    batch: bool = False
    refresh_on: bool = False


def jittered(chance: random.Random) -> float:
    return chance.uniform(TTL * (1 - JITTER), TTL)


STRATEGIES: Final = {
    "the article": Strategy(None, "the environment is recycled"),
    "official clients": Strategy(
        lambda chance: chance.uniform(TTL / 2, TTL), "the next DescribeSecret, within the ttl", describes=True
    ),
    "asecretcache, jitter=0": Strategy(lambda _: TTL, "the ttl expires"),
    "asecretcache": Strategy(jittered, "the ttl expires"),
    "asecretcache, batch=True": Strategy(jittered, "the ttl expires", batch=True),
    "asecretcache, ttl=None, refresh_on": Strategy(
        None, f"it is refused; callers wait {REFRESHES[-1]:.1f} s", refresh_on=True
    ),
}


class Traffic:
    """The calls within a stretch of time, by operation and second, and for how long stored values are refused.

    Attributes:
        refused: environment-seconds in which invocations read a value that is refused, summed over the secrets.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.refused = 0.0
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


def fetches(life: Life, strategy: Strategy, rotations: list[int], chance: random.Random) -> Iterator[float]:
    """Yield the times at which one secret is fetched: it is due or refused, and the environment is invoked."""
    first = life[0][0]
    yield first
    for rotation in rotations if strategy.refresh_on else ():
        refused = next((max(begin, rotation) for begin, end in life if end > rotation), None)
        if refused is not None and first < rotation + LABEL_LAG:
            yield from refreshes(refused, rotation + LABEL_LAG)
    if strategy.draw is None:
        return
    due = first + strategy.draw(chance)
    for begin, end in life:
        due = max(due, begin)
        while due < end:
            yield due
            due += strategy.draw(chance)


def traffic(environments: list[Life], strategy: Strategy, rotations: list[list[int]], span: tuple[int, int]) -> Traffic:
    """Return the calls of the environments between two times; the rotations are by secret."""
    begin, end = span
    chance = random.Random(SEED)
    calls = Traffic(begin, end)
    for life in environments:
        if life[-1][1] < begin:
            continue
        by_second: dict[int, int] = {}
        for rotated in rotations:
            times = list(fetches(life, strategy, rotated, chance))
            for when in times:
                by_second[int(when)] = by_second.get(int(when), 0) + 1
            for rotation in rotated:
                moved = rotation + LABEL_LAG
                if times[0] >= moved:
                    continue
                renewed = next((when for when in times if when >= moved), float("inf"))
                if strategy.describes and renewed < end:
                    calls.add("GetSecretValue", renewed)
                if not strategy.refresh_on:
                    calls.refused += overlap(life, max(rotation, begin), min(renewed, end))
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
    span = (DAY, 2 * DAY)
    # Without a cache a login fails until the label has moved.
    lags = [(each, each + LABEL_LAG) for rotated in ROTATIONS for each in rotated if each >= DAY]
    refused = {"no cache": sum(overlap(life, *lag) for life in environments for lag in lags)}
    for name, strategy in STRATEGIES.items():
        calls = traffic(environments, strategy, ROTATIONS, span)
        found[name], refused[name] = calls.totals(), calls.refused
    for operations in found.values():
        for figures in operations.values():
            figures["calls"] *= DAYS_A_MONTH
    # Reads come at the same pace all the time, so their share is that of the time.
    total = SECRETS * sum(overlap(life, *span) for life in environments)
    return {
        "cold starts": len(counted) * DAYS_A_MONTH,
        "strategies": found,
        "refused": {name: {"seconds": each * DAYS_A_MONTH, "share": each / total} for name, each in refused.items()},
    }


def deploy() -> dict[str, Any]:
    """Return the calls after a deploy, by second: all environments start within seconds and live for some hours."""
    chance = random.Random(SEED)
    end = int(DEPLOY_HOURS * 3600)
    environments: list[Life] = [
        [(chance.uniform(0, DEPLOY_SECONDS), float(end))] for _ in range(DEPLOY_FUNCTIONS * DEPLOY_ENVIRONMENTS)
    ]
    found = {}
    for name, strategy in STRATEGIES.items():
        calls = traffic(environments, strategy, [[]] * SECRETS, (0, end))
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


def refused_table(rate: str, month: dict[str, Any]) -> str:
    kept_until = {"no cache": "the label moves, a second later"}
    kept_until |= {name: strategy.kept_until for name, strategy in STRATEGIES.items()}
    rows = [
        (name, kept_until[name], f"{each['seconds'] / 3600:,.0f}", f"{each['share']:.3%}")
        for name, each in month["refused"].items()
    ]
    title = f"Reads of a password that is refused, at {int(rate):,} invocations a second, summed over the secrets"
    return table(title, ("", "used until", "environment-hours a month", "share of reads"), rows, texts=2)


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
    months += "\n" + refused_table(*list(found["months"].items())[-1])
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
