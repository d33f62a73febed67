"""What is each client's own: how much it is, and the numbers among it."""

import math
from collections.abc import Mapping
from contextlib import suppress

from torch import Tensor

from fedsciml import plot
from fedsciml.analysis.laplace import SENSORS
from fedsciml.analysis.personal import Deviations, deviations, numbers
from fedsciml.problem import Problem
from fedsciml.report.markup import Html, details, joined, picture, pictures, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, number

TITLE = "Personal parameters"

LARGEST = 2000
"""Parameters of all clients together of which deviations are computed: in seconds."""


def panel(story: Story) -> Panel | None:
    """Each client's own numbers, as far as they are known here."""
    problem, theta = story.problem, story.theta
    if problem is None or theta is None or problem.personal is None:
        return None
    view, personal = problem.personal, story.result.personal if story.result else {}
    told = (
        f"Each client has {count(len(view.mine), 'parameter')} of its own beside the "
        f"{view.size:,} that all share. No message holds them."
    )
    if not personal:
        return Panel(
            TITLE, f"{told} They are at the sites, and not known here.", Html(), 37
        )
    if not view.names:
        return Panel(TITLE, f"{told} None of them is a number with a name.", Html(), 37)
    found, sure = numbers(problem, theta, personal), None
    if not story.private:
        sure, more = _sure(problem, theta, personal)
        told += more
    shown = [_drawn(name, problem, found, sure) for name in view.names]
    heads, rows = [""], []
    for name in view.names:
        heads += [name, "deviation", "truth"]
    for m, known in found.items():
        row = [f"client {m}"]
        for name, value in known.items():
            true, s = problem.true(m).get(name), _of(sure, m, name)
            row += [number(value, 4), _known(s), number(true, 4)]
        rows.append(row)
    held = table("Numbers of each client's own", heads, rows)
    body = joined([pictures(*shown), details("As numbers", held)])
    return Panel(TITLE, told, body, 37)


def _sure(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor]
) -> tuple[Deviations | None, str]:
    """Standard deviations, where measurements tell them."""
    data = _data(problem)
    view = problem.personal
    assert view is not None
    if view.size + problem.clients * len(view.mine) > LARGEST:
        return None, " How surely they are known is not computed for so many."
    with suppress(ValueError):  # too few measurements, or clients that are elsewhere
        if data:
            known = deviations(problem, theta, personal, data)
            return known, (
                f" Standard deviations are those that errors of the term '{data}' "
                "make, of all clients' rows together."
            )
    return None, " No measurements tell how surely they are known."


def _data(problem: Problem) -> str | None:
    """The term with measurements: that of sensors, or the only one with data."""
    measured = {
        term.name
        for k, term in enumerate(problem.terms)
        if problem.target_of(k) is not None and not term.movable
    }
    if SENSORS in measured:
        return SENSORS
    return measured.pop() if len(measured) == 1 else None


def _of(sure: Deviations | None, client: int, name: str) -> float | None:
    return sure.numbers[client][name] if sure else None


def _known(deviation: float | None) -> str:
    if deviation is not None and math.isinf(deviation):
        return "not determined"
    return number(deviation)


def _drawn(
    name: str,
    problem: Problem,
    found: Mapping[int, Mapping[str, float]],
    sure: Deviations | None,
) -> Html:
    """One number of all clients, with two deviations either side, and the truth."""
    curves, legend = [], [("found", 0, 9)]
    for m, known in found.items():
        value, y = known[name], float(m)
        s = _of(sure, m, name)
        if s is not None and math.isfinite(s):
            ends = [value - 2 * s, value + 2 * s]
            curves.append(plot.Curve("", ends, [y, y], 0, width=5, alpha=0.4))
            legend[0] = ("found, and two deviations either side", 0, 9)
        curves.append(plot.Curve("", [value], [y], 0, None, 0, size=9))
        if (true := problem.true(m).get(name)) is not None:
            curves.append(plot.Curve("", [true], [y], 1, None, 3, size=7))
            legend[1:] = [("true", 1, 9)]
    step = -(-len(found) // 16)
    view = plot.Panel(
        *("", name, "", curves, "linear", "linear"),
        ylim=(max(found) + 0.5, -0.5),
        yticks={float(m): f"client {m}" for m in list(found)[::step]},
    )
    height = min(100 + 20 * len(found), 480)
    return picture(plot.chart(view, 420, height), f"{name} of each client", "", legend)
