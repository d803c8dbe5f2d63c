"""The report of an examination: one finding for each check, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from asecretcache._cli.statements import Statement, policy_document
from asecretcache._version import __version__


class Status(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. It holds no value of a secret, no key and no token.

    Attributes:
        check: the name of the check, such as ``dns``.
        status: whether all is well.
        text: what was found, on one line.
        remedy: what to do about it, or None.
        facts: the same for programs, by name.
    """

    check: str
    status: Status
    text: str
    remedy: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        remedy = {} if self.remedy is None else {"remedy": self.remedy}
        return {"check": self.check, "status": self.status.value, "text": self.text, **remedy, **self.facts}


class Report:
    """Collects findings, and passes each on as soon as it is made. It belongs to one task.

    Args:
        listener: called with each finding.

    Attributes:
        findings: what was found so far.
        statements: the statements that the role's policy lacks.
    """

    def __init__(self, listener: Callable[[Finding], object] | None = None) -> None:
        self.findings: list[Finding] = []
        self.statements: list[Statement] = []
        self._listener = listener

    def add(self, check: str, status: Status, text: str, remedy: str | None = None, **facts: Any) -> None:
        """Record a finding."""
        finding = Finding(check, status, " ".join(text.split()), remedy, facts)
        self.findings.append(finding)
        if self._listener is not None:
            self._listener(finding)

    def lack(self, statements: Iterable[Statement]) -> None:
        """Record statements that the role's policy lacks; those of one kind become one."""
        for statement in statements:
            same = [
                each
                for each in self.statements
                if (each["Action"], each.get("Condition")) == (statement["Action"], statement.get("Condition"))
            ]
            if not same:
                self.statements.append(dict(statement))
            elif isinstance(same[0]["Resource"], list):
                same[0]["Resource"] = list(dict.fromkeys([*same[0]["Resource"], *statement["Resource"]]))

    @property
    def policy(self) -> dict[str, Any] | None:
        """The policy to add to the role; None if it lacks nothing that is known."""
        return policy_document(self.statements) if self.statements else None

    @property
    def is_good(self) -> bool:
        """Whether all references are readable; without references, whether no check failed."""
        secrets = [each.status for each in self.findings if each.check == "secret"]
        if not secrets:
            return all(each.status is not Status.FAILED for each in self.findings)
        others = [each.status for each in self.findings if each.check in {"batch", "secrets"}]
        return set(secrets) == {Status.OK} and Status.FAILED not in others

    def to_document(self) -> dict[str, Any]:
        """Return the whole report as JSON holds it."""
        findings = [each.to_document() for each in self.findings]
        return {
            "asecretcache": __version__,
            "ok": self.is_good,
            "checks": [each for each in findings if each["check"] != "secret"],
            "secrets": [each for each in findings if each["check"] == "secret"],
            "policy": self.policy,
        }
