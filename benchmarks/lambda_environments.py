"""When the execution environments of a Lambda function start, work, idle and are recycled in the course of a day."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from typing import Final

DAY: Final = 86_400
# How far the rate moves from its mean in the course of a day, as a fraction.
SWING: Final = 0.8
INVOCATION_SECONDS: Final = 0.1
LIFETIME: Final = (2 * 3600.0, 6 * 3600.0)
IDLE_SECONDS: Final = 600.0
STEP: Final = 10

# The life of an environment: begin and end of each stretch in which it is invoked.
Life = list[tuple[float, float]]


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


def overlap(life: Life, begin: float, end: float) -> float:
    """Return for how many seconds between two times the environment is invoked."""
    return sum(max(0.0, min(end, stop) - max(begin, start)) for start, stop in life)
