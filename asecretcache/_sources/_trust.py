"""Whom TLS connections trust: exactly whom the SDK would trust, or fewer."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
from typing import Final

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
# The roots under which AWS's endpoints are (https://www.amazontrust.com/repository/), as the labels in certifi's and
# botocore's bundles have them.
_LABELS: Final = ('# Label: "Amazon Root CA ', '# Label: "Starfield Services Root ')


class Trust:
    """The TLS context of one client.

    The SDK trusts AWS_CA_BUNDLE, else REQUESTS_CA_BUNDLE, else certifi's bundle, else botocore's own; never the
    system's store, nor SSL_CERT_FILE. So does this. To parse a bundle of all the world's authorities takes longer than
    all else in a cold start, so for AWS's own endpoint only Amazon's are taken from it at first; if a certificate isn't
    from one of these, the whole bundle is.
    """

    def __init__(self, bundle: str | None, *, is_regional: bool) -> None:
        self._bundle = bundle
        self._is_narrow = is_regional and bundle is None
        self._lock = asyncio.Lock()
        self._context: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """Return the context, made in a thread by the first who asks.

        Raises:
            OSError: the bundle can't be read.
        """
        async with self._lock:
            if self._context is None:
                loop = asyncio.get_running_loop()
                self._context = await loop.run_in_executor(None, _load, self._bundle, self._is_narrow)
            return self._context

    def widen(self) -> bool:
        """After a certificate wasn't trusted: say whether the next context trusts more."""
        was_narrow, self._is_narrow = self._is_narrow, False
        if was_narrow:
            self._context = None
        return was_narrow


def _load(bundle: str | None, is_narrow: bool) -> ssl.SSLContext:  # noqa: FBT001  # run_in_executor has no keywords
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    path = bundle or default_bundle()
    roots = _amazon_roots(path) if is_narrow else ""
    context.load_verify_locations(None if roots else path, cadata=roots or None)
    return context


def default_bundle() -> str:
    """Return the path of certifi's bundle, or where that isn't installed botocore's, without an import of either."""
    for package in ("certifi", "botocore"):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = os.path.join(folder, "cacert.pem")
            if os.path.isfile(path):
                return path
    # Distributions point their certifi to a bundle of their own.
    from certifi import where

    return where()


def _amazon_roots(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        *blocks, _ = file.read().split(_END)
    found = [block for block in blocks if any(label in block for label in _LABELS)]
    return "\n".join(block[block.index(_BEGIN) :] + _END for block in found)
