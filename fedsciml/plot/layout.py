"""Panels of curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from fedsciml.plot.style import COLOURS, DASHES, MARKERS, PAGE, PLATE, styled


@dataclass(frozen=True, eq=False)
class Curve:
    """A line, marks, or both.

    Args:
        label: Entry in the legend, shared by curves of one label; none if empty.
        x: Positions; the line is broken where one is NaN.
        y: Values, as many.
        colour: Index into ``COLOURS``, which repeat, as do dashes and markers.
        dash: Index into ``DASHES``; None draws no line.
        marker: Index into ``MARKERS``; None draws no marks.
        band: Lower and upper ends of a shaded band at each x.
        width: Width of the line, in points.
        size: Size of the marks, in points.
        alpha: Opacity, from 0 to 1.
        words: A text beside each point.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dash: int | None = 0
    marker: int | None = None
    band: tuple[Sequence[float], Sequence[float]] | None = None
    width: float = 1.2
    size: float = 3.5
    alpha: float = 1.0
    words: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves with common axes, logarithmic by default.

    Args:
        title: Title above the panel.
        xlabel: Label of the x axis, with its unit.
        ylabel: Label of the y axis, with its unit.
        curves: The curves, drawn in this order.
        xscale: "log" or "linear".
        yscale: "log" or "linear".
        xlim: Ends of the x axis; None for those of the curves.
        ylim: Likewise; descending numbers invert the axis.
        texts: Texts at points (x, y) of the panel.
        yticks: Words at positions of the y axis, instead of numbers.
        equal: Whether a unit is as long along both axes.
        spans: Shaded parts of the x axis: ends, and index into ``COLOURS``.
    """

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    xscale: str = "log"
    yscale: str = "log"
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None
    texts: Mapping[tuple[float, float], str] = field(default_factory=dict)
    yticks: Mapping[float, str] = field(default_factory=dict)
    equal: bool = False
    spans: Sequence[tuple[float, float, int]] = ()


MARKS = 12
"""Points above which a line has marks at some distances along it, not at each."""


@styled()
def panels(
    parts: Sequence[Panel],
    columns: int = 2,
    *,
    width: float = PAGE,
    height: float = 2.3,
    legend: Literal["each", "below"] = "each",
    sharey: Literal["none", "row", "all"] = "none",
    title: str = "",
) -> Figure:
    """Several panels, row by row.

    Args:
        parts: The panels; one without curves and title leaves its place empty.
        columns: Panels in a row.
        width: Width of the figure, in inches.
        height: Height of a row, in inches.
        legend: A legend in each panel, or one for all of them below.
        sharey: Which panels share a y axis, with numbers at the first one alone.
        title: Title above the figure.
    """
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=sharey, squeeze=False)
    every = grid.ravel().tolist()
    for axes, panel in zip(every, parts, strict=False):
        if not panel.curves and not panel.title:
            axes.set_axis_off()
            continue
        draw(axes, panel)
        if sharey != "none":
            first = axes.get_subplotspec().is_first_col()
            axes.tick_params(labelleft=first)
            axes.set_ylabel(panel.ylabel if first else "")
        if legend == "each" and axes.get_legend_handles_labels()[1]:
            axes.legend()
    for axes in every[len(parts) :]:
        axes.remove()
    if legend == "below":
        _legend(figure, every[: len(parts)])
    figure.suptitle(title)
    return figure


def draw(axes: Axes, panel: Panel) -> None:
    """A panel on its axes, without a legend."""
    axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel, title=panel.title)
    for number, curve in enumerate(panel.curves):
        colour = COLOURS[curve.colour % len(COLOURS)]
        line = "none" if curve.dash is None else DASHES[curve.dash % len(DASHES)]
        mark = "none" if curve.marker is None else MARKERS[curve.marker % len(MARKERS)]
        sparse = curve.dash is not None and len(curve.x) > MARKS
        axes.plot(
            curve.x,
            curve.y,
            label=curve.label or "_",
            color=colour,
            alpha=curve.alpha,
            linestyle=line,
            linewidth=curve.width,
            marker=mark,
            markersize=curve.size,
            # Staggered, so that the marks of curves on top of one another are seen.
            markevery=(0.03 * (number % 5), 0.15) if sparse else None,
            solid_capstyle="butt",
        )
        for x, y, word in zip(curve.x, curve.y, curve.words, strict=False):
            if word:
                axes.annotate(word, (x, y), (3, -2), textcoords="offset points", size=6)
        if curve.band:
            axes.fill_between(curve.x, *curve.band, color=colour, alpha=0.2, lw=0)
    if panel.curves:  # a logarithm of nothing has no limits
        axes.set(xscale=panel.xscale, yscale=panel.yscale)
    if panel.xlim:
        axes.set_xlim(*panel.xlim)
    if panel.ylim:
        axes.set_ylim(*panel.ylim)
    if panel.yticks:
        axes.set_yticks(list(panel.yticks), list(panel.yticks.values()))
    for (x, y), text in panel.texts.items():
        axes.text(x, y, text, ha="center", va="center", size=7, bbox=PLATE)
    for left, right, owner in panel.spans:
        shade = COLOURS[owner % len(COLOURS)]
        axes.axvspan(left, right, color=shade, alpha=0.13, lw=0)
    if panel.equal:
        axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        _digits(axis)
    if panel.xlabel == "round" and panel.xscale == "linear":
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _digits(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 on a short logarithmic axis; 0.1 rather than 10^-1."""
    if axis.get_scale() != "log":
        return
    low, high = sorted(axis.get_view_interval())
    if high < 200 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(inf, inf)))
        axis.set_minor_formatter(NullFormatter())
    if low >= 0.9e-2 and high < 2e4:
        axis.set_major_formatter("{x:g}")


def _legend(figure: Figure, every: Sequence[Axes]) -> None:
    """One legend for all panels, each label once."""
    handles = {
        label: handle
        for axes in every
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        widest = max(len(label) for label in handles)
        fitting = int(figure.get_figwidth() / (0.55 + 0.047 * widest))
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=max(1, min(fitting, len(handles))),
        )
