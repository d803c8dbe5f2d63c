"""Names who signed a certificate, also one that isn't trusted, of which Python's ssl shows the bytes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

#: Object identifiers of names, in DER: https://www.rfc-editor.org/rfc/rfc5280#appendix-A.1
_ORGANISATION: Final = bytes.fromhex("55040a")
_COMMON_NAME: Final = bytes.fromhex("550403")
_VERSION_TAG: Final = 0xA0
_LONG_LENGTH: Final = 0x80


class _Element(NamedTuple):
    tag: int
    content: bytes


def issuer_text(certificate: Mapping[str, Any]) -> str:
    """Return the issuer's organisation and common name of what ``getpeercert()`` returned."""
    names = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    return ", ".join(filter(None, map(names.get, ("organizationName", "commonName")))) or "an unnamed authority"


def issuer_of(certificate: bytes) -> str:
    """Return the issuer's organisation and common name; "" if it can't be read.

    Args:
        certificate: a certificate in DER.
    """
    try:
        [outer] = _elements(certificate)
        [*fields] = _elements(next(_elements(outer.content)).content)
        # Version, serial number, algorithm, issuer; a certificate of the first version doesn't say so.
        issuer = fields[3 if fields[0].tag == _VERSION_TAG else 2]
        names = {}
        for part in _elements(issuer.content):
            for attribute in _elements(part.content):
                kind, value = _elements(attribute.content)
                names[kind.content] = value.content.decode("utf-8", "replace")
    except (ValueError, IndexError, StopIteration):
        return ""
    text = ", ".join(filter(None, map(names.get, (_ORGANISATION, _COMMON_NAME))))
    return text if text.isprintable() else ""


def _elements(data: bytes) -> Iterator[_Element]:
    """Yield the elements of DER, one after the other; raise IndexError or ValueError for other bytes."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & _LONG_LENGTH:
            size = length & ~_LONG_LENGTH
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("the data ends early")
        yield _Element(tag, data[at : at + length])
        at += length
