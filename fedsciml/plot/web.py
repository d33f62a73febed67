"""Drawings for a page of the web: SVG with the page's own colours and letters.

Colours are CSS variables, so that one drawing serves a light and a dark page:

    --ink, --soft, --line, --grid, --paper      letters, axes, background
    --c0, ..., --c7                             of curves, in the order of ``COLOURS``

Sizes are in pixels of the page. Text stays text; maps are small images.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from fedsciml.plot.layout import Curve, Panel, draw
from fedsciml.plot.style import COLOURS, SMALLEST

STYLE = Path(__file__).with_name("web.mplstyle")

MANY = 240
"""Points of a curve above which some are left out."""

LEAST, MOST = 1e-250, 1e250
"""Positive numbers that have a place on a logarithmic axis, with room beside them."""

TINY = 1e-9
"""Part of an axis that is rounding."""

VARIABLES = {
    **{colour.lower(): f"var(--c{k})" for k, colour in enumerate(COLOURS)},
    "#010203": "var(--ink)",
    "#010204": "var(--soft)",
    "#010205": "var(--line)",
    "#010206": "var(--grid)",
    "#ffffff": "var(--paper)",
}
"""What the page has for a colour of the drawing."""

NEEDLESS = (
    (r"(?s)^.*?(?=<svg )", ""),  # the declaration of a file
    (r"(?s)<defs>\s*<style.*?</style>\s*</defs>", ""),
    (r'<g id="[^"]*"', "<g"),
    (r' xmlns(:xlink)?="[^"]*"| version="1.1"', ""),
    (r"xlink:href", "href"),
    (r' transform="rotate\(-0 [^)]*\)"', ""),
    (r"font-family: [^\";]*(; |(?=\"))", ""),
    (r"image-rendering:[^\";]*;?", ""),
    (r' style=""', ""),
    (r"\s*\n\s*", " "),
    (r"> <", "><"),
)
"""What a page has once for all of its drawings, or not at all."""


def chart(panel: Panel, width: int = 420, height: int = 260) -> str:
    """Curves as an SVG element; empty if they hold nothing to draw.

    The label of the y axis stands above it. Values that have no place on a logarithmic
    axis are left out, as are most points of long curves; of these the lowest and
    highest stay.
    """
    log = panel.xscale == "log", panel.yscale == "log"
    curves = [shown for curve in panel.curves if (shown := _shown(curve, *log))]
    if not curves:
        return ""
    with _styled():
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.subplots()
        draw(axes, replace(panel, title=panel.ylabel, ylabel="", curves=curves))
        whole = all(float(x).is_integer() for c in curves for x in c.x if x == x)
        _ticks(axes, named=bool(panel.yticks), whole=whole)
        words = [label.get_text() for label in axes.get_yticklabels()]
        left = 16 + 7.2 * max(map(len, words), default=0)
        right, top = width - 12, height - (28 if panel.ylabel else 10)
        bottom = 48 if panel.xlabel else 30
        figure.subplots_adjust(
            left / width, bottom / height, right / width, top / height
        )
        axes.title.set_x((8 - left) / (right - left))
        return _svg(figure, width, height)


@dataclass(frozen=True, eq=False)
class Map:
    """Values on a rectangle.

    Args:
        values: Shape [ny, nx], the first row at the bottom; NaN stays empty.
        box: Ends of the rectangle along x and y.
        labels: Of the x and the y axis.
        limits: Values at the ends of the colours; None for those on the map.
        log: Whether colours are logarithmic, for positive values.
        owners: Numbers of the parts of the rectangle, [my, mx]: a line runs between
            different ones.
        equal: Whether a unit is as long along both axes.
    """

    values: NDArray[np.float64]
    box: tuple[tuple[float, float], tuple[float, float]]
    labels: tuple[str, str]
    limits: tuple[float, float] | None = None
    log: bool = False
    owners: NDArray[Any] | None = None
    equal: bool = False


def coloured(part: Map, width: int = 340) -> str:
    """A map as an SVG element with its scale of colours; empty if nothing is finite."""
    values = np.where(np.isfinite(part.values), part.values, np.nan)
    if part.log:
        values = np.maximum(values, SMALLEST)
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    low, high = part.limits or (float(known.min()), float(known.max()))
    if not low < high:
        low, high = (low / 2, high * 2) if part.log else (low - 0.5, high + 0.5)
    norm = LogNorm(low, high) if part.log else Normalize(low, high)
    (x0, x1), (y0, y1) = part.box
    left, right, bottom, top = 54, width - 88, 46, 10
    aspect = (y1 - y0) / (x1 - x0) if part.equal else 0.8
    tall = (right - left) * min(max(aspect, 0.25), 1.25)
    height = round(tall + bottom + top)
    cmap = matplotlib.colormaps["magma" if part.log else "viridis"]
    with _styled():
        figure = Figure(figsize=(width / 72, height / 72))
        frame = (left / width, bottom / height, (right - left) / width, tall / height)
        axes = figure.add_axes(frame)
        axes.imshow(
            cmap(norm(np.ma.masked_invalid(values))),
            origin="lower",
            extent=(x0, x1, y0, y1),
            interpolation="none",
            aspect="auto",
        )
        axes.grid(False)
        axes.set(xlabel=part.labels[0], ylabel=part.labels[1])
        axes.tick_params(left=True, length=4)
        if part.owners is not None:
            _borders(axes, part)
        _ticks(axes)
        bar = (frame[0] + frame[2] + 14 / width, frame[1], 12 / width, frame[3])
        scale = figure.add_axes(bar)
        ramp = cmap(np.linspace(0, 1, 64))[:, None]
        scale.imshow(
            ramp,
            origin="lower",
            extent=(0, 1, 0, 1),
            interpolation="none",
            aspect="auto",
        )
        scale.grid(False)
        for spine in scale.spines.values():
            spine.set_visible(False)
        ticks = _values(low, high, part.log)
        scale.set_xticks([])
        scale.set_yticks([float(norm(t)) for t in ticks], [written(t) for t in ticks])
        scale.yaxis.tick_right()
        return _svg(figure, width, height)


def written(value: float, _: object = None) -> str:
    """A number at an axis, in plain characters: 0.1, 2·10⁻⁷."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
    digits, _, power = f"{value:.3e}".partition("e")
    digits = f"{float(digits):g}".replace("-", "\N{MINUS SIGN}")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    if digits in ("1", "\N{MINUS SIGN}1"):
        return f"{digits[:-1]}10{raised}"
    return f"{digits}·10{raised}"


def thinned(y: NDArray[np.float64], most: int = MANY) -> NDArray[np.int64]:
    """Positions of at most so many points, with the lowest and highest in each part.

    Args:
        y: Values, [n]; those that are not finite are none.
        most: Points that may be left.

    Returns:
        Ascending, the first and the last point among them.
    """
    if len(y) <= most:
        return np.arange(len(y))
    kept = {0, len(y) - 1}
    for part in np.array_split(np.arange(len(y)), most // 2 - 1):
        own = y[part]
        if np.isfinite(own).any():
            kept |= {int(part[np.nanargmin(own)]), int(part[np.nanargmax(own)])}
        else:
            kept.add(int(part[0]))
    return np.array(sorted(kept))


@contextmanager
def _styled() -> Iterator[None]:
    with matplotlib.rc_context(fname=STYLE):
        yield


def _shown(curve: Curve, xlog: bool, ylog: bool) -> Curve | None:
    """The curve as it can be drawn, with marks where it has few points; or None."""
    x, y = _placed(curve.x, xlog), _placed(curve.y, ylog)
    if not (np.isfinite(x) & np.isfinite(y)).any():
        return None
    kept = thinned(y)
    band = curve.band
    if band is not None:
        lower, upper = (_placed(end, ylog)[kept] for end in band)
        band = list(lower), list(upper)
    line, known = curve.dash is not None, np.isfinite(y[kept])
    alone = line and (known.sum() < 3 or bool((~known[1:-1]).any()))
    return replace(
        curve,
        x=list(x[kept]),
        y=list(y[kept]),
        band=band,
        width=max(curve.width, 2.0) if line else curve.width,
        marker=0 if alone and curve.marker is None else curve.marker,
        size=7 if alone and curve.marker is None else curve.size,
    )


def _placed(values: Sequence[float], log: bool) -> NDArray[np.float64]:
    """NaN where a value has no place on the axis."""
    found = np.asarray(values, dtype=float)
    with np.errstate(invalid="ignore"):
        inside = (found > LEAST) & (found < MOST) if log else np.abs(found) < MOST
    return np.where(inside, found, np.nan)


def _ticks(axes: Axes, named: bool = False, whole: bool = False) -> None:
    """Few ticks, and numbers in plain characters.

    Args:
        axes: Whose limits stay.
        named: Whether the y axis has names and keeps them.
        whole: Whether positions along the x axis are whole numbers.
    """
    ends = axes.get_xlim(), axes.get_ylim()
    for axis, (low, high) in zip((axes.xaxis, axes.yaxis), ends, strict=True):
        axis.set_minor_locator(NullLocator())
        if not (named and axis is axes.yaxis):
            low, high = min(low, high), max(low, high)
            log = axis.get_scale() == "log"
            found = _values(low, high, log)
            if whole and axis is axes.xaxis:
                found = [v for v in found if v.is_integer()]
            axis.set_ticks(found)
            axis.set_major_formatter(FuncFormatter(written))
    axes.set(xlim=ends[0], ylim=ends[1])


def _values(low: float, high: float, log: bool) -> list[float]:
    """Round values between two, about five."""
    if log and high >= 10 * low:
        first, last = (math.log10(end) for end in (low, high))
        digits = (1, 2, 5) if last - first < 2 else (1,)
        step = math.ceil((last - first) / 6)
        powers = range(math.floor(first), math.ceil(last) + 1)
        found = [d * 10.0**k for k in powers if k % step == 0 for d in digits]
        return [v for v in found if low / (1 + TINY) <= v <= high * (1 + TINY)]
    slack = TINY * (high - low)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [float(v) for v in ticks if low - slack <= v <= high + slack]
    return [0.0 if abs(v) < slack else v for v in inside]


def _borders(axes: Axes, part: Map) -> None:
    """Lines between different owners."""
    owners = np.asarray(part.owners)
    grids = [
        np.linspace(low, high, n)
        for (low, high), n in zip(part.box, owners.shape[::-1], strict=True)
    ]
    for m in np.unique(owners)[:-1]:
        above = (owners > m).astype(float)
        axes.contour(*grids, above, [0.5], colors="#fefefe", linewidths=1.5)


def _svg(figure: Figure, width: int, height: int) -> str:
    """The figure as an element of a page."""
    file = io.StringIO()
    undated = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=undated)
    text = file.getvalue()
    for pattern, instead in NEEDLESS:
        text = re.sub(pattern, instead, text)
    text = re.sub(
        r"(fill|stroke): (#[0-9a-f]{6})",
        lambda found: f"{found[1]}: {VARIABLES.get(found[2], found[2])}",
        text,
    )
    _, _, rest = text.partition(">")
    head = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img">'
    return f"{head}{rest}".strip()
