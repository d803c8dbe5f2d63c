"""Where requests go: scheme, host and port."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL: Final = (
    rf"(https?)://(?:({_LABEL}(?:\.{_LABEL})*)|\[([0-9a-f:]+(?:[0-9.]+)?)\])"  # a name, an IPv4 or an IPv6 address
    r"(?::([0-9]{1,5}))?"
    r"(/[!\"$-~]*)?"  # what can be printed, but no fragment
)


class Origin(NamedTuple):
    """A server: connections to it can be shared."""

    tls: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> tuple[Self, str] | None:
        """Return the origin and the path of a URL, or None for one that is wrong, or has more parts than these."""
        match = re.fullmatch(_URL, url, re.IGNORECASE)
        if match is None:
            return None
        scheme, name, address, port, path = match.groups()
        tls = scheme.lower() == "https"
        number = int(port) if port else _default_port(tls=tls)
        if number > 65535:
            return None
        return cls(tls, (name or address).lower(), number), path or "/"

    @property
    def header(self) -> str:
        """What the Host header says, which is signed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(tls=self.tls) else f"{host}:{self.port}"


def _default_port(*, tls: bool) -> int:
    return 443 if tls else 80
