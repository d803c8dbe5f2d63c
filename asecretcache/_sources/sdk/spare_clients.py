"""Clients of the SDK between two loops.

Without connections, nothing in a client belongs to a loop. Making one takes as long as all the rest of a call on a new
loop, and getting its credentials may take a call, which fails at times.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from asecretcache._process_events import after_fork, before_snapshot

# More than a process has loops at the same time would only be kept for nothing.
_MAX_SPARES: Final = 4
_READ_BY_SDK: Final = re.compile("aws_|boto|requests_ca_bundle$|home$|.*_proxy$", re.IGNORECASE)


class Origin(NamedTuple):
    """What a client was made in.

    Attributes:
        region: the region that it was opened for; None for the source's own.
        environment: what changes with the variables that the SDK reads. Not their values, some of which are keys.
        generation: how often credentials had been refused by then.
    """

    region: str | None
    environment: int
    generation: int


class SpareClients:
    """The clients that no loop uses. Any thread may take and keep them.

    A change of the environment, refused credentials, a fork and a snapshot let go of them.
    """

    def __init__(self) -> None:
        self._spares: list[tuple[Origin, Any]] = []
        self._origins: MutableMapping[Any, Origin] = weakref.WeakKeyDictionary()
        self._generation = 0
        after_fork.add(self._drop)
        before_snapshot.add(self._drop)

    def origin(self, region: str | None) -> Origin:
        """Return the origin of a client that is made now."""
        read = frozenset(item for item in os.environ.items() if _READ_BY_SDK.match(item[0]))
        return Origin(region, hash(read), self._generation)

    def take(self, origin: Origin) -> Any:
        """Return a client of this origin, or None."""
        # Not "while there is one": another thread may take it in between.
        with suppress(IndexError):
            while True:
                made_in, client = self._spares.pop()
                if made_in == origin:
                    return client
        return None

    def add(self, client: Any, origin: Origin) -> None:
        """Remember where a new client, which is in use, is from."""
        self._origins[client] = origin

    def keep(self, client: Any) -> None:
        """Keep a client that no loop uses any more, if it may be used again."""
        origin = self._origins[client]
        # The limiter of the adaptive mode has a lock that belongs to its loop. A snapshot must hold no keys.
        is_good = origin.generation == self._generation and client.meta.config.retries.get("mode") != "adaptive"
        if is_good and not before_snapshot.is_ahead and len(self._spares) < _MAX_SPARES:
            self._spares.append((origin, client))

    def outdate(self, client: Any) -> None:
        """Keep neither a client nor those as old as it, since its credentials were refused."""
        origin = self._origins.get(client)
        if origin is not None and origin.generation == self._generation:
            self._generation += 1
            self._drop()

    def _drop(self) -> None:
        self._spares.clear()
