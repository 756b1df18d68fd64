"""Owns the chart: shuffled samples/s as bars, one panel a workload, the limit as a line; measures nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from report import short
from rounds import LABELS

__all__ = ["draw"]

# Okabe and Ito's colours, told apart by every kind of sight.
COLOURS = {"coral-8": "#0072B2", "coral-1000": "#2E91C9"}
PEER, LIMIT, TEXT = "#8A8A8A", "#D55E00", "#222222"
LEFT_OUT = ("limit", "lance-scan")  # the one is a line, the other has no order of its own


def draw(found: dict[str, Any], folder: Path) -> None:
    """Write stream.png (1,800 pixels wide) and stream.svg."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "stream", "text.color": TEXT})
    from matplotlib import pyplot as plt

    panels = list(found["workloads"].values())
    names = _in_order(panels)
    lines = math.ceil(len(panels) / 2)
    figure, axes = plt.subplots(
        lines,
        2,
        figsize=(9, 0.4 + lines * (0.75 + 0.27 * len(names))),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, entry in zip(axes.flat, panels, strict=False):
        _panel(axis, entry, names)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    machine = found["machine"]
    figure.suptitle(
        "Shuffled samples a second, from the page cache (log scale)", x=0.01, ha="left", weight="bold", size=11
    )
    told = f"{machine['cores']} cores, {machine['cpu']}; {machine['date']}; benchmarks/results/stream.md"
    figure.supxlabel(told, x=0.01, ha="left", size=7.5, color="#555555")
    for suffix, options in (("png", {"dpi": 200}), ("svg", {"metadata": {"Date": None}})):
        figure.savefig(folder / f"stream.{suffix}", facecolor="white", **options)
    plt.close(figure)


def _in_order(panels: list[dict[str, Any]]) -> list[str]:
    """Ours, then the others from fast to slow over all workloads: every panel has the same order."""

    def speed(name: str) -> float:
        rates = [panel["contestants"].get(name, {}).get("shuffled") for panel in panels]
        known = [math.log(rate) for rate in rates if rate]
        return sum(known) / max(len(known), 1)

    every = {name for panel in panels for name in panel["contestants"]} - set(LEFT_OUT)
    return sorted(every, key=lambda name: (not name.startswith("coral"), name == "coral-1000", -speed(name)))


def _panel(axis: Any, entry: dict[str, Any], names: list[str]) -> None:
    contestants = entry["contestants"]
    limit = contestants.get("limit", {}).get("shuffled")
    rates = [contestants.get(name, {}).get("shuffled") for name in names]
    known = [rate for rate in (*rates, limit) if rate]
    low, high = min(known) / 3, max(known) * 1.6
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    for place, (name, rate) in enumerate(zip(names, rates, strict=True)):
        if rate is None:
            axis.text(low * 1.1, place, "failed" if name in contestants else "not measured", va="center", size=8)
            continue
        colour = COLOURS.get(name, PEER)
        axis.barh(place, rate - low, left=low, height=0.72, color=colour, zorder=2)
        _label(axis, place, rate, high / low, inside=rate > max(known) / 6, bold=name in COLOURS)
    if limit:
        axis.axvline(limit, color=LIMIT, linewidth=1.6, linestyle=(0, (4, 2)), zorder=3)
        axis.text(limit, -0.62, f"limit {short(limit)} ", color=LIMIT, ha="right", va="bottom", size=8.5, weight="bold")
    axis.set_title(f"{entry['title']}: {_brief(entry)}", loc="left", size=9.5, pad=14, color=TEXT)
    axis.set_yticks(range(len(names)), [LABELS[name] for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.xaxis.set_major_formatter(lambda rate, _: f"{rate / 1e6:g} M" if rate >= 1e6 else f"{rate / 1e3:g} k")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=7.5, colors="#555555")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.grid(axis="x", color="#E4E4E4", linewidth=0.7, zorder=0)


def _label(axis: Any, place: int, rate: float, span: float, *, inside: bool, bold: bool) -> None:
    step = span**0.015
    weight = "bold" if bold else "normal"
    if inside:
        axis.text(
            rate / step, place, short(rate), ha="right", va="center", size=8.5, color="white", weight="bold", zorder=4
        )
    else:
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # no grid line runs through it
        axis.text(
            rate * step, place, short(rate), ha="left", va="center", size=8.5, weight=weight, zorder=4, bbox=clear
        )


def _brief(entry: dict[str, Any]) -> str:
    briefs = {
        "Images": "28 x 28 uint8 + label",
        "Rows": "16 float32 + label",
        "Tokens": "1,025 int32",
        "Text and JPEG": "caption + 4 to 8 KB + label",
    }
    return f"{briefs[entry['title']]}, batch {entry['batch']:,}"
