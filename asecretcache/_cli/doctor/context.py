"""What the checks of one examination share: the options, and what earlier checks have found out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from asecretcache._cli.doctor.report import Report, Status
from asecretcache._exceptions import SecretCacheError
from asecretcache._references import SecretReference
from asecretcache._sources.error_mapping import to_error

T = TypeVar("T")

#: Seconds for a whole examination, also where nothing answers.
LONGEST: Final = 30.0

_REASONS: Final = {
    "session": "the AWS SDK can't be used",
    "region": "no region is known",
    "credentials": "there are no credentials",
    "endpoint": "no endpoint is known",
    "host": "the server to connect to isn't known",
    "addresses": "the host's name doesn't resolve",
    "open_address": "there is no TCP connection",
    "tls": "there is no TLS connection",
    "answers": "Secrets Manager doesn't answer",
}


class Options(NamedTuple):
    """What to examine.

    Attributes:
        references: the secrets to read.
        region: the region, or None for the environment's.
        endpoint_url: the endpoint, or None for the environment's, else AWS's.
        batch: whether to read the secrets by a batch as well.
        seconds: how long the examination may take.
    """

    references: tuple[SecretReference, ...] = ()
    region: str | None = None
    endpoint_url: str | None = None
    batch: bool = False
    seconds: float = LONGEST


class Host(NamedTuple):
    """The server to connect to: that of the endpoint, or the proxy."""

    name: str
    port: int
    is_tls: bool
    is_proxy: bool


@dataclass
class Context:
    """The state of an examination. It belongs to one task.

    Attributes:
        options: what to examine.
        report: where findings go.
        clock: the wall clock, compared with the server's.
        session: the SDK's session, None if the SDK can't be used.
        region: the region, if there is one.
        credentials: whether there are credentials.
        account: the account of the credentials, or ``*``.
        partition: the partition of the credentials, or ``aws``.
        endpoint: the URL of Secrets Manager, without a user or password.
        host: the server to connect to.
        addresses: those of the host.
        open_address: one that accepts connections.
        tls: whether the server is the right one, or has no TLS, or is behind a proxy.
        answers: whether Secrets Manager answered.
        direct: why DirectSource would use the SDK or can't be used; None if it is possible.
    """

    options: Options
    report: Report
    clock: Callable[[], float] = time.time
    session: Any = None
    region: str | None = None
    credentials: bool = False
    account: str = "*"
    partition: str = "aws"
    endpoint: str | None = None
    host: Host | None = None
    addresses: list[str] = field(default_factory=list)
    open_address: str | None = None
    tls: bool = False
    answers: bool = False
    direct: str | None = "it wasn't looked at"

    def lacks(self, check: str, *needs: str, subject: str = "", **facts: Any) -> bool:
        """Whether something that a check needs isn't known; then the check is reported as skipped.

        Args:
            check: the name of the check.
            needs: names of attributes.
            subject: what is checked, if there are several.
            facts: those of the finding.
        """
        for need in needs:
            if not getattr(self, need):
                self.report.add(check, Status.SKIPPED, f"{subject}not checked: {_REASONS[need]}", **facts)
                return True
        return False

    def region_of(self, secret_id: str) -> str | None:
        """Return the region in which the sources ask for a secret: the one that an ARN names, else the own one."""
        return (secret_id.split(":")[3] if secret_id.startswith("arn:") else "") or self.region

    def client(self, service: str, *, is_signed: bool = True, region: str | None = None) -> Any:
        """Return a context manager of a client of the SDK that makes one attempt and waits for 3 s at most."""
        from aiobotocore.config import AioConfig
        from botocore import UNSIGNED

        signature = {} if is_signed else {"signature_version": UNSIGNED}
        config = AioConfig(connect_timeout=2.0, read_timeout=3.0, retries={"total_max_attempts": 1}, **signature)
        endpoint_url = self.options.endpoint_url if service == "secretsmanager" else None
        return self.session.create_client(
            service, region_name=region or self.region, endpoint_url=endpoint_url, config=config
        )


def explained(exc: BaseException) -> SecretCacheError:
    """Return this package's error for an exception: its text names the remedy, and holds nothing secret."""
    return to_error(exc, None).error


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    """Return a result, and the milliseconds that it took."""
    began = time.perf_counter()
    result = await work
    return result, round((time.perf_counter() - began) * 1000, 1)


def milliseconds(number: float) -> str:
    """Return milliseconds as text."""
    return f"{number:.0f} ms" if number >= 10 else f"{number:.1f} ms"
