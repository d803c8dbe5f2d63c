"""Clients by region: which region is a source's own, and batches of which one region fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from aioboto3 import Session
from aiobotocore.config import AioConfig

from asecretcache import (
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretRequest,
    SecretsManagerSource,
    SecretUnavailableError,
)
from asecretcache._sources.client_source import ClientSource
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.sdk.client_factory import SdkClientFactory
from source_helpers import RESPONSE, FakeClient

OWN, OTHER = "eu-west-1", "us-east-2"


def arn(region: str) -> str:
    return f"arn:aws:secretsmanager:{region}:123456789012:secret:{region}-AbCdEf"


class Client:
    """Returns each secret of a batch, or raises."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self.asked: list[list[str]] = []

    async def batch_get_secret_value(self, **arguments: list[str]) -> dict[str, Any]:
        self.asked.append(arguments["SecretIdList"])
        if self.failure is not None:
            raise self.failure
        return {
            "SecretValues": [
                {"Name": each.split(":")[6][:-7], "ARN": each, "VersionId": "v", "SecretString": "x"}
                for each in arguments["SecretIdList"]
            ]
        }


class Factory:
    """Has a client for each region."""

    def __init__(self, **failures: Exception) -> None:
        self.clients = {OWN: Client(failures.get("own")), OTHER: Client(failures.get("other"))}

    def own_region(self) -> str:
        return OWN

    def serves(self, region: str) -> bool:
        return region == OWN

    def open(self, lease: Lease, region: str | None = None) -> AbstractAsyncContextManager[Any]:
        return self._open(region or OWN)

    @asynccontextmanager
    async def _open(self, region: str) -> AsyncIterator[Client]:
        yield self.clients[region]

    def prepare(self) -> bool:
        return False

    async def connect(self, client: Client) -> None:
        """Nothing to connect."""

    def outdate(self, client: Client) -> None:
        """Nothing is kept."""

    async def close_connections(self, client: Client) -> bool:
        return True

    def abandon(self, client: Client, *, abort: bool) -> None:
        """Nothing to abandon."""


@pytest.mark.parametrize(
    ("failure", "kinds"),
    [
        (SecretUnavailableError("down"), [SecretUnavailableError]),
        (CredentialsError("none"), [CredentialsError]),
        # It is left out, so that the cache fetches it by itself.
        (SecretAccessDeniedError("denied"), []),
    ],
)
async def test_a_batch_of_which_one_region_fails(failure: SecretCacheError, kinds: list[type]) -> None:
    """What can't be reached is an error of its secrets alone."""
    factory = Factory(other=failure)
    source = ClientSource(factory)
    results = await source.fetch_batch([arn(OWN), arn(OTHER)])
    await source.aclose()

    assert [client.asked for client in factory.clients.values()] == [[[arn(OWN)]], [[arn(OTHER)]]]
    assert isinstance(results[arn(OWN)], Secret)
    assert [type(value) for key, value in results.items() if key == arn(OTHER)] == kinds
    assert all(each.secret_id == arn(OTHER) for each in results.values() if isinstance(each, SecretCacheError))


async def test_a_batch_of_which_all_regions_fail() -> None:
    """It fails as a whole."""
    source = ClientSource(Factory(own=SecretUnavailableError("down"), other=SecretAccessDeniedError("denied")))
    with pytest.raises(SecretUnavailableError, match="down"):
        await source.fetch_batch([arn(OWN), arn(OTHER)])
    await source.aclose()


async def test_a_client_of_the_users_is_asked_for_all_regions() -> None:
    """Which region it calls is its maker's business."""
    client = FakeClient({**RESPONSE, "ARN": arn(OTHER)})
    source = SecretsManagerSource(client_factory=client)
    assert source.region_name is None
    assert (await source.fetch(SecretRequest(arn(OTHER)))).arn == arn(OTHER)
    await source.aclose()

    assert client.calls == [{"SecretId": arn(OTHER)}]


@pytest.mark.parametrize("region", ["eu-west-1", "eu-central-1", "us-east-1", "ap-south-1"])
def test_which_region_is_the_sources_own(region: str, bare_environment: pytest.MonkeyPatch) -> None:
    """The argument's, else the configuration's, the session's, or the environment's."""
    bare_environment.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    config, session = AioConfig(region_name="eu-central-1"), Session(region_name="us-east-1")
    factories = {
        "eu-west-1": SdkClientFactory(session, "eu-west-1", None, config),
        "eu-central-1": SdkClientFactory(session, None, None, config),
        "us-east-1": SdkClientFactory(session, None, None, None),
        "ap-south-1": SdkClientFactory(None, None, None, None),
    }

    assert [name for name, factory in factories.items() if factory.serves(region)] == [region]
