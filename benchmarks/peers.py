"""Who is measured: asecretcache, and what a user could take instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

# Stands for the wheel of this checkout.
WHEEL: Final = "{wheel}"


@dataclass(frozen=True)
class Peer:
    """A client, the environment that it runs in, and how it is spoken to.

    Attributes:
        name: what tables call it.
        client: its module in clients/, which says how it is used.
        packages: what is installed, by pip or for Node by npm.
        kind: whether its ``get`` is a coroutine, a plain function, or in Node.
        environment: what its environment is called, if it shares one.
        settings: environment variables.
        needs: an attribute without which it is missing, as ``module.name``.
        caches: whether there are hits at all.
        only: the measurements that it is for; all, if empty.
    """

    name: str
    client: str
    packages: tuple[str, ...]
    kind: Literal["async", "sync", "node"] = "async"
    environment: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    caches: bool = True
    only: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return self.environment or self.client.partition(".")[0].replace("_", "-")

    def is_for(self, measurement: str) -> bool:
        return not self.only or measurement in self.only


BASELINE: Final = "aioboto3"
OURS: Final = "asecretcache"
DIRECT: Final = "asecretcache, direct"

PEERS: Final = (
    Peer(OURS, "ours", (WHEEL,)),
    Peer(
        DIRECT,
        "ours",
        (WHEEL + "[direct]",),
        environment="ours-direct",
        settings={"ASECRETCACHE_SOURCE": "direct"},
        needs="asecretcache.DirectSource",
        only=("cold", "calls", "stall"),
    ),
    Peer(
        "asecretcache, batch=True", "ours", (WHEEL,), environment="ours", settings={"BENCH_BATCH": "1"}, only=("calls",)
    ),
    Peer(BASELINE, "plain_aioboto3", ("aioboto3",), caches=False),
    Peer("aws-secretsmanager-caching", "official", ("aws-secretsmanager-caching",), kind="sync"),
    Peer("Powertools parameters", "powertools", ("aws-lambda-powertools[aws-sdk]",), kind="sync"),
    Peer("async-lru + aioboto3", "with_async_lru", ("async-lru", "aioboto3")),
    Peer("aiocache + aioboto3", "with_aiocache", ("aiocache", "aioboto3")),
    Peer(
        "aiocache cached_stampede",
        "with_aiocache_stampede",
        ("aiocache", "aioboto3"),
        environment="with-aiocache",
        only=("calls",),
    ),
    Peer("cashews + aioboto3", "with_cashews", ("cashews", "aioboto3")),
    Peer("cachetools-async + aioboto3", "with_cachetools_async", ("cachetools-async", "aioboto3")),
    Peer("cachebox + aioboto3", "with_cachebox", ("cachebox>=6", "aioboto3")),
    Peer("article, Node, aws-sdk v2", "article_v2.cjs", ("aws-sdk@2",), kind="node"),
    Peer("article, Node, v3 client", "article_v3.cjs", ("@aws-sdk/client-secrets-manager@3",), kind="node"),
    Peer(
        "middy, Node",
        "middy.mjs",
        # 7 is for Node 22 and later.
        ("@middy/core@6", "@middy/secrets-manager@6", "@aws-sdk/client-secrets-manager@3"),
        kind="node",
    ),
)
