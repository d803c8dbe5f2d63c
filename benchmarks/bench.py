"""What all measurements share: the server, the peers that are installed, and how a probe is run for one of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from environments import CLIENTS, HERE, Installed
from server import Server

TTL = 3600
# In seconds. No probe takes nearly so long on an idle machine, but some clients hang once their loop is closed.
TIMEOUT = 600


@dataclass(frozen=True)
class Bench:
    """One run.

    Attributes:
        server: the stand-in for Secrets Manager.
        installed: the peers that can be measured.
        missing: the other peers, and why they are missing.
        home: an empty folder as HOME, so that no configuration of the user is read.
        quick: whether fewer rounds are enough.
    """

    server: Server
    installed: Sequence[Installed]
    missing: Mapping[str, str]
    home: Path
    quick: bool

    def peers(self, measurement: str, *kinds: str) -> list[Installed]:
        """Return the peers that a measurement is for, of all kinds or of some."""
        return [
            each for each in self.installed if each.peer.is_for(measurement) and (not kinds or each.peer.kind in kinds)
        ]

    def tried(self) -> Bench:
        """Return a run without the peers that fail to fetch a first secret; they are added to ``missing``."""
        installed, missing = [], dict(self.missing)
        for each in self.installed:
            try:
                self.ask(each, each.command("calls.py", "first", 1, TTL))
                installed.append(each)
            except RuntimeError as exc:
                missing[each.peer.name] = str(exc).strip().splitlines()[-1]
        return replace(self, installed=installed, missing=missing)

    def ours(self) -> Installed:
        """Return asecretcache with its default source."""
        return self.installed[0]

    def variables(self, installed: Installed, transport: str = "HTTP", ttl: int = TTL) -> dict[str, str]:
        """Return all environment variables of a peer's process: those that Lambda sets, and the benchmark's own."""
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
        """Run a probe for a peer and return its output, which is JSON."""
        return _output(installed.peer.name, command, self.variables(installed, **options))


def ask_checkout(python: str, *arguments: str) -> Any:
    """Run a probe with an interpreter and this checkout, over a source in memory, and return its output."""
    variables = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(CLIENTS)]),
        "BENCH_IN_MEMORY": "1",
    }
    return _output(python, [python, "-P", *arguments], variables)


def _output(name: str, command: Sequence[str], variables: Mapping[str, str]) -> Any:
    try:
        result = subprocess.run(
            command, env=dict(variables), capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}: {' '.join(command)}\ndidn't end within {TIMEOUT} s") from None
    if result.returncode:
        raise RuntimeError(f"{name}: {' '.join(command)}\nended with {result.returncode}\n{result.stderr[-2000:]}")
    return json.loads(result.stdout)
