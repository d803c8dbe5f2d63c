"""The source for a fast cold start: AWS Secrets Manager without the SDK, where the environment needs none."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from asecretcache._exceptions import ConfigurationError
from asecretcache._process_events import before_snapshot
from asecretcache._sources.client_source import ClientSource
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.sdk.client_factory import SdkClientFactory

_logger: Final = logging.getLogger("asecretcache")


class DirectSource(ClientSource):
    """Fetches from AWS Secrets Manager as SecretsManagerSource does, but starts several times as fast.

    Where a Lambda function or container is configured by a few environment variables, it signs and sends its calls
    itself. Credentials come from AWS_ACCESS_KEY_ID and the like or from the container's endpoint, the region from
    AWS_DEFAULT_REGION. An endpoint (AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL) and a CA bundle (AWS_CA_BUNDLE,
    REQUESTS_CA_BUNDLE) may be set. Credentials are read again for each call. TLS certificates are verified with the
    bundle that the SDK would use.

    With any other configuration it uses the SDK, as SecretsManagerSource does, and logs that once: a profile, a role to
    assume, web identity, a proxy, FIPS or dual-stack endpoints, a configuration or credentials file with settings. It
    decides for each event loop.

    Any task, loop or thread may use it. It needs httptools: ``pip install 'asecretcache[direct]'``.

    Args:
        region_name: the region; None for AWS_DEFAULT_REGION.
        endpoint_url: the URL to send calls to; None for the environment's, else AWS's.
        max_concurrency: the number of calls that may run at the same time on one loop.

    Raises:
        ConfigurationError: an argument is not valid, or httptools is not installed.
    """

    def __init__(
        self, *, region_name: str | None = None, endpoint_url: str | None = None, max_concurrency: int = 10
    ) -> None:
        factory = _ClientFactory(region_name, endpoint_url)
        super().__init__(factory, max_concurrency=max_concurrency)


class _ClientFactory(SdkClientFactory):
    """Makes direct clients, or the SDK's where the environment needs them."""

    def __init__(self, region_name: str | None, endpoint_url: str | None) -> None:
        try:
            # At construction, not at the first fetch: an import during INIT delays no invocation, and a missing
            # httptools is noticed on the developer's machine, even if the SDK is used there.
            from asecretcache._sources.direct.client import DirectClient, KeptCredentials
        except ModuleNotFoundError as exc:
            raise ConfigurationError("DirectSource needs httptools: pip install 'asecretcache[direct]'") from exc
        super().__init__(None, region_name, endpoint_url, None)
        self._direct_client = DirectClient
        self._new_kept = KeptCredentials
        self._kept: dict[object, Any] = {}
        self._is_logged = False

    def open(self, lease: Lease, region: str | None = None) -> AbstractAsyncContextManager[Any]:
        """Return a context manager of a new client."""
        from asecretcache._sources.direct.environment import resolve_settings

        location = self._location if region is None else {**self._location, "region_name": region}
        settings = resolve_settings(**location)
        if not isinstance(settings, str):
            kept = self._kept.setdefault(settings.container, self._new_kept())
            if before_snapshot.is_ahead:
                self._kept.clear()  # A snapshot must hold none.
            return self._direct_client(settings, kept)
        _require_sdk(settings)
        if not self._is_logged:
            self._is_logged = True
            _logger.info("DirectSource uses the AWS SDK: %s", settings)
        return super().open(lease, region)

    def prepare(self) -> bool:
        """Make the TLS context, or prepare the SDK where the environment needs it."""
        from asecretcache._sources.direct.environment import resolve_settings

        settings = resolve_settings(**self._location)
        if isinstance(settings, str):
            return super().prepare()
        self._direct_client(settings).prepare()
        return False

    async def connect(self, client: Any) -> None:
        """Open a connection for the first call."""
        if isinstance(client, self._direct_client):
            await client.connect()
        else:
            await super().connect(client)

    def outdate(self, client: Any) -> None:
        """Don't keep a client, nor its credentials, since they were refused."""
        self._kept.clear()
        super().outdate(client)

    async def close_connections(self, client: Any) -> bool:
        """Close the connections of a client, which opens new ones when it is used again."""
        if isinstance(client, self._direct_client):
            client.close_connections()
            return True
        return await super().close_connections(client)

    def abandon(self, client: Any, *, abort: bool) -> None:
        """Close the connections of a client whose loop doesn't run."""
        if isinstance(client, self._direct_client):
            client.abandon(abort=abort)
        else:
            super().abandon(client, abort=abort)


def _require_sdk(reason: str) -> None:
    """Raise ConfigurationError if the SDK is absent; its import couldn't say which setting is to change."""
    import importlib.util  # Slow, and only needed where the SDK is.

    if importlib.util.find_spec("aiobotocore") is None:
        msg = f"{reason}, so DirectSource needs the AWS SDK, which isn't installed: change that, or install aioboto3"
        raise ConfigurationError(msg)
