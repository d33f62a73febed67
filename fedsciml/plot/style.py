"""How every figure looks: widths, colours, dashes, markers, and the style file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("fedsciml.mplstyle")
COLUMN, PAGE = 3.4, 7.0
"""Widths of a column and of a page with two columns, in inches."""

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#7F7F7F", "#000000"),
)
"""Colours that colour-blind readers can tell apart (Okabe and Ito, 2008)."""

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
"""Of lines, one after the other."""

MARKERS = (".", "s", "^", "D", "v", "P", "x", "o")
"""Of points, one after the other."""

QUANTITIES = {
    "relative_l2": "relative $L_2$ error",
    "mse": "mean squared test error",
    "loss": "loss",
    "accuracy": "accuracy on the tests",
    "deviance": "mean deviance on the tests",
    "calibration": "expected calibration error",
    "gn_gap": "distance to the Gauss-Newton step",
}
"""Fields of a history that are drawn, in words."""

PLATE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "lw": 0}
"""The box behind a text."""

SMALLEST = 1e-17
"""Smallest error that is drawn, as zero has no logarithm."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw by the style file alone, whatever the settings of the user."""
    with matplotlib.rc_context(fname=STYLE):
        yield


@styled()
def save(figure: Figure, path: Path | str) -> None:
    """Write a figure; the format follows the ending: ``.pdf``, ``.png``, ``.svg``.

    The same figure gives the same bytes: no date is written.
    """
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    figure.savefig(path, metadata=undated.get(Path(path).suffix))


@styled()
def arrange(figure: Figure) -> None:
    """Lay a figure out for good: ``save`` then need not, whatever the format."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
