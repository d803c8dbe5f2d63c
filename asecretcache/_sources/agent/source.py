"""The source over AWS's local providers, for hosts with many processes and packages without the SDK."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import Secret, SecretRequest
from asecretcache._sources.client_source import LoopSource
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.responses import to_secret


class AgentSource(LoopSource):
    """Fetches from one of AWS's local providers, which runs on this host and has a cache that its processes share.

    These are the Workload Credentials Provider (formerly the Secrets Manager Agent) and the AWS Parameters and Secrets
    Lambda extension. It has the credentials, so this process needs none, nor a region, nor the SDK. It is
    called over plain HTTP on the loopback interface, never by way of a proxy.

    Each request carries the token that keeps other hosts' requests out: the first that is set of AWS_TOKEN,
    AWS_SESSION_TOKEN and AWS_CONTAINER_AUTHORIZATION_TOKEN, or the content of the file that it names as file:///path,
    which is read for each request.

    A secret may be as old as the provider's ttl and the cache's together. A refresh, such as that of
    ``call_with_secret``, passes the cache of the provider; that of the extension can't be passed. There are no batches.

    Any task, loop or thread may use it. It needs httptools: ``pip install 'asecretcache[direct]'``.

    Args:
        server: ``"provider"`` or ``"extension"``; None for the extension in a Lambda function and the provider
            elsewhere.
        host: an address of the loopback interface, or ``localhost``, which means 127.0.0.1.
        port: the port; None for that of PARAMETERS_SECRETS_EXTENSION_HTTP_PORT, else 2773.
        role_arn: a role that the provider assumes to read the secrets; None for its own credentials.
        max_concurrency: the number of requests that may run at the same time on one loop; None for 3 with the
            extension, which has as many connections to AWS, and 10 with the provider.

    Raises:
        ConfigurationError: an argument or the variable is not valid, the host is another one, or httptools is not
            installed.
    """

    def __init__(
        self,
        *,
        server: Literal["provider", "extension"] | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        role_arn: str | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        factory = _ClientFactory(server, host, port, role_arn)
        limit = factory.settings.concurrency if max_concurrency is None else max_concurrency
        super().__init__(factory, max_concurrency=limit)

    async def fetch(self, request: SecretRequest) -> Secret:
        """Return the requested version of a secret, with one request to the provider.

        Raises:
            SecretCacheError: a subclass that says why the fetch failed.
        """

        async def get(client: Any) -> Secret | None:
            try:
                return to_secret(await client.get_secret_value(request), request)
            except SecretCacheError as exc:
                exc.args = (f"secret {request.secret_id!r}: {exc}",)
                raise

        return await self._call(get, request)


class _ClientFactory:
    """Makes the clients of a source."""

    def __init__(self, *arguments: object) -> None:
        try:
            # At construction, not at the first fetch: an import during INIT delays no invocation. Not before: who uses
            # another source needs none of it.
            from asecretcache._sources.agent.client import AgentClient, Startup
        except ModuleNotFoundError as exc:
            raise ConfigurationError("AgentSource needs httptools: pip install 'asecretcache[direct]'") from exc
        from asecretcache._sources.agent.settings import agent_settings
        from asecretcache._sources.agent.token import TokenReader

        self.settings = agent_settings(*arguments)
        self._client = AgentClient
        self._tokens = TokenReader()
        self._startup = Startup()

    def prepare(self) -> bool:
        """Do nothing: what clients need was imported with the source."""
        return False

    def open(self, lease: Lease, region: str | None = None) -> AbstractAsyncContextManager[Any]:  # noqa: ARG002  # as ClientFactory has it
        """Return a context manager of a new client."""
        return self._client(self.settings, self._tokens, self._startup)

    async def connect(self, client: Any) -> None:
        """Open a connection for the first request."""
        await client.connect()

    def outdate(self, client: Any) -> None:
        """Do nothing: a client keeps no credentials."""

    async def close_connections(self, client: Any) -> bool:
        """Close the connections of a client, which opens new ones when it is used again."""
        client.close_connections()
        return True

    def abandon(self, client: Any, *, abort: bool) -> None:
        """Close the connections of a client whose loop doesn't run."""
        client.abandon(abort=abort)
