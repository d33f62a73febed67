"""The usual figures of a run, written to its directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedsciml.analysis import quantity
from fedsciml.federation import Result, Round
from fedsciml.plot.curves import convergence
from fedsciml.plot.owners import partition
from fedsciml.plot.style import save
from fedsciml.plot.trained import solution


def pictures(
    result: Result,
    directory: Path,
    histories: Mapping[str, Sequence[Round]],
    prefix: str = "",
) -> None:
    """Draw solution, convergence and partition into a directory.

    Args:
        result: Whose solution is drawn.
        directory: Which is there.
        histories: Curves of the convergence, by their labels.
        prefix: Of the files' names.
    """
    problem = result.problem
    figures = {
        "solution": solution(problem, result.theta),
        "convergence": convergence(histories, quantity(problem), problem.name),
        "partition": partition(problem),
    }
    for name, figure in figures.items():
        save(figure, directory / f"{prefix}{name}.png")
