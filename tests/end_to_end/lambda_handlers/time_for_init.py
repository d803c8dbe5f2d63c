"""Time for INIT where many processes import the SDK at once: the 5 s are for the tests of preparation alone."""

from __future__ import annotations

from asecretcache import _init_phase

_init_phase.INIT_SECONDS = 60.0  # type: ignore[misc]  # Final is for the package itself
_init_phase.init_budget.reset()
