"""``python -m asecretcache``: see ``asecretcache._cli.main``."""

from __future__ import annotations

import sys

from asecretcache._cli.main import main

sys.exit(main())
