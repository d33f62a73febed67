"""What the programs share: the tuned settings, a progress bar, pictures, numbers."""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Threads that wait must sleep: spinning makes a busy machine ten times slower. OpenMP
# reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from tqdm import tqdm

from fedsciml.federation.history import Round
from fedsciml.federation.loop import Result
from fedsciml.federation.record import replace_file
from fedsciml.problem import Problem, Shard
from fedsciml.residual import JetBlock, System

SUITE = (
    "sine2",
    "sine4",
    "sine8",
    "gaussians2d",
    "poisson1d",
    "allen_cahn",
    "bratu",
    "fisher_kpp",
    "reaction_diffusion",
    "poisson2d",
    "poisson3d",
    "poisson5d",
)
"""The problems of suite ``fipa``."""

Entry = dict[str, Any]
"""What a benchmark keeps of a finished run: plain data, with the run's key."""

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
    best = json.loads(TUNING.read_text())["best"] if TUNING.exists() else {}
    found: dict[str, dict[str, object]] = best.get(problem, {})
    for name in (method, "fedavg" if method in LIKE_FEDAVG else method):
        if name in found:
            return found[name]
    raise ValueError(
        f"{TUNING} has no tuned options of method '{method}' for problem '{problem}'. "
        "Leave --tuned out or search for them."
    )


def add_runs(parser: argparse.ArgumentParser, record: Path, jobs: int = 1) -> None:
    """The arguments for ``completed``: jobs, threads, fresh, and out for its path."""
    add = parser.add_argument
    add("--jobs", type=int, default=jobs, help=f"runs side by side; default {jobs}")
    add("--threads", type=int, default=1, help="threads of each run; default 1")
    add("--fresh", action="store_true", help="run again what is there")
    add("--out", type=Path, default=record, help=f"the record; default {record}")


def completed(
    path: Path,
    names: Sequence[str],
    keys: Sequence[tuple[Any, ...]],
    measure: Callable[..., Entry],
    jobs: int,
    threads: int,
    fresh: bool = False,
) -> list[Entry]:
    """The record of a benchmark, after the runs that it lacks.

    The record is replaced after every run, one line a run, sorted. A run that diverges
    is reported and left out; any other error ends the benchmark at once.

    Args:
        path: The record.
        names: The fields of an entry that are its key.
        keys: The runs wanted, in the order in which they are made.
        measure: Makes a run from its key, in a process of its own.
        jobs: Runs side by side.
        threads: Of each run.
        fresh: Run again what is there.
    """
    entries: list[Entry] = json.loads(path.read_text()) if path.is_file() else []

    def key(entry: Entry) -> tuple[Any, ...]:
        return tuple(entry[name] for name in names)

    if fresh:
        entries = [entry for entry in entries if key(entry) not in keys]
    done = {key(entry) for entry in entries}
    missing = [k for k in keys if k not in done]
    if not missing:
        return entries
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(threads,),
    )
    with pool:
        futures = [pool.submit(measure, *k) for k in missing]
        finished = as_completed(futures)
        for future in tqdm(finished, "runs", len(futures), mininterval=_pause()):
            try:
                entries.append(future.result())
            except FloatingPointError as error:
                print(f"Diverged: {error}", file=sys.stderr)
                continue
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            keep(path, entries)
    return entries


def keep(path: Path, entries: Sequence[Entry]) -> None:
    """Replace a record: a list, an entry a line, sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = sorted(json.dumps(entry) for entry in entries)
    replace_file(path, "[\n" + ",\n".join(lines) + "\n]\n")


def _pause() -> float:
    """Seconds between two states of a bar; a log needs fewer."""
    return 0.1 if sys.stderr.isatty() else 10.0


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
        mininterval=_pause(),
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


def short(value: float) -> float:
    """Four significant digits: enough to draw and to compare."""
    return float(f"{value:.4g}")


def size(number: int) -> str:
    """Bytes for people: ``1.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
