"""What references select of secrets that are loaded, as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asecretcache._core.entries import Record
from asecretcache._core.loader import Loader
from asecretcache._exceptions import SecretCacheError, SecretErrorGroup
from asecretcache._models import Secret, SecretRequest
from asecretcache._references import SecretReference


def text_of(loader: Loader, reference: SecretReference, secret: Secret) -> str:
    """Return what a reference selects, as text.

    Raises:
        SecretFormatError: the secret doesn't have the form that the reference asks for.
    """
    record = select(loader, reference, secret)
    return reference.to_text(record.value) if record.text is None else record.text


def select(loader: Loader, reference: SecretReference, secret: Secret) -> Record:
    """Return what a reference selects; a scalar is kept with its entry for later reads.

    Raises:
        SecretFormatError: the secret doesn't have the form that the reference asks for.
    """
    found = loader.store.records.get(reference.name)
    if type(found) is Record and found.secret is secret and secret.secret_string is not None:
        return found
    request, name, value, text = reference.request, reference.name, None, None
    if reference.json_key is None:
        # Also where the entry is gone by now, so that the error names the secret as the caller did.
        text = secret._text(request.secret_id)
    else:
        value = secret._json(request.secret_id, reference.json_key)
        if isinstance(value, (str, int, float)):
            text = value if isinstance(value, str) else reference.to_text(value)
    field = Record(secret, value, text)
    if text is not None and name is not None and name != request.key:
        with loader.lock:
            loader.store.add_field(request.key, name, field)
    return field


def select_texts(
    loader: Loader, references: Sequence[SecretReference], results: Mapping[SecretRequest, Secret | SecretCacheError]
) -> dict[str, str]:
    """Return the texts by the references as they were given; those to one secret are of one version.

    Raises:
        SecretErrorGroup: with an error for each reference that failed.
    """
    texts = {}
    # By identity: references to one secret share its error.
    errors: dict[SecretCacheError, None] = {}
    for each in references:
        result = results[each.request]
        try:
            if isinstance(result, Secret):
                texts[each.text] = text_of(loader, each, result)
            else:
                errors[result] = None
        except SecretCacheError as exc:
            # Its traceback holds this frame, and so the texts.
            errors[exc.with_traceback(None)] = None
    if errors:
        texts.clear()
        raise SecretErrorGroup._of(list(errors), len({each.text for each in references}))
    return texts


def of_one_version(loader: Loader, secrets: Mapping[SecretRequest, Secret]) -> dict[SecretRequest, Secret]:
    """Return the secrets, where a name and an ARN of one secret are asked for both with the version fetched last.

    They have an entry each, and one of the two may have been refreshed since the other.
    """
    latest: dict[tuple[str, str | None], tuple[int, Secret]] = {}
    for request, secret in secrets.items():
        entry = loader.store.entries.get(request.key)
        sequence = 0 if entry is None else entry.sequence
        label = secret.arn, request.version_stage
        if request.version_id is None and sequence >= latest.get(label, (0, secret))[0]:
            latest[label] = sequence, secret
    return {
        request: secret if request.version_id is not None else latest[secret.arn, request.version_stage][1]
        for request, secret in secrets.items()
    }
