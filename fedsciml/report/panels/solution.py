"""The trained solution beside the reference: curves, or maps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedsciml import plot
from fedsciml.analysis.metrics import measure
from fedsciml.problem import Problem
from fedsciml.report.markup import Html, details, joined, picture, pictures, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import listed, number

TITLE = "Solution and error"

UNKNOWN = (
    "Each client has a solution of its own, by parameters of its own that stay at its "
    "site: none is known here. A site has its own by fedsciml.load(..., memory=...)."
)

MOST = 6
"""Outputs that are drawn."""

ROWS = 21
"""Points in a table."""

Values = NDArray[np.float64]


def panel(story: Story) -> Panel | None:
    """The solution and its error, by output; None in many coordinates.

    Where each client has a solution of its own, those of some.
    """
    problem, theta = story.problem, story.theta
    if problem is None or theta is None or not plot.placed(problem):
        return None
    if not plot.drawable(problem):
        return None
    personal = story.result.personal if story.result else {}
    if not (plot.common(problem) or personal):
        return Panel(TITLE, UNKNOWN, order=30)
    views = plot.views(problem, theta, personal)
    each, several = measure(problem, theta, personal).each, views[0].client is not None
    outputs = problem.outputs[:MOST]
    errors = [f"{u} {number(each[u])}" for u in outputs if not math.isnan(each[u])]
    if len(problem.outputs) == 1:
        errors = [text.removeprefix(f"{outputs[0]} ") for text in errors]
    told = "There is no reference to compare with."
    if errors:
        told = f"Relative L2 error on the test points: {listed(errors)}."
        if problem.personal:
            told = f"Mean of the clients' r{told[1:]}"
    elif views[0].reference is not None:
        told = "The trained solution beside the reference."
    if several:
        told += " Each client has a solution of its own, by parameters of its own."
        if len(views) < len(personal):
            told += f" {len(views)} of {len(personal)} are drawn."
    if left := len(problem.outputs) - len(outputs):
        told += f" The first {MOST} outputs are drawn, and {left} more are not."
    if rest := plot.plane(problem).removeprefix(", "):
        told += f" Maps are on the plane {rest}."
    if len(problem.coordinates) == 1 and several:
        return Panel(TITLE, told, _sites(story, problem, theta, personal, views), 30)
    rows, tables = [], []
    for name, c, view in plot.pieces(problem, views):
        trained, known = view.trained[:, c], None
        if view.reference is not None:
            known = view.reference[:, c]
        if len(problem.coordinates) == 1:
            draw = _Line(problem, view.points[:, 0].numpy(), story.private)
            shown, values = draw(name, trained, known)
        else:
            sheet = plot.Sheet(problem, view.points)
            if sheet.owners is not None and "White" not in told:
                told += " White lines part the clients."
            shown, values = _maps(sheet, name, trained, known)
        rows.append(shown)
        tables.append(values)
    if several:
        tables.append(_errors(problem, theta, personal))
    body = [*rows, details("As numbers", *tables)]
    return Panel(TITLE, told, joined(body), 30)


def _sites(
    story: Story,
    problem: Problem,
    theta: Tensor,
    personal: Mapping[int, Tensor],
    views: Sequence[plot.View],
) -> Html:
    """Curves of clients' own solutions, what they measured, and the errors."""
    shown = []
    for one in plot.at_sites(problem, theta, personal, views):
        kept = [c for c in one.curves if not (story.private and c.marker is not None)]
        trained = next(c for c in kept if c.label == "trained")
        shown.append(
            picture(
                plot.chart(replace(one, title="", curves=kept)),
                one.title,
                _range(np.array(trained.y)),
                [(c.label, c.colour, 9 if c.dash is None else 0) for c in kept],
            )
        )
    told = details("As numbers", _errors(problem, theta, personal))
    return joined([pictures(*shown), told])


def _errors(problem: Problem, theta: Tensor, personal: Mapping[int, Tensor]) -> Html:
    """Each client's errors."""
    rows = []
    for m, own in sorted(personal.items()):
        found = measure(problem, theta, {m: own})
        several = [found.each[u] for u in problem.outputs]
        rows.append([f"client {m}", *map(number, [found.relative_l2, *several])])
    heads = ["", "relative L2 error", *problem.outputs]
    if len(problem.outputs) == 1:
        heads, rows = heads[:2], [row[:2] for row in rows]
    return table("Errors of the clients' own solutions", heads, rows)


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
