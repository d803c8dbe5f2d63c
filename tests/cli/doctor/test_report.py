"""The report: what makes it good, and the policy that it gathers."""

from __future__ import annotations

import pytest

from asecretcache._cli.doctor.report import Report, Status
from asecretcache._cli.statements import batch_statement, decrypt_statements, read_statement

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"


@pytest.mark.parametrize(
    ("findings", "is_good"),
    [
        ([], True),
        ([("clock", Status.WARNING), ("secrets", Status.SKIPPED)], True),
        ([("tcp", Status.FAILED)], False),
        ([("tcp", Status.FAILED), ("secret", Status.OK)], True),
        ([("secret", Status.OK), ("secret", Status.FAILED)], False),
        ([("secret", Status.OK), ("secret", Status.SKIPPED)], False),
        ([("secret", Status.OK), ("batch", Status.FAILED)], False),
        ([("secret", Status.OK), ("secrets", Status.FAILED)], False),
    ],
)
def test_a_report_is_good_if_all_references_are_readable(findings: list[tuple[str, Status]], is_good: bool) -> None:
    """What else failed doesn't matter then; without references no check may fail."""
    report = Report()
    for check, status in findings:
        report.add(check, status, "text")

    assert report.is_good is is_good


def test_statements_of_one_kind_become_one() -> None:
    """Each action has one statement, with each resource once; conditions that differ keep them apart."""
    report = Report()
    report.lack([read_statement(["a"]), batch_statement()])
    report.lack([batch_statement(), read_statement(["b", "a"])])
    report.lack([*decrypt_statements([KEY]), *decrypt_statements([KEY.replace("eu-west-1", "us-east-1")])])

    assert [statement["Resource"] for statement in report.statements] == [
        ["a", "b"],
        "*",
        [KEY],
        [KEY.replace("eu-west-1", "us-east-1")],
    ]
