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
    """The word before a schedule's number."""
    return schedule.partition(":")[0]


def rank_by_round(entries: Sequence[Entry]) -> plot.Figure:
    """The clients' ranks in each round: a row per problem, a schedule per column."""
    seed = min(e["seed"] for e in chosen(entries, "ranks.json"))
    runs = [e for e in entries if e["seed"] == seed]
    schedules = [s for f in FAMILIES if (s := middle(runs, f))]
    parts = []
    problems = grouped(runs, "problem")
    for problem, mine in problems.items():
        by_schedule = {e["schedule"]: e for e in mine}
        for schedule in schedules:
            e = by_schedule.get(schedule)
            bottom = problem == list(problems)[-1]
            curves = (
                [
                    Curve(f"client {m}", range(1, len(ranks) + 1), ranks, m, m)
                    for m, ranks in enumerate(zip(*e["ranks"], strict=True))
                ]
                if e
                else []
            )
            title = schedule if problem == next(iter(problems)) else ""
            parts.append(
                Panel(
                    title,
                    "round" if bottom else "",
                    f"rank, {problem}",
                    curves,
                    "linear",
                )
            )
    return plot.panels(parts, len(schedules), height=1.5, legend="below", sharey="row")


def middle(entries: Sequence[Entry], word: str) -> str:
    """Of a family's schedules, the middle one of those run on most problems."""
    found: dict[str, int] = {}
    for e in entries:
        if family(e["schedule"]) == word:
            found[e["schedule"]] = found.get(e["schedule"], 0) + 1
    most = sorted(s for s, count in found.items() if count == max(found.values()))
    return most[len(most) // 2] if most else ""


def front(entries: Sequence[Entry]) -> plot.Figure:
    """Final error against the bytes it took, a point per schedule."""
    parts = []
    for problem, runs in grouped(chosen(entries, "ranks.json"), "problem").items():
        points = {s: point(mine) for s, mine in grouped(runs, "schedule").items()}
        curves = [edge(list(points.values()))]
        for number, word in enumerate(FAMILIES):
            mine = {s: xy for s, xy in points.items() if family(s) == word}
            if mine:
                x, y = zip(*mine.values(), strict=True)
                words = [s.partition(":")[2] for s in mine]
                mark = number + 1
                curves.append(Curve(word, x, y, number, None, mark, words=words))
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
