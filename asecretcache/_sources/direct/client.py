"""A client of Secrets Manager without the SDK: the methods that the sources call of it, and what they raise."""

from __future__ import annotations

import asyncio
import binascii
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from asecretcache._sources.direct.connection_pool import Connections
from asecretcache._sources.direct.credentials import ContainerCredentials, environment_credentials
from asecretcache._sources.direct.environment import PlainCase
from asecretcache._sources.direct.http_message import Request, Response
from asecretcache._sources.direct.sigv4 import Credentials, authorization
from asecretcache._sources.direct.tls import Trust
from asecretcache._sources.exceptions import (
    ClientError,
    TransportError,
)
from asecretcache._sources.retry_quota import ATTEMPTS, Retries, pause, timeouts

_SERVICE: Final = "secretsmanager"
_WHERE: Final = "AWS_EXECUTION_ENV"
# Signatures are taken for five minutes; https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_SKEW: Final = 240.0
_SKEWED: Final = ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired")


class DirectClient:
    """Signs and sends by itself, and answers and fails as the SDK's client does. It belongs to one loop.

    It is a context manager of itself.
    """

    def __init__(
        self,
        case: PlainCase,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._case = case
        self._clock = clock
        trust = Trust(case.ca_bundle, is_regional=case.is_regional) if case.origin.tls else None
        self._connections = Connections(case.origin, trust, clock=clock)
        self._container = ContainerCredentials(*case.container, clock=clock) if case.container else None
        self._found = environment_credentials()
        self._retries = Retries()
        self._skew = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connections.close():
            # The loop's turn to close their sockets, which it may never have again.
            await asyncio.sleep(0)

    def detach_transports(self) -> Iterator[Any]:
        """Let go of the connections and yield their transports, for who ends them where the loop can't."""
        return self._connections.detach()

    async def get_secret_value(self, **arguments: str) -> dict[str, Any]:
        """Return the answer in the SDK's shape; the keyword arguments are AWS's."""
        return _typed(json.loads((await self._call("GetSecretValue", arguments)).body))

    async def batch_get_secret_value(self, **arguments: Any) -> dict[str, Any]:
        """Return one page of answers in the SDK's shape; the keyword arguments are AWS's."""
        page = dict(json.loads((await self._call("BatchGetSecretValue", arguments)).body))
        values = page.get("SecretValues")
        page["SecretValues"] = [_typed(value) for value in values or ()]
        return page

    async def _call(self, operation: str, arguments: Mapping[str, Any]) -> Response:
        call = _Call(operation, json.dumps(arguments).encode(), _random_uuid())
        attempt, paid, is_corrected = 1, 0, False
        while True:
            answer = await self._attempt(call, attempt)
            if isinstance(answer, Response):
                self._retries.refund(paid)
                return answer
            if not is_corrected and self._correct(answer):
                is_corrected = True
                continue
            paid = self._retries.pay(answer, attempt)
            if not paid:
                try:
                    raise answer
                finally:
                    del answer  # Its traceback holds this frame.
            await asyncio.sleep(pause(attempt))
            attempt += 1

    async def _attempt(self, call: _Call, attempt: int) -> Response | ClientError | TransportError:
        credentials = await self._credentials()
        connect_timeout, read_timeout = timeouts()
        try:
            response = await self._connections.send(
                self._request(call, attempt, credentials), connect_timeout=connect_timeout, read_timeout=read_timeout
            )
        except TransportError as exc:
            return exc
        return response if response.status < 300 else _refusal(response, call.operation)

    async def _credentials(self) -> Credentials:
        if self._container is not None:
            return await self._container.get()
        # What the environment doesn't say any more is kept, as the SDK does.
        self._found = environment_credentials() or self._found
        assert self._found is not None  # Else it isn't the plain case.
        return self._found

    def _request(self, call: _Call, attempt: int, credentials: Credentials) -> Request:
        headers = {
            "host": self._case.origin.header,
            "content-type": "application/x-amz-json-1.1",
            "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock() + self._skew)),
            "x-amz-target": f"secretsmanager.{call.operation}",
        }
        if credentials.token is not None:
            headers["x-amz-security-token"] = credentials.token
        signature = authorization(
            credentials,
            region=self._case.region,
            service=_SERVICE,
            method="POST",
            path="/",
            query="",
            headers=headers,
            body=call.body,
        )
        headers |= {
            "authorization": signature,
            "accept-encoding": "identity",
            "content-length": str(len(call.body)),
            "user-agent": _user_agent(),
            "amz-sdk-invocation-id": call.invocation,
            "amz-sdk-request": f"attempt={attempt}; max={ATTEMPTS}",
            **_trace(),
        }
        return Request("POST", "/", headers, call.body)

    def _correct(self, failure: ClientError | TransportError) -> bool:
        """After a signature was refused: whether the server's clock is another, by which it signs from now on."""
        if not isinstance(failure, ClientError) or failure.response["Error"]["Code"] not in _SKEWED:
            return False
        from email.utils import parsedate_to_datetime  # Seldom needed, and not cheap.

        date = failure.response["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            skew = parsedate_to_datetime(date).timestamp() - self._clock()
        except ValueError:
            return False
        was, self._skew = self._skew, skew
        return abs(skew - was) > _SKEW


class _Call(NamedTuple):
    operation: str
    body: bytes
    invocation: str


def _refusal(response: Response, operation: str) -> ClientError:
    """Return the error that botocore's parser of the JSON protocol would make of an answer."""
    answer: Any = {}
    if response.status < 500 or (response.body and not response.body.startswith(b"<html>")):
        try:
            answer = json.loads(response.body or b"{}")
        except ValueError:
            answer = {}
    if not isinstance(answer, dict):
        answer = {}
    code = answer.get("__type", str(response.status))
    if isinstance(code, str):
        # "aws.protocol#Code:http://..." is one of its forms.
        code = code.partition(":")[0].rpartition("#")[2]
    return ClientError(
        {
            "Error": {"Code": code, "Message": answer.get("message", answer.get("Message", ""))},
            "ResponseMetadata": {
                "HTTPStatusCode": response.status,
                "HTTPHeaders": response.headers,
                "RequestId": response.headers.get("x-amzn-requestid"),
            },
        },
        operation,
    )


def _typed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the types that the SDK gives to its fields; but a date is one only when it is asked for."""
    typed = dict(record)
    created, data = typed.get("CreatedDate"), typed.get("SecretBinary")
    if created is not None:
        typed["CreatedDate"] = float(created)
    if data is not None:
        typed["SecretBinary"] = binascii.a2b_base64(data)
    return typed


def _random_uuid() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _user_agent() -> str:
    version, implementation = ".".join(map(str, sys.version_info[:3])), sys.implementation.name
    where = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in os.environ.get(_WHERE, ""))
    return (
        f"asecretcache md/direct ua/2.1 os/{sys.platform} lang/python#{version} md/pyimpl#{implementation} "
        + (f"exec-env/{where} " if where else "")
        + "cfg/retry-mode#standard"
    )


def _trace() -> dict[str, str]:
    """Return the header by which Lambda notices functions that call each other in a circle."""
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    if not trace or "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        return {}
    if not trace.replace("=", "").replace(";", "").replace("-", "").replace(":", "").isalnum() or not trace.isascii():
        from urllib.parse import quote  # Not needed for what Lambda sets.

        trace = quote(trace, safe="-=;:+&[]{}\"',")
    return {"x-amzn-trace-id": trace}
