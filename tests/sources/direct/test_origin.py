"""URLs and the Host header."""

from __future__ import annotations

import pytest

from asecretcache._sources.direct.origin import Origin


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Host.Example", (Origin(True, "host.example", 443), "/")),
        ("http://host:8080/Path?Query=1", (Origin(False, "host", 8080), "/Path?Query=1")),
        ("http://127.0.0.1/", (Origin(False, "127.0.0.1", 80), "/")),
        ("HTTP://[FD00::1]:65535/", (Origin(False, "fd00::1", 65535), "/")),
        ("http://[::ffff:127.0.0.1]", (Origin(False, "::ffff:127.0.0.1", 80), "/")),
    ],
)
def test_a_url_has_an_origin_and_a_path(url: str, expected: tuple[Origin, str]) -> None:
    """The host is in lower case and the port is the scheme's default; the path is kept as it is."""
    assert Origin.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "host",
        "ftp://host",
        "http://",
        "http://user:password@host",
        "http://under_score",
        "http://-host",
        "http://host-.example",
        "http://host..example",
        "http://" + 64 * "a",
        "http://host:65536",
        "http://host:",
        "http://host/#fragment",
        "http://host/a b",
        "http://\u212aelvin",
    ],
)
def test_a_url_with_other_parts_has_no_origin(url: str) -> None:
    """A URL that is wrong or has a user, a fragment or an unusual host is None."""
    assert Origin.parse(url) is None


@pytest.mark.parametrize(
    ("origin", "header"),
    [
        (Origin(True, "host", 443), "host"),
        (Origin(False, "host", 443), "host:443"),
        (Origin(False, "::1", 80), "[::1]"),
        (Origin(True, "::1", 80), "[::1]:80"),
    ],
)
def test_the_host_header_has_the_port_unless_it_is_the_default(origin: Origin, header: str) -> None:
    """The header is signed, so it must be what the server expects."""
    assert origin.host_header == header
