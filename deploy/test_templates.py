"""The templates deploy: AWS's own transformation and linters take them, and their roles may do no more than they need.

`make test-templates` runs this in an environment of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

DEPLOY = Path(__file__).resolve().parent
TEMPLATES = sorted(DEPLOY.glob("*/template.yaml"))
SAM = [path for path in TEMPLATES if "AWS::Serverless" in path.read_text(encoding="utf-8")]
#: Pseudo parameters, and parameters of the templates.
VALUES = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "FirstSecretName": "prod/db",
    "SecondSecretName": "prod/api",
    "SecretName": "prod/db",
    "KeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
}
#: The only actions that may have the resource `*`; AWS takes no other for them.
ON_ALL = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    "ecr:GetAuthorizationToken",
    "secretsmanager:BatchGetSecretValue",
}
ON_RESOURCES = {
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "kms:Decrypt",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "sqs:DeleteMessage",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
    "sts:AssumeRole",
}


class NoManagedPolicies:
    """The templates name no policy of AWS's by its short name, so there is none to look up."""

    def load(self) -> dict[str, str]:
        return {}


def name(path: Path) -> str:
    return path.parent.name


def transformed(path: Path) -> dict[str, Any]:
    """Return what CloudFormation gets; local code is uploaded by `sam deploy`, so it is an address by then."""
    template = yaml_parse(path.read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            properties = resource["Properties"]
            if "CodeUri" in properties:
                assert (path.parent / properties["CodeUri"] / "app.py").is_file()
                properties["CodeUri"] = "s3://bucket/key"
            else:
                properties["ImageUri"] = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/repository:tag"
    result: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return result


def linted(path: Path, *options: str) -> tuple[int, str]:
    """Return the exit status and the findings of cfn-lint."""
    lint = "from cfnlint.runner import main; raise SystemExit(main())"
    command = [sys.executable, "-c", lint, *options, "--", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return ended.returncode, ended.stdout


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(node: Any) -> Iterator[dict[str, Any]]:
    """Every statement of every policy, wherever it stands."""
    if isinstance(node, dict):
        if "Effect" in node:
            yield node
        for value in node.values():
            yield from statements(value)
    elif isinstance(node, list):
        for value in node:
            yield from statements(value)


def resolved(value: Any) -> Any:
    """Fill in what is known of references and substitutions."""
    if isinstance(value, dict) and "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+)\}", lambda found: VALUES[found[1]], value["Fn::Sub"])
    if isinstance(value, dict) and value.get("Ref") in VALUES:
        return VALUES[value["Ref"]]
    return value


def printed_policy(*arguments: str) -> list[dict[str, Any]]:
    """What `asecretcache policy` prints."""
    command = [sys.executable, "-m", "asecretcache", "policy", *arguments]
    printed = subprocess.run(command, cwd=DEPLOY.parent, capture_output=True, text=True, check=True, timeout=60).stdout
    result: list[dict[str, Any]] = json.loads(printed)["Statement"]
    return result


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_cfn_lint_finds_nothing(path: Path, tmp_path: Path) -> None:
    """In the template, and in what AWS makes of it."""
    paths = [path]
    if path in SAM:
        paths.append(tmp_path / "transformed.json")
        paths[1].write_text(json.dumps(transformed(path)), encoding="utf-8")
    for each in paths:
        # E1010 in the second: see sam-managed-instances.
        ignored = ["--ignore-checks", "E1010"] if each != path and name(path) == "sam-managed-instances" else []
        assert linted(each, *ignored) == (0, "")


def test_cfn_lint_finds_nothing_in_the_recipe_for_sam(tmp_path: Path) -> None:
    """The block of lean.md."""
    page = (DEPLOY.parent / "docs" / "lean.md").read_text(encoding="utf-8")
    template = tmp_path / "template.yaml"
    template.write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")

    assert linted(template) == (0, "")


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_rights_are_the_least(path: Path) -> None:
    """Known actions, on named resources; `*` only where AWS takes nothing else; no policy of AWS's but SAM's."""
    template = transformed(path) if path in SAM else yaml_parse(path.read_text(encoding="utf-8"))
    found = list(statements(template["Resources"]))

    assert found
    for statement in found:
        actions = set(as_list(statement["Action"]))
        if statement["Effect"] == "Allow" and "*" in as_list(statement.get("Resource", [])):
            assert actions <= ON_ALL
        elif statement["Effect"] == "Allow":
            assert actions <= ON_RESOURCES
    managed = re.findall(r"iam::aws:policy/(?:service-role/)?(\w+)", json.dumps(template, default=str))
    assert managed == (["AWSLambdaManagedEC2ResourceOperator"] if name(path) == "sam-managed-instances" else [])


@pytest.mark.parametrize("path", [path for path in TEMPLATES if name(path) != "label-events"], ids=name)
def test_the_policy_is_what_the_command_prints(path: Path) -> None:
    """The statements on secrets and keys are those of `asecretcache policy`."""
    role = "TaskRole" if name(path) == "ecs-provider" else "Role"
    policies = yaml_parse(path.read_text(encoding="utf-8"))["Resources"][role]["Properties"]["Policies"]
    found: dict[str, dict[str, Any]] = {
        statement["Sid"]: {
            key: [resolved(each) for each in value] if isinstance(value, list) else value
            for key, value in statement.items()
        }
        for statement in statements(policies)
    }

    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
    arguments = [f"{secret}prod/db-??????".replace("-??????", "")]
    if name(path) == "sam-batch":
        arguments += [f"{secret}prod/api", "--batch"]
    if name(path) == "sam-customer-key":
        arguments += ["--kms", VALUES["KeyArn"]]
    for statement in printed_policy(*arguments):
        own = found[statement["Sid"]]
        if name(path) == "ecs-provider":
            # The provider asks for a description, too.
            assert own["Action"].pop(0) == "secretsmanager:DescribeSecret"
            [own["Action"]] = own["Action"]
        if "Condition" in own:
            [(key, value)] = own["Condition"]["StringEquals"].items()
            own["Condition"] = {"StringEquals": {key: resolved(value)}}
        assert own == statement


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_no_template_has_a_value_of_a_secret(path: Path) -> None:
    """Secrets exist already, or are generated."""
    text = path.read_text(encoding="utf-8")

    assert "SecretString:" not in text.replace("GenerateSecretString:", "")
    assert "NoEcho" not in text


def test_the_rule_alone_may_send_events() -> None:
    """Otherwise a rule of any account could."""
    template = yaml_parse((DEPLOY / "label-events" / "template.yaml").read_text(encoding="utf-8"))
    policy = template["Resources"]["QueuePolicy"]["Properties"]

    assert policy["Queues"] == [{"Ref": "Queue"}]
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": {"Fn::GetAtt": ["Queue", "Arn"]},
            "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Rule", "Arn"]}}},
        }
    ]


def test_terraforms_policy_is_what_the_command_prints() -> None:
    """The file parses, and its statement on secrets is that of `asecretcache policy`."""
    with (DEPLOY / "terraform" / "main.tf").open(encoding="utf-8") as file:
        configuration = hcl2.load(file)
    text = json.dumps(configuration)
    sids = re.findall(r'"sid": "\\?"?(\w+)', text)
    actions = set(re.findall(r"(?:secretsmanager|logs|kms|sts|ec2):\w+", text))

    assert sids == ["WriteLogs", "ReadSecrets"]
    assert actions == {"logs:CreateLogStream", "logs:PutLogEvents", "secretsmanager:GetSecretValue", "sts:AssumeRole"}
    [arn] = re.findall(r"arn:\$\{[^\"\\]*secret:[^\"\\]*", text)
    for expression, value in {
        "data.aws_partition.current.partition": "aws",
        "data.aws_region.current.name": "eu-west-1",
        "data.aws_caller_identity.current.account_id": "123456789012",
        "var.secret_name": "prod/db",
    }.items():
        arn = arn.replace(f"${{{expression}}}", value)
    [statement] = printed_policy("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db")
    assert [arn] == statement["Resource"]


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*/Dockerfile")), ids=name)
def test_an_image_copies_what_is_there(path: Path) -> None:
    """Its context is the folder deploy/."""
    for sources in re.findall(r"^COPY (.*) \S+$", path.read_text(encoding="utf-8"), re.MULTILINE):
        assert all((DEPLOY / source).is_file() for source in sources.split())


def test_each_folder_tells_how_to_deploy_it() -> None:
    """In a README, short, with its commands; deploying.md names the folder."""
    page = (DEPLOY.parent / "docs" / "deploying.md").read_text(encoding="utf-8")
    for folder in [*(path.parent for path in TEMPLATES), DEPLOY / "terraform"]:
        readme = (folder / "README.md").read_text(encoding="utf-8")
        assert "```sh\n" in readme
        assert len(readme.split("```")[0].splitlines()) + len(readme.split("```")[2].splitlines()) <= 9
        assert f"`{folder.name}`" in page
