"""The machine and the interpreter that a run measures on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def machine(python: str) -> dict[str, Any]:
    """Return the processor, the load, the system and the interpreter, for JSON."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        processor = names[0] if names else processor
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor,
        "cpus": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": subprocess.run(
            [python, "-c", "import platform as p; print(p.python_implementation(), p.python_version())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip(),
    }


def as_text(facts: dict[str, Any]) -> str:
    """Return these facts in one line."""
    load = "" if facts["load"] is None else f", load {facts['load'][0]:.1f}"
    return f"{facts['processor']}, {facts['cpus']} CPUs{load}, {facts['system']}, {facts['python']}, {facts['when']}"
