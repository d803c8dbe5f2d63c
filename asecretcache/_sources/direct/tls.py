"""TLS contexts that trust the authorities that the SDK would trust, or fewer."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final

from asecretcache._sources.tls_context import Selection, tls_contexts

# The roots of AWS's endpoints (https://www.amazontrust.com/repository/), as they are labelled in the bundles of certifi
# and botocore.
_AMAZON_LABELS: Final = (b"Amazon Root CA ", b"Starfield Services Root ")


class TLSContextProvider:
    """Provides the TLS context of one client, which it shares with the others of the process.

    The SDK trusts AWS_CA_BUNDLE, else REQUESTS_CA_BUNDLE, else certifi's bundle, else botocore's; never the system's
    store or SSL_CERT_FILE. So does this class. Parsing a bundle of all public authorities takes longer than all the
    rest of a first call. So for AWS's own endpoint the first context trusts only Amazon's certificates in the bundle,
    and the next one the whole bundle, if a certificate wasn't trusted.

    Args:
        bundle: the path of the bundle that the user has set, or None.
        is_aws_endpoint: whether the client connects to AWS's own endpoint.
    """

    def __init__(self, bundle: str | None, *, is_aws_endpoint: bool) -> None:
        self._bundle = bundle
        self._is_narrow = is_aws_endpoint and bundle is None
        self._narrow: ssl.SSLContext | None = None
        self._lock = asyncio.Lock()

    async def context(self) -> ssl.SSLContext:
        """Return the context; the first caller makes it, in a thread if that takes long.

        Raises:
            ConfigurationError: the bundle can't be read, or has no certificate.
        """
        async with self._lock:
            context = await tls_contexts.get_soon(*self._wanted())
            if self._is_narrow:
                self._narrow = context
            return context

    def prepare(self) -> None:
        """Make the context now; raise as ``context`` does."""
        tls_contexts.get(*self._wanted())

    def _wanted(self) -> tuple[str, Selection | None]:
        return self._bundle or default_bundle(), _amazon_roots if self._is_narrow else None

    def widen(self, failed: ssl.SSLContext) -> bool:
        """After a certificate wasn't trusted: return whether the next context trusts more authorities than this one.

        Args:
            failed: the context of the connection; several connections may fail at the same time.
        """
        if failed is not self._narrow:
            return False
        self._is_narrow = False
        return True


def default_bundle() -> str:
    """Return the path of certifi's bundle, or of botocore's if certifi isn't installed. It imports neither."""
    import importlib.util  # Not needed where a bundle is set.

    for package in ("certifi", "botocore"):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = os.path.join(folder, "cacert.pem")
            if os.path.isfile(path):
                return path
    # The certifi of some Linux distributions uses the system's bundle and has none of its own.
    from certifi import where

    return where()


def _amazon_roots(path: str) -> str:
    """Return the parts of the bundle that are labelled as Amazon's certificates; "" if there are none."""
    with open(path, "rb") as file:
        parts = file.read().split(b'# Label: "')
    # Between certificates there are comments, which may have characters that aren't ASCII.
    return b"".join(part for part in parts if part.startswith(_AMAZON_LABELS)).decode("ascii", "ignore")
