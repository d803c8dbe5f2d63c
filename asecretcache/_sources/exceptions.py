"""The exceptions of the client without the SDK. Their names are botocore's, so that error_mapping knows them."""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """AWS refused the call. It has the attributes of botocore's ClientError."""

    def __init__(self, response: dict[str, Any], operation_name: str) -> None:
        error = response["Error"]
        super().__init__(f"{error['Code']} from {operation_name}: {error['Message']}")
        self.response = response
        self.operation_name = operation_name


class TransportError(Exception):
    """No response arrived; another attempt may succeed. Its text quotes the operating system at most."""


class ConnectTimeoutError(TransportError):
    """No connection could be made in time."""


class ReadTimeoutError(TransportError):
    """No more bytes of the response arrived in time."""


class EndpointConnectionError(TransportError):
    """No connection could be made."""


class SSLError(TransportError):
    """The TLS handshake failed, or the certificate isn't trusted."""


class ConnectionClosedError(TransportError):
    """The connection ended before the response was complete."""


class ResponseParserError(Exception):
    """The response of a call that succeeded can't be read. It doesn't hold the response."""


class CredentialRetrievalError(Exception):
    """The container's endpoint gave no usable credentials."""
