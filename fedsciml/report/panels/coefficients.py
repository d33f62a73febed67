"""The coefficients of a linear predictor, and how surely they are known."""

from fedsciml import plot
from fedsciml.analysis.information import Coefficient, coefficients
from fedsciml.report.markup import Html, beside, picture, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, number

MOST = 40
"""Coefficients that are drawn."""


def panel(story: Story) -> Panel | None:
    """Each coefficient with its standard error."""
    problem, theta = story.problem, story.theta
    if problem is None or theta is None or problem.partial or story.private:
        return None
    found = coefficients(problem, theta)
    if found is None:
        return None
    told = (
        f"The predictor is linear in the {count(len(found) - 1, 'coordinate')}. "
        "Standard errors are from the expected information, the sum of all clients'; "
        "they hold at the minimum, for independent rows."
    )
    rows = [
        [name, number(one.value, 5), number(one.error), number(one.value / one.error)]
        for name, one in found.items()
    ]
    heads = ["", "coefficient", "standard error", "ratio"]
    held = table("Coefficients and standard errors", heads, rows)
    return Panel("Coefficients", told, beside(_drawn(found), held, len(rows)), 36)


def _drawn(found: dict[str, Coefficient]) -> Html:
    """Each coefficient in units of its standard error."""
    if len(found) > MOST:
        return Html()
    curves = []
    for k, one in enumerate(found.values()):
        y, ratio = float(k), one.value / one.error
        curves.append(plot.Curve("", [ratio - 2, ratio + 2], [y, y], 0, width=6))
    view = plot.Panel(
        *("", "standard errors from 0", "", curves, "linear", "linear"),
        ylim=(len(found) - 0.5, -0.5),
        yticks={float(k): name for k, name in enumerate(found)},
    )
    drawing = plot.chart(view, 420, min(90 + 24 * len(found), 700))
    return picture(drawing, "Coefficients, and two standard errors either side", "")
