"""The package's exceptions, one tree.

SecretCacheError
├── ConfigurationError          no region, wrong arguments, a broken installation
├── CacheClosedError            a cache or source is used after aclose()
├── CredentialsError            no AWS credentials, or expired or refused ones
├── SecretNotFoundError         no such secret or version, or it is marked for deletion
├── SecretAccessDeniedError     IAM, a resource policy or an endpoint policy denies the call
├── SecretDecryptionError       KMS denies or can't decrypt
├── SecretThrottledError        too many calls; transient
├── SecretUnavailableError      time-out, no connection, 5xx, malformed response; transient
├── SecretFormatError           not JSON, no such key, text asked of a binary secret
└── SecretErrorGroup            several secrets failed; also an ExceptionGroup
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self


class SecretCacheError(Exception):
    """Base class; raised itself for an AWS error code that has no class of its own.

    Attributes:
        secret_id: the secret as the caller named it, or None.
        code: AWS's error code, or None if AWS didn't respond.
        request_id: AWS's request id, for a support case, or None.
        is_transient: whether a later call may succeed with nothing changed. While it does not, stale values are served
            as ``stale_if_error`` allows.
    """

    is_transient: bool = False

    def __init__(
        self, message: str = "", *, secret_id: str | None = None, code: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.secret_id = secret_id
        self.code = code
        self.request_id = request_id

    def _copy(self, secret_id: str | None = None) -> Self:
        """Return a copy without a traceback, so that each waiter raises an instance of its own.

        Args:
            secret_id: the id that the caller used; None for that of this error.
        """
        # Not by __init__: a subclass of a user's may take other arguments.
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__)
        if "__notes__" in copy.__dict__:
            copy.__notes__ = list(copy.__notes__)
        copy.__cause__ = self.__cause__
        copy.secret_id = secret_id or self.secret_id
        return copy

    def _about(self, secret_id: str) -> SecretCacheError:
        """Return a copy that names the secret; the error of a whole batch names none."""
        copy = self._copy(secret_id)
        if self.secret_id is None:
            copy.args = (f"secret {secret_id!r}, in a batch: {self}",)
        return copy


class ConfigurationError(SecretCacheError):
    """The code, the environment or the AWS configuration must change; trying again doesn't help."""


class CacheClosedError(SecretCacheError):
    """The cache or the source was used after ``aclose()``."""


class CredentialsError(SecretCacheError):
    """There are no AWS credentials, or they have expired, or AWS refuses them.

    Missing and expired credentials are transient once the source has had good ones. Refused ones never are: a value
    that was read with a revoked key is not served beyond its ttl.
    """


class SecretNotFoundError(SecretCacheError):
    """There is no such secret or version, or it is marked for deletion."""


class SecretAccessDeniedError(SecretCacheError):
    """The credentials may not read this secret."""


class SecretDecryptionError(SecretCacheError):
    """Secrets Manager couldn't decrypt the value: the KMS key is disabled, deleted or not permitted."""


class SecretThrottledError(SecretCacheError):
    """Secrets Manager refused the call because there were too many; transient."""

    is_transient = True


class SecretUnavailableError(SecretCacheError):
    """The secret can't be fetched at present: time-out, no connection, 5xx, malformed response; transient."""

    is_transient = True


class SecretFormatError(SecretCacheError):
    """The secret was fetched, but its value doesn't have the form that was asked for."""


class SecretErrorGroup(SecretCacheError, ExceptionGroup[SecretCacheError]):
    """Several secrets were asked for and some failed; ``exceptions`` holds an error for each of those.

    Catch it as SecretCacheError, or split it with ``except*``. Its text includes the text of each member, since
    Lambda's log doesn't show the members. It is transient if all its members are.
    """

    def __init__(self, message: str, exceptions: Sequence[SecretCacheError]) -> None:
        super().__init__(message)
        # As ExceptionGroup has them, so that it can be copied.
        self.args = (message, exceptions)
        self.is_transient = all(error.is_transient for error in exceptions)

    def derive(self, excs: Sequence[SecretCacheError], /) -> SecretErrorGroup:  # type: ignore[override]  # ours alone
        """Return a group of the same kind, as ``split`` and ``except*`` need it."""
        return SecretErrorGroup(self.message, excs)

    @classmethod
    def _of(cls, errors: Sequence[SecretCacheError], total: int) -> Self:
        texts = "; ".join(map(_named, errors))
        return cls(f"{len(errors)} of {total} secrets failed: {texts}", errors)

    @classmethod
    def _raise_from(cls, results: Collection[object]) -> None:
        """Raise the group of the errors among the results, if there are any."""
        errors = [result for result in results if isinstance(result, SecretCacheError)]
        if errors:
            raise cls._of(errors, len(results))


def _named(error: SecretCacheError) -> str:
    """Return the error's text on one line, with the secret's id in it."""
    text, subject = " ".join(str(error).split()), repr(error.secret_id)
    return text if error.secret_id is None or subject in text else f"secret {subject}: {text}"


def origin_of(exc: BaseException) -> str:
    """Return where an exception was raised, which is safe to tell and enough to find a mistake in a source."""
    trace = exc.__traceback__
    assert trace is not None, "it was caught"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
