"""Rank schedules compared: error against bytes, from the same starts.

Every schedule with FIPA's default step policy on some problems; each run's record holds
error, bytes both ways, ranks and CPU seconds of every round. The error is the relative
L2 error, of a regression the root of the mean squared one. ``full`` truncates nothing:
the full SVD of every client's Jacobian. An hour.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, product
from statistics import mean, median

import numpy as np

from experiments._drawing import Drawing, chosen, error_axis, spread
from experiments._experiment import Case, Experiment
from experiments._record import Entry, grouped, select, short
from experiments._runs import first, reached, root
from experiments._table import Cell, Table
from experiments._words import title
from fedsciml import analysis, plot, problems, run
from fedsciml.linalg import ranks
from fedsciml.methods._fipa import Fipa
from fedsciml.plot import Curve, Panel

FULL = "full"
SCHEDULES = (
    *("5", "10", "20", "40"),
    *("energy:0.99", "energy:0.999999", "energy:0.9999999999"),
    *("cutoff", "published"),
    *("bytes:200000", "bytes:400000", "bytes:800000"),
    *("predictive:0.01", "predictive:0.1", "predictive:1"),
    FULL,
)
LARGER = (
    *("40", "100", "200", "energy:0.9999999999", "cutoff", "published"),
    *("bytes:2000000", "bytes:4000000", "bytes:8000000"),
    *("predictive:0.01", "predictive:0.1", "predictive:1"),
)
"""In two dimensions, where a sketch has ten times as many rows; a round of ``full``
would take half a minute."""

PROBLEMS = ("allen_cahn", "reaction_diffusion", "sine4", "poisson2d")
ROUNDS = 50
FAMILIES = ("cutoff", "predictive", "bytes", "energy", "published", "fixed", "full")
"""Of schedules, the default first; each has one colour."""

WORDS = {
    "cutoff": "cut-off (default)",
    "predictive": "predicted error",
    "bytes": "bytes a round",
    "energy": "energy kept",
    "published": "as published",
    "fixed": "fixed rank",
    "full": "full rank",
}
"""Families in words."""

HEADS = {"cutoff": "cut-off", "predictive": "predicted", "published": "published"}
"""The same, for narrow panels."""

CONVERGED = 1e-11
"""Final errors below are those of rounding, whatever the schedule."""

STEP = 6.0
"""Factor of the error between words that stand one above the other."""


def method(schedule: str, parameters: int) -> Fipa:
    """FIPA with a rank schedule."""
    if schedule == FULL:
        return Fipa(rank=ranks.Fixed(parameters), sketch="svd")
    return Fipa(rank=ranks.parse(schedule))


def usual(problem: str) -> Sequence[str]:
    """The schedules tried on a problem."""
    return LARGER if problem == "poisson2d" else SCHEDULES


def cases() -> Iterator[Case]:
    """Those of each problem, from three starts; the larger ones from one."""
    for problem in PROBLEMS:
        seeds = range(1 if problem == "poisson2d" else 3)
        for seed, schedule in product(seeds, usual(problem)):
            yield problem, schedule, seed, ROUNDS


def measure(problem: str, schedule: str, seed: int, rounds: int) -> Entry:
    """One run, round by round, to four digits."""
    made = problems.load(problem)
    quantity, p = analysis.quantity(made), made.network.size
    fipa = method(schedule, p)
    history = run(
        made, fipa, rounds, seed, clock=time.process_time, progress=False
    ).history
    return {
        "quantity": quantity,
        "parameters": p,
        "clients": made.clients,
        "error": [short(root(line, quantity)) for line in history],
        "bytes": [int(short(line.sent)) for line in history],
        "ranks": [list(line.ranks) for line in history],
        "seconds": [short(line.seconds) for line in history],
    }


def floats(entry: Entry) -> float:
    """Numbers in a client's sketch, k (p + 1) + 1, mean over clients and rounds."""
    rank = mean(k for ranks_ in entry["ranks"] for k in ranks_)
    return float(rank * (entry["parameters"] + 1) + 1)


def megabytes(entry: Entry, target: float) -> float:
    """Both ways until the error is at a target; infinite if it never is."""
    return first(entry, "bytes", target) / 1e6


def table(entries: Sequence[Entry], problem: str) -> Table:
    """The schedules on a problem, medians over the starts."""
    heads = ["schedule", "starts", "error at end", "worst", "MB to 1e-6", "MB to 1e-10"]
    heads += ["MB in all", "mean rank", "floats / p^2", "CPU s"]
    found = grouped(select(entries, problem=problem), "schedule")
    order = [s for s in usual(problem) if s in found]
    rows: list[list[Cell]] = []
    for schedule in [*order, *(s for s in found if s not in order)]:
        mine = found[schedule]
        ends = [e["error"][-1] for e in mine]
        row: list[Cell] = [f"`{schedule}`", len(mine)]
        row += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
        row += [reached([megabytes(e, t) for e in mine]) for t in (1e-6, 1e-10)]
        row.append(f"{median(e['bytes'][-1] for e in mine) / 1e6:.3g}")
        row.append(f"{mean(k for e in mine for r in e['ranks'] for k in r):.1f}")
        share = mean(floats(e) for e in mine) / mine[0]["parameters"] ** 2
        row.append(f"1 / {1 / share:.0f}")
        rows.append([*row, f"{median(e['seconds'][-1] for e in mine):.3g}"])
    return Table(f"ranks-{problem}", problem, heads, rows, "docs/ranks.md")


def family(schedule: str) -> str:
    """The word before a schedule's number; a number alone is a fixed rank."""
    return "fixed" if schedule.isdigit() else schedule.partition(":")[0]


def setting(schedule: str) -> str:
    """A schedule's number, for people."""
    size = number(schedule)
    match family(schedule):
        case "energy":
            return f"1 - {1 - size:.0e}"
        case "bytes":
            return f"{size / 1e6:g} MB"
    return f"{size:g}" if size else ""


def number(schedule: str) -> float:
    """That of a schedule, 0 if it has none."""
    text = schedule.rpartition(":")[2]
    return 0.0 if text == family(schedule) else float(text)


def rank_by_round(entries: Sequence[Entry]) -> plot.Figure:
    """The clients' ranks in each round: a row per problem, a schedule per column."""
    seed = min(e["seed"] for e in chosen(entries))
    found = grouped(select(entries, seed=seed), "problem")
    shown = [f for f in FAMILIES if any(family(e["schedule"]) == f for e in entries)]
    parts = []
    for problem, runs in found.items():
        bottom = problem == list(found)[-1]
        for word in shown:
            mine = [e for e in runs if family(e["schedule"]) == word]
            one = middle(mine)
            parts.append(
                Panel(
                    f"{HEADS.get(word, word)} {setting(one['schedule'])}"
                    if one
                    else "",
                    "round" if bottom else "",
                    f"rank, {title(problem)}",
                    by_client(one) if one else [],
                    xscale="linear",
                )
            )
    return plot.panels(parts, len(shown), height=1.5, legend="below", sharey="row")


def middle(entries: Sequence[Entry]) -> Entry | None:
    """The entry of a family whose number is the middle one."""
    order = sorted(entries, key=lambda e: number(e["schedule"]))
    return order[len(order) // 2] if order else None


def by_client(entry: Entry) -> list[Curve]:
    """Of each client, round by round."""
    return [
        Curve(f"client {m}", range(1, len(its) + 1), its, m, m)
        for m, its in enumerate(zip(*entry["ranks"], strict=True))
    ]


def error_by_bytes(entries: Sequence[Entry]) -> plot.Figure:
    """Median error against the bytes sent, a line per schedule, and the front."""
    parts = []
    for problem, runs in grouped(chosen(entries), "problem").items():
        curves = lines(runs)
        words = f"{title(problem)}, {runs[0]['clients']} clients"
        drawn = [front(list(curves.values())), *curves.values(), ends(curves)]
        parts.append(Panel(words, "megabytes, both ways", error_axis(runs), drawn))
    return plot.panels(parts, 2, height=2.5, legend="below")


def lines(runs: Sequence[Entry]) -> dict[str, Curve]:
    """Median error against megabytes of each schedule, the default on top."""
    runs = [{**e, "megabytes": [sent / 1e6 for sent in e["bytes"]]} for e in runs]
    found = {}
    for k, word in reversed(list(enumerate(FAMILIES))):
        order = sorted({e["schedule"] for e in runs}, key=number)
        mine = [schedule for schedule in order if family(schedule) == word]
        for dash, schedule in enumerate(mine):
            curve = spread(select(runs, schedule=schedule), "megabytes")
            width = 1.0 if k else 1.8
            label = WORDS[word]
            found[schedule] = Curve(label, curve.x, curve.y, k, dash, width=width)
    return found


def ends(curves: Mapping[str, Curve]) -> Curve:
    """The settings at the ends of the lines that stop early, one above the other."""
    stop = sorted((curve.y[-1], curve.x[-1], s) for s, curve in curves.items())
    shown = [line for line in stop if line[0] > CONVERGED and setting(line[2])]
    y = list(
        accumulate((error for error, _, _ in shown), lambda a, b: max(STEP * a, b))
    )
    words = [setting(schedule) for _, _, schedule in shown]
    return Curve("", [sent for _, sent, _ in shown], y, dash=None, words=words)


def front(curves: Sequence[Curve]) -> Curve:
    """The least error of any curve for so many bytes; a curve that has ended stays."""
    grid = np.unique(np.concatenate([curve.x for curve in curves]))
    best = np.full(len(grid), np.inf)
    for curve in curves:
        x, y = np.log(curve.x), np.minimum.accumulate(np.log(curve.y))
        best = np.minimum(best, np.interp(np.log(grid), x, y, left=np.inf))
    return Curve(
        "least of all", grid.tolist(), np.exp(best).tolist(), 6, width=5.0, alpha=0.3
    )


EXPERIMENT = Experiment(
    "ranks",
    __doc__,
    ("problem", "schedule", "seed", "rounds"),
    list(cases()),
    measure,
    lambda entries: [table(entries, p) for p in grouped(entries, "problem")],
    {
        "ranks-rounds": Drawing(
            rank_by_round,
            "The rank of every client's sketch in each round under each schedule.",
        ),
        "ranks-front": Drawing(
            error_by_bytes,
            "Median error against the bytes sent by each rank schedule, and the "
            "least error of any for so many bytes; a number is the "
            "setting of a schedule that does not converge.",
        ),
    },
    check=lambda problem, schedule, *others: method(schedule, 1),
)
