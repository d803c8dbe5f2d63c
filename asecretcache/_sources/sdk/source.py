"""The default source: AWS Secrets Manager over aioboto3."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from asecretcache._exceptions import ConfigurationError
from asecretcache._sources.client_source import ClientSource
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.sdk.client_factory import SdkClientFactory
from asecretcache._sources.sdk.patches import abandon_client


class SecretsManagerSource(ClientSource):
    """Fetches from AWS Secrets Manager over aioboto3; any task, loop or thread may use it.

    It keeps one client per event loop, and gives it to the next when a loop has ended. Region, credentials, profile,
    endpoint, proxies and CA bundle are found as boto3 finds them; a secret that is named by the ARN of another region
    is fetched there. Nothing of the SDK is imported before the first fetch, ``warm()`` or ``prepare()``, which a cache
    calls that is made during Lambda's INIT.

    Args:
        session: an ``aioboto3.Session`` or ``aiobotocore.session.AioSession``; None for the default session of each
            client. The clients that it makes for others stay as they are.
        region_name: the region; None for the session's.
        endpoint_url: the URL to send calls to; None for AWS_ENDPOINT_URL_SECRETS_MANAGER and the like, else AWS's.
        config: a ``botocore.config.Config`` or ``AioConfig``; its settings override those of this class.
        client_factory: returns an async context manager of a client; it replaces all arguments above. The client must
            have get_secret_value, and batch_get_secret_value if batches are fetched. If the context manager is made by
            ``@asynccontextmanager``, its clean-up must be in ``finally`` or ``async with``, because a loop that ends
            closes it as any asynchronous generator; nor may it keep a task group or cancel scope open meanwhile. How
            the client verifies its connections is its maker's business.
        max_concurrency: the number of calls that may run at the same time on one loop.

    Connections are verified by an HTTP session of this package, and no redirect is followed.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(
        self,
        session: Any = None,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        config: Any = None,
        client_factory: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        max_concurrency: int = 10,
    ) -> None:
        sdk = SdkClientFactory(session, region_name, endpoint_url, config)
        if client_factory is not None:
            if not callable(client_factory):
                raise ConfigurationError("client_factory= must return an async context manager of a client when called")
            if any(other is not None for other in (session, region_name, endpoint_url, config)):
                raise ConfigurationError("client_factory= must be given without the arguments that it replaces")
        factory = sdk if client_factory is None else UsersClientFactory(client_factory)
        super().__init__(factory, max_concurrency=max_concurrency)


class UsersClientFactory:
    """Makes clients by a function of the user's."""

    def __init__(self, open_client: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._open_client = open_client

    def own_region(self) -> None:
        """Return None: the function decides which region its clients call."""

    def serves(self, region: str) -> bool:  # noqa: ARG002  # as ClientFactory has it
        """Return True: the function decides which region its clients call."""
        return True

    def open(self, lease: Lease, region: str | None = None) -> AbstractAsyncContextManager[Any]:  # noqa: ARG002  # as ClientFactory has it
        """Return the function's context manager of a client."""
        return self._open_client()

    def prepare(self) -> bool:
        """Do nothing: what the function needs is its own."""
        return False

    async def connect(self, client: Any) -> None:
        """Do nothing: how the client does it isn't known."""

    def outdate(self, client: Any) -> None:
        """Do nothing: no client is kept."""

    async def close_connections(self, client: Any) -> bool:  # noqa: ARG002  # as ClientFactory has it
        """Return False: how the client does it isn't known."""
        return False

    def abandon(self, client: Any, *, abort: bool) -> None:
        """Close the connections of a client of aiobotocore's, if it is one."""
        abandon_client(client, abort=abort)
