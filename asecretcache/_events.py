"""EventBridge's events of staging labels, which tell that a secret has changed, and what a cache does with them.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/event-detail-secret-label-updated-secretsmanager.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from asecretcache._core.fetch import FetchReason
from asecretcache._core.loader import Loader
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import ARN_SUFFIX, CURRENT, Key, Secret, SecretRequest, may_be_same_secret

_SOURCE, _KIND = "aws.secretsmanager", "Secret Label Updated"
# It moves with AWSCURRENT, and has no event of its own.
_PREVIOUS: Final = "AWSPREVIOUS"
# EventBridge's event in SNS's notification in SQS's record is five deep.
_DEEPEST: Final = 8


class EventReport(NamedTuple):
    """What SecretCache.apply_event did; secrets are named by the references by which they are stored.

    Attributes:
        changed: those of which another version was fetched.
        unchanged: those whose version is in memory already, or is still the current one.
        failed: those whose refresh failed, with the errors; the values in memory stay.
        ignored: how many parts of the event have nothing to do with a secret in memory.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: Mapping[str, SecretCacheError]
    ignored: int


class _LabelUpdate(NamedTuple):
    """A label was put on another version.

    Attributes:
        name: the secret's friendly name.
        arn: its ARN, or None where the event's detail came alone.
        label: the label.
        version_id: the version that has it now.
    """

    name: str
    arn: str | None
    label: str
    version_id: str

    def concerns(self, key: Key, secret: Secret | None) -> bool:
        """Return whether an entry, or a running fetch without a secret yet, has this label of this secret."""
        id_, stage, version_id = (key, None, None) if isinstance(key, str) else key
        stages = {self.label} | ({_PREVIOUS} if self.label == CURRENT else set())
        if version_id is not None or (stage or CURRENT) not in stages:
            return False
        if id_ in (self.name, self.arn):
            return True
        if secret is None:
            return may_be_same_secret(id_, self.name)
        if self.arn is None:
            return secret.name == self.name
        # But for the random characters at the end: it may have been deleted and created again.
        return secret.arn[:-ARN_SUFFIX] == self.arn[:-ARN_SUFFIX]

    def version_of(self, request: SecretRequest) -> str | None:
        """Return the version that the request has now; None if it asks for AWSPREVIOUS, of which no event tells."""
        return self.version_id if (request.version_stage or CURRENT) == self.label else None


async def apply_event(loader: Loader, event: object) -> EventReport:
    """See SecretCache.apply_event."""
    loader.check_open()
    if not isinstance(event, Mapping | list | tuple | str | bytes | bytearray):
        kind = type(event).__name__
        msg = f"event must be what EventBridge, SQS or SNS delivers, as a dict, a list or JSON, not {kind}"
        raise ConfigurationError(msg)
    ignored = 0
    concerned: dict[SecretRequest, _Concerned] = {}
    for update in _updates(event, _DEEPEST):
        if update is None:
            ignored += 1
            continue
        found = _concerned(loader, update)
        ignored += not found
        for request, stored in found.items():
            concerned.setdefault(request, _Concerned(stored, set())).versions.add(update.version_of(request))
    outdated = {request: each for request, each in concerned.items() if each.versions != {each.stored}}
    # They may have read the version before.
    with loader.lock:
        began_before = {fetch.request for fetch in loader.single_flight.running() if fetch.is_refresh}
    results = await loader.load_all(outdated, FetchReason.REFRESH)
    again = [
        request
        for request, result in results.items()
        if request in began_before and isinstance(result, Secret) and outdated[request].versions != {result.version_id}
    ]
    results |= await loader.load_all(again, FetchReason.REFRESH)
    changed, unchanged = [], []
    failed: dict[str, SecretCacheError] = {}
    for request, each in concerned.items():
        result = results.get(request)
        if isinstance(result, SecretCacheError):
            failed[request.reference] = result
        elif result is None or result.version_id == each.stored:
            unchanged.append(request.reference)
        else:
            changed.append(request.reference)
    return EventReport(tuple(changed), tuple(unchanged), failed, ignored)


class _Concerned(NamedTuple):
    """What is in memory, or is being fetched, of a secret whose label has moved.

    Attributes:
        stored: the version in memory; None if there is none yet.
        versions: the versions that it has now, by the events; None where an event doesn't tell.
    """

    stored: str | None
    versions: set[str | None]


def _concerned(loader: Loader, update: _LabelUpdate) -> dict[SecretRequest, str | None]:
    """Return what is in memory of a secret, with the versions; and what is being fetched since before the event."""
    with loader.lock:
        found: dict[Key, str | None] = {
            fetch.request.key: None
            for fetch in loader.single_flight.running()
            if update.concerns(fetch.request.key, None)
        }
        for key, entry in loader.store.entries.items():
            if update.concerns(key, entry.secret):
                found[key] = entry.secret.version_id
    return {SecretRequest._of_key(key): version_id for key, version_id in found.items()}


def _updates(event: object, depth: int) -> Iterator[_LabelUpdate | None]:
    """Yield the updates in an event, whatever it is wrapped in; None for each part that is something else."""
    if isinstance(event, str | bytes | bytearray):
        import json  # Its import takes a millisecond, which only users of events have to pay.

        try:
            event = json.loads(event)
        except (ValueError, RecursionError):
            event = None
    if depth and isinstance(event, list | tuple):
        for each in event:
            yield from _updates(each, depth - 1)
    elif depth and isinstance(event, Mapping):
        inner = _unwrapped(event)
        if inner is not None:
            yield from _updates(inner, depth - 1)
        else:
            yield _update(event)
    else:
        yield None


def _unwrapped(event: Mapping[Any, Any]) -> object:
    """Return what an envelope holds; None if it is none."""
    # Lambda's events of SQS and SNS; what receive_message returns, and each of its messages; a notification in SQS.
    for name in ("Records", "Messages", "body", "Body", "Sns"):
        if name in event:
            return event[name]
    # What receive_message returns when no message has come.
    return [] if "ResponseMetadata" in event else event.get("Message")


def _update(event: Mapping[Any, Any]) -> _LabelUpdate | None:
    """Return the update of an event of EventBridge or of its detail alone; None if it is another event."""
    arn = None
    if "detail" in event:
        if (event.get("source"), event.get("detail-type")) != (_SOURCE, _KIND):
            return None
        resources = event.get("resources")
        arn = resources[0] if isinstance(resources, list) and resources else None
        event = event["detail"]
    if not isinstance(event, Mapping):
        return None
    name, label, version_id = (event.get(each) for each in ("name", "labelUpdated", "versionId"))
    if not (isinstance(name, str) and isinstance(label, str) and isinstance(version_id, str)):
        return None
    return _LabelUpdate(name, arn if isinstance(arn, str) else None, label, version_id)
