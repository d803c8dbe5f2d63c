"""Whom TLS connections trust: exactly whom the SDK would trust, or fewer."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
# The roots under which AWS's endpoints are (https://www.amazontrust.com/repository/), as the labels in certifi's and
# botocore's bundles have them.
_LABELS: Final = (b'# Label: "Amazon Root CA ', b'# Label: "Starfield Services Root ')
# Some ten certificates: to parse them takes less time than to start a thread for it.
_SMALL: Final = 32 * 2**10


class Trust:
    """The TLS context of one client.

    The SDK trusts AWS_CA_BUNDLE, else REQUESTS_CA_BUNDLE, else certifi's bundle, else botocore's own; never the
    system's store, nor SSL_CERT_FILE. So does this. To parse a bundle of all the world's authorities takes longer than
    all else that a first call does, so for AWS's own endpoint only Amazon's are taken from it at first; if a
    certificate isn't from one of these, the whole bundle is.
    """

    def __init__(self, bundle: str | None, *, is_regional: bool) -> None:
        self._bundle = bundle
        self._is_narrow = is_regional and bundle is None
        self._lock = asyncio.Lock()
        self._context: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """Return the context, made by the first who asks, in a thread if that takes long.

        Raises:
            OSError: the bundle can't be read.
        """
        async with self._lock:
            if self._context is None:
                path = self._bundle or default_bundle()
                roots = _amazon_roots(path) if self._is_narrow else ""
                if roots or _is_small(path):
                    self._context = _context(path, roots)
                else:
                    self._context = await asyncio.get_running_loop().run_in_executor(None, _context, path, roots)
            return self._context

    def widen(self) -> bool:
        """After a certificate wasn't trusted: say whether the next context trusts more."""
        was_narrow, self._is_narrow = self._is_narrow, False
        if was_narrow:
            self._context = None
        return was_narrow


def _is_small(path: str) -> bool:
    return os.path.getsize(path) <= _SMALL


def _context(path: str, roots: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(None if roots else path, cadata=roots or None)
    return context


def default_bundle() -> str:
    """Return the path of certifi's bundle, or where that isn't installed botocore's, without an import of either."""
    import importlib.util  # Only who has no bundle of his own needs it.

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
    """Return the certificates that have one of the labels; none, if there are no labels."""
    with open(path, "rb") as file:
        pem = file.read()
    found = []
    for label in _LABELS:
        position = pem.find(label)
        while position >= 0:
            begin, end = pem.find(_BEGIN, position), pem.find(_END, position) + len(_END)
            found.append(pem[begin:end])
            position = pem.find(label, end)
    return b"\n".join(found).decode("ascii", "replace")
