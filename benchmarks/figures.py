"""Medians with their spread, ratios within a run, and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

MANY = 20


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each value against the baseline's of the same round, so that what slows the machine slows both."""
    return [value / other for value, other in zip(values, base, strict=True)]


def spread(values: Sequence[float], digits: int = 1, unit: float = 1.0) -> str:
    """Median and, in brackets, minimum and maximum; of many values, the 10th and 90th percentile."""
    scaled = sorted(value / unit for value in values)
    cut = len(scaled) // 10 if len(scaled) >= MANY else 0
    return f"{median(scaled):,.{digits}f} ({scaled[cut]:,.{digits}f}-{scaled[-1 - cut]:,.{digits}f})"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns, the first to the left and the others to the right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    return "\n".join([f"\n{title}", "", lines[0], "-" * len(lines[0]), *lines[1:]])
