"""Whether this is Lambda's INIT."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from asecretcache._init_phase import is_init

MODULE = "from asecretcache._init_phase import is_init\nfound = is_init()\n"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Lambda's runtime is around, and a module of the function's can be imported."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_function.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.delitem(__import__("sys").modules, "a_function", raising=False)
    return monkeypatch


def test_it_is_while_the_functions_module_is_imported(runtime: pytest.MonkeyPatch) -> None:
    """Which the runtime does before there is an invocation."""
    assert importlib.import_module("a_function").found


def test_it_isnt_where_no_module_is_imported(runtime: pytest.MonkeyPatch) -> None:
    """As in a handler."""
    assert not is_init()


def test_it_isnt_elsewhere_than_in_lambda(runtime: pytest.MonkeyPatch) -> None:
    """Nothing becomes eager on a server or in a test."""
    runtime.delenv("AWS_LAMBDA_RUNTIME_API")

    assert not importlib.import_module("a_function").found


def test_it_isnt_in_an_invocation_that_imports_a_module(runtime: pytest.MonkeyPatch) -> None:
    """The runtime's function for invocations is on the stack then."""

    def handle_event_request() -> bool:
        found: bool = importlib.import_module("a_function").found
        return found

    assert not handle_event_request()


def test_it_isnt_in_a_thread_of_an_invocation(runtime: pytest.MonkeyPatch) -> None:
    """Its stack doesn't tell; the runtime has set the trace of the invocation."""
    runtime.setenv("_X_AMZN_TRACE_ID", "Root=1")

    assert not importlib.import_module("a_function").found
