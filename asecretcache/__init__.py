"""An async-first caching client for AWS Secrets Manager in asyncio Lambda handlers.

    from asecretcache import async_handler, get_secret

    @async_handler
    async def lambda_handler(event, context):
        password = await get_secret("prod/db:password")

One call per execution environment: concurrent first fetches share it, warm invocations read memory.
"""

from __future__ import annotations

from asecretcache._cache import SecretCache
from asecretcache._core.stats import CacheStats
from asecretcache._events import EventReport
from asecretcache._exceptions import (
    CacheClosedError,
    ConfigurationError,
    CredentialsError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._lambda.deadline import deadline
from asecretcache._lambda.default import bootstrap, get_default_cache, get_secret, get_secrets, set_default_cache
from asecretcache._lambda.handler import LambdaHandler, async_handler
from asecretcache._lambda.lifespan import asgi_lifespan
from asecretcache._lambda.preparation import prefetch_in_init
from asecretcache._lambda.sync_handler import sync_handler
from asecretcache._models import Secret, SecretRequest
from asecretcache._observing import CacheObserver, SourceCall, SourceResult
from asecretcache._sources.agent.source import AgentSource
from asecretcache._sources.direct.source import DirectSource
from asecretcache._sources.fallback import FallbackSource
from asecretcache._sources.protocols import BatchSource, SecretSource
from asecretcache._sources.sdk.source import SecretsManagerSource
from asecretcache._version import __version__ as __version__

__all__ = [
    "AgentSource",
    "BatchSource",
    "CacheClosedError",
    "CacheObserver",
    "CacheStats",
    "ConfigurationError",
    "CredentialsError",
    "DirectSource",
    "EventReport",
    "FallbackSource",
    "LambdaHandler",
    "Secret",
    "SecretAccessDeniedError",
    "SecretCache",
    "SecretCacheError",
    "SecretDecryptionError",
    "SecretErrorGroup",
    "SecretFormatError",
    "SecretNotFoundError",
    "SecretRequest",
    "SecretSource",
    "SecretThrottledError",
    "SecretUnavailableError",
    "SecretsManagerSource",
    "SourceCall",
    "SourceResult",
    "asgi_lifespan",
    "async_handler",
    "bootstrap",
    "deadline",
    "get_default_cache",
    "get_secret",
    "get_secrets",
    "prefetch_in_init",
    "set_default_cache",
    "sync_handler",
]
