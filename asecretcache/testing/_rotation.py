"""Credentials of a service that exists in the test alone, and their rotation."""

from __future__ import annotations

import secrets
from collections import Counter

from asecretcache._exceptions import ConfigurationError
from asecretcache.testing._source import InMemorySource


class RefusedError(Exception):
    """A service refuses a user and password; ``refresh_on`` of the code that is tested."""


class RotatingCredentials:
    """A user and password in a secret, and a service that knows which of them are valid: what a rotation changes.

    The secret is JSON with the keys username and password, as AWS's rotation functions keep it:
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotation-strategy.html

    Args:
        source: where the secret is; it is created there.
        name: the secret's name.
        alternating: whether there are two users, of which a rotation changes the one that isn't in use. With one user,
            the old password is refused from the moment of the rotation.

    Attributes:
        accepted: how many times each user was let in.
        refused: how many times the service refused.

    Raises:
        ConfigurationError: the source is another one.
    """

    def __init__(self, source: InMemorySource, name: str, *, alternating: bool = False) -> None:
        if not isinstance(source, InMemorySource):
            raise ConfigurationError(f"source must be the InMemorySource of the test, not {type(source).__name__}")
        self.accepted: Counter[str] = Counter()
        self.refused = 0
        self._source = source
        self._name = name
        self._users = ["app", "app_clone"] if alternating else ["app"]
        self._passwords: dict[str, str] = {}
        self._set_password(behind=0)

    def rotate(self, *, behind: int = 0) -> None:
        """Give the service a new password, and the secret a new version.

        Args:
            behind: for how many fetches Secrets Manager still returns the old version, as it does between the step that
                changes the service and the one that moves the label.
        """
        self._users.reverse()
        self._set_password(behind)

    def check(self, username: str, password: str) -> None:
        """Let a user in, as a database's login does.

        Raises:
            RefusedError: these aren't valid now.
        """
        # Not get: None would be right for a user that doesn't exist.
        if username not in self._passwords or self._passwords[username] != password:
            self.refused += 1
            raise RefusedError(f"the service refuses this password of {username!r}")
        self.accepted[username] += 1

    def __repr__(self) -> str:
        return f"<RotatingCredentials {self._name!r} {self.accepted.total()} accepted, {self.refused} refused>"

    def _set_password(self, behind: int) -> None:
        user, password = self._users[0], secrets.token_hex()
        self._passwords[user] = password
        self._source.rotate(self._name, {"username": user, "password": password}, behind=behind)
