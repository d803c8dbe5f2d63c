"""The command ``policy``, and the statements that it prints."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest

from asecretcache._cli.main import main

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def policy(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Return the statements that the command prints."""
    assert main(["policy", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["Version"] == "2012-10-17"
    statements: list[dict[str, Any]] = document["Statement"]
    return statements


@pytest.mark.parametrize(
    ("reference", "resource"),
    [
        ("prod/db", "arn:aws:secretsmanager:*:*:secret:prod/db-??????"),
        ("prod/db:password:AWSPREVIOUS", "arn:aws:secretsmanager:*:*:secret:prod/db-??????"),
        ("prod/db-AbCdEf", "arn:aws:secretsmanager:*:*:secret:prod/db-AbCdEf-??????"),
        (f"{ARN}-AbCdE1", f"{ARN}-??????"),
        (f"{ARN}-AbCdE1:password", f"{ARN}-??????"),
        (ARN, f"{ARN}-??????"),
        (
            "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:x-AbCdEf",
            "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:x-??????",
        ),
        (
            "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:x",
            "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:x-??????",
        ),
        ("rds!db-0a1b", "arn:aws:secretsmanager:*:*:secret:rds!db-0a1b-??????"),
        (
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-0a1b-AbCdEf",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-0a1b-??????",
        ),
        ("arn:aws:secretsmanager:::secret:x", "arn:aws:secretsmanager:*:*:secret:x-??????"),
        ("arn:aws:secretsmanager:*:*:secret:x", "arn:aws:secretsmanager:*:*:secret:x-??????"),
    ],
)
def test_a_secret_is_named_by_its_arn_with_any_suffix(
    capsys: pytest.CaptureFixture[str], reference: str, resource: str
) -> None:
    """GetSecretValue is allowed on the secret's ARN, in which what isn't known is a wildcard."""
    assert policy(capsys, reference) == [
        {"Sid": "ReadSecrets", "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": [resource]}
    ]


def test_a_resource_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Several references to one secret are one resource, in the order of the arguments."""
    [statement] = policy(capsys, "b:user", "b:password", ARN, f"{ARN}-AbCdEf", "a")

    assert statement["Resource"] == [
        "arn:aws:secretsmanager:*:*:secret:b-??????",
        f"{ARN}-??????",
        "arn:aws:secretsmanager:*:*:secret:a-??????",
    ]


def test_a_name_has_the_partition_of_the_arns(capsys: pytest.CaptureFixture[str]) -> None:
    """A name beside ARNs of one partition is in that partition too."""
    [statement] = policy(capsys, "a", "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:b-AbCdEf")

    assert statement["Resource"][0] == "arn:aws-cn:secretsmanager:*:*:secret:a-??????"


def test_batches_are_a_statement_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """BatchGetSecretValue takes the resource ``*`` only, so it isn't in the statement of the secrets."""
    _, batch = policy(capsys, "a", "--batch")

    assert (batch["Action"], batch["Resource"]) == ("secretsmanager:BatchGetSecretValue", "*")


def test_a_key_may_be_used_by_secrets_manager_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """kms:Decrypt is allowed on the keys, by way of Secrets Manager in their region; a repeated key counts once."""
    _, decrypt = policy(capsys, "a", "--kms", KEY, "--kms", KEY)

    assert decrypt == {
        "Sid": "DecryptSecrets",
        "Effect": "Allow",
        "Action": "kms:Decrypt",
        "Resource": [KEY],
        "Condition": {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}},
    }


def test_keys_of_several_regions_have_a_statement_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no region is known there is no condition, and China's endpoints have another suffix."""
    _, one, two, three = policy(
        capsys,
        "a",
        *("--kms", KEY),
        *("--kms", KEY.replace("eu-west-1", "*")),
        *("--kms", KEY.replace("arn:aws:kms:eu-west-1", "arn:aws-cn:kms:cn-north-1")),
    )

    assert [one["Sid"], two["Sid"], three["Sid"]] == ["DecryptSecrets1", "DecryptSecrets2", "DecryptSecrets3"]
    assert "Condition" not in two
    assert three["Condition"]["StringEquals"]["kms:ViaService"] == [
        "secretsmanager.cn-north-1.amazonaws.com",
        "secretsmanager.cn-north-1.amazonaws.com.cn",
    ]


def test_a_suffix_that_may_be_a_word_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a partial ARN ends in six letters that look like a word, a note on stderr says how they were read."""
    assert main(["policy", f"{ARN}-backup"]) == 0

    output = capsys.readouterr()
    assert json.loads(output.out)["Statement"][0]["Resource"] == [f"{ARN}-??????"]
    assert "'-backup' is taken for the six random characters" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "REFERENCE"),
        (["prod/*"], "letters, digits and /_+=.@-! only"),
        (["a:b:c:d:e"], "name-or-arn:json-key:version-stage:version-id"),
        (["arn:aws:s3:::bucket:secret:x"], "write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"),
        (["arn:aws:secretsmanager:eu-west-1:\u0661\u0662\u0663456789012:secret:x"], "isn't the ARN of a secret"),
        (["arn:aws:secretsmanager:eu-west-1"], "is no ARN of a secret: write arn:aws:secretsmanager:REGION:"),
        (["a", "--kms", "alias/mine"], "write arn:aws:kms:REGION:ACCOUNT:key/KEY-ID"),
    ],
)
def test_wrong_arguments_say_what_to_write(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The exit status is 2, nothing is printed on stdout, and the error on stderr names the remedy."""
    with pytest.raises(SystemExit) as caught:
        main(["policy", *arguments])

    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.out == ""
    assert message in output.err


def test_the_module_is_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m asecretcache`` runs the command and exits with its status."""
    monkeypatch.setattr(sys, "argv", ["asecretcache", "policy", "a"])

    with pytest.raises(SystemExit) as caught:
        # As runpy would, which can't use the loader by which pytest loads the modules of a package with a plugin.
        importlib.import_module("asecretcache.__main__")

    assert caught.value.code == 0
    assert json.loads(capsys.readouterr().out)["Statement"][0]["Sid"] == "ReadSecrets"


def test_the_script_is_the_command() -> None:
    """The script that is installed runs the same function."""
    [script] = entry_points(group="console_scripts", name="asecretcache")

    assert script.load() is main


def test_a_policy_needs_no_sdk() -> None:
    """The command starts fast: it imports nothing of the SDK."""
    command = [sys.executable, "-X", "importtime", "-m", "asecretcache", "policy", "a"]

    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert json.loads(result.stdout)["Statement"][0]["Sid"] == "ReadSecrets"
    assert "botocore" not in result.stderr


def test_importing_the_package_imports_no_command() -> None:
    """A cold start pays nothing for the command line."""
    code = "import sys, asecretcache; print(sorted(sys.modules.keys() & {'asecretcache._cli', 'argparse'}))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version of the package."""
    from asecretcache import __version__

    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert (caught.value.code, capsys.readouterr().out) == (0, f"asecretcache {__version__}\n")
