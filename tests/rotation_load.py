"""200 tasks that use a service while its credentials are rotated, and what they see."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, Self

from moto_server import MotoServer

NAME = "prod/db"
USERS = ("app", "app_clone")
TASKS = 200
#: How many of them use it at the same time; the others wait for their turn.
ROOM = 20
#: What a rotation may cost at Secrets Manager, however many tasks there are.
CALLS = 12

Use = Callable[[], Awaitable[object]]

_logger = logging.getLogger("rotation")
_logger.setLevel(logging.INFO)


class Service(Protocol):
    """What the credentials are for: a database, an API."""

    async def set_password(self, user: str, password: str) -> None:
        """Let the user in with this password alone, from now on."""


class Rotation:
    """The credentials of a service in Secrets Manager, and the two ways in which AWS's rotation functions change them.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotation-strategy.html
    """

    def __init__(self, service: Service, moto: MotoServer) -> None:
        self._service = service
        self._moto = moto
        self._active = USERS[0]

    async def begin(self) -> None:
        """Give the first user a password, and store both."""
        self._moto.create(NAME, "{}")
        await self._store(USERS[0], await self._set_password(USERS[0]))

    async def rotate_single(self) -> None:
        """Change the password of the only user in the service, and a second later in Secrets Manager."""
        password = await self._set_password(self._active)
        # The time in which Secrets Manager is behind the service is what this is about, so it passes in fact.
        await asyncio.sleep(1)
        await self._store(self._active, password)

    async def rotate_alternating(self) -> None:
        """Change the password of the user that is not in use, then store that user.

        A client that still has the credentials of two rotations ago is refused by then.
        """
        self._active = USERS[1 - USERS.index(self._active)]
        await self._store(self._active, await self._set_password(self._active))

    async def _set_password(self, user: str) -> str:
        password = secrets.token_hex()
        await self._service.set_password(user, password)
        return password

    async def _store(self, user: str, password: str) -> None:
        text = json.dumps({"username": user, "password": password, "engine": "postgres"})
        await asyncio.to_thread(self._moto.client.put_secret_value, SecretId=NAME, SecretString=text)


class Load:
    """Tasks that use the service for ever; an async context manager.

    Attributes:
        uses: how often the service was used.
        failures: how often that failed, by the exception's type.
        slowest: the seconds of the slowest use since the last call of forget_times.
    """

    def __init__(self, use: Use, tasks: int = TASKS) -> None:
        self.uses = 0
        self.failures: Counter[str] = Counter()
        self.slowest = 0.0
        self._use = use
        self._count = tasks
        self._round = 0
        self._is_over = False
        # Some pools serve those that wait in no order, so that some wait for ever; a semaphore has one.
        self._room = asyncio.Semaphore(ROOM)
        self._changed = asyncio.Condition()
        self._through: set[int] = set()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        # asyncio.wait_for, which psycopg's pool uses, may swallow a cancellation before Python 3.12.
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _run(self, number: int) -> None:
        while not self._is_over:
            began, its_round = time.perf_counter(), self._round
            try:
                async with self._room:
                    await self._use()
            except Exception as exc:
                self.failures[type(exc).__name__] += 1
                await asyncio.sleep(0.5)  # A client whose requests fail must not take the machine from the others.
            self.slowest = max(self.slowest, time.perf_counter() - began)
            self.uses += 1
            if its_round == self._round:
                async with self._changed:
                    self._through.add(number)
                    self._changed.notify_all()

    async def go_round(self) -> None:
        """Return when every task has begun and ended a use from now on."""
        async with self._changed:
            self._round += 1
            self._through.clear()
            await self._changed.wait_for(lambda: len(self._through) == self._count)

    def forget_times(self) -> float:
        """Return the milliseconds of the slowest use so far, and start over."""
        slowest, self.slowest = self.slowest, 0.0
        return slowest * 1000


async def rotate_under_load(title: str, rotation: Rotation, moto: MotoServer, use: Use, usual: Use) -> None:
    """Rotate in both ways while 200 tasks use the service: none of them fails, and few calls are made.

    Args:
        title: what is printed before the figures.
        rotation: rotates the credentials.
        moto: the server whose calls are counted.
        use: uses the service once with credentials of the cache, and logs in anew for it.
        usual: the same as it is usually done. It is used by ten tasks meanwhile, and has to fail, or the test shows
            nothing.
    """
    # Only a guard: seven seconds on an idle machine, minutes on a loaded one.
    async with asyncio.timeout(900), Load(use) as load, Load(usual, 10) as other:
        await load.go_round()
        await other.go_round()
        while other.failures:
            # Some have short time-outs, to fail soon after the rotation; a loaded machine exceeds them before.
            other.failures.clear()
            await other.go_round()
        before, calls = load.forget_times(), []
        for rotate in (rotation.rotate_single, *[rotation.rotate_alternating] * 2):
            count = moto.calls()
            await rotate()
            await load.go_round()
            calls.append(moto.calls() - count)
        # `pytest -rP` shows it; docs/rotation.md has it in a table.
        _logger.info(
            "%s: %d of %d uses failed, calls %s, slowest %.0f ms (before: %.0f); the usual way: %d of %d failed",
            title,
            load.failures.total(),
            load.uses,
            calls,
            load.forget_times(),
            before,
            other.failures.total(),
            other.uses,
        )
        assert max(calls) <= CALLS
        assert not load.failures
        assert other.failures


async def run_block(title: str, names: dict[str, Any]) -> None:
    """Run the lines that docs/rotation.md shows under a title; ``names`` are theirs."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "rotation.md").read_text(encoding="utf-8")
    block = page.split(f"\n### {title}\n")[1].split("```python\n")[1].split("```")[0]
    code = compile(block, f"docs/rotation.md, {title}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ended = eval(code, names)
    if ended is not None:
        await ended
