"""Show FIPA beside averaging and centralised training, in a minute."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from fedsciml import methods, problems
from fedsciml.command.terminal import new_directory, status, terminable
from fedsciml.command.tuning import tuned
from fedsciml.federation import Result, Round
from fedsciml.federation.progress import shown
from fedsciml.federation.traffic import size
from fedsciml.training import run

PROBLEMS = {
    "sine2": "A sine from its values, two clients",
    "allen_cahn": "Allen-Cahn equation, two clients",
}
"""Titles by names."""

ENDLESS = 10_000
"""Rounds that a run never has which is ended by its seconds."""

ERROR = "relative_l2"
"""What all of it is measured by."""


class Shown(NamedTuple):
    """A method of the demo.

    Attributes:
        name: Of the method.
        title: In words.
        timed: Whether it has a multiple of the first method's seconds; else its rounds.
        tuned: Whether it runs with the options that a search found best.
    """

    name: str
    title: str
    timed: bool = False
    tuned: bool = False


METHODS = (
    Shown("fipa", "FIPA"),
    Shown("fedavg", "FedAvg", timed=True, tuned=True),
    Shown("gauss_newton", "Gauss-Newton on all points"),
)
"""The first sets the time of those that are timed."""


def demo(*, out: Path | None = None, rounds: int = 25, times: float = 10.0) -> int:
    """Show FIPA beside averaging and centralised training, in a minute.

    Two problems, each with two clients that keep their points to themselves, are
    trained in three ways: by FIPA; by averaging weights (FedAvg), for ten times as
    long; and by Gauss-Newton on all points in one place. Prints a table, draws, and
    writes a record and a report of each run.

    Args:
        out: Directory for records and pictures, new or empty (default runs/demo-1).
        rounds: Rounds of FIPA and steps of Gauss-Newton.
        times: Of the seconds that FIPA took, so many FedAvg has.

    Returns:
        The exit status.
    """
    began = time.monotonic()
    torch.set_num_threads(1)  # problems as small as these only wait for a second
    directory = new_directory("demo") if out is None else out
    found: dict[str, dict[str, Result]] = {}
    try:
        with terminable():
            for name, title in PROBLEMS.items():
                print(f"{title}:")
                found[name] = compared(name, directory, rounds, times)
                print(flush=True)
            draw(found, directory)
    except KeyboardInterrupt as error:
        print("Interrupted.", *getattr(error, "__notes__", []), file=sys.stderr)
        return status(error)
    best, other, *_ = list(found.values())[-1].values()
    print(
        f"FedAvg had {times:g} times the seconds that FIPA took, and the options that "
        "a search found\nbest for it. Errors are the lowest of each run: relative, in "
        "the L2 norm, against\nthe exact solution.\n\n"
        f"Pictures, and a report.html of each run, are in {directory} "
        f"({time.monotonic() - began:.0f} s). Next:\n"
        f"  fedsciml show {best.out}\n"
        f"  fedsciml compare {best.out} {other.out}\n"
        "  fedsciml run heat          train another problem\n"
        "  fedsciml new problem rod   rod.py, an equation to change"
    )
    return 0


def compared(
    name: str, directory: Path, rounds: int, times: float
) -> dict[str, Result]:
    """A problem trained by each method, and a line printed of each.

    Args:
        name: Of the problem.
        directory: Where the runs are recorded.
        rounds: Of methods that are not timed.
        times: Factor of the first method's seconds for those that are.

    Returns:
        The results by the titles of the methods.
    """
    results: dict[str, Result] = {}
    for method in METHODS:
        first = next(iter(results.values()), None)
        limit = times * seconds(first) if method.timed and first else None
        label = f"  {method.title}"
        with shown(None, label, rounds if limit is None else None) as show:
            result = run(
                problems.load(name, clients=2),
                methods.load(
                    method.name, **(tuned(name, method.name) if method.tuned else {})
                ),
                rounds if limit is None else ENDLESS,
                out=directory / f"{name}-{method.name}",
                progress=show,
                callbacks=[] if limit is None else [until(limit)],
                clock=time.process_time,
            )
        results[method.title] = result
        print(line(method.title, result), flush=True)
    return results


def until(limit: float) -> Callable[[Sequence[Round]], bool]:
    """Ends a run after so many seconds of its own."""
    return lambda history: history[-1].seconds >= limit


def seconds(result: Result) -> float:
    """What a run took."""
    return result.history[-1].seconds


def line(title: str, result: Result) -> str:
    """What is told of a run."""
    last = result.history[-1]
    sent = f"{size(last.sent)} sent" if last.sent else "nothing sent"
    lowest = min(getattr(line, ERROR) for line in result.history)
    return (
        f"  {title:28}error {lowest:.1e}  {last.round:3} rounds  "
        f"{seconds(result):6.1f} s  {sent}"
    )


def draw(found: dict[str, dict[str, Result]], directory: Path) -> None:
    """Draw each problem's convergence, and the solution of the first method."""
    from fedsciml import plot  # matplotlib takes a while

    for name, results in found.items():
        histories = {title: result.history for title, result in results.items()}
        figure = plot.convergence(histories, ERROR, PROBLEMS[name])
        plot.save(figure, directory / f"{name}-convergence.png")
        first = results[METHODS[0].title]
        problem = replace(first.problem, name=PROBLEMS[name])
        figure = plot.solution(problem, first.theta)
        plot.save(figure, directory / f"{name}-solution.png")
