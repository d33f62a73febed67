"""The trained solution beside the reference: curves, or maps."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from fedsciml import plot
from fedsciml.analysis.metrics import measure
from fedsciml.problem import Problem
from fedsciml.report.markup import Html, details, joined, picture, pictures, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import listed, number

MOST = 6
"""Outputs that are drawn."""

ROWS = 21
"""Points in a table."""

Values = NDArray[np.float64]


def panel(story: Story) -> Panel | None:
    """The solution and its error, by output; None in many coordinates."""
    problem, theta = story.problem, story.theta
    if problem is None or theta is None or not plot.placed(problem):
        return None
    if not plot.drawable(problem):
        return None
    points, reference = plot.stage(problem)
    with torch.no_grad():
        trained = problem.network(theta, points.to(theta)).cpu().double().numpy()
    outputs = problem.outputs[:MOST]
    each = measure(problem, theta).each
    errors = [f"{u} {number(each[u])}" for u in outputs if not math.isnan(each[u])]
    if len(problem.outputs) == 1:
        errors = [text.removeprefix(f"{outputs[0]} ") for text in errors]
    told = "There is no reference to compare with."
    if errors:
        told = f"Relative L2 error on the test points: {listed(errors)}."
    elif reference is not None:
        told = "The trained solution beside the reference."
    if problem.test_owners is not None and reference is None:
        told += " Every client has a solution of its own; none is drawn beside."
    if left := len(problem.outputs) - len(outputs):
        told += f" The first {MOST} outputs are drawn, and {left} more are not."
    flat = len(problem.coordinates) == 1
    draw = _Line(problem, points[:, 0].numpy(), story.private) if flat else None
    sheet = None if flat else plot.Sheet(problem, points)
    if rest := plot.plane(problem).removeprefix(", "):
        told += f" Maps are on the plane {rest}."
    if sheet is not None and sheet.owners is not None:
        told += " White lines part the clients."
    rows, tables = [], []
    for c, name in enumerate(outputs):
        known = None if reference is None else reference[:, c]
        if draw is not None:
            shown, values = draw(name, trained[:, c], known)
        elif sheet is not None:
            shown, values = _maps(sheet, name, trained[:, c], known)
        rows.append(shown)
        tables.append(values)
    body = [*rows, details("As numbers", *tables)]
    return Panel("Solution and error", told, joined(body), 30)


class _Line:
    """Draws outputs along the one coordinate.

    Args:
        problem: Gives the coordinate, and which client has which part of it.
        x: Where values are known.
        private: Whether it may not be told who has which part.
    """

    def __init__(self, problem: Problem, x: Values, private: bool) -> None:
        self.x, self.coordinate = x, problem.coordinates[0]
        self.shades = [] if private else plot.parts(problem)

    def __call__(
        self, name: str, trained: Values, reference: Values | None
    ) -> tuple[Html, Html]:
        """Pictures of an output, and it as numbers."""
        columns = {self.coordinate: self.x, f"{name}, trained": trained}
        curves, error = [self._curve("trained", trained, 0)], Html()
        if reference is not None:
            off = np.abs(trained - reference)
            columns |= {"reference": reference, "absolute error": off}
            curves.insert(0, self._curve("reference", reference, 6, width=6))
            most = float(np.max(off, initial=0, where=np.isfinite(off)))
            error = picture(
                self._chart([self._curve("error", off, 1)], "log"),
                f"Absolute error of {name}",
                f"At most {number(most)}.",
                [(f"client {m}", m, 9) for m in sorted({m for *_, m in self.shades})],
            )
        solution = picture(
            self._chart(curves, "linear"),
            f"Solution {name}",
            _range(trained),
            [(c.label, c.colour, 0) for c in curves] if len(curves) > 1 else [],
        )
        kept = np.linspace(0, len(self.x) - 1, min(ROWS, len(self.x))).round()
        rows = [
            [number(float(v[k]), 4) for v in columns.values()] for k in kept.astype(int)
        ]
        values = table(f"{name} at some points", list(columns), rows, words=0)
        return pictures(solution, error, columns=2), values

    def _curve(
        self, label: str, values: Values, colour: int, width: float = 2
    ) -> plot.Curve:
        return plot.Curve(label, self.x.tolist(), values.tolist(), colour, width=width)

    def _chart(self, curves: list[plot.Curve], yscale: str) -> str:
        ends = float(self.x[0]), float(self.x[-1])
        return plot.chart(
            plot.Panel(
                *("", self.coordinate, "", curves, "linear", yscale),
                xlim=ends if ends[0] < ends[1] else None,
                spans=self.shades,
            )
        )


def _maps(
    sheet: plot.Sheet, name: str, trained: Values, reference: Values | None
) -> tuple[Html, Html]:
    """Maps of an output, of the reference and the error; and their ranges."""
    maps = {"trained": sheet.spread(trained)}
    if reference is not None:
        maps["reference"] = sheet.spread(reference)
    both = np.concatenate([m[np.isfinite(m)] for m in maps.values()])
    limits = (float(both.min()), float(both.max())) if both.size else None
    drawn = {kind: sheet.map(found, limits) for kind, found in maps.items()}
    if reference is not None:
        off = sheet.spread(np.abs(trained - reference))
        known, ends = off[np.isfinite(off)], None
        if known.size:  # the few points where it crosses zero would take the scale
            ends = float(np.quantile(known, 0.02)), float(known.max())
        drawn["absolute error"] = sheet.map(off, ends, log=True)
    shown = [
        picture(plot.coloured(one), f"{name}, {kind}", _range(one.values))
        for kind, one in drawn.items()
    ]
    rows = [[kind, *_ends(one.values)] for kind, one in drawn.items()]
    heads = ["map", "smallest", "mean", "largest"]
    return pictures(*shown), table(f"{name} on the map", heads, rows)


def _ends(values: Values) -> tuple[str, str, str]:
    """Smallest, mean and largest of the finite values."""
    known = values[np.isfinite(values)]
    if not known.size:
        return ("not finite",) * 3
    return number(known.min()), number(known.mean()), number(known.max())


def _range(values: Values) -> str:
    low, _, high = _ends(values)
    return f"From {low} to {high}."
