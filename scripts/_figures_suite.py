"""Figures of the benchmark: errors of all methods against rounds, bytes and seconds."""

from collections.abc import Sequence

from _common import Entry
from _figures import Drawing, chosen, look, methods, spread, styled

from fedsciml import plot
from fedsciml.plot import Panel
from fedsciml.record import Line

SINES = ("sine2", "sine4", "sine8")
LINES = ("poisson1d", "allen_cahn", "bratu", "fisher_kpp", "reaction_diffusion")
SPACES = ("gaussians2d", "poisson2d", "poisson3d", "poisson5d")


def rows(entries: Sequence[Entry], names: Sequence[str]) -> plot.Figure:
    """A row of three panels per problem: medians over the starts, and quartiles."""
    entries = [e for e in chosen(entries, "suite.json", problem=names) if "round" in e]
    found = chosen(entries, "suite.json, by rounds,")
    shown = [name for name in names if any(e["problem"] == name for e in found)]
    parts = []
    for name in shown:
        runs = [e for e in found if e["problem"] == name]
        by_method = {m: [e for e in runs if e["method"] == m] for m in methods(runs)}
        sending = {
            m: [{**e, "bytes": [b / 1e6 for b in e["bytes"]]} for e in mine]
            for m, mine in by_method.items()
            if mine[0]["bytes"][-1]
        }
        quantity = runs[0]["quantity"]
        ylabel = "test MSE" if quantity == "mse" else plot.QUANTITIES[quantity]
        clients = max(e["clients"] for e in runs)
        bottom = name == shown[-1]
        for x, word, drawn in (
            ("round", "round", by_method),
            ("bytes", "megabytes sent, both ways", sending),
            ("seconds", "seconds of CPU time", by_method),
        ):
            first = x == "round"
            parts.append(
                Panel(
                    f"{name}, {clients} clients" if first else "",
                    word if bottom else "",
                    ylabel,
                    [
                        styled(m, spread(mine, x, log=not first))
                        for m, mine in drawn.items()
                    ],
                    xscale="linear" if first else "log",
                )
            )
    return plot.panels(parts, 3, height=1.6, legend="below", sharey="row")


def convergence(*histories: Sequence[Line]) -> plot.Figure:
    """Single runs of the demo."""
    names = ("fipa", "fedavg", "gauss_newton")
    labelled = {
        look(name).label: history
        for name, history in zip(names, histories, strict=True)
    }
    return plot.convergence(labelled, "relative_l2", "Allen-Cahn, two clients")


DRAWINGS = {
    "allen_cahn-convergence": Drawing(
        convergence,
        (
            "allen_cahn-fipa.jsonl",
            "allen_cahn-fedavg.jsonl",
            "allen_cahn-gauss_newton.jsonl",
        ),
        "One run each of FIPA, FedAvg and centralised Gauss-Newton on Allen-Cahn.",
    ),
    "suite-sine": Drawing(
        lambda entries: rows(entries, SINES),
        ("suite.json",),
        "Test error of all methods on sine2, sine4 and sine8 against rounds, bytes and "
        "seconds; medians over the starts, quartiles shaded.",
    ),
    "suite-pde-1d": Drawing(
        lambda entries: rows(entries, LINES),
        ("suite.json",),
        "Relative L2 error of all methods on the equations in one dimension against "
        "rounds, bytes and seconds; medians over the starts, quartiles shaded.",
    ),
    "suite-2d-5d": Drawing(
        lambda entries: rows(entries, SPACES),
        ("suite.json",),
        "The same in two, three and five dimensions, with the regression gaussians2d.",
    ),
}
