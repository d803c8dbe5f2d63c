"""What the client without the SDK raises: named as in botocore, so that the one mapper knows them."""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """AWS refused the call; as botocore's, down to its attributes."""

    def __init__(self, response: dict[str, Any], operation_name: str) -> None:
        error = response["Error"]
        super().__init__(f"{error['Code']} from {operation_name}: {error['Message']}")
        self.response = response
        self.operation_name = operation_name


class TransportError(Exception):
    """No answer was had; another attempt may have one. The text is the system's, if anything."""


class ConnectTimeoutError(TransportError):
    """There was no connection in time."""


class ReadTimeoutError(TransportError):
    """There was no more of an answer in time."""


class EndpointConnectionError(TransportError):
    """There was no connection."""


class SSLError(TransportError):
    """TLS failed."""


class ConnectionClosedError(TransportError):
    """The connection ended too early."""


class CredentialRetrievalError(Exception):
    """The credentials could not be had now."""
