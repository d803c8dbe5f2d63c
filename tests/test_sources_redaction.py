"""What the SDK logs at DEBUG, for our calls and for others'."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import aioboto3
import pytest

from asecretcache._exceptions import SecretCacheError
from asecretcache._models import SecretRequest
from asecretcache._sources.direct.source import DirectSource
from asecretcache._sources.log_redaction import LOGGERS, redacted
from asecretcache._sources.sdk.source import SecretsManagerSource
from moto_server import SESSION_TOKEN, MotoServer
from raw_server import RawServer

CANARY = "canary-value-of-the-secret"
SOURCES = pytest.mark.parametrize("source_class", [SecretsManagerSource, DirectSource])


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {self.format(record)} {record.args!r}")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """All that any logger says, at DEBUG."""
    keep, root = _Keep(), logging.getLogger()
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    yield keep.lines
    root.removeHandler(keep)
    root.setLevel(level)


def leaks(log: list[str]) -> list[str]:
    """The lines that hold what they must not."""
    return [line for line in log if CANARY in line or SESSION_TOKEN in line or "Signature=" in line]


@SOURCES
async def test_no_logger_says_value_token_or_signature_of_our_calls(
    aws_environment: Any, moto_server: MotoServer, log: list[str], source_class: Any
) -> None:
    """At DEBUG on all loggers no record of a fetch holds the value, the session token or a signature."""
    moto_server.create("name", CANARY)
    log.clear()  # The arranging client is somebody else's.
    source = source_class()

    secret = await source.fetch(SecretRequest("name"))
    with pytest.raises(SecretCacheError):
        await source.fetch(SecretRequest("other"))
    await source.aclose()

    assert secret.secret_string == CANARY
    assert leaks(log) == []


@SOURCES
async def test_no_logger_says_what_a_garbled_answer_holds(
    aws_raw: RawServer, log: list[str], source_class: Any
) -> None:
    """Parsers log bodies that they can't read, too; not ours."""
    source = source_class()
    for body, status in [(f'{{"SecretString": "{CANARY}"'.encode(), 200), (CANARY.encode(), 400)]:
        aws_raw.answer(body, status)
        with pytest.raises(SecretCacheError):
            await source.fetch(SecretRequest("name"))
    await source.aclose()

    assert leaks(log) == []


async def test_other_clients_log_as_before(aws_environment: Any, moto_server: MotoServer, log: list[str]) -> None:
    """A plain client at work at the same time still logs bodies and requests."""
    moto_server.create("name", CANARY)
    log.clear()  # The arranging client is somebody else's.
    source = SecretsManagerSource()

    async def plain() -> None:
        async with aioboto3.Session().client("secretsmanager") as client:
            await client.get_secret_value(SecretId="name")

    await asyncio.gather(source.fetch(SecretRequest("name")), plain())
    await source.aclose()

    assert len([line for line in leaks(log) if line.startswith("botocore.parsers")]) == 1
    assert any(line.startswith("botocore.auth") for line in leaks(log))


@pytest.mark.parametrize("name", LOGGERS)
def test_warnings_pass(name: str, log: list[str]) -> None:
    """What matters to an operator is said in our calls, too."""
    with redacted():
        logging.getLogger(name).warning("important")
        logging.getLogger(name).info("chatter")
    logging.getLogger(name).info("afterwards")

    assert [line.split()[1] for line in log] == ["important", "afterwards"]
