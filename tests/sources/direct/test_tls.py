"""The TLS trust store: which authorities are trusted, and when a bundle is parsed."""

from __future__ import annotations

import importlib.util
import ssl
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import trustme
from botocore.httpsession import DEFAULT_CA_BUNDLE, get_cert_path

from asecretcache import ConfigurationError
from asecretcache._sources.direct import tls
from asecretcache._sources.direct.tls import TLSContextProvider, default_bundle


def labelled(pem: bytes, label: str) -> str:
    """A certificate as it stands in bundles."""
    return f'\n# Subject: CN=x\n# Label: "{label}"\n{pem.decode()}'


def certificates(context: ssl.SSLContext) -> set[bytes]:
    return set(context.get_ca_certs(binary_form=True))


async def test_for_awss_endpoint_amazons_roots_are_trusted_first() -> None:
    """They are a few of the bundle's certificates; after a failure the whole bundle is trusted."""
    narrow, whole = TLSContextProvider(None, is_aws_endpoint=True), TLSContextProvider(None, is_aws_endpoint=False)
    first, everything = await narrow.context(), await whole.context()

    assert 4 <= len(certificates(first)) <= 8
    assert certificates(first) < certificates(everything)
    assert narrow.widen(first)
    second = await narrow.context()
    assert certificates(second) == certificates(everything)
    assert not narrow.widen(second)
    assert not whole.widen(everything)


async def test_connections_that_fail_together_are_all_tried_again() -> None:
    """Each of them failed with the narrow context, so each gets the wide one."""
    provider = TLSContextProvider(None, is_aws_endpoint=True)
    first = await provider.context()

    assert [provider.widen(first) for _ in range(2)] == [True, True]
    await provider.context()
    assert provider.widen(first)


async def test_a_users_bundle_is_trusted_as_a_whole(tmp_path: Path) -> None:
    """All certificates of a bundle that the user has set are trusted, whatever their labels."""
    bundle = tmp_path / "cacert.pem"
    amazon, other = (trustme.CA().cert_pem.bytes() for _ in range(2))
    bundle.write_text(labelled(amazon, "Amazon Root CA 1") + labelled(other, "Other"), encoding="utf-8")

    context = await TLSContextProvider(str(bundle), is_aws_endpoint=True).context()

    assert len(certificates(context)) == 2


async def test_comments_between_certificates_may_have_any_character(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Amazon's certificates are found all the same."""
    bundle = tmp_path / "cacert.pem"
    amazon, other = (trustme.CA().cert_pem.bytes() for _ in range(2))
    commented = labelled(amazon, "Amazon Root CA 1") + "\n# Emitió: Főtanúsítvány\n"
    bundle.write_text(commented + labelled(amazon, "Amazon Root CA 2") + labelled(other, "Other"), encoding="utf-8")
    monkeypatch.setattr(tls, "default_bundle", lambda: str(bundle))

    context = await TLSContextProvider(None, is_aws_endpoint=True).context()

    assert len(certificates(context)) == 1


async def test_contexts_verify_certificates_and_host_names() -> None:
    """Both are on, and no protocol is older than TLS 1.2."""
    context = await TLSContextProvider(None, is_aws_endpoint=True).context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_a_missing_bundle_is_an_error() -> None:
    """The error names it, and the next call tries again."""
    provider = TLSContextProvider("nowhere.pem", is_aws_endpoint=False)

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'nowhere\.pem' can't be read"):
            await provider.context()


def test_the_default_bundle_is_the_sdks() -> None:
    """It is certifi's, if certifi is installed."""
    assert default_bundle() == get_cert_path(True)


def test_without_certifi_the_default_bundle_is_botocores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK falls back to it too."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "certifi" else find_spec(name))

    assert default_bundle() == DEFAULT_CA_BUNDLE


def test_a_certifi_without_a_bundle_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certifi of some Linux distributions points to the system's bundle."""
    elsewhere = ModuleSpec("certifi", None, is_package=True)
    elsewhere.submodule_search_locations = ["nowhere"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: elsewhere if name == "certifi" else None)

    assert default_bundle() == get_cert_path(True)
