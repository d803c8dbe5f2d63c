"""A Lambda handler that tells what is wrong with the function's role, its network or a secret's name.

Set the function's handler to ``asecretcache.doctor.lambda_handler``, its timeout to 60 s, and invoke it with the event
``{"references": ["prod/db:password"]}``. The command ``asecretcache doctor`` does the same on other hosts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from asecretcache._cli.arguments import endpoint_url, reference, region
from asecretcache._cli.doctor.command import default_references, run_examination
from asecretcache._cli.doctor.context import LONGEST, Options
from asecretcache._cli.doctor.report import Report
from asecretcache._exceptions import ConfigurationError

__all__ = ["lambda_handler"]

_FORM: Final = (
    'the event must be {"references": ["prod/db:password", ...]}, and may have "region", "endpoint_url" and "batch"'
)
#: What is kept of the invocation's time to answer in.
_MARGIN: Final = 1.0


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Examine the function's environment, and return the report as a JSON document.

    Each secret is read four times at most; the report has neither values nor the names of JSON keys. ``ok`` says
    whether all of them can be read; ``checks`` and ``secrets`` hold what was found, with remedies; ``policy`` is what
    the role lacks. It takes 30 seconds at most, and no longer than the invocation may.

    Args:
        event: ``references``, a list of secret references; none for that in SECRET_ID. ``region``, ``endpoint_url`` and
            ``batch`` are those of the command.
        context: Lambda's context; None elsewhere.

    Raises:
        ConfigurationError: the event has another form.
    """
    options = _options(event)
    if context is not None:
        left = context.get_remaining_time_in_millis() / 1000 - _MARGIN
        options = options._replace(seconds=max(_MARGIN, min(LONGEST, left)))
    return run_examination(options, Report()).to_document()


def _options(event: Any) -> Options:
    known = {"references", "region", "endpoint_url", "batch"}
    if not isinstance(event, Mapping) or not event.keys() <= known:
        raise ConfigurationError(_FORM)
    texts, batch = event.get("references", []), event.get("batch", False)
    if not isinstance(texts, list) or not isinstance(batch, bool):
        raise ConfigurationError(_FORM)
    try:
        references = tuple(map(reference, texts)) or default_references()
        place = {
            name: None if event.get(name) is None else check(str(event[name]))
            for name, check in (("region", region), ("endpoint_url", endpoint_url))
        }
    except argparse.ArgumentTypeError as exc:
        raise ConfigurationError(str(exc)) from None
    return Options(references, place["region"], place["endpoint_url"], batch)
