"""The error that each method reaches on every problem, on one axis."""

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

from experiments._drawing import LEAST, MissingRecordError
from experiments._words import title
from fedsciml import plot
from fedsciml.plot import Curve, Panel

ASKED = 1e-6
"""The error that is asked for: a line."""

APART = 0.14
"""Between the marks of two methods on one problem; problems are 1 apart."""

LOOKS = ((0, 7), (7, 6), (5, 4), (1, 1), (3, 3), (2, 2), (4, 5), (6, 0))
"""Colour and marker of the methods, in their order."""


class Standing(NamedTuple):
    """Where a method ends on a problem.

    Attributes:
        problem: Its name.
        method: Label of the method.
        error: Median over the starts; None where it was not run.
        ends: Quartiles; None of a single start.
    """

    problem: str
    method: str
    error: float | None
    ends: tuple[float, float] | None = None


def standing(
    rows: Sequence[Standing], label: str = "error that is reached"
) -> plot.Figure:
    """A line per problem with a mark for each method, quartiles as bars.

    Args:
        rows: In the order of problems, from the top, and of methods, in which the
            legend has them.
        label: Of the axis of errors.

    Raises:
        MissingRecordError: If nothing was run.
    """
    problems = list(dict.fromkeys(row.problem for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    rows = [row for row in rows if row.error is not None]
    if not rows:
        raise MissingRecordError("has no errors")
    curves = []
    for k, method in enumerate(methods):
        colour, marker = LOOKS[k % len(LOOKS)]
        shift = APART * (k - (len(methods) - 1) / 2)
        mine = [row for row in rows if row.method == method]
        at = [problems.index(row.problem) + shift for row in mine]
        errors = [max(row.error or LEAST, LEAST) for row in mine]
        bars: tuple[list[float], list[float]] = ([], [])
        for y, row in zip(at, mine, strict=True):
            low, high = row.ends or (nan, nan)
            bars[0].extend((max(low, LEAST), max(high, LEAST), nan))
            bars[1].extend((y, y, nan))
        curves += [
            Curve("", *bars, colour, width=0.8),
            Curve(method, errors, at, colour, None, marker, size=4.0),
        ]
    ends = (-0.6, len(problems) - 0.4)
    curves.append(Curve("asked", [ASKED] * 2, ends, 6, 1, width=0.8))
    panel = Panel(
        "",
        label,
        "",
        curves,
        yscale="linear",
        ylim=ends[::-1],
        yticks={float(k): title(problem) for k, problem in enumerate(problems)},
    )
    height = min(9.0, 0.8 + 0.22 * len(problems))
    return plot.panels([panel], 1, height=height, legend="below")
