"""The name of who signed a certificate."""

from __future__ import annotations

import ssl

import pytest
import trustme

from asecretcache._cli.doctor.certificates import issuer_of, issuer_text


def certificate() -> bytes:
    """Return a certificate in DER."""
    pem = trustme.CA(organization_name="Example Inspection").issue_cert("x.example").cert_chain_pems[0].bytes()
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def test_the_issuer_is_read_from_the_bytes() -> None:
    """The organisation is what names a proxy that opens connections."""
    assert issuer_of(certificate()).startswith("Example Inspection")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 40, 120])
def test_bytes_that_are_no_certificate_have_no_issuer(size: int) -> None:
    """A certificate that ends early, or isn't one, is no error."""
    assert issuer_of(certificate()[:size]) == ""


def test_a_certificate_of_the_first_version() -> None:
    """It has no element for the version, so that the issuer is the third one."""
    name = b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x0a\x0c\x04Acme"
    body = b"\x02\x01\x01\x30\x00" + name
    whole = bytes((0x30, len(body) + 2, 0x30, len(body))) + body

    assert issuer_of(whole) == "Acme"


def test_a_name_that_can_not_be_printed_is_not_shown() -> None:
    """What comes from an untrusted server must not move a terminal's cursor."""
    name = b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x0a\x0c\x04A\x1b[m"
    body = b"\x02\x01\x01\x30\x00" + name
    whole = bytes((0x30, len(body) + 2, 0x30, len(body))) + body

    assert issuer_of(whole) == ""


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        ({"issuer": ((("organizationName", "Amazon"),), (("commonName", "Amazon RSA"),))}, "Amazon, Amazon RSA"),
        ({}, "an unnamed authority"),
    ],
)
def test_the_issuer_of_a_verified_certificate(certificate: dict[str, object], text: str) -> None:
    """Python's own form of a certificate."""
    assert issuer_text(certificate) == text
