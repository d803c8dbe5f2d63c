"""A Secrets Manager in memory for the simulation: the secrets, and a source over them that logs each call.

Each value says which secret it is of, which version, which call read it and by which id. So a caller that is served
another secret's value, or one of another time, is found out.

Secrets are written as short ids: ``a`` is a name, ``a@1`` the ARN of the first secret of this name, ``a@2`` the ARN of
the next one (after a deletion), ``a@0`` the ARN of another account's secret of this name, and ``a@`` the partial ARN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, cast

from asecretcache import (
    ConfigurationError,
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
_ACCOUNTS: Final = ("222222222222", "111111111111")
_ARN: Final = "arn:aws:secretsmanager:eu-west-1:"

#: The JSON keys of each value, and one that no value has.
FIELDS: Final = ("text", "number", "object")
ABSENT: Final = "absent"

#: By the words that schedules use. "bug" is an error that no source should raise.
FAILURES: Final[dict[str, type[Exception]]] = {
    "unavailable": SecretUnavailableError,
    "throttled": SecretThrottledError,
    "not found": SecretNotFoundError,
    "denied": SecretAccessDeniedError,
    "decryption": SecretDecryptionError,
    "credentials": CredentialsError,
    "expired credentials": CredentialsError,
    "configuration": ConfigurationError,
    "bug": ValueError,
}
REFUSALS: Final = ("not found", "denied", "decryption")


@lru_cache(maxsize=10_000)
def full_id(short: str) -> str:
    """Return the name or ARN of a short id."""
    name, at, birth = short.partition("@")
    if not at:
        return name
    suffix = f"-{int(birth):06d}" if birth else ""
    return f"{_ARN}{_ACCOUNTS[birth != '0']}:secret:{name}{suffix}"


@lru_cache(maxsize=10_000)
def short_id(secret_id: str) -> str:
    """Return the short id of a name or ARN."""
    if not secret_id.startswith("arn:"):
        return secret_id
    name, hyphen, suffix = secret_id.rpartition(":")[2].partition("-")
    return f"{name}@{int(suffix) if hyphen else ''}"


def short(request: SecretRequest) -> str:
    """Return a request as a reference to a short id."""
    version = f"::{request.version_stage or ''}:{request.version_id or ''}".rstrip(":")
    return short_id(request.secret_id) + version


class FakeSecret:
    """One secret: its versions are numbered from 1, and ``labels`` says which version has which label."""

    def __init__(self, name: str, birth: int) -> None:
        self.name = name
        self.short_id = f"{name}@{birth}"
        self.arn = full_id(self.short_id)
        self.is_foreign = birth == 0
        self.is_deleted = False
        self.versions = 0
        self.labels: dict[str, int] = {}
        #: The version that the database accepts; a rotation changes it there first.
        self.accepted = 1
        self.is_rotating = False

    def version_id(self, version: int) -> str:
        return f"{self.short_id}.{version}"


class Value(NamedTuple):
    """What a value says of itself."""

    arn: str
    version: int
    call: int
    secret_id: str


class FakeSecretsManager:
    """The secrets of two accounts, of which ours reads the other one's by ARN alone."""

    def __init__(self) -> None:
        self.by_arn: dict[str, FakeSecret] = {}
        self.by_name: dict[str, FakeSecret] = {}
        self._births: dict[str, int] = {}
        #: What has been read so far, by JSON key (None: the whole) and text.
        self.values: dict[tuple[str | None, str], Value] = {}

    def create(self, name: str, *, is_foreign: bool = False) -> FakeSecret:
        birth = 0 if is_foreign else self._births.get(name, 0) + 1
        secret = FakeSecret(name, birth)
        self.by_arn[secret.arn] = secret
        if not is_foreign:
            self._births[name] = birth
            self.by_name[name] = secret
        self.rotate(secret)
        return secret

    def rotate(self, secret: FakeSecret) -> None:
        """Make a new version and move the labels."""
        secret.versions += 1
        self.label(secret, secret.versions)

    def label(self, secret: FakeSecret, version: int) -> None:
        """Move AWSCURRENT to a version, as an operator may, also to an older one."""
        current = secret.labels.get(CURRENT)
        if current is not None:
            secret.labels[PREVIOUS] = current
        secret.labels[CURRENT] = version

    def delete(self, name: str) -> None:
        self.by_name.pop(name).is_deleted = True

    def find(self, secret_id: str) -> FakeSecret | None:
        """Return the secret that this id means now."""
        if not secret_id.startswith("arn:"):
            return self.by_name.get(secret_id)
        secret = self.by_arn.get(secret_id)
        if secret is None:
            # A partial ARN, if anything.
            return self.by_name.get(secret_id.rpartition(":")[2])
        return None if secret.is_deleted else secret

    def read(self, request: SecretRequest, call: int) -> Secret:
        secret = self.find(request.secret_id)
        version = None if secret is None else self._version(secret, request)
        if secret is None or version is None:
            msg = f"there is no such version of {request.secret_id}"
            raise SecretNotFoundError(
                msg, secret_id=request.secret_id, code="ResourceNotFoundException", request_id=str(call)
            )
        return Secret(
            name=secret.name,
            arn=secret.arn,
            version_id=secret.version_id(version),
            version_stages=tuple(label for label, at in secret.labels.items() if at == version),
            secret_string=self._text(Value(secret.arn, version, call, request.secret_id)),
        )

    def _text(self, value: Value) -> str:
        number = len(self.values)
        token = f"{short_id(value.arn)}|{value.version}|{value.call}|{short_id(value.secret_id)}"
        inner = f'{{"value": "{token}"}}'
        whole = f'{{"text": "{token}", "number": {number}, "object": {inner}}}'
        for key, text in ((None, whole), ("text", token), ("number", str(number)), ("object", inner)):
            self.values[key, text] = value
        return whole

    @staticmethod
    def _version(secret: FakeSecret, request: SecretRequest) -> int | None:
        if request.version_id is None:
            return secret.labels.get(request.version_stage or CURRENT)
        versions = {secret.version_id(version): version for version in range(1, secret.versions + 1)}
        version = versions.get(request.version_id)
        if request.version_stage is not None and secret.labels.get(request.version_stage) != version:
            return None
        return version


class Behaviour(NamedTuple):
    """What one call does: plain data, so that a schedule can be printed.

    Attributes:
        before, after: how many seconds pass before and after it reads.
        failure: which of FAILURES it raises in place of reading.
        items: failures of single secrets of a batch, by short id; "missing" for none that the response has.
        needs: the short id of a secret that the source reads through the cache before anything else.
        is_malformed: whether it returns something else than it has read.
        cancels: whether it raises CancelledError though it isn't cancelled.
        clean_up: how many seconds it takes to end once it is cancelled.
        is_stubborn: whether it then returns what it reads, in spite of the cancellation.
    """

    before: float = 0.0
    after: float = 0.0
    failure: str = ""
    items: Mapping[str, str] = {}
    needs: str = ""
    is_malformed: bool = False
    cancels: bool = False
    clean_up: float = 0.0
    is_stubborn: bool = False


class Call:
    """One call: what for, by which task, and how it ended."""

    def __init__(self, number: int, requests: Sequence[SecretRequest], *, is_batch: bool) -> None:
        self.number = number
        self.requests = tuple(requests)
        self.is_batch = is_batch
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self.failure: BaseException | None = None
        #: The ids that the response of a batch doesn't have.
        self.missing: set[str] = set()

    def error(self, kind: str, secret_id: str | None) -> Exception:
        if kind == "bug":
            return ValueError("injected")
        error = cast("type[SecretCacheError]", FAILURES[kind])(
            f"injected: {kind}", secret_id=secret_id, request_id=str(self.number)
        )
        if kind == "expired credentials":
            error.is_transient = True
        return error


class FakeSource:
    """A source over the fake, which does with each call what ``behave`` says; any loop may use it.

    Args:
        manager: the secrets.
        behave: returns what a call does; it is asked when the call begins.
        read_other: reads a secret by its short id through the cache, for behaviours that need one.
        failed: is told of each call that raises an error.
    """

    def __init__(
        self,
        manager: FakeSecretsManager,
        behave: Callable[[Call], Behaviour],
        read_other: Callable[[str], Awaitable[object]],
        failed: Callable[[Call], None] = lambda _call: None,
    ) -> None:
        self.manager = manager
        self.calls: list[Call] = []
        self._behave = behave
        self._read_other = read_other
        self._failed = failed

    async def fetch(self, request: SecretRequest) -> Secret:
        call = Call(len(self.calls), (request,), is_batch=False)
        # Whatever is returned, the cache has to live with it.
        return cast("Secret", await self._run(call, lambda _: self.manager.read(request, call.number)))

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        call = Call(len(self.calls), [SecretRequest(each) for each in secret_ids], is_batch=True)
        result = await self._run(call, lambda behaviour: self._read_each(call, behaviour))
        return cast("Mapping[str, Secret | SecretCacheError]", result)

    def _read_each(self, call: Call, behaviour: Behaviour) -> dict[str, object]:
        found: dict[str, object] = {}
        for request in call.requests:
            kind = behaviour.items.get(short_id(request.secret_id))
            if kind == "missing":
                call.missing.add(request.secret_id)
                continue
            try:
                found[request.secret_id] = (
                    call.error(kind, request.secret_id) if kind else self.manager.read(request, call.number)
                )
            except SecretNotFoundError as exc:
                found[request.secret_id] = exc
        return found

    async def _run(self, call: Call, read: Callable[[Behaviour], object]) -> object:
        self.calls.append(call)
        behaviour = self._behave(call)
        try:
            if behaviour.needs:
                try:
                    await self._read_other(behaviour.needs)
                except SecretCacheError:
                    raise call.error("unavailable", None if call.is_batch else call.requests[0].secret_id) from None
            await asyncio.sleep(behaviour.before)
            if behaviour.cancels:
                raise asyncio.CancelledError
            if behaviour.failure:
                raise call.error(behaviour.failure, None if call.is_batch else call.requests[0].secret_id)
            result = read(behaviour)
            await asyncio.sleep(behaviour.after)
        except asyncio.CancelledError:
            await asyncio.sleep(behaviour.clean_up)
            if not behaviour.is_stubborn:
                raise
            result = read(behaviour)
        except Exception as exc:
            call.failure = exc
            self._failed(call)
            raise
        return "malformed" if behaviour.is_malformed else result

    async def aclose(self) -> None:
        pass
