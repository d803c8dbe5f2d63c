"""Makes secrets of the responses of GetSecretValue and BatchGetSecretValue, as far as they are well-formed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from asecretcache._exceptions import SecretCacheError
from asecretcache._models import ARN_SUFFIX, Secret, SecretRequest
from asecretcache._sources.error_mapping import to_code_error

_FIELDS: Final = ("Name", "ARN", "VersionId", "VersionStages", "CreatedDate", "SecretString", "SecretBinary")
# The seconds since the epoch that a datetime can hold, but for the first and last few years.
_MIN_DATE, _MAX_DATE = -6e10, 2.5e11


def to_secret(response: object, request: SecretRequest | None) -> Secret | None:
    """Return the secret in a response, or None if the response is malformed or isn't for this request.

    It never raises, because the response would be a local of its frame.

    Args:
        response: what the client returned: botocore returns ``{}`` for a truncated or empty body.
        request: the request; None if the caller compares the ids.
    """
    if not isinstance(response, Mapping):
        return None
    fields: list[Any] = [response.get(field) for field in _FIELDS]
    name, arn, version_id, stages, created, text, data = fields
    is_valid = (
        all(isinstance(part, str) and part for part in (name, arn, version_id))
        and ((isinstance(text, str) and data is None) or (isinstance(data, bytes) and text is None))
        and (stages is None or (isinstance(stages, list) and all(isinstance(stage, str) for stage in stages)))
        and (created is None or _is_date(created))
        and (request is None or (request.version_id in (None, version_id) and _is_named(request.secret_id, name, arn)))
    )
    if not is_valid:
        return None
    return Secret(
        name=name,
        arn=arn,
        version_id=version_id,
        version_stages=tuple(stages or ()),
        created_date=_aware(created),
        secret_string=text,
        secret_binary=data,
    )


def to_batch(pages: Iterable[object], secret_ids: Sequence[str]) -> dict[str, Secret | SecretCacheError] | None:
    """Return the secret or error of each id that the pages of a batch hold, or None if they hold none.

    The response names secrets by ARN and name, not by the id of the request. ARNs are matched first: a name means a
    secret of the caller's own account, and a secret of another account, requested by its ARN, may have the same name.
    """
    secrets: list[Secret] = []
    results: dict[str, Secret | SecretCacheError] = {}
    for page in pages:
        secrets += filter(None, (to_secret(value, None) for value in _list_in(page, "SecretValues")))
        for error in _list_in(page, "Errors"):
            if isinstance(error, Mapping) and error.get("SecretId") in secret_ids:
                secret_id = error["SecretId"]
                results[secret_id] = to_code_error(error.get("ErrorCode"), error.get("Message"), secret_id)
    for secret_id in sorted(secret_ids, key=lambda secret_id: not secret_id.startswith("arn:")):
        found = next((secret for secret in secrets if _is_named(secret_id, secret.name, secret.arn)), None)
        if found is not None and secret_id not in results:
            secrets.remove(found)
            results[secret_id] = found
    return results or None


def _list_in(page: object, field: str) -> list[Any]:
    value = page.get(field) if isinstance(page, Mapping) else None
    return value if isinstance(value, list) else []


def _is_named(secret_id: str, name: str, arn: str) -> bool:
    """Whether an id names the secret: its name, its ARN, or a partial ARN, which lacks the random suffix."""
    return secret_id in (arn, arn[:-ARN_SUFFIX]) if secret_id.startswith("arn:") else name == secret_id


def _is_date(created: object) -> bool:
    """Whether this is a date: the SDK's datetime, or the seconds since the epoch of the response itself."""
    if isinstance(created, int | float):
        return _MIN_DATE < created < _MAX_DATE
    from datetime import datetime  # Imported by the SDK, whose datetime it may be, and by nothing before.

    return isinstance(created, datetime)


def _aware(created: Any) -> Any:
    """Return a date without a zone, as some stand-ins for AWS send it, as one of UTC."""
    if created is None or isinstance(created, int | float) or created.tzinfo is not None:
        return created
    from datetime import UTC

    return created.replace(tzinfo=UTC)
