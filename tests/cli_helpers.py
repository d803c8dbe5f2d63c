"""What the tests of the command line share."""

from __future__ import annotations

from typing import Any


def finding(document: dict[str, Any], check: str) -> dict[str, Any]:
    """Return the one finding of a check in a report of ``doctor``."""
    [found] = [each for each in document["checks"] if each["check"] == check]
    result: dict[str, Any] = found
    return result


def statuses(document: dict[str, Any]) -> dict[str, str]:
    """Return the status of each check in a report of ``doctor``."""
    return {each["check"]: each["status"] for each in document["checks"]}
