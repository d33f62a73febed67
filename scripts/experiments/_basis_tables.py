"""The tables of experiment `basis`."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments._drawing import look
from experiments._record import DATA, Entry, grouped, read, select
from experiments._runs import OURS, first, reached
from experiments._suites import RIVALS
from experiments._table import Cell, Table, megabytes
from experiments.suite import counted

PAGE = "docs/basis.md"
TARGETS = (1e-6, 1e-8, 1e-10)
WAYS = ("own", "rows", "sums")
TOGETHER = "in turns"
"""Own, rows and sums, one round after the other."""

AVERAGING = ("fedavg", *RIVALS)
"""What the shared basis is held against."""


Errors = NDArray[np.float64]


class Ahead(NamedTuple):
    """Bytes, from and to, in which a rival has the lower error; and the errors there.

    Attributes:
        method: The rival.
        begin: Bytes.
        end: Bytes; infinite where it is ahead at the end of both.
        theirs: Its error where it is ahead the most.
        ours: Ours there.
    """

    method: str
    begin: float
    end: float
    theirs: float
    ours: float


def tables(entries: Sequence[Entry]) -> list[Table]:
    """All of them."""
    others = recorded(read((DATA / "suite.json").read_bytes()))
    return [cost(entries), against(entries, others), apart(entries), starts(entries)]


def recorded(suite: Sequence[Entry]) -> list[Entry]:
    """The rivals of experiment `fipa`, with the errors of this one."""
    return [
        {**e, "error": [x**0.5 for x in e["error"]]} if e["quantity"] == "mse" else e
        for e in counted(suite)
        if e["method"] in AVERAGING
    ]


def few(entries: Sequence[Entry]) -> list[Entry]:
    """The first three starts of runs side by side."""
    return [e for e in select(entries, run=TOGETHER) if e["seed"] < 3]


def cost(entries: Sequence[Entry]) -> Table:
    """A row per problem and way: bytes, rounds and errors, medians over the starts."""
    heads = ["problem", "upload", "starts", *(f"MB to {t:g}" for t in TARGETS)]
    heads += ["MB", "rounds", "error at end", "worst", "loss", "rounds to 1e-10"]
    heads += ["k", "outside", "s / round"]
    rows: list[list[Cell]] = []
    for (problem, rounds), found in grouped(few(entries), "problem", "rounds").items():
        if problem.endswith((":clients=1", ":clients=8")):
            continue
        for way in WAYS:
            mine = select(found, way=way)
            ends = [e["error"][-1] for e in mine]
            row: list[Cell] = [problem, way, len(mine)]
            row += [
                reached([first(e, "bytes", t) / 1e6 for e in mine]) for t in TARGETS
            ]
            row += [megabytes(median(e["bytes"][-1] for e in mine)), rounds]
            row += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
            row += [f"{median(e['loss'] for e in mine):.3g}"]
            row += [reached([first(e, "round", 1e-10) for e in mine])]
            ranks = [k for e in mine for k in e["basis" if way != "own" else "rank"]]
            outside = [o for e in mine for o in e["outside"]]
            row += [f"{median(ranks):.0f}", f"{max(outside):.0e}" if outside else ""]
            rows.append([*row, f"{slower(found, way):.2f}"])
    caption = "The shared basis: bytes, errors and seconds, medians over the starts."
    return Table("basis", caption, heads, rows, PAGE)


def slower(entries: Sequence[Entry], way: str) -> float:
    """Seconds of a median round over those with own sketches, which took turns."""
    own = {e["seed"]: e["seconds"] for e in select(entries, way="own")}
    return median(
        median(
            mine / other
            for mine, other in zip(e["seconds"], own[e["seed"]], strict=False)
        )
        for e in select(entries, way=way)
    )


def against(entries: Sequence[Entry], rivals: Sequence[Entry]) -> Table:
    """Where a rival is ahead of rows, and of sums."""
    rivals = [*rivals, *(e for e in entries if e["way"] in AVERAGING)]
    rows: list[list[Cell]] = []
    for problem, found in grouped(few(entries), "problem").items():
        others = grouped(select(rivals, problem=problem), "method")
        if not others:
            continue
        row: list[Cell] = [problem, len(others)]
        for way in WAYS[1:]:
            lead = ahead(list(others.values()), select(found, way=way))
            row.append("; ".join(map(words, lead)) or "nowhere")
        rows.append(row)
    heads = ["problem", "rivals", "ahead of rows, MB", "ahead of sums, MB"]
    caption = "Where a rival has the lower error at the same bytes."
    return Table("basis-rivals", caption, heads, rows, PAGE)


def ahead(rivals: Sequence[Sequence[Entry]], mine: Sequence[Entry]) -> list[Ahead]:
    """Where the median error of any rival is below ours, from our first round on.

    Over the starts that both have. Who has ended keeps the last error.

    Args:
        rivals: The starts of each.
        mine: The starts of ours.
    """
    begin = max(e["bytes"][0] for e in mine)
    runs = [e for same in (*rivals, mine) for e in same]
    levels = sorted({b for e in runs for b in e["bytes"] if b >= begin})
    pairs = [_medians(same, mine, levels) for same in rivals]
    found: list[Ahead] = []
    leading = False
    for at, level in enumerate(levels):
        best = min(range(len(rivals)), key=lambda i: pairs[i][0][at] / pairs[i][1][at])
        theirs, ours = (float(errors[at]) for errors in pairs[best])
        if theirs < ours:
            here = Ahead(rivals[best][0]["method"], level, inf, theirs, ours)
            if not leading:
                found.append(here)
            elif theirs / ours < found[-1].theirs / found[-1].ours:
                found[-1] = here._replace(begin=found[-1].begin)
        elif leading:
            found[-1] = found[-1]._replace(end=level)
        leading = theirs < ours
    return found


def _medians(
    theirs: Sequence[Entry], ours: Sequence[Entry], levels: Sequence[float]
) -> tuple[Errors, Errors]:
    """Errors at numbers of bytes, over the starts that both have."""
    seeds = {e["seed"] for e in theirs} & {e["seed"] for e in ours}
    one, two = (
        np.median([_errors(e, levels) for e in runs if e["seed"] in seeds], axis=0)
        for runs in (theirs, ours)
    )
    return one, two


def _errors(entry: Entry, levels: Sequence[float]) -> Errors:
    """``_runs.error`` at many numbers of bytes."""
    errors = np.array([np.inf, *entry["error"]])
    if entry["method"] not in OURS:
        errors = np.fmin.accumulate(errors)
    return errors[np.searchsorted(entry["bytes"], levels, side="right")]


def words(line: Ahead) -> str:
    """``0.21 to 0.4 (FedAvg 1.1e-01, not 3.2e-01)``."""
    end = f"to {megabytes(line.end)}" if isfinite(line.end) else "on"
    best = f"{look(line.method).label} {line.theirs:.1e}, not {line.ours:.1e}"
    return f"{megabytes(line.begin)} {end} ({best})"


def apart(entries: Sequence[Entry]) -> Table:
    """A row per problem, upload and disturbance."""
    heads = ["problem", "upload", "sites", "starts", "error at end", "worst"]
    heads += ["rounds to 1e-10", "more rounds: median / worst"]
    rows: list[list[Cell]] = []
    shared = select(entries, way=WAYS[1:], seed=(0, 1, 2))
    disturbed = {e["problem"] for e in shared if e["run"] != TOGETHER}
    shared = select(shared, problem=tuple(disturbed))
    for (problem, way), runs in grouped(shared, "problem", "way").items():
        as_one = {e["seed"]: e for e in select(runs, run=TOGETHER)}
        for run, found in grouped(runs, "run").items():
            ends = [e["error"][-1] for e in found]
            spent = {e["seed"]: first(e, "round", 1e-10) for e in found}
            more = [n - first(as_one[m], "round", 1e-10) for m, n in spent.items()]
            row: list[Cell] = [problem, way, "as one" if run == TOGETHER else run]
            row += [len(found), f"{median(ends):.1e}", f"{max(ends):.1e}"]
            row += [reached(list(spent.values()))]
            rows.append([*row, each(map(rounds_of, (median(more), max(more))))])
    caption = "Sites that do not compute the same."
    return Table("basis-apart", caption, heads, rows, PAGE)


def rounds_of(number: float) -> str:
    """``12``, or ``never``."""
    return f"{number:g}" if isfinite(number) else "never"


def starts(entries: Sequence[Entry]) -> Table:
    """A row per problem and number of clients: own / rows / sums."""
    heads = ["problem", "clients", "starts", "rounds", "to 1e-6", "to 1e-10"]
    heads += ["error at end", "worst", "rounds to 1e-6", "rounds to 1e-10"]
    rows: list[list[Cell]] = []
    found = grouped(select(entries, run=TOGETHER), "problem", "clients", "rounds")
    for (problem, clients, rounds), mine in found.items():
        runs = [select(mine, way=way) for way in WAYS]
        if min(map(len, runs)) <= 3:
            continue
        row: list[Cell] = [problem.partition(":")[0], clients, len(runs[0]), rounds]
        for target in (1e-6, 1e-10):
            row.append(
                each(sum(first(e, "round", target) < inf for e in r) for r in runs)
            )
        ends = [[e["error"][-1] for e in r] for r in runs]
        row.append(each(f"{median(r):.1e}" for r in ends))
        row.append(each(f"{max(r):.1e}" for r in ends))
        for target in (1e-6, 1e-10):
            spent = [median(first(e, "round", target) for e in r) for r in runs]
            row.append(each(map(rounds_of, spent)))
        rows.append(row)
    caption = "Own sketches / rows / sums from many starts."
    return Table("basis-starts", caption, heads, rows, PAGE)


def each(values: Iterable[object]) -> str:
    """``10 / 10 / 9``."""
    return " / ".join(map(str, values))
