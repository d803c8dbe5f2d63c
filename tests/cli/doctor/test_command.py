"""The command ``doctor`` as a whole: what it prints, its exit status, and what it must never print."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from asecretcache._cli.doctor.printer import Printer
from asecretcache._cli.doctor.report import Finding, Status
from asecretcache._cli.main import main
from cli_helpers import finding, statuses
from fault_server import FaultServer
from moto_server import SESSION_TOKEN, MotoServer

Doctor = Callable[..., tuple[int, dict[str, Any]]]
CANARY = "canary-value-8b1f"


def test_a_healthy_environment(aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor) -> None:
    """Where all is well every check is ok, and the exit status is 0."""
    moto_server.create("prod/db", "{}")

    status, document = doctor("prod/db")

    assert status == 0
    settings = ("installation", "region", "credentials", "identity", "endpoint", "proxy")
    way = ("dns", "tcp", "tls", "response", "clock", "source")
    assert statuses(document) == dict.fromkeys(settings + way, "ok")
    assert [each["status"] for each in document["secrets"]] == ["ok"]
    assert document["policy"] is None


def test_the_text_has_a_line_for_each_check(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --json each check is one line, and without a terminal there is no colour."""
    moto_server.create("prod/db", "x")

    assert main(["doctor", "prod/db"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       installation Python ")
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 13
    assert lines[-1] == "All secrets can be read."
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(("references", "result"), [(["nope"], "Not all secrets can be read."), ([], "Some checks")])
def test_a_failure_is_told_with_its_remedy(
    aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], references: list[str], result: str
) -> None:
    """The remedy of a failed check stands below it, the result at the end, and the exit status is 1."""
    aws.delenv("AWS_ACCESS_KEY_ID")

    assert main(["doctor", *references]) == 1

    output = capsys.readouterr().out
    assert "failed   credentials  none were found\n         remedy: give the instance" in output
    assert output.splitlines()[-1].startswith(result)


def test_without_references_the_way_is_checked(aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a reference, and without SECRET_ID, no secret is read."""
    aws.delenv("SECRET_ID", raising=False)

    assert main(["doctor"]) == 0

    output = capsys.readouterr().out
    assert "skipped  secrets      none was named: give references, or set SECRET_ID" in output
    assert output.splitlines()[-1] == "Nothing is wrong as far as was checked."


def test_the_secret_of_the_environment_is_read(
    aws: pytest.MonkeyPatch, moto_server: MotoServer, doctor: Doctor
) -> None:
    """Without a reference the secret is that of SECRET_ID, as get_secret() has it."""
    moto_server.create("prod/db", "x")
    aws.setenv("SECRET_ID", "prod/db")

    status, document = doctor()

    assert (status, document["secrets"][0]["reference"]) == (0, "prod/db")


def test_a_wrong_secret_id_is_wrong_usage(aws: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """SECRET_ID is checked as an argument is, and named."""
    aws.setenv("SECRET_ID", "prod db")

    with pytest.raises(SystemExit) as caught:
        main(["doctor"])

    assert caught.value.code == 2
    assert "SECRET_ID: 'prod db' can't be the name of a secret" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--region", "EU West"], "write one such as eu-west-1"),
        (["--endpoint-url", "localhost:4566"], "write one such as https://HOST[:PORT]"),
        (["--endpoint-url", "ftp://user:hunter2@host"], "write one such as https://HOST[:PORT]"),
        (["--endpoint-url", "http://[x"], "write one such as https://HOST[:PORT]"),
        (["--endpoint-url", "http://x:port"], "write one such as https://HOST[:PORT]"),
        (["a:b:c:d:e"], "the syntax is"),
    ],
)
def test_wrong_arguments_say_what_to_write(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The exit status of wrong usage is 2, and stderr names the remedy."""
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *arguments])

    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "hunter2" not in error


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("value", [CANARY, json.dumps({"canary-key": CANARY, CANARY: 1}), CANARY.encode()])
def test_no_value_is_shown(
    aws: pytest.MonkeyPatch,
    moto_server: MotoServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    options: list[str],
    value: str | bytes,
) -> None:
    """Neither values nor the names of JSON keys, nor keys and tokens of AWS are printed, or logged at DEBUG."""
    moto_server.create("prod/db", value)
    caplog.set_level(logging.DEBUG)

    assert main(["doctor", "prod/db", "--batch", *options]) == 0

    shown = "".join(capfd.readouterr()) + caplog.text
    assert "prod/db" in shown
    assert [each for each in (CANARY, "canary-key", SESSION_TOKEN, "fake-secret-key") if each in shown] == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_value_is_shown_of_a_broken_server(
    sts: pytest.MonkeyPatch,
    fault_server: FaultServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    options: list[str],
) -> None:
    """A value within a malformed response isn't shown either."""
    caplog.set_level(logging.DEBUG)
    fault_server.hold(CANARY)
    fault_server.truncate()

    assert main(["doctor", "name", *options]) == 1

    assert CANARY not in "".join(capfd.readouterr()) + caplog.text


def test_it_runs_as_a_process(aws: pytest.MonkeyPatch, moto_server: MotoServer) -> None:
    """A process of its own prints the document, and nothing on stderr."""
    moto_server.create("prod/db", "x")

    command = [sys.executable, "-m", "asecretcache", "doctor", "--json", "prod/db"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert json.loads(result.stdout)["ok"] is True
    assert result.stderr == ""


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is coloured on a terminal, unless NO_COLOR is set."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    Printer(coloured).finding(Finding("dns", Status.FAILED, "no"))
    monkeypatch.setenv("NO_COLOR", "1")
    Printer(plain).finding(Finding("dns", Status.FAILED, "no"))

    assert coloured.getvalue() == "\x1b[1;31mfailed  \x1b[0m dns          no\n"
    assert plain.getvalue() == "failed   dns          no\n"


def test_the_missing_policy_is_printed_to_paste(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A denied secret's statement is printed as a policy, with the region asked and the account of the role."""
    fault_server.refuse("AccessDeniedException")

    assert main(["doctor", "name"]) == 1

    output = capsys.readouterr().out
    assert "Add to the role's policy:" in output
    policy = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert policy["Statement"][0]["Resource"] == ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-??????"]


def test_it_checks_the_response_of_the_source(
    sts: pytest.MonkeyPatch, fault_server: FaultServer, doctor: Doctor
) -> None:
    """The way is named by each of its parts over TLS, too."""
    _, document = doctor("name")

    assert finding(document, "tls")["version"] == "TLSv1.3"
