"""TLS contexts: one of each kind for the process, and when they are made anew."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from asecretcache import ConfigurationError
from asecretcache._process_events import after_fork, before_snapshot
from asecretcache._sources import tls_context
from asecretcache._sources.direct.tls import TLSContextProvider, default_bundle
from asecretcache._sources.tls_context import TLSContexts, verifying_context


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of one certificate."""
    path = tmp_path / "ca.pem"
    path.write_bytes(trustme.CA().cert_pem.bytes())
    return path


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the main thread made them, of all contexts that are made."""
    made: list[bool] = []

    def noted(*arguments: Any) -> ssl.SSLContext:
        made.append(threading.current_thread() is threading.main_thread())
        return verifying_context(*arguments)

    monkeypatch.setattr(tls_context, "verifying_context", noted)
    return made


def test_loops_and_clients_share_a_context(bundle: Path) -> None:
    """It belongs to no loop."""
    first, second = (asyncio.run(TLSContextProvider(str(bundle), is_aws_endpoint=False).context()) for _ in range(2))

    assert first is second


def test_a_bundle_that_has_changed_is_read_again(bundle: Path) -> None:
    """The file's time, size or number tells."""
    contexts = TLSContexts()
    first = contexts.get(str(bundle))
    assert contexts.get(str(bundle)) is first
    certificate = trustme.CA().cert_pem.bytes()
    bundle.write_bytes(certificate)

    second = contexts.get(str(bundle))

    assert second is not first
    assert second.get_ca_certs(binary_form=True) == [ssl.PEM_cert_to_DER_cert(certificate.decode())]


def test_a_bundle_that_is_gone_is_an_error(bundle: Path) -> None:
    """Its context isn't used on."""
    contexts = TLSContexts()
    contexts.get(str(bundle))
    bundle.unlink()

    with pytest.raises(ConfigurationError, match=r"can't be read: No such file"):
        contexts.get(str(bundle))


def test_a_part_of_a_bundle_is_another_context(bundle: Path) -> None:
    """What is selected is trusted alone."""
    contexts = TLSContexts()
    certificate = trustme.CA().cert_pem.bytes().decode()

    def select(path: str) -> str:
        assert path == str(bundle)
        return certificate

    part = contexts.get(str(bundle), select)

    assert part.get_ca_certs(binary_form=True) == [ssl.PEM_cert_to_DER_cert(certificate)]
    assert contexts.get(str(bundle), select) is part
    assert contexts.get(str(bundle)) is not part


@pytest.mark.parametrize("event", [after_fork, before_snapshot])
def test_a_fork_and_a_snapshot_begin_anew(bundle: Path, event: Any) -> None:
    """What a process has of randomness isn't another one's."""
    contexts = TLSContexts()
    first = contexts.get(str(bundle))

    event.happen()
    before_snapshot.is_over = False

    assert contexts.get(str(bundle)) is not first


def test_a_context_that_was_changed_is_refused(bundle: Path) -> None:
    """Whoever did that: no connection of ours goes unverified."""
    contexts = TLSContexts()
    contexts.get(str(bundle)).check_hostname = False

    with pytest.raises(ConfigurationError, match="would not verify"):
        contexts.get(str(bundle))


async def test_a_long_bundle_is_parsed_in_a_thread_and_once(threads: list[bool]) -> None:
    """Parsing it would block the loop; what is there already needs no thread."""
    contexts = TLSContexts()
    first = await contexts.get_soon(default_bundle())

    assert await contexts.get_soon(default_bundle()) is first
    assert threads == [False]


async def test_a_short_bundle_needs_no_thread(threads: list[bool], bundle: Path) -> None:
    """It is parsed in less time than a thread takes to start; so is a part of a long one."""
    contexts = TLSContexts()
    await contexts.get_soon(str(bundle))
    await contexts.get_soon(default_bundle(), lambda _: bundle.read_text(encoding="ascii"))

    assert threads == [True, True]


async def test_a_part_that_is_empty_is_the_whole_bundle(threads: list[bool]) -> None:
    """As a bundle without Amazon's labels is, in some Linux distributions; so it is parsed in a thread."""
    contexts = TLSContexts()

    part = await contexts.get_soon(default_bundle(), lambda _: "")

    assert len(part.get_ca_certs()) > 50
    assert threads == [False]


async def test_connections_that_begin_together_parse_it_once(threads: list[bool]) -> None:
    """The others wait for the first."""
    tls_context.tls_contexts.clear()
    provider = TLSContextProvider(None, is_aws_endpoint=False)

    contexts = await asyncio.gather(*[provider.context() for _ in range(5)])

    assert len(set(map(id, contexts))) == 1
    assert threads == [False]
