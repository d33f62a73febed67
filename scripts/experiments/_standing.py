"""How every problem with a known solution stands, by five ways to train a network."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from statistics import median

from experiments._record import Entry, select
from experiments._runs import OURS, first, spread
from experiments._standing_figure import Standing
from experiments._suites import DENSE, EXTRA, FEDPINN, HARD, RIVALS
from experiments._table import Cell, Spread, Table, megabytes, plain
from experiments.suite import counted
from fedsciml.command.suite import SUITE

GOAL = 1e-6
"""The error that a start should get to."""

NEAR = 2.0
"""Errors within this factor of the lowest are as good."""

ROUNDING = 1e-11
"""Errors below this are as good as any."""

WAYS: Mapping[str, Sequence[str]] = {
    "FIPA": ("fipa",),
    "centralised Gauss-Newton": ("gauss_newton",),
    "published FIPA": ("fipa_paper",),
    "best other federated": ("fedavg", *RIVALS),
    "DeepXDE": ("deepxde",),
}
"""By column; of several methods the one with the lowest median error."""

PROBLEMS = (*SUITE, *FEDPINN, *DENSE, *EXTRA, *HARD)


def rooted(entry: Entry) -> Entry:
    """A run whose errors are roots of mean squares where they were mean squares."""
    if entry["quantity"] != "mse":
        return entry
    return entry | {"quantity": "rms", "error": [e**0.5 for e in entry["error"]]}


def last(entry: Entry) -> float:
    """The error of a run: the model's at the end, of rivals the lowest."""
    found = entry["error"][-1] if entry["method"] in OURS else min(entry["error"])
    return float(found)


def ended(runs: Sequence[Entry]) -> Spread | None:
    """Median and quartiles of the starts' errors, as in all other tables."""
    return spread([*map(last, runs)])


def typical(runs: Sequence[Entry]) -> float:
    """The median error of the starts; inf of none."""
    found = ended(runs)
    return found.median if found else inf


def best(runs: Sequence[Entry], methods: Sequence[str]) -> list[Entry]:
    """The starts of the method with the lowest median error."""
    return min((select(runs, method=m) for m in methods), key=typical)


def row(runs: Sequence[Entry]) -> list[Cell]:
    """A cell for each way; median errors as good as the lowest are bold."""
    found = [best(runs, methods) for methods in WAYS.values()]
    errors = [*map(typical, found)]
    named = [len(methods) > 1 for methods in WAYS.values()]
    enough = max(NEAR * min(errors), ROUNDING)
    return [
        cell(mine, name, error <= enough)
        for mine, name, error in zip(found, named, errors, strict=True)
    ]


def solved(runs: Sequence[Entry]) -> list[Entry]:
    """The starts at the goal."""
    return [e for e in runs if last(e) <= GOAL]


def share(runs: Sequence[Entry]) -> float:
    """Their part of all starts."""
    return len(solved(runs)) / len(runs)


def cell(runs: Sequence[Entry], named: bool = False, bold: bool = False) -> Cell:
    """``5/5, 1.2e-13; 18 / 0.8 / 1.2``: starts at the goal, median error, its price.

    The price is the median over those starts, of when they first got there.

    Args:
        runs: Of one method, a start each.
        named: Whether the method is.
        bold: Whether the error is.
    """
    if not runs:
        return None
    there = solved(runs)
    error = plain(typical(runs))
    text = f"{len(there)}/{len(runs)}, {f'**{error}**' if bold else error}"
    if named:
        text += f" ({runs[0]['method']})"
    if not there:
        return text
    rounds, sent, seconds = (
        median(first(e, axis, GOAL) for e in there)
        for axis in ("round", "bytes", "seconds")
    )
    moved = megabytes(sent) if isfinite(sent) and sent else "-"
    return f"{text}; {rounds:.0f} / {moved} / {seconds:.2g}"


def by_problem(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The run of each start of each method that counts."""
    runs = [rooted(e) for e in counted(entries)]
    found = {problem: select(runs, problem=problem) for problem in PROBLEMS}
    return {problem: mine for problem, mine in found.items() if mine}


def marks(entries: Sequence[Entry]) -> list[Standing]:
    """The median error of each way on each problem, and its quartiles, for a figure."""
    found = []
    for problem, runs in by_problem(entries).items():
        for way, methods in WAYS.items():
            ends = ended(best(runs, methods))
            bar = (ends.low, ends.high) if ends and ends.starts > 1 else None
            found.append(Standing(problem, way, ends.median if ends else None, bar))
    return found


def standing(entries: Sequence[Entry]) -> Table:
    """A row for each problem."""
    runs = by_problem(entries)
    rows: list[list[Cell]] = [[f"`{name}`", *row(mine)] for name, mine in runs.items()]
    caption = (
        f"Every problem with a known solution: how many of all starts reach an error "
        f"of {GOAL:.0e}, median error; rounds / MB both ways / seconds of one core to "
        "it."
    )
    return Table("standing", caption, ["problem", *WAYS], rows, "README.md", tex=True)
