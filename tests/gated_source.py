"""A source whose responses arrive in the order that a test chooses."""

from __future__ import annotations

import asyncio

from asecretcache import Secret, SecretCacheError, SecretRequest
from asecretcache.testing import InMemorySource


class GatedSource(InMemorySource):
    """Decides each response when the fetch is called, and returns it when the test opens the gate of that call."""

    def __init__(self, *arguments: dict[str, str | bytes]) -> None:
        super().__init__(*arguments)
        #: One for each call, in the order of the calls.
        self.gates: list[asyncio.Event] = []

    async def fetch(self, request: SecretRequest) -> Secret:
        result: Secret | SecretCacheError
        try:
            result = await super().fetch(request)
        except SecretCacheError as exc:
            result = exc
        self.gates.append(gate := asyncio.Event())
        await gate.wait()
        if isinstance(result, SecretCacheError):
            raise result
        return result
