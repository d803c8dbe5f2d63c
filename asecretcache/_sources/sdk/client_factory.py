"""Makes clients of the SDK, and imports and loads what they need in a thread."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

from asecretcache._exceptions import ConfigurationError
from asecretcache._init_phase import is_in_invocation
from asecretcache._process_events import after_fork, after_fork_in_parent, before_fork
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.retry_quota import ATTEMPTS, LONGEST_TIMEOUTS
from asecretcache._sources.sdk.arguments import check_arguments
from asecretcache._sources.sdk.credentials import adopt, share_over_loops
from asecretcache._sources.sdk.patches import SERVICE, abandon_client, patch_credentials, patch_loader
from asecretcache._sources.sdk.spare_clients import SpareClients
from asecretcache._sources.sdk.verified_client import create_client
from asecretcache._sources.threads import in_thread
from asecretcache._sources.tls_context import UNVERIFIED, tls_contexts
from asecretcache._version import __version__

_logger: Final = logging.getLogger("asecretcache")
_LATE: Final = (
    "the AWS SDK was imported within an invocation, which took %.0f ms: make the SecretCache at the module's level, or "
    "call prefetch_in_init() there, so that it is imported during INIT, which has more CPU"
)
FORK_SECONDS: Final = 10.0


class SdkClientFactory:
    """Makes clients of the SDK.

    Unless the user gives a session, each client has a session of its own. A client is used by one loop at a time, and
    kept for the next one with its credentials: getting those may take a call, which fails at times.

    Args:
        session: an ``aioboto3.Session``, an ``aiobotocore.session.AioSession`` or None. Its clients for others stay as
            they are.
        region_name: the region or None.
        endpoint_url: the endpoint or None.
        config: a ``botocore.config.Config``, an ``AioConfig`` or None.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(self, session: Any, region_name: str | None, endpoint_url: str | None, config: Any) -> None:
        check_arguments(session, region_name, endpoint_url, config)
        # An aioboto3.Session has the other inside.
        self._user_session = getattr(session, "_session", session)
        self._config = config
        self._location = {"region_name": region_name, "endpoint_url": endpoint_url}
        self._loader: Any = None
        self._spare_sessions: list[Any] = []
        self._spares = SpareClients()

    def own_region(self) -> str | None:
        """Return the region that is called by a client opened without one; None if a profile may name it."""
        region: str | None = self._location["region_name"] or getattr(self._config, "region_name", None)
        if region is None and self._user_session is not None:
            with suppress(Exception):  # Such as a profile that isn't there. Making the client tells it.
                region = self._user_session.get_config_variable("region")
        return region or os.environ.get("AWS_DEFAULT_REGION")

    def serves(self, region: str) -> bool:
        """Whether that is the region that a client opened without one calls."""
        return self.own_region() == region

    def open(self, lease: Lease, region: str | None = None) -> AbstractAsyncContextManager[Any]:
        """Return a context manager of a client that no other loop uses."""
        return _BorrowedClient(self, lease, region)

    async def borrow(self, region: str | None) -> Any:
        """Return a client that no loop uses, a new one if there is none."""
        origin = self._spares.origin(region)
        client = self._spares.take(origin)
        if client is None:
            client = await (await self._create(region)).__aenter__()
            self._spares.add(client, origin)
        return client

    async def give_back(self, client: Any, *, is_in_use: bool) -> None:
        """Close the connections of a client, and keep it for the next loop unless calls are under way."""
        await self.close_connections(client)
        if not is_in_use:
            self._spares.keep(client)

    def outdate(self, client: Any) -> None:
        """Don't keep a client: its credentials were refused."""
        self._spares.outdate(client)

    async def connect(self, client: Any) -> None:
        """Open a connection for the first call."""
        await client._endpoint.http_session.connect(client.meta.endpoint_url)  # It is ours: see verified_client.

    async def close_connections(self, client: Any) -> bool:
        """Close the connections of a client, which opens new ones when it is used again."""
        await client._endpoint.http_session.close()  # It is ours: see verified_client.
        return True

    def abandon(self, client: Any, *, abort: bool) -> None:
        """Close the connections of a client whose loop doesn't run."""
        abandon_client(client, abort=abort)

    def prepare(self) -> bool:
        """Import the SDK and load its models, which takes 0.3 s. Any thread may do it; a fork waits for it.

        Raises:
            ConfigurationError: this version of the SDK can't be used.
        """
        with _preparing:
            return self._prepare()

    def _prepare(self) -> bool:
        check_version()
        import asecretcache._sources.sdk.http_session  # noqa: F401  # it imports aiohttp

        if self._user_session is None:
            session = new_session()
            patch_loader(session.get_component("data_loader"))
            self._spare_sessions.append(session)
        else:
            session = self._user_session
        loader = session.get_component("data_loader")
        with suppress(Exception):  # A model that a version of the SDK lacks is loaded when it is needed.
            for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
                loader.load_data(name)
            for kind in ("service-2", "endpoint-rule-set-1"):
                loader.load_service_model(SERVICE, kind)
            if not self._is_plain():
                tls_contexts.get(bundle_of(session))
        self._loader = loader
        return True

    async def _create(self, region: str | None) -> Any:
        """Return the SDK's own context manager of a client."""
        if self._loader is None:
            began, is_late = time.perf_counter(), is_in_invocation() and "aiobotocore.session" not in sys.modules
            # If this is cancelled, the thread goes on, and a later call finds its work done.
            # Not self.prepare: DirectSource's prepares the SDK only if the source's own region needs it.
            await in_thread(SdkClientFactory.prepare, self)
            if is_late:
                _logger.info(_LATE, (time.perf_counter() - began) * 1000)
        session = self._take_session() if self._user_session is None else self._user_session
        check_bundle(session)
        arguments = {**self._location, "config": self._merged_config()}
        if region is not None:
            arguments["region_name"] = region
        if self._user_session is None:
            return session.create_client(SERVICE, **arguments)
        await adopt(session)
        return create_client(session.create_client, SERVICE, **arguments)

    def _is_plain(self) -> bool:
        """Whether the endpoint has no TLS."""
        names = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL")
        configured = next(filter(None, map(os.environ.get, names)), "")
        return (self._location["endpoint_url"] or configured).startswith("http:")

    def _take_session(self) -> Any:
        # Not "if there is one": another thread may take it in between.
        with suppress(IndexError):
            return self._spare_sessions.pop()
        session = new_session()
        session.register_component("data_loader", self._loader)
        return session

    def _merged_config(self) -> Any:
        from aiobotocore.config import AioConfig  # Imported in a thread by now.

        # The HTTP session makes them those of the fetch that uses the client.
        connect_timeout, read_timeout = LONGEST_TIMEOUTS
        config = AioConfig(
            getattr(self._config, "connector_args", None),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            # Set explicitly, because the default differs between versions of the SDK.
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            tcp_keepalive=True,
            user_agent_extra=f"asecretcache/{__version__}",
        )
        if self._config is None:
            return config
        merged = config.merge(self._config)
        # Versions before 3 don't keep it; it is looked at where the client is made.
        merged.http_session_cls = getattr(self._config, "http_session_cls", config.http_session_cls)
        return merged


class _Preparing:
    """Held while the SDK is imported: a child of a fork would have half of its modules, for as long as it lives."""

    def __init__(self) -> None:
        self._reset()
        before_fork.add(self._wait)
        after_fork_in_parent.add(self._go_on)
        after_fork.add(self._reset)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _wait(self) -> None:
        # Not for ever: it may be the thread that imports which forks.
        self._is_held = self._lock.acquire(timeout=FORK_SECONDS)

    def _go_on(self) -> None:
        if self._is_held:
            self._lock.release()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._is_held = False


_preparing: Final = _Preparing()


class _BorrowedClient:
    """An async context manager of a client.

    It isn't a generator, because LoopClient wraps it into one: see ``_lifetime_of`` there.
    """

    def __init__(self, factory: SdkClientFactory, lease: Lease, region: str | None) -> None:
        self._factory = factory
        self._lease = lease
        self._region = region

    async def __aenter__(self) -> Any:
        self._client = await self._factory.borrow(self._region)
        return self._client

    async def __aexit__(self, *exc_info: object) -> None:
        # The loop may end all generators while calls are under way.
        await self._factory.give_back(self._client, is_in_use=self._lease.users > 0)


def new_session() -> Any:
    """Return the session that a new aioboto3.Session has inside: importing aioboto3 and boto3 would only cost time.

    All clients that it makes verify their connections, also those of STS and single sign-on, which get credentials.
    """
    from aiobotocore.session import AioSession

    session = AioSession()
    session.create_client = functools.partial(create_client, session.create_client)
    patch_credentials(session)
    share_over_loops(session)
    return session


def check_version() -> None:
    """Raise ConfigurationError for a version of the SDK that has a known fault."""
    from aiobotocore import __version__ as version

    if version.startswith("3.8."):
        msg = (
            f"aiobotocore {version} can mix up the sessions of concurrent calls: install a version before or after 3.8"
        )
        raise ConfigurationError(msg)


def bundle_of(session: Any) -> str:
    """Return the path of the CA bundle that the SDK will use."""
    from botocore.httpsession import get_cert_path

    configured = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    path: str = get_cert_path(configured or True)
    return path


def check_bundle(session: Any) -> None:
    """Raise ConfigurationError for an empty CA bundle. Older versions of the SDK would verify nothing."""
    bundle = session.get_config_variable("ca_bundle")
    if bundle == "" or (bundle is None and os.environ.get("REQUESTS_CA_BUNDLE") == ""):
        raise ConfigurationError(UNVERIFIED)
