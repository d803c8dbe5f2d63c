"""Checks Python, the versions of what is installed, and that the SDK can be imported."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from asecretcache._cli.doctor.context import Context, explained
from asecretcache._cli.doctor.report import Status
from asecretcache._cli.doctor.source_choice import chosen_source
from asecretcache._sources.sdk.client_factory import check_version, new_session
from asecretcache._sources.threads import in_thread

PACKAGES: Final = ("asecretcache", "aioboto3", "aiobotocore", "botocore", "httptools")


async def check_installation(context: Context) -> None:
    """Report the versions, and make a session of the SDK."""
    versions = {name: _version(name) for name in PACKAGES}
    shown = ", ".join(f"{name} {found or 'is absent'}" for name, found in versions.items())
    text = f"Python {platform.python_version()} on {_host()}; {shown}"
    facts: dict[str, Any] = {"python": platform.python_version(), "host": _host(), "versions": versions}
    try:
        context.session = await in_thread(_new_session)
    except Exception as exc:  # noqa: BLE001  # a broken installation raises anything
        error = explained(exc)
        if chosen_source() in {"direct", "agent"}:
            # They need none where the settings are plain; the check of the source tells.
            remedy = f"none, if the secrets can be read. To have all checks: {error}"
            context.report.add("installation", Status.WARNING, text, remedy, **facts)
            return
        context.report.add("installation", Status.FAILED, text, str(error), **facts)
        return
    context.report.add("installation", Status.OK, text, **facts)


def _new_session() -> Any:
    check_version()
    return new_session()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _host() -> str:
    """Name the kind of host that this runs on."""
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if function:
        return f"Lambda, function {function}, {os.environ.get('AWS_LAMBDA_FUNCTION_MEMORY_SIZE', '?')} MB"
    if "ECS_CONTAINER_METADATA_URI_V4" in os.environ:
        return "ECS"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "Kubernetes"
    return f"{platform.system()}, {platform.machine()}"
