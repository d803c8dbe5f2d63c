"""The clients that are measured: asecretcache, and its alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

# Stands for the wheel of this checkout.
WHEEL: Final = "{wheel}"


@dataclass(frozen=True)
class Peer:
    """A client and its environment.

    Attributes:
        name: its name in tables.
        client: its module in clients/, which uses it as its documentation does.
        packages: what pip installs, or npm for Node.
        kind: whether its ``get`` is a coroutine function, a plain function, or a function of Node.
        environment: the name of the environment that it shares with another peer.
        settings: environment variables.
        needs: an attribute without which the peer can't be measured, as ``module.name``.
        caches: whether it has warm reads.
        only: the measurements that it is for; if empty, all.
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
