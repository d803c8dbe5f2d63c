"""How a fetch ends."""

from enum import Enum


class Outcome(Enum):
    """How a fetch has ended."""

    #: It brought the first version that memory has of the secret.
    FETCHED = "fetched"
    #: It brought another version than the one in memory.
    CHANGED = "changed"
    #: It brought the version in memory once more.
    UNCHANGED = "unchanged"
    #: It brought a version that isn't stored: the secret was invalidated meanwhile, or a later fetch was faster.
    DISCARDED = "discarded"
    FAILED = "failed"
    CANCELLED = "cancelled"
