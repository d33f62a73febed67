"""What the programs share: the tuned settings, a progress bar, pictures, numbers."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NoReturn

# Threads that wait must sleep: spinning makes a busy machine ten times slower. OpenMP
# reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tqdm import tqdm

from fedsciml.federation.history import Round
from fedsciml.federation.loop import Result
from fedsciml.problem import Problem, Shard
from fedsciml.residual import JetBlock, System

SINES = ("sine2", "sine4", "sine8")
LINES = ("poisson1d", "allen_cahn", "bratu", "fisher_kpp", "reaction_diffusion")
SPACES = ("poisson2d", "poisson3d", "poisson5d")
SUITE = (*SINES, "gaussians2d", *LINES, *SPACES)
"""The problems of suite ``fipa``."""

LIKE_FEDAVG = ("fedadam", "feddyn", "fedfisher")
"""Methods that train locally as FedAvg does, with options of their own besides."""

TUNED = ("fedavg", "fedprox", "scaffold", *LIKE_FEDAVG, "fedpm")
"""The methods whose options are searched for; what is found is in ``TUNING``."""

TUNING = Path(__file__).parents[1] / "figures" / "data" / "tuning.json"


def tuned(problem: str, method: str) -> dict[str, object]:
    """The best options that the search found for a method on a problem.

    A method like FedAvg that was not searched there trains with FedAvg's options, and
    its own at their defaults.

    Raises:
        ValueError: If there are none.
    """
    found = _searched(TUNING).get(problem, {})
    for name in (method, "fedavg" if method in LIKE_FEDAVG else method):
        if name in found:
            return found[name]
    raise ValueError(
        f"{TUNING} has no tuned options of method '{method}' for problem '{problem}'. "
        "Leave --tuned out or search for them."
    )


@cache
def _searched(path: Path) -> dict[str, dict[str, dict[str, object]]]:
    """The best options in a record, by problem and method."""
    return json.loads(path.read_text())["best"] if path.exists() else {}


class Terminated(KeyboardInterrupt):
    """A program was asked to end by SIGTERM."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends what is done meanwhile as Ctrl-C does: by an exception.

    A second one does not disturb what is saved then.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # none but the main thread may set what a signal does
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status(error: KeyboardInterrupt) -> int:
    """The exit status of a program that a signal ended."""
    ended = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
    return 128 + ended


def parser(about: str | None) -> argparse.ArgumentParser:
    """A command line whose help shows a docstring as it is."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def new_directory(stem: str) -> Path:
    """An empty directory ``runs/STEM-1``, or with the next number that is free."""
    number = 1
    while True:
        directory = Path("runs") / f"{stem}-{number}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return directory


@contextmanager
def progress(label: str, rounds: int, quiet: bool) -> Iterator[Callable[[Round], None]]:
    """A bar on stderr that is told each line of a history."""
    with tqdm(
        total=rounds,
        desc=label,
        unit="round",
        disable=quiet,
        delay=0.5,
        mininterval=0.1 if sys.stderr.isatty() else 10.0,  # a log needs fewer
    ) as bar:

        def show(line: Round) -> None:
            numbers = {"error": line.relative_l2, "loss": line.loss}
            shown = {key: f"{value:.1e}" for key, value in numbers.items()}
            if ranks := line.ranks:
                shown["rank"] = "/".join(map(str, ranks))
            bar.set_postfix(shown, refresh=False)
            bar.update(line.round - bar.n)

        yield show


def quantity(problem: Problem) -> str:
    """The error that is usual: of a regression the mean squared, else relative L2."""
    one = tuple(  # row of each term tells what its residual reads
        rows.part(slice(1)) for rows in problem.pooled().rows
    )
    blocks = System(problem, Shard(0, one, 1.0)).blocks
    data = all(isinstance(b, JetBlock) and b.layout.order == 0 for b in blocks)
    return "mse" if data else "relative_l2"


def pictures(
    result: Result,
    directory: Path,
    histories: Mapping[str, Sequence[Round]],
    prefix: str = "",
) -> None:
    """Draw solution, convergence and partition into a directory."""
    from fedsciml import plot  # matplotlib takes a while

    problem = result.problem
    figures = {
        "solution": plot.solution(problem, result.theta),
        "convergence": plot.convergence(histories, quantity(problem), problem.name),
        "partition": plot.partition(problem),
    }
    for name, figure in figures.items():
        plot.save(figure, directory / f"{prefix}{name}.png")


def size(number: int) -> str:
    """Bytes for people: ``1.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
