"""What a source does in INIT instead of in the first invocation."""

from __future__ import annotations

import logging
import time
from typing import Final

from asecretcache._init_phase import init_budget
from asecretcache._sources.protocols import PreparableSource, SecretSource

_logger: Final = logging.getLogger("asecretcache")


def prepare_in_init(source: SecretSource) -> None:
    """Do what the first fetch would have to do with the CPU share of a small function. A failure doesn't fail INIT."""
    if not isinstance(source, PreparableSource) or not init_budget.left:
        return
    began = time.monotonic()
    try:
        source.prepare()
    except Exception as exc:  # noqa: BLE001 - the first fetch meets it, and raises it where it can be handled
        _logger.warning("the source could not be prepared; the first fetch will do it: %s", exc)
    finally:
        init_budget.spend(time.monotonic() - began)
