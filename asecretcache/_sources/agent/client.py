"""A client of AWS's local providers of secrets, over HTTP on the same host."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Self
from urllib.parse import quote

from asecretcache._core.timeouts import current_fetch_timeout
from asecretcache._exceptions import SecretUnavailableError
from asecretcache._init_phase import is_lambda
from asecretcache._models import SecretRequest
from asecretcache._sources.agent.refusals import is_not_ready, to_exception
from asecretcache._sources.agent.settings import AgentSettings
from asecretcache._sources.agent.token import TokenReader
from asecretcache._sources.direct.connection_pool import ConnectionPool
from asecretcache._sources.direct.http_message import Request, Response
from asecretcache._sources.direct.json_body import decode, parse
from asecretcache._sources.exceptions import ConnectTimeoutError, EndpointConnectionError, TransportError
from asecretcache._version import __version__

_PATH: Final = "/secretsmanager/get"
_TOKEN_HEADER: Final = "X-Aws-Parameters-Secrets-Token"
#: Seconds to make a connection; tests replace it.
CONNECT_SECONDS = 2.0
#: Seconds for which a refused connection is tried again in Lambda, until the provider has been reached. AWS's script
#: for a layer starts it with the first invocation, and asks for retries (example-lambda-extension in its repository).
STARTUP_SECONDS: Final = 2.0
#: Of a fetch whose caller has set no time-out.
_FETCH_SECONDS: Final = 10.0
#: The part of a fetch's time after which the client gives up by itself, so that its error says why.
_PATIENCE: Final = 0.9
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.2


class Startup:
    """Whether the provider may still be starting, which the clients of a source share."""

    def __init__(self) -> None:
        # Elsewhere it is a service, and the error should say at once that it doesn't run.
        self.is_over = not is_lambda()


class AgentClient:
    """A client of one loop, and a context manager of itself.

    Args:
        settings: the provider.
        tokens: reads the token.
        startup: whether the provider may still be starting.
        clock: the wall clock, by which connections grow old.
    """

    def __init__(
        self, settings: AgentSettings, tokens: TokenReader, startup: Startup, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._startup = startup
        self._pool = ConnectionPool(settings.origin, None, clock=clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.close_connections():
            # The sockets are closed in the next iteration of the loop, which may otherwise never come.
            await asyncio.sleep(0)

    async def connect(self) -> None:
        """Open a connection for the first request."""
        await self._pool.connect(CONNECT_SECONDS)

    def close_connections(self) -> bool:
        """Close the idle connections and return whether there were any."""
        return self._pool.close()

    def abandon(self, *, abort: bool) -> None:
        """Close the connections from outside of the loop, which doesn't run; see ``ClientFactory``."""
        self._pool.abandon(abort=abort)

    async def get_secret_value(self, request: SecretRequest) -> dict[str, Any]:
        """Return the response in the SDK's form."""
        target, seconds = self._target(request), _seconds()
        waited = 0.0
        for pause in _pauses(seconds):
            has_time = waited + pause < min(STARTUP_SECONDS, seconds)
            response = await self._send(target, seconds, may_be_refused=has_time and not self._startup.is_over)
            if response is None or is_not_ready(response):
                await asyncio.sleep(pause)
                waited += pause
            elif response.status == 200:
                return parse(response, decode)
            else:
                raise to_exception(response, self._settings)
        raise SecretUnavailableError(
            f"{self._settings.subject} wasn't ready in {seconds:g} s: it serves secrets once Lambda's INIT is over, so "
            "don't fetch or prefetch in INIT with it"
        )

    async def _send(self, target: str, seconds: float, *, may_be_refused: bool) -> Response | None:
        """Return the response; None if the connection was refused, which it may be."""
        subject = self._settings.subject
        request = self._request(target)
        try:
            response = await self._pool.send(request, connect_timeout=CONNECT_SECONDS, read_timeout=seconds)
        except (ConnectTimeoutError, EndpointConnectionError) as exc:
            # asyncio replaces the text of the operating system.
            number = getattr(exc.__cause__, "errno", None)
            if may_be_refused and number == errno.ECONNREFUSED:
                return None
            reason = "no answer" if number is None else os.strerror(number)
            text = f"nothing can be reached as {subject} ({reason}): {self._settings.how_to_start}"
        except TransportError as exc:
            text = f"{subject} gave no response ({type(exc).__name__}): its log may say why"
        else:
            self._startup.is_over = True
            return response
        raise SecretUnavailableError(text)

    def _target(self, request: SecretRequest) -> str:
        parameters = {
            "secretId": request.secret_id,
            "versionId": request.version_id,
            "versionStage": request.version_stage,
        }
        if self._settings.is_provider:
            # Its cache, and not ours alone, would return the old version.
            parameters["refreshNow"] = "true" if request.is_refresh else None
            parameters["roleArn"] = self._settings.role_arn
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value is not None)
        return f"{_PATH}?{query}"

    def _request(self, target: str) -> Request:
        headers = {
            "Host": self._settings.origin.host_header,
            "Accept": "application/json",
            "User-Agent": f"asecretcache/{__version__}",
            _TOKEN_HEADER: self._tokens.read(self._settings.subject),
        }
        return Request("GET", target, headers)


def _seconds() -> float:
    """Return the seconds that the current fetch may take, so that the error tells what took them."""
    timeout = current_fetch_timeout.get()
    return _PATIENCE * (_FETCH_SECONDS if timeout is None else timeout.seconds)


def _pauses(seconds: float) -> Iterator[float]:
    """Yield the pauses between attempts, which last so many seconds together."""
    pause, left = _FIRST_PAUSE, seconds
    while left > 0:
        yield min(pause, left)
        left -= pause
        pause = min(2 * pause, _LONGEST_PAUSE)
