"""The usual figures of a run, written to its directory."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from fedsciml.analysis import predicted, quantity
from fedsciml.federation import Result, Round
from fedsciml.plot.classes import confusion, reliability
from fedsciml.plot.curves import convergence
from fedsciml.plot.owners import drawable, partition
from fedsciml.plot.staged import common
from fedsciml.plot.style import save
from fedsciml.plot.trained import solution
from fedsciml.problem import Problem


def pictures(
    result: Result,
    directory: Path,
    histories: Mapping[str, Sequence[Round]],
    prefix: str = "",
) -> None:
    """Draw solution, convergence and partition into a directory.

    Of tests with classes also which are taken for which, and how surely; of points in
    many coordinates no solution, nor where each client has its own and none is known.

    Args:
        result: Whose solution is drawn.
        directory: Which is there.
        histories: Curves of the convergence, by their labels.
        prefix: Of the files' names.
    """
    problem = result.problem
    shown = sought(problem, list(histories.values()))
    figures = {
        "convergence": convergence(histories, shown, problem.name),
        "partition": partition(problem),
        **dict(tested(problem, result.theta, result.personal)),
    }
    if drawable(problem) and (common(problem) or result.personal):
        figures["solution"] = solution(problem, result.theta, result.personal)
    for name, figure in figures.items():
        save(figure, directory / f"{prefix}{name}.png")


def sought(problem: Problem, histories: Sequence[Sequence[Round]]) -> str:
    """The first that all know of: the usual error, accuracy, deviance, the loss."""
    last = [history[-1] for history in histories if history]
    for name in (quantity(problem), "accuracy", "deviance"):
        if all(isfinite(line.value(name)) for line in last):
            return name
    return "loss"


def tested(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor]
) -> Iterator[tuple[str, Figure]]:
    """Pictures of the tests that have classes, by their names."""
    for number, (z, y) in enumerate(predicted(problem, theta, personal)):
        if y is None or not len(y):
            continue
        told = problem.tests[number].likelihood
        counts, bins = told.confusion(z, y), told.reliability(z, y)
        if counts is None or bins is None:
            continue
        more = f"-{number}" if len(problem.tests) > 1 else ""
        title = f"{problem.name}: {counts.trace()} of {len(y)} tests right"
        yield f"confusion{more}", confusion(counts.cpu().numpy(), title)
        yield (
            f"reliability{more}",
            reliability(bins, f"{problem.name}: choices by their probability"),
        )
