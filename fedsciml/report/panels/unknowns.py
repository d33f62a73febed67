"""The unknown numbers, and how surely they are known."""

import math
from collections.abc import Mapping
from contextlib import suppress

from torch import Tensor

from fedsciml import plot
from fedsciml.analysis.determined import undetermined
from fedsciml.analysis.laplace import laplace
from fedsciml.analysis.metrics import measure
from fedsciml.problem import Problem
from fedsciml.report.markup import Html, beside, picture, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, listed, number


def panel(story: Story) -> Panel | None:
    """Each number with its deviation and error, as far as they are known."""
    problem, theta = story.problem, story.theta
    if problem is None or theta is None or not problem.shared_unknowns:
        return None
    found, errors = problem.numbers(theta), measure(problem, theta).each
    told = f"{count(len(found), 'number')}, trained with the network."
    deviation: dict[str, float] = {}
    truth = problem.true()
    if story.private:  # what the rows tell of their errors is not paid for
        told += " How sure they are is not told: the run was private."
    elif problem.partial:
        told += " How sure they are is not known here: the rows are at the sites."
    elif problem.personal:
        told += " How sure they are is not known beside parameters of clients' own."
    else:
        deviation, more = _sure(problem, theta)
        told += more
    rows = [
        [
            name,
            number(value, 6),
            _known(deviation.get(name)),
            _known(truth.get(name), 6),
            _known(errors[name]),
        ]
        for name, value in found.items()
    ]
    heads = ["number", "found", "deviation", "truth", "error"]
    held = table("Numbers, standard deviations and relative errors", heads, rows)
    shown = _drawn(found, deviation, truth)
    return Panel("Unknown numbers", told, beside(shown, held, len(rows)), 35)


def _drawn(
    found: Mapping[str, float],
    deviation: Mapping[str, float],
    truth: Mapping[str, float],
) -> Html:
    """Each number with two deviations either side, and the true one, in percent."""
    curves, legend = [], []
    for k, (name, value) in enumerate(found.items()):
        unit, y = abs(value) / 100 or 1.0, float(k)
        if math.isfinite(s := 2 * deviation.get(name, math.inf) / unit):
            curves.append(plot.Curve("", [-s, s], [y, y], 0, width=6))
            legend.append(("found, and two deviations either side", 0, 0))
        if (true := truth.get(name)) is not None:
            off = (true - value) / unit
            curves.append(plot.Curve("", [off], [y], 1, None, 3, size=9))
            legend.append(("true", 1, 9))
    if not curves:
        return Html()
    names = {float(k): name for k, name in enumerate(found)}
    view = plot.Panel(
        *("", "percent of what was found", "", curves, "linear", "linear"),
        ylim=(len(found) - 0.5, -0.5),
        yticks=names,
    )
    drawing = plot.chart(view, 420, min(100 + 30 * len(found), 560))
    caption = "How far the truth may be, and is"
    return picture(drawing, caption, "", list(dict.fromkeys(legend)))


def _sure(problem: Problem, theta: Tensor) -> tuple[dict[str, float], str]:
    """Standard deviations, where measurements tell them, and what there is to say."""
    with suppress(ValueError):  # too few measurements to know their noise, or none
        known = laplace(problem, theta)
        told = (
            " Standard deviations are from the Laplace approximation; that of a "
            f"measurement is {number(known.sigma)}, as estimated."
        )
        return known.deviation, told + _mixed(known.mixed)
    return {}, _mixed(undetermined(problem, theta))


def _mixed(mixed: dict[str, tuple[str, ...]]) -> str:
    return "".join(
        f" The data do not determine {name}"
        f"{f', which is mixed with {listed(others)}' if others else ''}."
        for name, others in mixed.items()
    )


def _known(value: float | None, digits: int = 3) -> str:
    return number(None if value is None or math.isinf(value) else value, digits)
