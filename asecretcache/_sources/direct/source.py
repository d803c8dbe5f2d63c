"""The source for a fast cold start: AWS Secrets Manager without the SDK, wherever that makes no difference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import Secret, SecretRequest
from asecretcache._sources.sdk.client_factory import SdkClients
from asecretcache._sources.sdk.source import SecretsManagerSource

_logger: Final = logging.getLogger("asecretcache")


class DirectSource:
    """Fetches from AWS Secrets Manager as SecretsManagerSource does, but starts several times as fast.

    In the plain case of a Lambda function or container it signs and sends its calls itself: credentials come from
    AWS_ACCESS_KEY_ID and the like or from the container's endpoint, the region from AWS_DEFAULT_REGION, and no more is
    configured than an endpoint (AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL) or a CA bundle (AWS_CA_BUNDLE,
    REQUESTS_CA_BUNDLE). Credentials are read anew for each call. TLS certificates are verified with the bundle that
    the SDK would use.

    Anything else makes it use SecretsManagerSource, which the log says once: a profile, a role to assume, web identity,
    a proxy, FIPS or dual-stack endpoints, a configuration or credentials file that has settings. Whether it is the
    plain case is decided whenever a client is made, which is when it was idle for some time and for each event loop.

    Any task, loop or thread may use it. It needs httptools: ``pip install asecretcache[direct]``.

    Args:
        region_name: the region; None: AWS_DEFAULT_REGION.
        endpoint_url: where to send the calls; None: the environment's, else AWS's.
        max_concurrency: how many calls may be under way at a time on one loop.

    Raises:
        ConfigurationError: an argument is not valid, or httptools is not installed.
    """

    def __init__(
        self, *, region_name: str | None = None, endpoint_url: str | None = None, max_concurrency: int = 10
    ) -> None:
        opener = _Opener(region_name, endpoint_url)
        self._source = SecretsManagerSource(client_factory=opener.open, max_concurrency=max_concurrency)

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the version that is asked for, with one GetSecretValue.

        Raises:
            SecretCacheError: a subclass that says why not.
        """
        return await self._source.fetch(request)

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        """Return the current versions of up to 20 secrets, or their errors, with one BatchGetSecretValue.

        What comes in several pages takes a call for each. Needs secretsmanager:BatchGetSecretValue besides
        GetSecretValue on each secret.

        Raises:
            SecretCacheError: a subclass that says why the batch as a whole could not be had.
        """
        return await self._source.fetch_batch(secret_ids)

    async def warm(self) -> None:
        """Make this loop's client; no call is made, and nothing is connected unless it takes the SDK.

        Raises:
            SecretCacheError: a subclass that says why not; a later fetch tries again.
        """
        await self._source.warm()

    async def aclose(self) -> None:
        """Close the clients: this loop's now, those of other live loops soon after. Idempotent."""
        await self._source.aclose()


class _Opener:
    """Makes clients: those that need no SDK, or the SDK's."""

    def __init__(self, region_name: str | None, endpoint_url: str | None) -> None:
        try:
            # Here rather than at the first fetch: an import in INIT costs no invocation anything, and if it fails,
            # it does so where it is developed, not where it first is the plain case.
            from asecretcache._sources.direct.client import DirectClient
        except ModuleNotFoundError as exc:
            raise ConfigurationError("DirectSource needs httptools: pip install asecretcache[direct]") from exc
        self._client = DirectClient
        self._arguments = (region_name, endpoint_url)
        self._sdk = SdkClients(None, region_name, endpoint_url, None)
        self._is_told = False

    def open(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager of a new client."""
        from asecretcache._sources.direct.environment import find_plain_case

        case = find_plain_case(*self._arguments)
        if not isinstance(case, str):
            return self._client(case)
        if not self._is_told:
            self._is_told = True
            _logger.info("DirectSource uses the AWS SDK: %s", case)
        return self._sdk.open()
