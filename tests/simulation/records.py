"""What the rules know of the machine, of each fetch and of each caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from asecretcache import Secret, SecretCacheError, SecretRequest
from observe import Deadline, Fetch, FetchReason
from simulation.fake_secrets_manager import Call, full_id, short_id
from simulation.schedule import Ask
from simulation.virtual_loop import VirtualLoop, VirtualTime

#: Times are compared with this slack.
EPSILON: Final = 1e-5
#: How long a call that is cancelled may take to end.
LONGEST_CLEAN_UP: Final = 0.4

#: After so many lost refreshes a read waits for one.
MAX_LOST: Final = 3

#: Why a rule judges something: the sentence of the contract that it is of.
RULES: Final = {
    # --- Fetches.
    "single-flight": "Concurrent callers of one loop that want the same secret share one fetch.",
    "joinable": "Callers join running fetches of their secret and loop, neither forgotten nor overdue; a refresh joins "
    "refreshes only.",
    "fresh": "What is fresh in memory is served, not fetched.",
    "revalidation": "Within stale_while_revalidate the value is served at once, and refreshed only for a stale value.",
    "lost refreshes": "After three refreshes that were cut off a read waits for one.",
    "back-off": "While a stale value is served, retries are spaced by 1 s at least, doubling up to 30 s at least.",
    "held": "An answer by which AWS refuses or throttles is held for a second.",
    "calls": "A fetch makes one call, for its own request and on its own loop; another only after a batch was refused.",
    "batch": "A batch has 2 to 20 secrets, current versions only; after one was denied there are no more.",
    "fetch time-out": "No fetch takes longer than fetch_timeout.",
    "wanted": "A fetch isn't cancelled while a caller waits for it, unless others cancel it or it is overdue.",
    "unwanted": "When the last caller that waits for a fetch is cancelled, so is the fetch.",
    "own value": "What a fetch brings was read by its own call, for its own id.",
    # --- What is stored.
    "stored": "What is fetched is stored, unless a later fetch of the same key has brought a value or a refusal.",
    "start order": "A fetch never overwrites the result of one that started after it.",
    "forgotten": "What was invalidated or closed while it was fetched isn't stored.",
    "untouched": "A fetch changes no other key, and a failure changes none.",
    "expiry": "A value expires between ttl * (1 - jitter) and ttl after its fetch started; a version by id never does.",
    "eviction": "Only a full store evicts: the oldest value, but what was read since gets a second chance.",
    "invalidate": "invalidate drops every value stored by the id, or whose secret has this name or ARN, and no other.",
    # --- What callers get.
    "identity": "A caller gets a value of the secret, version and JSON key that it asked for.",
    "servable": "A value from memory is fresh, or stale as stale_while_revalidate and stale_if_error allow.",
    "forgotten value": "After invalidate no caller gets a value whose fetch started before.",
    "refresh": "A refresh returns what a refresh has fetched.",
    "at once": "What may be served from memory is returned without a pause.",
    "typed error": "Whatever goes wrong, callers get an error of the package.",
    "own error": "Each caller gets an error instance of its own, about the id that it used.",
    "explained error": "An error has a cause: a fetch that the caller waited for, a held answer, a deadline, a close.",
    "stale-if-error": "No transient error is raised while a stale value may be served.",
    "cancellation": "A caller that is cancelled ends with that, and no other does.",
    "duration": "A caller waits no longer than two fetches, its deadline or its scope.",
    "rotation": "call_with_secret calls with at most two versions, fetches only what isn't in memory, and gives up at "
    "refresh_timeout only.",
    "pace": "The refreshes of call_with_secret are spaced by 0.1 s, doubling up to 1 s, for all callers together.",
    # --- What is left.
    "told once": "An observer is told of each task that makes a call once when it starts, and once when it has ended.",
    "left over": "Nothing is left over: no task, fetch, waiter, value of a closed cache, complaint of a loop.",
    "statistics": "The counts of stats() are what has happened.",
    "recovery": "Once all is well again, a caller gets its secret.",
    "stuck": "Nothing waits for ever.",
    "simulation": "The simulation itself doesn't fail.",
}


class Wanted:
    """One reference that a caller asks for."""

    def __init__(self, reference: str) -> None:
        short, _, rest = reference.partition(":")
        field, stage, version = (*rest.split(":"), "", "")[:3]
        self.secret_id = full_id(short)
        self.field = field or None
        self.stage, self.version = stage or None, version or None
        self.reference = f"{self.secret_id}:{rest}" if rest else self.secret_id
        self.request = SecretRequest(self.secret_id, self.stage, self.version)


class Clocks:
    """The clocks of the machine, and for how long each loop has rested or was frozen."""

    def __init__(self) -> None:
        self.monotonic = VirtualTime()
        self.offset = 1_000_000.0
        self.rested: dict[VirtualLoop, float] = {}

    def wall(self) -> float:
        return self.offset + self.monotonic.now

    def running(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return for how long a loop has run."""
        assert isinstance(loop, VirtualLoop)
        return self.monotonic.now - self.rested[loop]


class FetchRecord:
    """What is known of a fetch.

    Attributes:
        number: its place in the order of starts.
        wall, monotonic, running: when it was started, by each clock.
        is_disturbed: whether other code has cancelled it, or it was found overdue.
        is_forgotten: whether its secret was invalidated for certain while it ran; ``forgotten_ids``: if it is of one.
        secret: what it has brought.
        expires_at: until when that is fresh.
        refused_by: the number of the latest fetch by which its value was refused.
        hits: how often its value had been read when one was evicted last.
        lost_refreshes: how many refreshes in the background were cut off while it was stored;
        lost_at_most: with those of which it can't be known.
    """

    def __init__(self, fetch: Fetch, number: int, clocks: Clocks) -> None:
        self.fetch = fetch
        self.number = number
        self.wall, self.monotonic, self.running = clocks.wall(), clocks.monotonic.now, clocks.running(fetch.loop)
        self.reasons: list[FetchReason] = []
        self.calls: list[Call] = []
        self.is_disturbed = False
        self.is_forgotten = False
        self.forgotten_ids: list[str] = []
        self.has_ended = False
        self.secret: Secret | None = None
        self.expires_at = 0.0
        self.stored_as = 0
        self.refused_by = -1
        self.hits = 0
        self.lost_refreshes = self.lost_at_most = 0

    def is_fresh(self, now: float) -> bool:
        return self.wall <= now < self.expires_at

    def may_be_stale(self, now: float, seconds: float) -> bool:
        """Whether its value may be served for so long past its expiry, or is fresh."""
        if self.is_fresh(now):
            return True
        return self.refused_by < 0 and self.wall <= now < self.expires_at + seconds

    def is_served_at_once(self, now: float, seconds: float) -> bool:
        """Whether its value must be served without waiting, within so many seconds past its expiry."""
        return self.is_fresh(now) or (self.may_be_stale(now, seconds) and self.lost_at_most < MAX_LOST)

    def is_overdue(self, clocks: Clocks, timeout: float) -> float:
        """Return by how much it has outlasted the time of a fetch, by the clock that shows most."""
        return max(abs(clocks.wall() - self.wall), clocks.monotonic.now - self.monotonic) - timeout


class Failures:
    """The latest failure of a key that has a bearing on later calls, and how many in a row while it was stale."""

    def __init__(self, error: SecretCacheError, at: float, in_a_row: int) -> None:
        self.error = error
        self.at = at
        self.in_a_row = in_a_row

    def is_within(self, seconds: float, now: float) -> bool:
        return self.at <= now < self.at + seconds


class Caller:
    """One caller: what it asked for, and what it met on the way.

    Attributes:
        began: its place in the order of events; -1 until it begins.
        at_once: what it has to be given without a pause.
        allowed: the values that it might be given from memory, at one of the moments at which that was decided.
        joined: the fetches that it has waited for.
        answers: refusals and throttles that were held while it asked.
        tried: the versions with which call_with_secret has called.
    """

    def __init__(self, ask: Ask, loop: VirtualLoop) -> None:
        self.ask = ask
        self.kind = ask.kind
        self.loop = loop
        self.wanted = [Wanted(reference) for reference in ask.references]
        self.requests = list(dict.fromkeys(each.request for each in self.wanted))
        self.limit = 0.0
        self.began = -1
        self.began_at = 0.0
        self.steps = 0
        self.at_once: dict[SecretRequest, FetchRecord] = {}
        self.allowed: set[FetchRecord] = set()
        self.joined: list[FetchRecord] = []
        self.answers: list[tuple[SecretRequest, SecretCacheError]] = []
        self.has_retried = False
        self.was_open = True
        self.deadline: Deadline | None = None
        self.was_late = False
        self.tried: list[Secret] = []
        self.refusal: Exception | None = None
        self.refused_at = 0.0, 0.0
        #: What it got: a value, a mapping or an error.
        self.result: object = None
        self.was_cancelled = False
        self.is_over = False
        self.task: asyncio.Task[None] | None = None

    @property
    def has_paused(self) -> bool:
        """Whether other callbacks have run since it began."""
        return self.loop.steps != self.steps

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()


current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)

#: Notes a violation of a rule unless the second argument holds; the others tell of it.
Claim = Callable[..., None]


def may_be_same(one: str, other: str) -> bool:
    """Whether two ids may be of the same secret, as far as ids can tell."""
    name, _, birth = short_id(one).partition("@")
    other_name, _, other_birth = short_id(other).partition("@")
    return name == other_name and (birth == other_birth or not birth or not other_birth)
