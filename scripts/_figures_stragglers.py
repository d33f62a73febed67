"""Figures of clients that are missing."""

from collections.abc import Sequence
from dataclasses import replace

from _common import Entry
from experiments._drawing import Drawing, chosen, spread
from experiments._record import grouped

from fedsciml import plot
from fedsciml.plot import Curve, Panel

NOBODY = "nobody"


def stragglers(entries: Sequence[Entry]) -> plot.Figure:
    """Errors by round: a row per problem, a panel per scenario."""
    parts = []
    for problem, runs in grouped(entries, "problem").items():
        whole = chosen(runs, "stragglers.json", scenario=NOBODY)
        for scenario in dict.fromkeys(e["scenario"] for e in runs):
            if scenario == NOBODY:
                continue
            mine = [e for e in runs if e["scenario"] == scenario]
            curves = [curve("nobody missing", whole, 7, 1)]
            for k, (staleness, same) in enumerate(grouped(mine, "staleness").items()):
                label = (
                    f"stand-ins for {staleness} rounds" if staleness else "no stand-ins"
                )
                curves.append(curve(label, same, k, 0))
            parts.append(
                Panel(
                    f"{problem}: {scenario}",
                    "round",
                    plot.QUANTITIES["relative_l2"],
                    curves,
                    xscale="linear",
                )
            )
    return plot.panels(parts, 4, height=1.8, legend="below", sharey="row")


def curve(label: str, runs: Sequence[Entry], colour: int, dash: int) -> Curve:
    """Median and quartiles of the starts."""
    by_round = [
        {"error": e["errors"], "round": range(1, len(e["errors"]) + 1)} for e in runs
    ]
    return replace(spread(by_round, "round"), label=label, colour=colour, dash=dash)


DRAWINGS = {
    "stragglers": Drawing(
        stragglers,
        ("stragglers.json",),
        "Error of FIPA by round where clients are missing, without and with stand-ins, "
        "medians and quartiles of three starts.",
    ),
}
