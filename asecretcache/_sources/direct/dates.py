"""Dates in text, in the forms that AWS and its stand-ins send."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def parse_date(text: str) -> datetime:
    """Return a date of ISO 8601 or of a mail's header, without a zone if it names none.

    Raises:
        ValueError: it is no date.
    """
    from datetime import datetime  # Seldom needed, and slow to import.
    from email.utils import parsedate_to_datetime

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)
