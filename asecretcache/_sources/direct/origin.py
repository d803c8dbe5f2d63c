"""Where requests go: scheme, host and port."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

# Of lower case, for to ignore the case makes it take several times as long to compile.
_URL: Final = (
    r"(https?)://(?:([a-z0-9.-]+)|\[([0-9a-f:]+(?:[0-9.]+)?)\])"  # a name, an IPv4 or an IPv6 address
    r"(?::([0-9]{1,5}))?"
    r"(/[!\"$-~]*)?"  # what can be printed, but no fragment
)
_LONGEST_LABEL: Final = 63


class Origin(NamedTuple):
    """A server: connections to it can be shared."""

    tls: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> tuple[Self, str] | None:
        """Return the origin and the path of a URL, or None for one that is wrong, or has more parts than these."""
        match = re.fullmatch(_URL, url.lower()) if url.isascii() else None
        if match is None:
            return None
        scheme, name, address, port, path = match.groups()
        tls = scheme == "https"
        number = int(port) if port else _default_port(tls=tls)
        if number > 65535 or not (name is None or all(map(_is_label, name.split(".")))):
            return None
        return cls(tls, name or address, number), url[-len(path) :] if path else "/"

    @property
    def header(self) -> str:
        """What the Host header says, which is signed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(tls=self.tls) else f"{host}:{self.port}"


def _is_label(part: str) -> bool:
    return 0 < len(part) <= _LONGEST_LABEL and part[0] != "-" != part[-1]


def _default_port(*, tls: bool) -> int:
    return 443 if tls else 80
