"""Checks the arguments of the SDK's clients, without the SDK."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from asecretcache._exceptions import ConfigurationError


def check_arguments(session: Any, region_name: Any, endpoint_url: Any, config: Any) -> None:
    """Raise ConfigurationError for an argument that can't be right; the SDK isn't imported for that."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(session).__mro__}
    if session is not None and kinds.isdisjoint({("aioboto3", "Session"), ("aiobotocore", "AioSession")}):
        msg = "session= must be an aioboto3.Session or an aiobotocore AioSession; for other clients there is"
        raise ConfigurationError(f"{msg} client_factory=")
    if region_name is not None and not (isinstance(region_name, str) and re.fullmatch(r"[a-z0-9-]+", region_name)):
        raise ConfigurationError("region_name= must be the name of a region, such as 'eu-west-1'")
    if endpoint_url is not None and not _is_http_url(endpoint_url):
        raise ConfigurationError("endpoint_url= must be a URL that begins with https:// or http://")
    if config is not None and "Config" not in (kind.__name__ for kind in type(config).__mro__):
        raise ConfigurationError("config= must be a botocore.config.Config or an aiobotocore.config.AioConfig")


def _is_http_url(url: Any) -> bool:
    from urllib.parse import urlsplit

    with suppress(ValueError, AttributeError):  # It raises AttributeError for other types than str.
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    return False
