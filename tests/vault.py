"""A Secrets Manager in memory for the simulations: its truth, and a source over it that keeps a log of each call.

Every value tells which secret it is of, which version, and which call read it, so whoever is served another's value, or
one of another time, is found out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, cast

from asecretcache import Secret, SecretCacheError, SecretNotFoundError, SecretRequest

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
OWN, FOREIGN = "111111111111", "222222222222"


class Label(NamedTuple):
    """A staging label was on a version from this tick on."""

    tick: int
    version: int


class Kept:
    """One secret: its versions are numbered from 1; ``labels`` holds where each label has been since when."""

    def __init__(self, account: str, name: str, number: int) -> None:
        self.account, self.name, self.number = account, name, number
        self.arn = f"arn:aws:secretsmanager:eu-west-1:{account}:secret:{name}-{number:06d}"
        self.versions = 0
        self.labels: dict[str, list[Label]] = {}
        self.deleted_at: int | None = None

    def version_id(self, version: int) -> str:
        return f"{self.number}.{version}"

    def at(self, label: str) -> int | None:
        moves = self.labels.get(label)
        return moves[-1].version if moves else None


class Value(NamedTuple):
    """What a value tells of itself."""

    arn: str
    version: int
    call: int

    @classmethod
    def of(cls, text: str) -> Value:
        arn, version, call = text.split("|")
        return cls(arn, int(version), int(call))

    def __str__(self) -> str:
        return f"{self.arn}|{self.version}|{self.call}"


class Vault:
    """The secrets of two accounts, of which ours reads the other's by ARN alone; ``tick`` tells the time."""

    def __init__(self, tick: Callable[[], int] = lambda: 0) -> None:
        self._tick = tick
        self.by_arn: dict[str, Kept] = {}
        self.by_name: dict[str, Kept] = {}

    def create(self, name: str, account: str = OWN) -> Kept:
        kept = Kept(account, name, len(self.by_arn) + 1)
        self.by_arn[kept.arn] = kept
        if account == OWN:
            self.by_name[name] = kept
        self.rotate(kept)
        return kept

    def rotate(self, kept: Kept) -> int:
        """Make a new version and move the labels."""
        kept.versions += 1
        self.label(kept, kept.versions)
        return kept.versions

    def label(self, kept: Kept, version: int) -> None:
        """Move AWSCURRENT to a version, as an operator may, also to an older one."""
        current = kept.at(CURRENT)
        if current is not None:
            kept.labels.setdefault(PREVIOUS, []).append(Label(self._tick(), current))
        kept.labels.setdefault(CURRENT, []).append(Label(self._tick(), version))

    def delete(self, name: str) -> None:
        self.by_name.pop(name).deleted_at = self._tick()

    def find(self, secret_id: str) -> Kept | None:
        """Return the secret that this id means now."""
        if not secret_id.startswith("arn:"):
            return self.by_name.get(secret_id)
        kept = self.by_arn.get(secret_id)
        return None if kept is None or kept.deleted_at is not None else kept

    def read(self, request: SecretRequest, call: int, now: float) -> Secret:
        kept = self.find(request.secret_id)
        version = None if kept is None else self._version(kept, request)
        if kept is None or version is None:
            msg = f"there is no such version of {request.secret_id}"
            raise SecretNotFoundError(
                msg, secret_id=request.secret_id, code="ResourceNotFoundException", request_id=str(call)
            )
        return Secret(
            name=kept.name,
            arn=kept.arn,
            version_id=kept.version_id(version),
            version_stages=tuple(label for label in kept.labels if kept.at(label) == version),
            secret_string=str(Value(kept.arn, version, call)),
            fetched_at=now,
        )

    @staticmethod
    def _version(kept: Kept, request: SecretRequest) -> int | None:
        if request.version_id is None:
            return kept.at(request.version_stage or CURRENT)
        versions = {kept.version_id(version): version for version in range(1, kept.versions + 1)}
        version = versions.get(request.version_id)
        if version is not None and request.version_stage is not None and kept.at(request.version_stage) != version:
            return None
        return version


class Behaviour(NamedTuple):
    """What one call does: how many seconds pass before and after it reads, and what goes wrong.

    ``failure`` is raised in place of reading, ``failures`` are those of single ids of a batch (None: the id is missing
    in the answer), ``first`` is awaited before anything else, ``junk`` is returned instead of what was read,
    ``cancels`` raises CancelledError though nobody has cancelled it, and ``clean_up`` is how long the call takes to end
    once it is cancelled. If it ``is_stubborn`` it returns what it has read then, in spite of its cancellation.
    """

    before: float = 0.0
    after: float = 0.0
    failure: Exception | None = None
    failures: Mapping[str, SecretCacheError | None] = {}
    first: Callable[[], Awaitable[None]] | None = None
    junk: object = None
    cancels: bool = False
    clean_up: float = 0.0
    is_stubborn: bool = False


class Call:
    """One call: what for, and what has become of it."""

    def __init__(self, number: int, requests: Sequence[SecretRequest], *, is_batch: bool) -> None:
        self.number = number
        self.requests = tuple(requests)
        self.is_batch = is_batch
        self.loop = asyncio.get_running_loop()
        self.was_cancelled = False
        self.failure: Exception | None = None
        #: By id, in the end.
        self.outcomes: dict[str, object] = {}


class VaultSource:
    """A source over a vault, which does with each call what ``behave`` says; any loop may use it."""

    def __init__(
        self,
        vault: Vault,
        behave: Callable[[Call], Behaviour] = lambda _call: Behaviour(),
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.vault = vault
        self.calls: list[Call] = []
        #: How often each was being fetched at once, on one loop, at the most.
        self.most_at_once: Counter[SecretRequest] = Counter()
        self._at_once: Counter[tuple[asyncio.AbstractEventLoop, SecretRequest]] = Counter()
        self._behave = behave
        self._clock = clock

    async def fetch(self, request: SecretRequest) -> Secret:
        call = Call(len(self.calls), (request,), is_batch=False)

        def read(_behaviour: Behaviour) -> Secret:
            return self.vault.read(request, call.number, self._clock())

        # Whatever it is that comes back, the cache has to live with it.
        outcome = cast("Secret", await self._run(call, read))
        call.outcomes[request.secret_id] = outcome
        return outcome

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        call = Call(len(self.calls), [SecretRequest(each) for each in secret_ids], is_batch=True)

        def read(behaviour: Behaviour) -> Mapping[str, Secret | SecretCacheError]:
            return dict(self._read_each(call, behaviour))

        outcomes = cast("Mapping[str, Secret | SecretCacheError]", await self._run(call, read))
        call.outcomes.update(outcomes if isinstance(outcomes, Mapping) else {})
        return outcomes

    def _read_each(self, call: Call, behaviour: Behaviour) -> list[tuple[str, Secret | SecretCacheError]]:
        found: list[tuple[str, Secret | SecretCacheError]] = []
        for request in call.requests:
            try:
                failure = behaviour.failures.get(request.secret_id)
                outcome = failure or self.vault.read(request, call.number, self._clock())
            except SecretNotFoundError as exc:
                outcome = exc
            if failure or request.secret_id not in behaviour.failures:
                found.append((request.secret_id, outcome))
        return found

    async def _run(self, call: Call, read: Callable[[Behaviour], object]) -> object:
        self.calls.append(call)
        for request in call.requests:
            self._at_once[call.loop, request] += 1
            self.most_at_once[request] = max(self.most_at_once[request], self._at_once[call.loop, request])
        behaviour = self._behave(call)
        try:
            if behaviour.first is not None:
                await behaviour.first()
            await asyncio.sleep(behaviour.before)
            if behaviour.cancels:
                raise asyncio.CancelledError
            if behaviour.failure is not None:
                raise behaviour.failure
            outcome = read(behaviour)
            await asyncio.sleep(behaviour.after)
        except asyncio.CancelledError:
            call.was_cancelled = True
            await asyncio.sleep(behaviour.clean_up)
            if not behaviour.is_stubborn:
                raise
            outcome = read(behaviour)
        except Exception as exc:
            call.failure = exc
            raise
        finally:
            for request in call.requests:
                self._at_once[call.loop, request] -= 1
        return outcome if behaviour.junk is None else behaviour.junk

    async def aclose(self) -> None:
        pass
