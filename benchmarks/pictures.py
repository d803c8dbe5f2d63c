"""The pictures for README: transparent, in colours that can be read on white and on black."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cold import IMPORTS
from environments import HERE, ROOT
from figures import median, ratios
from fleet import QUOTAS, usd, usd_of_init
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

TEXT = "#76838f"
OURS, PYTHON, NODE, BASE = "#2f81f7", "#8c959f", "#c27d0e", "#56606b"
WARN = "#e5534b"

STYLE = {
    "font.size": 9,
    # Text stays text, in the first of these fonts that the reader has.
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": TEXT,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    # The same results make the same file.
    "svg.hashsalt": "asecretcache",
    "savefig.transparent": True,
}


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures of the results that are there, and return the files."""
    drawn = []
    with mpl.rc_context(STYLE):
        for name, picture in PICTURES.items():
            if results.get(name):
                path = folder / f"{name}.svg"
                folder.mkdir(parents=True, exist_ok=True)
                figure = picture(results)
                figure.savefig(path, metadata={"Date": None})
                # To look at: on white.
                figure.savefig(path.with_suffix(".png"), dpi=110, transparent=False)
                drawn.append(path)
    return drawn


def colour(name: str) -> str:
    if name.startswith("asecretcache"):
        return OURS
    return NODE if "Node" in name else PYTHON


def source(results: dict[str, Any]) -> str:
    """Return where the figures were measured, in one line."""
    machine = results["machine"]
    quick = ", a quick look" if results["quick"] else ""
    return f"{machine['python']}, {machine['processor']}, {machine['cpus']} CPUs, server on loopback{quick}"


def label(axes: Any, names: list[str], *, hide: bool = False) -> None:
    """Give the axes a row for each name, the first at the top."""
    axes.set_yticks(range(len(names)), [""] * len(names) if hide else names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        if colour(name) == OURS:
            tick.set(color=OURS, fontweight="bold")


def annotate(axes: Any, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center")


def cold(results: dict[str, Any]) -> Figure:
    """Wall time over TLS, and memory."""
    found = results["cold"]
    floor = {"import asyncio, ssl": found["imports"]["import asyncio, ssl"]}
    tls = {**floor, **found["TLS"]}
    names = sorted(tls, key=lambda name: median(tls[name]["wall"]))
    figure = Figure(figsize=(9, 0.34 * len(names) + 1.3), layout="constrained")
    time, memory = figure.subplots(1, 2, width_ratios=(3, 2))
    for row, name in enumerate(names):
        tone = BASE if name in IMPORTS else colour(name)
        samples = [1000 * value for value in tls[name]["wall"]]
        time.barh(row, median(samples), height=0.62, color=tone)
        time.plot((min(samples), max(samples)), (row, row), color=TEXT, linewidth=1)
        annotate(time, f"{median(samples):,.0f}", max(samples), row)
        peak = median(tls[name]["memory"])
        memory.barh(row, peak, height=0.62, color=tone)
        annotate(memory, f"{peak:,.0f}", peak, row)
    label(time, names)
    label(memory, names, hide=True)
    time.set_title("Cold start over TLS, from exec to the first secret, ms\nmedians; lines: min to max")
    time.set_xlim(0, 1.12 * max(1000 * max(each["wall"]) for each in tls.values()))
    memory.set_title("Peak memory, MiB\n")
    memory.set_xlim(0, 1.15 * max(median(each["memory"]) for each in tls.values()))
    figure.supxlabel(source(results), fontsize=7.5, color=TEXT)
    return figure


def hit(results: dict[str, Any]) -> Figure:
    """The ratios to a bare coroutine on a logarithmic scale: of one secret, and of one key of its JSON."""
    found = results["hit"]
    groups: dict[str, dict[str, float]] = {}
    for what in ("one secret", "one key of its JSON"):
        # The first statement is the one that users write most.
        groups[what] = {
            f"{peer}: {statement}" if colour(peer) == OURS else peer: median(ratios(pair["ns"], pair["bare"]))
            for loop in ("asyncio", "Node")
            for peer, kinds in found.get(loop, {}).items()
            for statement, pair in list(kinds.get(what, {}).items())[:1]
        }
    sizes = [len(medians) for medians in groups.values()]
    figure = Figure(figsize=(9, 0.34 * sum(sizes) + 1.8), layout="constrained")
    for axes, (what, medians) in zip(
        figure.subplots(len(groups), 1, sharex=True, height_ratios=sizes), groups.items(), strict=True
    ):
        names = sorted(medians, key=lambda name: medians[name])
        for row, name in enumerate(names):
            axes.barh(row, medians[name], height=0.62, color=colour(name))
            digits = 1 if medians[name] < 100 else 0
            annotate(axes, f"{medians[name]:,.{digits}f}", medians[name], row)
        label(axes, names)
        axes.set_xscale("log")
        axes.set_xlim(1, 3 * max(max(each.values()) for each in groups.values()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f} x"))
        axes.set_title(f"A warm read of {what}")
    axes.set_xlabel("CPU time, in multiples of a bare coroutine's (logarithmic)")
    figure.supxlabel(f"{source(results)}; Node against a bare coroutine of Node", fontsize=7.5, color=TEXT)
    return figure


def note(axes: Any, text: str, at: tuple[float, float], tone: str, offset: tuple[float, float] = (0, 0)) -> None:
    axes.annotate(text, at, offset, textcoords="offset points", color=tone, ha="right", va="bottom")


def beside(axes: Any, text: str, at: tuple[float, float], tone: str, offset: float) -> None:
    axes.annotate(text, at, (6, offset), textcoords="offset points", color=tone, va="center")


def money(value: float, _: object) -> str:
    return f"${value:,.0f}" if value >= 1 else f"${value:g}"


FLEET = "simulated; 5 secrets an invocation, each rotated once a day; ttl 1 h unless given; batch calls aren't priced"


def fleet(results: dict[str, Any]) -> Figure:
    """What the calls of a month cost, and the calls a second after a deploy."""
    found = results["fleet"]
    # Offsets of the labels in points: the lines end closer to each other than text can stand.
    lines = {
        "no cache": (WARN, 0),
        "official clients": (NODE, 11),
        "asecretcache": (OURS, 2),
        "asecretcache, ttl=None, refresh_on": (OURS, -2),
        "the article": (PYTHON, -9),
    }
    figure = Figure(figsize=(12, 4), layout="constrained")
    cost, burst, later = figure.subplots(1, 3, width_ratios=(6, 5, 4))
    rates = [int(rate) for rate in found["months"]]
    for name, (tone, offset) in lines.items():
        values = [usd(month["strategies"][name]) for month in found["months"].values()]
        cost.plot(rates, values, color=tone, linewidth=2.4 if name == "asecretcache" else 1.6, marker="o", markersize=3)
        text = f"{name.removeprefix('asecretcache, ')}: {money(round(values[-1]), 0)}"
        beside(cost, text, (rates[-1], values[-1]), tone, offset)
    for client, tone in (("aioboto3", PYTHON), ("DirectSource", OURS)):
        values = [usd_of_init(month, client) for month in found["months"].values()]
        cost.plot(rates, values, color=tone, linewidth=1, linestyle=(0, (4, 3)))
        beside(cost, f"INIT, {client}", (rates[-1], values[-1]), tone, -4)
    cost.set(xscale="log", yscale="log", xlim=(1, 1.5e9), xlabel="invocations a second, mean of a day")
    cost.set_xticks(rates, ["1", "10", "100", "1,000", "10 k", "100 k"])
    cost.xaxis.set_minor_locator(NullLocator())
    cost.yaxis.set_minor_locator(NullLocator())
    cost.yaxis.set_major_formatter(FuncFormatter(money))
    cost.spines["bottom"].set_bounds(1, rates[-1])
    cost.grid(axis="y")
    cost.set_title("What calls, and INIT, of a month cost")

    worsts: dict[Any, int] = {}
    for axes, begin, end, width in ((burst, -2, 30, 1), (later, 52 * 60, 62 * 60, 10)):
        for name, operation, tone in (
            ("asecretcache, jitter=0", "GetSecretValue", WARN),
            ("asecretcache", "GetSecretValue", OURS),
            ("asecretcache, batch=True", "BatchGetSecretValue", NODE),
        ):
            counts = {int(second): count for second, count in found["deploy"][name][operation].items()}
            # The worst second of each ``width`` seconds.
            edges = list(range(begin, end + 1, width))
            worst = [max(counts.get(start + each, 0) for each in range(width)) for start in edges[:-1]]
            axes.stairs(worst, edges, fill=True, color=tone)
            worsts[axes, name] = max(worst)
        axes.axhline(QUOTAS["GetSecretValue"], color=TEXT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(ylim=(0, 11_500), xlim=(begin, end))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    burst.set_title("Calls a second when 10,000 environments start")
    burst.set_xticks((0, 10, 20, 30))
    burst.set_xlabel("seconds since the deploy")
    note(burst, "quota of GetSecretValue", (30, 10_000), TEXT, (0, 4))
    note(burst, "a call for each secret", (30, 4_400), OURS)
    times = worsts[burst, "asecretcache, batch=True"] / QUOTAS["BatchGetSecretValue"]
    note(burst, f"batch=True: {times:.0f} times\nthe quota of batch calls", (30, 300), NODE)
    later.set_title("... and when the ttl of an hour is over")
    later.tick_params(labelleft=False)
    later.set_xticks([60 * minute for minute in range(52, 63, 2)], [str(minute) for minute in range(52, 63, 2)])
    later.set_xlabel("minutes since the deploy")
    note(later, "without jitter: the same again", (3_585, 5_000), WARN)
    spread_out = worsts[later, "asecretcache"]
    note(later, f"with jitter of 10 %,\nthe default: {spread_out} at most", (3_580, 600), OURS)
    figure.supxlabel(FLEET, fontsize=7.5, color=TEXT)
    return figure


def small(results: dict[str, Any]) -> Figure:
    """The first invocation of a small function, on a logarithmic scale, by memory size."""
    found = results["small"]
    sizes = [size for size in next(iter(found.values())) if size != "1769"]
    names = sorted(found, key=lambda name: median(took for _, took in found[name][sizes[0]]))
    figure = Figure(figsize=(9, 0.34 * len(names) + 1.3), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes)), sizes, strict=True):
        for row, name in enumerate(names):
            took = median(took for _, took in found[name][size])
            axes.barh(row, took, height=0.62, color=BASE if "nothing" in name else colour(name))
            annotate(axes, f"{took:,.0f}", took, row)
        label(axes, names, hide=size != sizes[0])
        axes.set_xscale("log")
        axes.set_xlim(0.5, 8_000)
        axes.set_title(f"First invocation at {size} MB, ms")
    figure.supxlabel(source(results), fontsize=7.5, color=TEXT)
    return figure


PICTURES = {"cold": cold, "hit": hit, "fleet": fleet, "small": small}


def main() -> None:
    """Draw the picture of ``small.py``, which runs by itself, into docs/pictures/."""
    found = json.loads((ROOT / "small.json").read_text())
    results = {"small": found["first"], "machine": found["machine"], "quick": False}
    for path in draw(results, HERE.parent / "docs" / "pictures"):
        path.with_suffix(".png").unlink()


if __name__ == "__main__":
    main()
