"""Figures of the rank schedules: ranks by round, error against bytes."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from _common import Entry
from experiments._drawing import Drawing, chosen, spread
from experiments._record import grouped

from fedsciml import plot
from fedsciml.plot import Curve, Panel

FAMILIES = ("cutoff", "predictive", "bytes", "energy", "published", "fixed", "full")
"""Of schedules, the default first; each has one colour."""

CONVERGED = 1e-11
"""Final errors below are those of rounding, whatever the schedule."""

STEP = 6.0
"""Factor of the error between words that stand one above the other."""

ERROR = plot.QUANTITIES["relative_l2"]


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
    seed = min(e["seed"] for e in chosen(entries, "ranks.json"))
    problems = grouped([e for e in entries if e["seed"] == seed], "problem")
    shown = [f for f in FAMILIES if any(family(e["schedule"]) == f for e in entries)]
    parts = []
    for problem, runs in problems.items():
        bottom = problem == list(problems)[-1]
        for word in shown:
            mine = [e for e in runs if family(e["schedule"]) == word]
            found = middle(mine)
            parts.append(
                Panel(
                    f"{word} {setting(found['schedule'])}" if found else "",
                    "round" if bottom else "",
                    f"rank, {problem}",
                    ranks(found) if found else [],
                    xscale="linear",
                )
            )
    return plot.panels(parts, len(shown), height=1.5, legend="below", sharey="row")


def middle(entries: Sequence[Entry]) -> Entry | None:
    """The entry of a family whose number is the middle one."""
    order = sorted(entries, key=lambda e: number(e["schedule"]))
    return order[len(order) // 2] if order else None


def ranks(entry: Entry) -> list[Curve]:
    """Of each client, round by round."""
    return [
        Curve(f"client {m}", range(1, len(its) + 1), its, m, m)
        for m, its in enumerate(zip(*entry["ranks"], strict=True))
    ]


def error_by_bytes(entries: Sequence[Entry]) -> plot.Figure:
    """Median error against the bytes sent, a line per schedule, and the front."""
    parts = []
    for problem, runs in grouped(chosen(entries, "ranks.json"), "problem").items():
        curves = lines(runs)
        title = f"{problem}, {runs[0]['clients']} clients"
        error = "root mean squared error" if runs[0]["quantity"] == "mse" else ERROR
        drawn = [front(list(curves.values())), *curves.values(), ends(curves)]
        parts.append(Panel(title, "megabytes, both ways", error, drawn))
    return plot.panels(parts, 2, height=2.5, legend="below")


def lines(runs: Sequence[Entry]) -> dict[str, Curve]:
    """Median error against megabytes of each schedule, the default on top."""
    runs = [{**e, "megabytes": [sent / 1e6 for sent in e["bytes"]]} for e in runs]
    found = {}
    for k, word in reversed(list(enumerate(FAMILIES))):
        mine = [e for e in runs if family(e["schedule"]) == word]
        order = sorted({e["schedule"] for e in mine}, key=number)
        for dash, schedule in enumerate(order):
            curve = spread([e for e in mine if e["schedule"] == schedule], "megabytes")
            width = 1.0 if k else 1.8
            found[schedule] = Curve(word, curve.x, curve.y, k, dash, width=width)
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
    return Curve("front", grid.tolist(), np.exp(best).tolist(), 6, width=5.0, alpha=0.3)


DRAWINGS = {
    "ranks-rounds": Drawing(
        rank_by_round,
        ("ranks.json",),
        "The rank of every client's sketch in each round under each schedule.",
    ),
    "ranks-front": Drawing(
        error_by_bytes,
        ("ranks.json",),
        "Median error against the bytes sent by each rank schedule, and the front, the "
        "least error of any for so many bytes; a number is the setting of a schedule "
        "that does not converge.",
    ),
}
