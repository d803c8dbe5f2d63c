"""How a fetch ends."""

from typing import Final

# Not an Enum, whose values take a tenth of a microsecond each to get.
#: It brought the first version that memory has of the secret.
FETCHED: Final = "fetched"
#: It brought another version than the one in memory.
CHANGED: Final = "changed"
#: It brought the version in memory once more.
UNCHANGED: Final = "unchanged"
#: It brought a version that isn't stored: the secret was invalidated meanwhile, or a later fetch was faster.
DISCARDED: Final = "discarded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
