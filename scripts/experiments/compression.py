"""What fewer bits on the wire cost in digits and rounds, and what they save in bytes.

FIPA with no option set and FedAvg with the options of experiment `tuning`, from the
same starts, with every compression of ``fedsciml.wrappers.compress``. The error is the
relative L2 error, of a regression the root of the mean squared one. Five minutes of one
core.
"""

import time
from collections.abc import Sequence
from statistics import mean, median

from experiments._drawing import Drawing, chosen, error_axis, spread
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, select, short
from experiments._runs import first, mean_rank, reached, root
from experiments._suites import options_of
from experiments._table import Cell, Table, megabytes
from experiments._words import title
from fedsciml import analysis, methods, plot, problems, run
from fedsciml.plot import Curve, Panel
from fedsciml.wrappers.compress import compressed

WORDS = {
    "none": ("float64, not compressed", 7, 0, None),
    "float32": ("float32", 0, 1, 1),
    "float32,feedback": ("float32 of changes", 0, 0, 1),
    "bfloat16": ("bfloat16", 1, 1, 2),
    "bfloat16,feedback": ("bfloat16 of changes", 1, 0, 2),
}
"""Compressions: label, colour, dash, marker."""

STARTS = {
    ("allen_cahn", "fipa"): 3,
    ("sine4", "fipa"): 3,
    ("heat_inverse", "fipa"): 6,
    ("poisson2d", "fipa"): 1,
    ("allen_cahn", "fedavg"): 1,
}
"""By problem and method."""

TARGETS = (1e-6, 1e-10)
ROUNDS = 50


def measure(
    problem: str, method: str, compression: str, seed: int, rounds: int
) -> Entry:
    """One run, round by round, to four digits."""
    made = problems.load(problem)
    quantity = analysis.quantity(made)
    options = options_of(problem, method)
    if method == "fipa":
        options = {**options, "basis": "own"}
    loaded = compressed(methods.load(method, **options), compression)
    history = run(
        made, loaded, rounds, seed, clock=time.process_time, progress=False
    ).history
    rank = mean_rank(history)
    return {
        "quantity": quantity,
        "parameters": made.network.size,
        "clients": made.clients,
        "round": [line.round for line in history],
        "error": [short(root(line, quantity)) for line in history],
        "up": [int(short(line.bytes_up)) for line in history],
        "down": [int(short(line.bytes_down)) for line in history],
        "mean_rank": short(rank) if rank else None,
        "seconds": short(history[-1].seconds),
    }


def table(entries: Sequence[Entry]) -> Table:
    """A row per problem, method and compression; medians over the starts."""
    heads = ["problem", "method", "uploads", "starts", "error at end", "worst"]
    heads += [f"rounds to {target:g}" for target in TARGETS]
    heads += [f"MB up to {target:g}" for target in TARGETS]
    rows: list[list[Cell]] = []
    for problem, method in STARTS:
        for word in WORDS:
            mine = select(entries, problem=problem, method=method, compression=word)
            if not mine:
                continue
            ends = [e["error"][-1] for e in mine]
            row: list[Cell] = [problem, method, word, len(mine)]
            row += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
            row += [reached([first(e, "round", t) for e in mine]) for t in TARGETS]
            row += [reached([first(e, "up", t) / 1e6 for e in mine]) for t in TARGETS]
            row += [
                megabytes(median(e[way][-1] for e in mine)) for way in ("up", "down")
            ]
            ranks = [e["mean_rank"] for e in mine if e["mean_rank"] is not None]
            rows.append([*row, f"{mean(ranks):.1f}" if ranks else ""])
    caption = "Fewer bits: errors and bytes, medians over the starts."
    heads += ["MB up", "MB down", "mean rank"]
    return Table("compression", caption, heads, rows, "docs/compression.md")


def by_bytes(entries: Sequence[Entry]) -> plot.Figure:
    """Median error against the megabytes that the clients sent."""
    parts = []
    fipa = chosen(entries, method="fipa")
    for problem, runs in grouped(fipa, "problem").items():
        curves = []
        for word, (label, colour, dash, marker) in WORDS.items():
            mine = [
                {**e, "megabytes": [sent / 1e6 for sent in e["up"]]}
                for e in select(runs, compression=word)
            ]
            found = spread(mine, "megabytes")
            curves.append(Curve(label, found.x, found.y, colour, dash, marker))
        words = f"{title(problem)}, {runs[0]['clients']} clients"
        parts.append(
            Panel(words, "megabytes that the clients send", error_axis(runs), curves)
        )
    return plot.panels(parts, 2, height=2.2, legend="below")


EXPERIMENT = Experiment(
    "compression",
    __doc__,
    ("problem", "method", "compression", "seed", "rounds"),
    [
        (problem, method, word, seed, ROUNDS)
        for (problem, method), starts in STARTS.items()
        for seed in range(starts)
        for word in WORDS
    ],
    measure,
    lambda entries: [table(entries)],
    {
        "wire-compression": Drawing(
            by_bytes,
            "Median error of FIPA against the bytes that the clients send, with "
            "sketches in float64, float32 and bfloat16, and as changes of the "
            "round before.",
        )
    },
)
