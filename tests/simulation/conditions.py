"""What the calls of the source do under the conditions of a schedule."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from typing import Any, Final

from asecretcache import SecretRequest
from simulation.fake_secrets_manager import REFUSALS, Behaviour, Call, FakeSecretsManager, short_id
from simulation.records import LONGEST_CLEAN_UP
from simulation.schedule import NAMES, Conditions, Schedule

_DELAYS: Final = (0.0, 0.0, 0.02, 0.3, 0.3, 1.5)
#: What a call does in each kind of conditions; the other kinds are failures.
_KINDS: Final[dict[str, dict[str, Any]]] = {
    "fair": {},
    "flaky": {},
    "down": {"failure": "unavailable"},
    "hanging": {"after": 1e6},
    "malformed": {"is_malformed": True},
    "cancels": {"cancels": True},
}
_ODD: Final = ("malformed", "cancels", "bug", "configuration", "credentials", "expired credentials")
_FLAKY: Final = (*["fair"] * 18, *["down", "throttled", "hanging"] * 4, *_ODD)
_FLAKY_ITEMS: Final = (*[""] * 8, "missing", "unavailable", "throttled")


def draw_behaviour(
    call: Call, key: tuple[str, int], conditions: Conditions, schedule: Schedule, manager: FakeSecretsManager
) -> Behaviour:
    """Return what a call does; ``key`` is how the plan of a schedule calls it."""
    number = schedule.behaviours
    refused = _refused(call.requests, conditions, manager) if conditions.refused else {}
    behaviour, kind = Behaviour(), conditions.kind
    if number is not None:
        # Of each call by itself, so that a call more or less changes no other secret's.
        draw = random.Random((number << 32) + zlib.crc32(repr(key).encode()))
        behaviour = Behaviour(
            draw.choice(_DELAYS),
            draw.choice(_DELAYS),
            clean_up=draw.choice([0.0, 0.0, 0.0, LONGEST_CLEAN_UP]),
            is_stubborn=draw.random() < 0.05,
        )
        if kind == "flaky" and call.is_batch:
            kinds = {short_id(each.secret_id): draw.choice(_FLAKY_ITEMS) for each in call.requests}
            refused = {each: kind for each, kind in kinds.items() if kind} | refused
        if kind == "flaky":
            kind = draw.choice(_FLAKY)
    if call.is_batch and conditions.batches:
        return behaviour._replace(failure=conditions.batches)
    behaviour = behaviour._replace(**_KINDS.get(kind, {"failure": kind}))
    if call.is_batch:
        return behaviour._replace(items=refused)
    if refused:
        return behaviour._replace(failure=refused[key[0]], is_malformed=False, cancels=False)
    return behaviour._replace(needs=schedule.options.needs.get(key[0], ""))


def _refused(requests: Iterable[SecretRequest], conditions: Conditions, manager: FakeSecretsManager) -> dict[str, str]:
    """Return how the conditions refuse secrets, each in its own way."""
    secrets = {short_id(request.secret_id): manager.find(request.secret_id) for request in requests}
    return {
        short: REFUSALS[NAMES.index(secret.name) % 3]
        for short, secret in secrets.items()
        if secret is not None and secret.name in conditions.refused
    }
