"""Medians with their spread, ratios of pairs, and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

MANY = 20


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return the ratio of each value to the baseline of the same round, since what slows the machine slows both."""
    return [value / other for value, other in zip(values, base, strict=True)]


def spread(values: Sequence[float], digits: int = 1, unit: float = 1.0) -> str:
    """Return the median and the range, as text.

    Args:
        values: at least one. The range of 20 values or more is the 10th to the 90th percentile, so that one
            interruption doesn't set it.
        digits: how many decimals are shown.
        unit: what the values are divided by.
    """
    scaled = sorted(value / unit for value in values)
    cut = len(scaled) // 10 if len(scaled) >= MANY else 0
    return f"{median(scaled):,.{digits}f} ({scaled[cut]:,.{digits}f}-{scaled[-1 - cut]:,.{digits}f})"


def judged(values: Sequence[float], limit: float | None) -> str:
    """Return a limit as text, marked if the median of the values exceeds it; empty without a limit."""
    if limit is None:
        return ""
    return f"{limit:g}" if median(values) <= limit else f"{limit:g}, EXCEEDED"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], *, texts: int = 1) -> str:
    """Return a table in Markdown, its columns aligned.

    Args:
        title: the line above the table.
        head: the names of the columns.
        rows: the cells of each row.
        texts: how many columns are text and aligned to the left; the others are figures, aligned to the right.
    """
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    lines = [
        " | ".join(
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    rule = " | ".join("-" * width if column < texts else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return "\n".join([f"\n{title}\n", *(f"| {line} |" for line in (lines[0], rule, *lines[1:]))])
