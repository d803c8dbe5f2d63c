"""Helpers that the tests of the sources share."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

import asecretcache
from asecretcache import AgentSource, DirectSource, SecretCacheError, SecretRequest, SecretsManagerSource, SecretSource
from raw_server import GOOD, RawServer, http

CANARY = "canary-value"
NAME = SecretRequest("name")
LOOP_FACTORIES: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
SourceClass = type[SecretsManagerSource] | type[DirectSource]
AnySourceClass = SourceClass | type[AgentSource]
#: A response as the SDK returns it, without the date, which the SDK would have converted.
RESPONSE = {field: value for field, value in GOOD.items() if field != "CreatedDate"}

_PACKAGE = str(Path(asecretcache.__file__).parent)


class Served(NamedTuple):
    """A source, and the server that it fetches from."""

    source_class: AnySourceClass
    server: RawServer


class FakeClient:
    """A client with the methods of the SDK's, and its own factory. Its calls wait until they are let go.

    Attributes:
        calls: the keyword arguments of each call that has started.
        opened: how many clients were opened.
        closed: how many clients were closed.
    """

    def __init__(self, *responses: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.opened = self.closed = 0
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        self._responses = list(responses)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[FakeClient]:
        self.opened += 1
        await self.may_open.wait()
        try:
            yield self
        finally:
            self.closed += 1

    async def get_secret_value(self, **arguments: Any) -> Any:
        return await self._respond(arguments)

    async def batch_get_secret_value(self, **arguments: Any) -> Any:
        return await self._respond(arguments)

    async def _respond(self, arguments: dict[str, Any]) -> Any:
        self.calls.append(arguments)
        await self.may_respond.wait()
        response = self._responses.pop(0) if self._responses else RESPONSE
        if isinstance(response, BaseException):
            raise response
        return response


async def run_tasks() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def fetch_value(source: SecretSource, request: SecretRequest = NAME) -> str | bytes | None:
    """Fetch a secret and return its value."""
    secret = await source.fetch(request)
    return secret.secret_binary if secret.secret_string is None else secret.secret_string


async def fetch_error(source: SecretSource, request: SecretRequest = NAME) -> SecretCacheError:
    """Fetch a secret, which must fail, close the source and return the error."""
    with pytest.raises(SecretCacheError) as caught:
        await source.fetch(request)
    await source.aclose()
    return caught.value


def refusal(code: str, status: int = 400) -> bytes:
    """The bytes of an error response of AWS's."""
    return http({"__type": code, "message": "no"}, status)


def bodies(requests: list[bytes]) -> list[bytes]:
    """The JSON bodies of requests."""
    return [request[request.index(b"{") :] for request in requests]


def shown_locals(error: BaseException) -> str:
    """What an error tracker shows of the package's frames in an error's chain: it walks mappings and sequences."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in chain:
            chain.append(link)
            waiting += [link.__cause__, link.__context__]
    frames = [frame for link in chain for frame, _ in traceback.walk_tb(link.__traceback__)]
    frames = [frame for frame in frames if frame.f_code.co_filename.startswith(_PACKAGE)]
    assert frames
    return "\n".join(text for frame in frames for text in _walk(frame.f_locals))


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(key)
            yield from _walk(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _walk(item)
    yield repr(value)


def assert_quiet(script: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    """Run a script and collect garbage; nothing may warn or be logged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with caplog.at_level(logging.WARNING):
            script()
            gc.collect()
    # uvloop's close() warns of every open transport, before anything could close it.
    messages = [str(warning.message) for warning in caught]
    assert [message for message in messages if not message.startswith("unclosed resource <TCPTransport")] == []
    assert caplog.records == []
