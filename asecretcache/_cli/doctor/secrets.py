"""Checks the secrets: whether each can be read, how fast, and what kind of value it has. Values aren't kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from asecretcache import _exceptions as errors
from asecretcache._cli.doctor.context import Context, explained, milliseconds, timed
from asecretcache._cli.doctor.denials import missing_statements, remedy_of
from asecretcache._cli.doctor.report import Status
from asecretcache._cli.doctor.source_choice import chosen_source
from asecretcache._cli.statements import batch_statement
from asecretcache._exceptions import SecretCacheError
from asecretcache._models import Secret
from asecretcache._references import SecretReference
from asecretcache._sources.agent.source import AgentSource
from asecretcache._sources.direct.source import DirectSource
from asecretcache._sources.log_redaction import redacted
from asecretcache._sources.protocols import BatchSource, SecretSource
from asecretcache._sources.sdk.source import SecretsManagerSource

FETCH_SECONDS: Final = 8.0
_CLOSE_SECONDS: Final = 2.0
_MAX_BATCH: Final = 20
_READS: Final = 2
_NEEDS: Final = ("session", "region", "credentials", "answers")
#: After one of these the other secrets would only take time, and fail in the same way.
_HOPELESS: Final = (errors.SecretUnavailableError, errors.CredentialsError, errors.ConfigurationError)


async def check_secrets(context: Context) -> None:
    """Read each secret by each source that is possible, and all of them by a batch if that was asked for."""
    references = context.options.references
    if not references:
        text = "none was named: give references, or set SECRET_ID"
        context.report.add("secrets", Status.SKIPPED, text)
        return
    sources = _sources(context)
    try:
        is_hopeless = False
        for reference in references:
            facts = {"reference": reference.text, "readable": None}
            subject = f"{reference.text}: "
            if not sources and context.lacks("secret", *_NEEDS, subject=subject, **facts):
                continue
            if is_hopeless:
                text = f"{subject}not checked, because the one before it failed"
                context.report.add("secret", Status.SKIPPED, text, **facts)
                continue
            error = await _check_secret(context, reference, sources)
            is_hopeless = isinstance(error, _HOPELESS)
        if context.options.batch and sources and not is_hopeless:
            await _check_batch(context, sources)
    finally:
        for source in sources.values():
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await source.aclose()


def _sources(context: Context) -> dict[str, SecretSource]:
    """Return the sources to read by; none if what the checks before need isn't there."""
    if chosen_source() == "agent":
        return {"AgentSource": AgentSource()}
    place: dict[str, Any] = {"region_name": context.options.region, "endpoint_url": context.options.endpoint_url}
    if chosen_source() == "direct" and context.session is None and context.direct is None:
        return {"DirectSource": DirectSource(**place)}  # A package without the SDK; it finds region and keys by itself.
    if not (context.credentials and context.answers):
        return {}
    sources: dict[str, SecretSource] = {"SecretsManagerSource": SecretsManagerSource(**place)}
    if context.direct is None:
        sources["DirectSource"] = DirectSource(**place)
    return sources


async def _check_secret(
    context: Context, reference: SecretReference, sources: Mapping[str, SecretSource]
) -> SecretCacheError | None:
    """Report one secret; return why it can't be read."""
    times: dict[str, list[float]] = {}
    facts: dict[str, Any] = {"reference": reference.text, "ms": times}
    for name, source in sources.items():
        times[name] = []
        for _ in range(_READS):
            result, took = await timed(_fetch(source, reference))
            if isinstance(result, SecretCacheError):
                await _report_unreadable(context, reference, result, facts | {"source": name})
                return result
            times[name].append(took)
            facts |= result
    description = await _describe(context, reference.secret_id)
    facts |= {"readable": True, "rotation": _rotation(description)}
    problem = facts.pop("problem")
    shown = [f"{name} {milliseconds(first)}, then {milliseconds(second)}" for name, (first, second) in times.items()]
    text = "; ".join((f"{reference.text}: {facts['kind']}", *shown, _rotation_text(description)))
    if problem is not None:
        facts["readable"] = False
        context.report.add("secret", Status.FAILED, f"{text}; {problem[0]}", problem[1], **facts)
        return None
    context.report.add("secret", Status.OK, text, **facts)
    return None


async def _fetch(source: SecretSource, reference: SecretReference) -> dict[str, Any] | SecretCacheError:
    """Return what may be told of a secret, or why it can't be read."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return _facts(await source.fetch(reference.request), reference)
    except SecretCacheError as exc:
        return exc
    except TimeoutError:
        msg = f"Secrets Manager didn't answer within {FETCH_SECONDS:g} s: check network and endpoint"
        return errors.SecretUnavailableError(msg, secret_id=reference.secret_id)


def _facts(secret: Secret, reference: SecretReference) -> dict[str, Any]:
    """Return what may be told of a secret: neither its value, nor its JSON keys but for the one that was asked for."""
    keys, has_key, is_null = None, False, False
    if secret.secret_string is not None:
        try:
            document = secret.json()
        except errors.SecretFormatError:
            document = None
        if isinstance(document, dict):
            keys = len(document)
            has_key = reference.json_key in document
            is_null = has_key and document[reference.json_key] is None
        del document
    kind = "binary" if secret.secret_string is None else "text"
    if keys is not None:
        kind = f"JSON with {keys} key{'' if keys == 1 else 's'}"
    problem = None
    if reference.json_key is not None and (not has_key or is_null):
        what = "is null" if is_null else "isn't there"
        problem = f"its JSON key {reference.json_key!r} {what}", "store a value there, or correct the reference"
    return {"kind": kind, "json_keys": keys, "arn": secret.arn, "problem": problem}


async def _describe(context: Context, secret_id: str) -> dict[str, Any]:
    """Return what DescribeSecret tells, or why it can't be asked; reading doesn't need it."""
    if context.session is None:
        return {"unknown": "the AWS SDK isn't installed"}
    if chosen_source() == "agent":
        return {"unknown": "AWS isn't asked"}
    try:
        with redacted():
            region = context.region_of(secret_id)
            async with asyncio.timeout(FETCH_SECONDS), context.client("secretsmanager", region=region) as client:
                response: dict[str, Any] = await client.describe_secret(SecretId=secret_id)
    except Exception as exc:  # noqa: BLE001  # whatever it is, the secret can be read without
        return {"unknown": explained(exc).code or type(exc).__name__}
    return response


def _rotation(description: Mapping[str, Any]) -> dict[str, Any] | None:
    if "unknown" in description:
        return None
    dates = {"last": description.get("LastRotatedDate"), "next": description.get("NextRotationDate")}
    shown = {name: date.isoformat() if isinstance(date, datetime) else None for name, date in dates.items()}
    return {"enabled": bool(description.get("RotationEnabled")), **shown}


def _rotation_text(description: Mapping[str, Any]) -> str:
    rotation = _rotation(description)
    if rotation is None:
        return f"rotation unknown (DescribeSecret: {description['unknown']}; reading needs no DescribeSecret)"
    if not rotation["enabled"]:
        return "no rotation"
    return f"rotated, last {rotation['last'] or 'never'}, next {rotation['next'] or 'unknown'}"


async def _report_unreadable(
    context: Context, reference: SecretReference, error: SecretCacheError, facts: dict[str, Any]
) -> None:
    facts |= {"readable": False, "error": type(error).__name__, "code": error.code, "request_id": error.request_id}
    description: dict[str, Any] = {}
    statements = []
    if isinstance(error, (errors.SecretAccessDeniedError, errors.SecretDecryptionError)):
        description = await _describe(context, reference.secret_id)
        statements = missing_statements(context, error, reference.secret_id, description)
        context.report.lack(statements)
        facts["statements"] = statements
    text = str(error)
    if facts["source"] != next(iter(facts["ms"])):
        # Another source could read it.
        text = f"{facts['source']} alone: {text}"
    context.report.add("secret", Status.FAILED, text, remedy_of(context, error, statements), **facts)


async def _check_batch(context: Context, sources: Mapping[str, SecretSource]) -> None:
    """Report whether the secrets can be read by batches."""
    source = next(iter(sources.values()))
    if not isinstance(source, BatchSource):
        context.report.add("batch", Status.FAILED, "AgentSource makes no batches", "leave out batch=True")
        return
    ids = list(dict.fromkeys(each.secret_id for each in context.options.references))
    unreadable: list[str] = []
    total = 0.0
    for start in range(0, len(ids), _MAX_BATCH):
        several = ids[start : start + _MAX_BATCH]
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                results, took = await timed(source.fetch_batch(several))
        except (SecretCacheError, TimeoutError) as exc:
            is_denied = isinstance(exc, errors.SecretAccessDeniedError)
            statements = [batch_statement()] if is_denied else []
            context.report.lack(statements)
            remedy = "allow it by the statement below, or leave out batch=True" if is_denied else None
            text = f"BatchGetSecretValue: {explained(exc)}"
            context.report.add("batch", Status.FAILED, text, remedy, statements=statements)
            return
        total += took
        unreadable += [each for each in several if not isinstance(results.get(each), Secret)]
    text = f"{len(ids) - len(unreadable)} of {len(ids)} secrets by BatchGetSecretValue, {milliseconds(total)}"
    if unreadable:
        context.report.add("batch", Status.FAILED, text, "see the secrets above", unreadable=unreadable, ms=total)
        return
    context.report.add("batch", Status.OK, text, unreadable=[], ms=total)
