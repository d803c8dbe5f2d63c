"""Where the token of a local provider is found, and that it is shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from asecretcache import CredentialsError
from asecretcache._sources.agent.token import TokenReader, variable_in_use
from source_helpers import CANARY, shown_locals

VARIABLES = ("AWS_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")


@pytest.fixture(autouse=True)
def no_token(bare_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a token."""
    for name in VARIABLES:
        bare_environment.delenv(name, raising=False)
    return bare_environment


def problem(tokens: TokenReader) -> CredentialsError:
    """Read a token, which must fail, and return the error, in which no token may be."""
    with pytest.raises(CredentialsError) as caught:
        tokens.read("the provider")
    assert CANARY not in str(caught.value) + shown_locals(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize("first", range(3))
def test_the_first_variable_that_is_set_has_the_token(no_token: pytest.MonkeyPatch, first: int) -> None:
    """In the provider's own order; an empty one counts as not set."""
    for number, name in enumerate(VARIABLES):
        no_token.setenv(name, f"token {number}" if number >= first else "")

    assert TokenReader().read("the provider") == f"token {first}"
    assert variable_in_use() == VARIABLES[first]


def test_a_file_is_read_anew_each_time(no_token: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The provider writes another token whenever it starts; the end of its line isn't part of it."""
    file = tmp_path / "token"
    no_token.setenv("AWS_TOKEN", f"file://{file}")
    tokens, found = TokenReader(), []
    for token in ("one\n", "two"):
        file.write_text(token)
        found.append(tokens.read("the provider"))

    assert found == ["one", "two"]


def test_the_longest_token_is_sent(no_token: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has 64 KiB, with the end of a line besides."""
    file = tmp_path / "token"
    file.write_text("x" * 65536 + "\n")
    no_token.setenv("AWS_TOKEN", f"file://{file}")

    assert len(TokenReader().read("the provider")) == 65536


def test_without_a_token_the_error_names_the_variables() -> None:
    """It isn't transient: nothing of it changes by itself."""
    error = problem(TokenReader())

    assert str(error) == (
        "no token for the provider: set AWS_TOKEN, AWS_SESSION_TOKEN or AWS_CONTAINER_AUTHORIZATION_TOKEN to the token "
        "that it was started with, or to file:///path of the file that has it"
    )
    assert not error.is_transient


def test_a_file_that_is_gone_is_transient_after_a_success(no_token: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may be about to be written again; the error names file and variable."""
    file = tmp_path / "token"
    no_token.setenv("AWS_SESSION_TOKEN", f"file://{file}")
    tokens = TokenReader()
    before = problem(tokens)
    file.write_text("one")
    tokens.read("the provider")
    file.unlink()
    after = problem(tokens)

    assert (before.is_transient, after.is_transient) == (False, True)
    assert f"the file '{file}', which AWS_SESSION_TOKEN names, can't be read (No such file" in str(after)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"canary-value\nx", b"canary-value\xff", "canary-valueé".encode(), b"x" * 65537]
)
def test_a_file_without_a_token_is_named(no_token: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    """What no header can have is no token; nothing of it is shown."""
    file = tmp_path / "token"
    file.write_bytes(content)
    no_token.setenv("AWS_TOKEN", f"file://{file}")

    assert f"the file '{file}', which AWS_TOKEN names, " in str(problem(TokenReader()))


@pytest.mark.parametrize("token", ["canary-value\r\nX: y", "canary-valueé", "canary-value" * 6000])
def test_a_variable_that_no_header_can_have_is_named(no_token: pytest.MonkeyPatch, token: str) -> None:
    """Nothing of it is shown."""
    no_token.setenv("AWS_TOKEN", token)

    assert "AWS_TOKEN must hold a token of printable ASCII characters" in str(problem(TokenReader()))
