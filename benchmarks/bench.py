"""What all measurements share: the server, the peers that are installed, and how processes of theirs are started."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from environments import CLIENTS, Installed
from server import Server

TTL = 3600
# Nothing that is measured takes nearly so long; some clients hang when their loop is gone.
TIMEOUT = 120


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        server: Secrets Manager.
        installed: the peers that can be measured.
        missing: the others, and why.
        home: an empty folder, so that nobody's configuration is read.
        quick: whether a look is enough.
    """

    server: Server
    installed: Sequence[Installed]
    missing: Mapping[str, str]
    home: Path
    quick: bool

    def peers(self, measurement: str, *kinds: str) -> list[Installed]:
        """Those that this is measured for."""
        return [
            each for each in self.installed if each.peer.is_for(measurement) and (not kinds or each.peer.kind in kinds)
        ]

    def tried(self) -> Bench:
        """Return one without the peers that can't fetch a first secret here, which are missing too."""
        installed, missing = [], dict(self.missing)
        for each in self.installed:
            try:
                self.ask(each, each.command("calls.py", "first", 1, TTL))
                installed.append(each)
            except RuntimeError as exc:
                missing[each.peer.name] = str(exc).strip().splitlines()[-1]
        return replace(self, installed=installed, missing=missing)

    def ours(self) -> Installed:
        """Our own library, with its SDK source."""
        return self.installed[0]

    def variables(self, installed: Installed, transport: str = "HTTP", ttl: int = TTL) -> dict[str, str]:
        """The environment variables of a peer's process, as Lambda would set them, and no others."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(CLIENTS),
            "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE",
            "AWS_SECRET_ACCESS_KEY": "fake-secret-key",
            "AWS_SESSION_TOKEN": "fake-session-token",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.server.urls[transport],
            "AWS_CA_BUNDLE": str(self.server.authority),
            "NODE_EXTRA_CA_CERTS": str(self.server.authority),
            "BENCH_TTL": str(ttl),
            "ASECRETCACHE_TTL": str(ttl),
            **installed.peer.settings,
        }

    def ask(self, installed: Installed, command: Sequence[str], **options: Any) -> Any:
        """Run a probe and return what it tells, which is JSON."""
        try:
            result = subprocess.run(
                command,
                env=self.variables(installed, **options),
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{installed.peer.name}: {' '.join(command)}\ndidn't end in {TIMEOUT} s") from None
        if result.returncode:
            raise RuntimeError(f"{installed.peer.name}: {' '.join(command)}\n{result.stderr[-2000:]}")
        return json.loads(result.stdout)
