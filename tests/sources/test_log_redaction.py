"""The SDK's log at DEBUG, for this package's calls and for those of other clients."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterator
from typing import Any

import aioboto3
import pytest

from asecretcache import SecretCacheError, SecretRequest, SecretsManagerSource
from asecretcache._sources.log_redaction import LOGGERS, redacted
from moto_server import SESSION_TOKEN, MotoServer
from raw_server import RawServer
from source_helpers import NAME, SourceClass

CANARY = "canary-value-of-the-secret"


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {self.format(record)} {record.args!r}")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The records of all loggers, at DEBUG."""
    keeper, root = _Keeper(), logging.getLogger()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    yield keeper.lines
    root.removeHandler(keeper)
    root.setLevel(level)


def leaks(log: list[str]) -> list[str]:
    """The lines with a value, token or signature."""
    return [line for line in log if CANARY in line or SESSION_TOKEN in line or "Signature=" in line]


async def test_no_record_of_a_call_has_value_token_or_signature(
    aws_environment: Any, moto_server: MotoServer, log: list[str], source_class: SourceClass
) -> None:
    """With all loggers at DEBUG, no record of a fetch holds the value, the session token or a signature."""
    moto_server.create("name", CANARY)
    log.clear()  # The client that created the secret isn't this package's.
    source = source_class()

    secret = await source.fetch(NAME)
    with pytest.raises(SecretCacheError):
        await source.fetch(SecretRequest("other"))
    await source.aclose()

    assert secret.secret_string == CANARY
    assert leaks(log) == []


async def test_no_record_quotes_a_malformed_response(
    aws_raw: RawServer, log: list[str], source_class: SourceClass
) -> None:
    """The SDK's parsers log bodies that they can't parse, but not those of this package's calls."""
    source = source_class()
    for body, status in [(f'{{"SecretString": "{CANARY}"'.encode(), 200), (CANARY.encode(), 400)]:
        aws_raw.answer(body, status)
        with pytest.raises(SecretCacheError):
            await source.fetch(NAME)
    await source.aclose()

    assert leaks(log) == []


async def test_other_clients_log_as_before(aws_environment: Any, moto_server: MotoServer, log: list[str]) -> None:
    """Another client that works at the same time still logs bodies and requests."""
    moto_server.create("name", CANARY)
    log.clear()  # The client that created the secret isn't this package's.
    source = SecretsManagerSource()

    async def plain() -> None:
        async with aioboto3.Session().client("secretsmanager") as client:
            await client.get_secret_value(SecretId="name")

    await asyncio.gather(source.fetch(NAME), plain())
    await source.aclose()

    assert len([line for line in leaks(log) if line.startswith("botocore.parsers")]) == 1
    assert any(line.startswith("botocore.auth") for line in leaks(log))


@pytest.mark.parametrize("name", LOGGERS)
def test_warnings_are_logged(name: str, log: list[str]) -> None:
    """Records at WARNING and above are kept, also in this package's calls."""
    with redacted():
        logging.getLogger(name).warning("important")
        logging.getLogger(name).info("chatter")
    logging.getLogger(name).info("afterwards")

    assert [line.split()[1] for line in log] == ["important", "afterwards"]


def test_a_coroutine_may_end_in_another_context() -> None:
    """As if the garbage collector ended the coroutine of a dead loop: nothing is raised, and nothing stays redacted."""
    block = redacted()
    contextvars.copy_context().run(block.__enter__)

    block.__exit__(None, None, None)
