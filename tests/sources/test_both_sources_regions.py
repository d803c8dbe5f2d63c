"""Both sources call the region that an ARN names."""

from __future__ import annotations

import asyncio

import pytest

from asecretcache import (
    BatchSource,
    CacheClosedError,
    ConfigurationError,
    DirectSource,
    Secret,
    SecretCache,
    SecretNotFoundError,
    SecretRequest,
    SecretsManagerSource,
)
from asecretcache._sources.direct.environment import resolve_settings
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.sdk.client_factory import SdkClientFactory
from moto_server import REGION, MotoServer
from raw_server import ARN, GOOD, RawServer
from source_helpers import SourceClass

OTHER = "us-east-2"

pytestmark = pytest.mark.parametrize("source_class", [SecretsManagerSource, DirectSource])


@pytest.fixture
def arns(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> dict[str, str]:
    """The ARNs of secrets of one name in two regions, each with its region as the value."""
    import boto3

    found = {}
    for region in (REGION, OTHER):
        client = boto3.client("secretsmanager", region_name=region, endpoint_url=moto_server.url)
        found[region] = client.create_secret(Name="prod/db", SecretString=region)["ARN"]
    return found


async def test_an_arn_is_asked_in_its_region(source_class: SourceClass, arns: dict[str, str]) -> None:
    """A name in the source's own; each region has a client of its own for each loop."""
    source = source_class()
    for _ in range(2):
        for region, secret_id in ((REGION, "prod/db"), *arns.items()):
            assert (await source.fetch(SecretRequest(secret_id))).text == region
    await source.aclose()

    with pytest.raises(CacheClosedError):
        await source.fetch(SecretRequest(arns[OTHER]))


def test_loops_come_and_go(source_class: SourceClass, arns: dict[str, str]) -> None:
    """In each region; and connections are closed at the end of a loop."""
    source = source_class()

    async def use() -> None:
        await asyncio.gather(*(source.fetch(SecretRequest(secret_id)) for secret_id in ("prod/db", *arns.values())))
        await source.close_connections()

    for _ in range(3):
        asyncio.run(use())


async def test_a_batch_is_parted_by_regions(
    source_class: SourceClass, arns: dict[str, str], moto_server: MotoServer
) -> None:
    """One call for each; the results are one mapping."""
    source = source_class()
    assert isinstance(source, BatchSource)
    ids = ["prod/db", *arns.values(), "missing", arns[OTHER].replace("prod/db", "missing")]
    results = await source.fetch_batch(ids)
    await source.aclose()

    texts = {key: value.text for key, value in results.items() if isinstance(value, Secret)}
    assert texts == {"prod/db": REGION, arns[REGION]: REGION, arns[OTHER]: OTHER}
    assert all(isinstance(results.get(missing, SecretNotFoundError()), SecretNotFoundError) for missing in ids[3:])
    assert moto_server.calls("BatchGetSecretValue") == 2


async def test_an_arn_needs_no_configured_region(
    source_class: SourceClass, arns: dict[str, str], aws_environment: pytest.MonkeyPatch
) -> None:
    """It names one itself; a name needs it all the same."""
    for variable in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        aws_environment.delenv(variable)
    source = source_class()
    assert (await source.fetch(SecretRequest(arns[OTHER]))).text == OTHER
    with pytest.raises(ConfigurationError, match="no region"):
        await source.fetch(SecretRequest("prod/db"))
    await source.aclose()


async def test_not_found_names_the_region(source_class: SourceClass, arns: dict[str, str]) -> None:
    """That which was asked."""
    source = source_class()
    for secret_id, region in (("missing", REGION), (arns[OTHER].replace("prod/db", "missing"), OTHER)):
        with pytest.raises(SecretNotFoundError, match=f"; {region} was asked"):
            await source.fetch(SecretRequest(secret_id))
        results = await source.fetch_batch([secret_id])
        assert str(results[secret_id]).endswith(f"; {region} was asked")
    await source.aclose()


async def test_an_endpoint_is_still_the_endpoint(
    source_class: SourceClass, arns: dict[str, str], moto_server: MotoServer, aws_environment: pytest.MonkeyPatch
) -> None:
    """It gets the calls of all regions, signed for each; without one, the region's own is called."""
    aws_environment.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    source = source_class(endpoint_url=moto_server.url)
    assert (await source.fetch(SecretRequest(arns[OTHER]))).text == OTHER
    await source.aclose()

    if source_class is DirectSource:
        settings = resolve_settings(OTHER, None)
        assert not isinstance(settings, str)
        assert settings.origin.host == f"secretsmanager.{OTHER}.amazonaws.com"
        return
    async with SdkClientFactory(None, REGION, None, None).open(Lease(), OTHER) as client:
        assert client.meta.endpoint_url == f"https://secretsmanager.{OTHER}.amazonaws.com"


async def test_a_region_that_is_unknown(
    source_class: SourceClass, aws_environment: pytest.MonkeyPatch, raw_server: RawServer
) -> None:
    """It may be a new one: the SDK knows how to call it, also where the source's own region needs no SDK."""
    arn = ARN.replace(REGION, "zz-north-1")
    raw_server.answer(GOOD | {"ARN": arn})
    aws_environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", raw_server.url)
    source = source_class()
    assert (await source.fetch(SecretRequest(arn))).arn == arn
    await source.aclose()


async def test_a_cache_reads_replicas_of_several_regions(source_class: SourceClass, arns: dict[str, str]) -> None:
    """Each by its ARN, with a batch too."""
    source = source_class()
    for batch in (False, True):
        async with SecretCache(source, batch=batch) as cache:
            assert list((await cache.get_secrets(*arns.values())).values()) == [REGION, OTHER]
            await cache.refresh(arns[OTHER])
    await source.aclose()
