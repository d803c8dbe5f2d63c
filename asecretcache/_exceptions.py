"""The errors of the package, one tree.

SecretCacheError
├── ConfigurationError          no region, no credentials, expired token, wrong arguments, use after aclose
├── SecretNotFoundError         no such secret or version, or it is marked for deletion
├── SecretAccessDeniedError     IAM, a resource policy or an endpoint policy says no
├── SecretDecryptionError       KMS says no
├── SecretThrottledError        too many calls; transient
├── SecretUnavailableError      timeouts, connections, 5xx, answers that make no sense; transient
├── SecretFormatError           not JSON, no such key, text asked of a binary secret
└── SecretErrorGroup            several secrets failed; also an ExceptionGroup
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class SecretCacheError(Exception):
    """Base of all errors of this package; raised itself for an AWS code that has no class of its own.

    Attributes:
        secret_id: the secret it is about, as it was asked for, or None.
        code: AWS's error code, or None where AWS said nothing.
        request_id: AWS's request id, for a support case, or None.
    """

    secret_id: str | None
    code: str | None
    request_id: str | None

    def __init__(
        self,
        message: str = "",
        *,
        secret_id: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.secret_id = secret_id
        self.code = code
        self.request_id = request_id

    def _copy(self) -> Self:
        """Return a twin without a traceback: each waiter raises its own, so that none grows with the waiters."""
        # __init__ is left out: a subclass of a user's own may ask for other arguments.
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        if "__notes__" in twin.__dict__:
            twin.__notes__ = list(twin.__notes__)
        twin.__cause__ = self.__cause__
        return twin

    def _asked_for(self, secret_id: str) -> Self:
        """Return a twin for who asked for a secret by this id, whichever the fetch was by."""
        twin = self._copy()
        twin.secret_id = secret_id
        return twin

    def _about(self, secret_id: str) -> SecretCacheError:
        """Return a twin that names the secret, where the error of a batch names none."""
        twin = self._copy()
        if self.secret_id is None:
            twin.secret_id = secret_id
            twin.args = (f"secret {secret_id!r}, in a batch: {self}",)
        return twin


class ConfigurationError(SecretCacheError):
    """The caller, the environment or the AWS configuration must be changed; trying again doesn't help."""


class SecretNotFoundError(SecretCacheError):
    """There is no such secret or version, or it is marked for deletion."""


class SecretAccessDeniedError(SecretCacheError):
    """The credentials may not read this secret."""


class SecretDecryptionError(SecretCacheError):
    """Secrets Manager couldn't decrypt the value: the KMS key is disabled, gone or not permitted."""


class SecretThrottledError(SecretCacheError):
    """Secrets Manager refused the call because there were too many; transient."""


class SecretUnavailableError(SecretCacheError):
    """The value could not be had now (time-out, connection, 5xx, an answer that makes no sense); transient."""


class SecretFormatError(SecretCacheError):
    """The value was had, but isn't of the form that was asked for."""


class SecretErrorGroup(SecretCacheError, ExceptionGroup[SecretCacheError]):
    """Several secrets were asked for and some could not be had; ``exceptions`` holds an error for each of those.

    Catch it as SecretCacheError, or take it apart with ``except*``.
    """

    def __new__(cls, message: str, exceptions: Sequence[SecretCacheError]) -> Self:
        """Make the group; ExceptionGroup takes its arguments here, not in ``__init__``."""
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[SecretCacheError]) -> None:
        super().__init__(message)
        # As ExceptionGroup has them, so that it can be copied.
        self.args = (message, exceptions)

    def derive(self, excs: Sequence[SecretCacheError], /) -> SecretErrorGroup:  # type: ignore[override]  # ours alone
        """Return a group of the same kind, as ``split`` and ``except*`` need it."""
        return SecretErrorGroup(self.message, excs)

    @classmethod
    def _of(cls, errors: Sequence[SecretCacheError], asked: int) -> Self:
        names = ", ".join(repr(error.secret_id) for error in errors)
        return cls(f"{len(errors)} of {asked} secrets could not be had: {names}", errors)
