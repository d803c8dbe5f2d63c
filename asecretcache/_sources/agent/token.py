"""The token that a local provider asks for, which keeps requests of others out."""

from __future__ import annotations

import os
from typing import Final

from asecretcache._exceptions import CredentialsError

#: In the order in which the provider looks for it.
VARIABLES: Final = ("AWS_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
NAMES: Final = f"{', '.join(VARIABLES[:-1])} or {VARIABLES[-1]}"
_FILE: Final = "file://"
#: Longer than any session token.
_LONGEST: Final = 64 * 2**10


class TokenReader:
    """Reads the token for each request, because the provider writes another one to its file whenever it starts.

    The event loops of a source share it.
    """

    def __init__(self) -> None:
        self._had_token = False

    def read(self, subject: str) -> str:
        """Return the token.

        Args:
            subject: what errors call the provider.

        Raises:
            CredentialsError: there is none, or it is none. It is transient once there has been one: the file may be
                about to be written again.
        """
        token, problem = _read()
        if problem is None:
            self._had_token = True
            return token
        del token  # A traceback may show locals.
        error = CredentialsError(f"no token for {subject}: {problem}")
        error.is_transient = self._had_token
        raise error


def variable_in_use() -> str | None:
    """Return the name of the variable that has the token, or None."""
    return next((name for name in VARIABLES if os.environ.get(name)), None)


def _read() -> tuple[str, str | None]:
    """Return the token, or "" and what is wrong."""
    variable = variable_in_use()
    if variable is None:
        return "", f"set {NAMES} to the token that it was started with, or to file:///path of the file that has it"
    token, place = os.environ[variable], variable
    if token.startswith(_FILE):
        path = token.removeprefix(_FILE)
        place = f"the file {path!r}, which {variable} names,"
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read(_LONGEST + 1).strip()
        except OSError as exc:
            return "", f"{place} can't be read ({exc.strerror}): this process needs the right to read it"
        except ValueError:
            return "", f"{place} isn't text"
    if not token or len(token) > _LONGEST or not (token.isascii() and token.isprintable()):
        return "", f"{place} must hold a token of printable ASCII characters"
    return token, None
