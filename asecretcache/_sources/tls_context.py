"""The one place that makes TLS contexts. Each verifies the chain of certificates and the host name."""

from __future__ import annotations

import ssl
from typing import Final

from asecretcache._exceptions import ConfigurationError

# What a bundle may be set by. Not shown is its contents.
#: What is wrong where a setting would turn verification off.
UNVERIFIED: Final = (
    "TLS connections would not be verified: AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle is empty, or verify is "
    "False. Unset it, or name a file of PEM certificates"
)
_BUNDLE_REMEDY: Final = "AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle must name a file of PEM certificates"


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
