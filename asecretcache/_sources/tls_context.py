"""The one place that makes TLS contexts. Each verifies the chain of certificates and the host name.

Parsing a bundle of all public authorities takes 20 to 40 ms of a whole CPU, and half a second in a function of 128 MB.
A context belongs to no loop, so there is one of each kind for the whole process.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Final

from asecretcache._exceptions import ConfigurationError
from asecretcache._process_events import after_fork, before_snapshot
from asecretcache._sources.threads import in_thread

#: What is wrong where a setting would turn verification off.
UNVERIFIED: Final = (
    "TLS connections would not be verified: AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle is empty, or verify is "
    "False. Unset it, or name a file of PEM certificates"
)
# About ten certificates. Parsing so few takes less time than starting a thread.
SMALL_BUNDLE: Final = 32 * 2**10
_BUNDLE_REMEDY: Final = "AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle must name a file of PEM certificates"


#: Returns the part of a bundle to trust, as PEM certificates, or "" for all of it.
Selection = Callable[[str], str]


class TLSContexts:
    """The TLS contexts of the process, by what they trust. Nobody may change one that it got here.

    After a fork, in a clone of a snapshot, and when the bundle's file has changed, a new context is made.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, Selection | None], tuple[object, ssl.SSLContext]] = {}
        after_fork.add(self.clear)
        before_snapshot.add(self.clear)

    def clear(self) -> None:
        """Forget all contexts; new ones are made when they are needed."""
        self._contexts = {}

    def get(self, bundle: str, select: Selection | None = None) -> ssl.SSLContext:
        """Return the context of a bundle, made now if there is none; see ``verifying_context``.

        Args:
            bundle: the path of a file, or of a directory as OpenSSL has it.
            select: what of the bundle to trust; None for all of it.
        """
        return self._find(bundle, select) or self._make(bundle, select, "" if select is None else select(bundle))

    async def get_soon(self, bundle: str, select: Selection | None = None) -> ssl.SSLContext:
        """Return the context as ``get`` does, but make it in a thread if that takes long."""
        found = self._find(bundle, select)
        if found is not None:
            return found
        certificates = "" if select is None else select(bundle)
        if certificates or _is_small(bundle):
            return self._make(bundle, select, certificates)
        return await in_thread(self._make, bundle, select, "")

    def _find(self, bundle: str, select: Selection | None) -> ssl.SSLContext | None:
        version, context = self._contexts.get((bundle, select), (None, None))
        return None if context is None or version != _version(bundle) else check_context(context)

    def _make(self, bundle: str, select: Selection | None, certificates: str) -> ssl.SSLContext:
        # The version is looked at first: if the file changes meanwhile, the next call makes another context.
        contexts, version = self._contexts, _version(bundle)
        context = verifying_context(bundle, certificates)
        contexts[bundle, select] = version, context
        return context


def _version(path: str) -> object:
    """Return what changes with the contents of a file; None if there is no such file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _is_small(path: str) -> bool:
    """Whether a bundle is parsed in no time; also one that can't be read."""
    try:
        return os.path.getsize(path) <= SMALL_BUNDLE
    except OSError:
        return True


def verifying_context(bundle: str, certificates: str | bytes = "") -> ssl.SSLContext:
    """Return a new context that trusts the certificates that are given, or those of the bundle if there are none.

    Args:
        bundle: the path of a file, or of a directory as OpenSSL has it.
        certificates: PEM certificates.

    Raises:
        ConfigurationError: the bundle can't be read, or has no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust(context, bundle, certificates)
    return check_context(context)


def trust(context: ssl.SSLContext, bundle: str, certificates: str | bytes = "") -> None:
    """Let a context trust the certificates besides those that it trusts already; see ``verifying_context``."""
    try:
        if certificates:
            context.load_verify_locations(cadata=certificates)
        else:
            context.load_verify_locations(bundle)
    except OSError as exc:  # ssl.SSLError is one.
        reason = (
            "has no certificate that can be read" if isinstance(exc, ssl.SSLError) else f"can't be read: {exc.strerror}"
        )
        raise ConfigurationError(f"the CA bundle {bundle!r} {reason}. {_BUNDLE_REMEDY}") from None


def check_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context, if connections that use it are verified.

    Raises:
        ConfigurationError: they aren't.
    """
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        msg = "a TLS context would not verify the server's certificate and host name: leave it out"
        raise ConfigurationError(msg)
    return context


tls_contexts: Final = TLSContexts()
