"""Figures of the rank schedules: ranks by round, error against bytes."""

from collections.abc import Sequence
from math import isfinite
from statistics import median

from _common import Entry
from _figures import Drawing, chosen, grouped

from fedsciml import plot
from fedsciml.plot import Curve, Panel

FAMILIES = ("cutoff", "predictive", "bytes", "energy", "published", "fixed", "full")
"""Schedules are drawn in this order; each family has one look."""

NOISE = 1e-15
"""Errors below are rounding."""


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


def front(entries: Sequence[Entry]) -> plot.Figure:
    """Final error against the bytes it took, a point per schedule."""
    parts = []
    for problem, runs in grouped(chosen(entries, "ranks.json"), "problem").items():
        points = {s: point(mine) for s, mine in grouped(runs, "schedule").items()}
        curves = [edge(list(points.values()))]
        for k, word in enumerate(FAMILIES):
            mine = {s: xy for s, xy in points.items() if family(s) == word}
            if mine:
                x, y = zip(*mine.values(), strict=True)
                words = [setting(s) for s in mine]
                mark = k + 1
                curves.append(Curve(word, x, y, k, None, mark, words=words))
        title = f"{problem}, {runs[0]['clients']} clients"
        megabytes = "megabytes to get there, both ways"
        parts.append(Panel(title, megabytes, "final error", curves))
    return plot.panels(parts, 2, height=2.4, legend="below")


def point(runs: Sequence[Entry]) -> tuple[float, float]:
    """Medians over the starts: megabytes until the error is the final one, and that.

    As the final error counts twice the last one, and rounding noise.
    """
    ends, sent = [], []
    for e in runs:
        last = max(e["error"][-1], NOISE)
        there = next(k for k, error in enumerate(e["error"]) if error <= 2 * last)
        ends.append(last)
        sent.append(e["bytes"][there] / 1e6)
    return median(sent), median(ends)


def edge(points: Sequence[tuple[float, float]]) -> Curve:
    """The front: no schedule has both a smaller error and fewer bytes."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(p for p in points if isfinite(p[1])):
        if best and y < best[-1][1]:
            best.append((x, best[-1][1]))
        if not best or y < best[-1][1]:
            best.append((x, y))
    xs, ys = zip(*best, strict=True)
    return Curve("front", xs, ys, 6, 0)


DRAWINGS = {
    "ranks-rounds": Drawing(
        rank_by_round,
        ("ranks.json",),
        "The rank of every client's sketch in each round under each schedule.",
    ),
    "ranks-front": Drawing(
        front,
        ("ranks.json",),
        "Final error of each rank schedule against the bytes it took to get there; "
        "no schedule below the line.",
    ),
}
