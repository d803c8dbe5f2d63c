"""Checks the credentials: of which kind they are, and whose. Neither keys nor tokens are shown."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from asecretcache._cli.doctor.context import Context, explained, milliseconds, timed
from asecretcache._cli.doctor.report import Status
from asecretcache._sources import error_meanings as meanings
from asecretcache._sources.log_redaction import redacted

CREDENTIALS_SECONDS: Final = 6.0
IDENTITY_SECONDS: Final = 5.0
#: By botocore's names of its providers.
_KINDS: Final = {
    "env": "environment variables",
    "shared-credentials-file": "the credentials file, profile {profile!r}",
    "config-file": "the config file, profile {profile!r}",
    "custom-process": "the credential_process of profile {profile!r}",
    "assume-role": "a role that profile {profile!r} assumes",
    "assume-role-with-web-identity": "a role by web identity (EKS service account)",
    "sso": "single sign-on, profile {profile!r}",
    "login": "aws login, profile {profile!r}",
    "container-role": "the container's endpoint (ECS task role or EKS Pod Identity)",
    "iam-role": "the instance's metadata (instance profile)",
}


async def check_credentials(context: Context) -> None:
    """Report the kind of the credentials, and get them once."""
    if context.lacks("credentials", "session"):
        return
    report = context.report
    try:
        with redacted():
            async with asyncio.timeout(CREDENTIALS_SECONDS):
                found = await context.session.get_credentials()
                if found is not None:
                    await found.get_frozen_credentials()
    except TimeoutError:
        text = f"where the credentials come from didn't answer in {CREDENTIALS_SECONDS:g} s"
        remedy = "check the metadata service, the container's endpoint, or the network to STS"
        report.add("credentials", Status.FAILED, text, remedy)
        return
    except Exception as exc:  # noqa: BLE001  # the SDK raises errors of many classes
        report.add("credentials", Status.FAILED, "the credentials can't be retrieved", str(explained(exc)))
        return
    if found is None:
        report.add("credentials", Status.FAILED, "none were found", _missing_remedy())
        return
    context.credentials = True
    method = str(getattr(found, "method", "unknown"))
    kind = _KINDS.get(method, method).format(profile=context.session.profile or "default")
    if method == "env" and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        kind = "the function's role, in environment variables"
    report.add("credentials", Status.OK, kind, method=method)


def _missing_remedy() -> str:
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        return "give the function an execution role, and let no setting remove AWS_ACCESS_KEY_ID from its environment"
    disabled = "; AWS_EC2_METADATA_DISABLED is set" if os.environ.get("AWS_EC2_METADATA_DISABLED") else ""
    return f"give the instance, task or pod a role, run aws sso login, or set AWS_PROFILE{disabled}"


async def check_identity(context: Context) -> None:
    """Report whose the credentials are. STS may be out of reach where Secrets Manager isn't, so that is no failure."""
    if context.lacks("identity", "session", "credentials", "region"):
        return
    report = context.report
    try:
        with redacted():
            async with asyncio.timeout(IDENTITY_SECONDS):
                response, took = await timed(_ask(context))
    except Exception as exc:  # noqa: BLE001  # the SDK raises errors of many classes
        meaning = meanings.CODES.get(_code(exc))
        if meaning in (meanings.BAD_KEYS, meanings.EXPIRED):
            context.credentials = False
            report.add("identity", Status.FAILED, f"AWS refuses the credentials ({_code(exc)})", meaning[1])
            return
        text = (
            f"STS couldn't be asked whose they are ({_code(exc) or type(exc).__name__}); reading secrets needs no STS"
        )
        report.add("identity", Status.WARNING, text)
        return
    arn, context.account = str(response["Arn"]), str(response["Account"])
    context.partition = arn.split(":")[1]
    report.add("identity", Status.OK, f"{arn} ({milliseconds(took)})", arn=arn, account=context.account, ms=took)


async def _ask(context: Context) -> Any:
    async with context.client("sts") as client:
        return await client.get_caller_identity()


def _code(exc: BaseException) -> str:
    response = getattr(exc, "response", None)
    error = response.get("Error") if isinstance(response, dict) else None
    code = error.get("Code") if isinstance(error, dict) else None
    return code if isinstance(code, str) and code.isalnum() else ""
