"""Prints a report as text, one finding at a time."""

from __future__ import annotations

import json
import os
from typing import Final, TextIO

from asecretcache._cli.doctor.report import Finding, Report, Status

_COLOURS: Final = {Status.OK: "32", Status.WARNING: "33", Status.FAILED: "1;31", Status.SKIPPED: "2"}
_INDENT: Final = " " * 9


class Printer:
    """Writes to a stream; in colour where that is a terminal and NO_COLOR isn't set (https://no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_colours = stream.isatty() and not os.environ.get("NO_COLOR")

    def finding(self, finding: Finding) -> None:
        """Print one finding, at once."""
        word = f"{finding.status.value:<8}"
        if self._has_colours:
            word = f"\x1b[{_COLOURS[finding.status]}m{word}\x1b[0m"
        self._line(f"{word} {finding.check:<12} {finding.text}")
        if finding.remedy is not None:
            self._line(f"{_INDENT}remedy: {finding.remedy}")

    def end(self, report: Report) -> None:
        """Print the policy that the role lacks, and the result."""
        if report.policy is not None:
            self._line("\nAdd to the role's policy:\n")
            self._line(json.dumps(report.policy, indent=2) + "\n")
        is_about_secrets = any(each.check == "secret" for each in report.findings)
        if report.is_good:
            result = "All secrets can be read." if is_about_secrets else "Nothing is wrong as far as was checked."
        else:
            result = "Not all secrets can be read." if is_about_secrets else "Some checks failed."
        self._line(result)

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
