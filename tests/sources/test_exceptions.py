"""The exceptions of the client without the SDK."""

from __future__ import annotations

import pytest
from botocore import exceptions as sdk
from botocore import parsers

from asecretcache._sources import exceptions

OURS = [each.__name__ for each in vars(exceptions).values() if getattr(each, "__module__", "") == exceptions.__name__]


@pytest.mark.parametrize("name", [name for name in OURS if name != "TransportError"])
def test_their_names_are_botocores(name: str) -> None:
    """The error mapping knows exceptions by name, so each must be named like botocore's of the same meaning."""
    assert issubclass(getattr(sdk, name, None) or getattr(parsers, name), Exception)


def test_a_client_error_has_botocores_attributes() -> None:
    """Code and request id are read from its response, the operation from its name."""
    response = {"Error": {"Code": "X", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}

    error = exceptions.ClientError(response, "GetSecretValue")

    assert vars(error).keys() <= vars(sdk.ClientError(response, "GetSecretValue")).keys()
    assert str(error) == "X from GetSecretValue: no"
