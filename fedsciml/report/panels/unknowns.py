"""The unknown numbers, and how surely they are known."""

import math
from contextlib import suppress

from torch import Tensor

from fedsciml.analysis.determined import undetermined
from fedsciml.analysis.laplace import SENSORS, laplace
from fedsciml.analysis.metrics import measure
from fedsciml.problem import Problem
from fedsciml.report.markup import table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, listed, number


def panel(story: Story) -> Panel | None:
    """Each number with its deviation and error, as far as they are known."""
    problem, theta = story.problem, story.theta
    if problem is None or theta is None or not problem.unknowns:
        return None
    found, errors = problem.numbers(theta), measure(problem, theta).each
    told = f"{count(len(found), 'number')}, trained with the network."
    deviation: dict[str, float] = {}
    if story.private:  # what the rows tell of their errors is not paid for
        told += " How sure they are is not told: the run was private."
    elif problem.partial:
        told += " How sure they are is not known here: the rows are at the sites."
    else:
        deviation, more = _sure(problem, theta)
        told += more
    rows = [
        [
            name,
            number(value, 6),
            _known(deviation.get(name)),
            _known(problem.truth.get(name), 6),
            _known(errors[name]),
        ]
        for name, value in found.items()
    ]
    heads = ["number", "found", "standard deviation", "true value", "relative error"]
    return Panel("Unknown numbers", told, table("Numbers found", heads, rows), 35)


def _sure(problem: Problem, theta: Tensor) -> tuple[dict[str, float], str]:
    """Standard deviations, where measurements tell them, and what there is to say."""
    told = ""
    with suppress(ValueError):  # too few measurements to know their noise, or none
        if any(term.name == SENSORS for term in problem.terms):
            known = laplace(problem, theta)
            told = (
                " Deviations are from the Laplace approximation, for measurements with "
                f"one of {number(known.sigma)}, as estimated."
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
