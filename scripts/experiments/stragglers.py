"""Clients that are missing: how far FIPA gets without them, and with stand-ins.

Five clients, strips of the domain. Two of them are gone for ten rounds; one is gone for
ever, that in the middle or one at an end, which alone has that end's boundary values;
each is missing at random in a tenth of the rounds. For up to `staleness` rounds
a client's last sketch stands in for it, as if its residual were linear; 0 is the
default, without stand-ins. The error is that on the whole domain, also on the part
whose owner is missing. Five minutes of one core.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from experiments._absent import CLIENTS, NOBODY, ROUNDS, SCENARIOS, Patchy, away
from experiments._drawing import Drawing, chosen, spread
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, select, short
from experiments._table import Table
from experiments._words import title
from fedsciml import methods, plot, problems
from fedsciml.federation.participation import Rules
from fedsciml.plot import Curve, Panel

PROBLEMS = ("allen_cahn", "heat")
SEEDS = (0, 1, 2)
STALENESS = (0, 2, 5, 20)
ALONE = "no stand-ins"
BOUNDS = {
    NOBODY: 1e-12,
    "two for ten rounds": 1e-10,
    "one for ever": 1e-9,
    "at random": 1e-10,
}
"""On the last error of any start."""

CASES = [
    (problem, scenario, staleness, seed)
    for seed, problem, scenario in product(SEEDS, PROBLEMS, SCENARIOS)
    for staleness in (STALENESS if scenario != NOBODY else (0,))
]
"""Where nobody is missing, nobody stands in."""


def measure(problem: str, scenario: str, staleness: int, seed: int) -> Entry:
    """One run."""
    made = problems.load(problem, clients=CLIENTS)
    clients = Patchy(made, methods.load("fipa", basis="own"), away(scenario, seed))
    history = clients.run(ROUNDS, seed, Rules(min_clients=1, staleness=staleness))
    errors = [short(line.relative_l2) for line in history]
    return {
        "missing": sum(len(line.dropped) for line in history),
        "error": errors[-1],
        "errors": errors,
        "seconds": short(history[-1].seconds),
    }


def table(entries: Sequence[Entry]) -> Table:
    """The largest last errors of the starts."""
    heads = ["problem", "missing", "none", *(f"for {s} rounds" for s in STALENESS[1:])]
    rows = []
    for problem, scenario in product(PROBLEMS, SCENARIOS):
        mine = select(entries, problem=problem, scenario=scenario)
        errors = ([e["error"] for e in select(mine, staleness=s)] for s in STALENESS)
        rows.append([problem, scenario, *(max(of, default=None) for of in errors)])
    caption = "Largest last errors of the starts."
    return Table("stragglers", caption, heads, rows, "docs/stragglers.md")


def stragglers(entries: Sequence[Entry]) -> plot.Figure:
    """Errors by round: a row per problem, a panel per scenario."""
    parts = []
    for problem, runs in grouped(entries, "problem").items():
        whole = chosen(runs, scenario=NOBODY)
        for scenario in dict.fromkeys(e["scenario"] for e in runs):
            if scenario == NOBODY:
                continue
            mine = grouped(select(runs, scenario=scenario), "staleness")
            curves = [curve("nobody missing", whole, 7, 1)]
            for k, (staleness, same) in enumerate(mine.items()):
                label = f"stand-ins for {staleness} rounds" if staleness else ALONE
                curves.append(curve(label, same, k, k + 2))
            error = plot.QUANTITIES["relative_l2"]
            words = f"{title(problem)}: {scenario}"
            parts.append(Panel(words, "round", error, curves, xscale="linear"))
    return plot.panels(parts, 4, height=1.8, legend="below", sharey="row")


def curve(label: str, runs: Sequence[Entry], colour: int, dash: int) -> Curve:
    """Median and quartiles of the starts."""
    by_round = [
        {"error": e["errors"], "round": range(1, len(e["errors"]) + 1)} for e in runs
    ]
    return replace(spread(by_round, "round"), label=label, colour=colour, dash=dash)


EXPERIMENT = Experiment(
    "stragglers",
    __doc__,
    ("problem", "scenario", "staleness", "seed"),
    CASES,
    measure,
    lambda entries: [table(entries)],
    {
        "stragglers": Drawing(
            stragglers,
            "Error of FIPA by round where clients are missing, without and with "
            "stand-ins, medians and quartiles of three starts.",
        )
    },
)
