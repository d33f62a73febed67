"""Put runs side by side: what each needs for the digits that all reach."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fedsciml.command.records import NAMES, Recorded, known, recorded, table, written
from fedsciml.federation import Round
from fedsciml.federation.history import RISES
from fedsciml.federation.traffic import size

PICTURES = (".png", ".pdf", ".svg")


def compare(
    *directories: Path,
    quantity: Literal["relative_l2", "mse", "accuracy", "deviance", "loss"]
    | None = None,
    out: Path | None = None,
) -> None:
    """Put runs side by side: what each needs for the digits that all reach.

    Args:
        directories: Two run directories, or more.
        quantity: By which they are compared; the first that all runs know if not given.
        out: A picture of the convergence, a .png, .pdf or .svg file.
    """
    if len(directories) < 2:
        raise ValueError(
            "Which runs? Give two directories or more: fedsciml compare runs/a runs/b."
        )
    if out is not None and out.suffix not in PICTURES:
        raise ValueError(f"A picture is one of {', '.join(PICTURES)}, got {out}.")
    runs = [recorded(directory) for directory in directories]
    chosen = _quantity(runs, quantity)
    problems = dict.fromkeys(str(run.configuration["problem"]) for run in runs)
    if len(problems) > 1:
        print(f"These runs are of different problems: {', '.join(problems)}.\n")
    print(_compared(runs, chosen))
    if out is not None:
        from fedsciml import plot  # matplotlib takes a while

        histories = dict(zip(_labels(runs), (run.history for run in runs), strict=True))
        plot.save(plot.convergence(histories, chosen, ", ".join(problems)), out)
        print(f"\nDrawn in {out}.")


def _quantity(runs: Sequence[Recorded], asked: str | None) -> str:
    """By what the runs are compared.

    Raises:
        ValueError: If a run has done no round, or does not know it.
    """
    for run in runs:
        if not run.history:
            raise ValueError(f"The run in {run.directory} has done no round.")
    shared = [n for n in NAMES if all(n in known(run.history) for run in runs)]
    if asked is not None and asked not in shared:
        raise ValueError(
            f"The quantity '{asked}' is not known of all runs; {', '.join(shared)} are."
        )
    return asked or shared[0]


def _compared(runs: Sequence[Recorded], quantity: str) -> str:
    """A table of the runs, and to which digits it is."""
    rises = quantity in RISES
    lowest = [min(_values(run.history, quantity)) for run in runs]
    level = _rounded_up(max(lowest))
    heads = ["run", "method", "clients", "rounds", NAMES[quantity], "sent", "seconds"]
    rows = []
    for run, best in zip(runs, lowest, strict=True):
        last = run.history[-1]
        row = [str(run.directory), run.method, str(run.configuration["clients"])]
        told = written(quantity, 1 - best if rises else best)
        row += [str(last.round), told, size(last.sent), f"{last.seconds:.1f}"]
        rows.append(row)
    most = "highest" if rises else "lowest"
    text = f"Whole runs, each with its {most} {NAMES[quantity]}:"
    text += f"\n\n{table(heads, rows)}\n\n"
    heads = ["run", "method", "rounds", "sent", "seconds"]
    rows = []
    for run in runs:
        values = _values(run.history, quantity)
        there = run.history[next(k for k, v in enumerate(values) if v <= level)]
        row = [str(run.directory), run.method, str(there.round), size(there.sent)]
        rows.append([*row, f"{there.seconds:.2f}"])
    bound = f"at least {1 - level:.4g}" if rises else f"at most {level:.0e}"
    text += f"Until the {NAMES[quantity]} is {bound}, which all reach:"
    return f"{text}\n\n{table(heads, rows)}"


def _rounded_up(value: float) -> float:
    """To one digit: 0.0123 to 0.02."""
    if value <= 0:
        return value
    unit = 10.0 ** math.floor(math.log10(value))
    return max(value, math.ceil(value / unit) * unit)


def _values(history: Sequence[Round], quantity: str) -> list[float]:
    """Of each round, what is missing to 1 of what rises; infinite if not known."""
    found = [line.value(quantity) for line in history]
    if quantity in RISES:
        found = [1 - value for value in found]
    return [value if math.isfinite(value) else math.inf for value in found]


def _labels(runs: Sequence[Recorded]) -> list[str]:
    """The methods' names, if these tell the runs apart, else the directories."""
    methods = [run.method for run in runs]
    different = len({*methods}) == len(runs)
    return methods if different else [str(run.directory) for run in runs]
