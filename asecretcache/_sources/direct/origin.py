"""The server that requests go to: scheme, host and port."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

# Matched against the lower-case URL: a pattern that ignores case takes several times as long to compile.
_LABEL: Final = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_URL_PATTERN: Final = (
    rf"(https?)://(?:({_LABEL}(?:\.{_LABEL})*)|\[([0-9a-f:]+(?:[0-9.]+)?)\])"  # a name, an IPv4 or an IPv6 address
    r"(?::([0-9]{1,5}))?"
    r"(/[!\"$-~]*)?"  # printable characters, but no fragment
)


class Origin(NamedTuple):
    """A server; connections to the same origin can be shared."""

    is_tls: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> tuple[Self, str] | None:
        """Return the origin and the path of a URL, or None if it is not valid or has other parts, such as a user."""
        match = re.fullmatch(_URL_PATTERN, url.lower()) if url.isascii() else None
        if match is None:
            return None
        scheme, name, address, port, path = match.groups()
        is_tls = scheme == "https"
        number = int(port) if port else _default_port(is_tls=is_tls)
        if number > 65535:
            return None
        return cls(is_tls, name or address, number), url[-len(path) :] if path else "/"

    @property
    def host_header(self) -> str:
        """The value of the Host header, which is signed: the port is in it unless it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(is_tls=self.is_tls) else f"{host}:{self.port}"


def _default_port(*, is_tls: bool) -> int:
    return 443 if is_tls else 80
