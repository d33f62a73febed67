"""Figures of the benchmark: errors of all methods against rounds, bytes and seconds."""

from collections.abc import Sequence

import numpy as np
from _common import Entry
from _figures import Drawing, chosen, look, methods, spread, styled
from _suites import EXTRA, FEDPINN, SOUGHT
from _tables import OURS
from benchmark import longest

from fedsciml import plot
from fedsciml.federation.history import Round
from fedsciml.plot import Panel

SINES = ("sine2", "sine4", "sine8")
LINES = ("poisson1d", "allen_cahn", "bratu", "fisher_kpp", "reaction_diffusion")
INVERSE = ("heat_inverse", "burgers_inverse", "terrain")
TIMES = tuple(name for name in EXTRA if name not in INVERSE)
SPACES = ("gaussians2d", "poisson2d", "poisson3d", "poisson5d")


def rows(
    entries: Sequence[Entry],
    names: Sequence[str],
    record: str = "suite.json",
    height: float = 1.6,
) -> plot.Figure:
    """A row of three panels per problem: medians over the starts, and quartiles."""
    runs = [credited(e) for e in longest(chosen(entries, record, problem=names))]
    shown = [name for name in names if any(e["problem"] == name for e in runs)]
    parts = []
    for name in shown:
        bottom = name == shown[-1]
        parts += row([e for e in runs if e["problem"] == name], bottom)
    return plot.panels(parts, 3, height=height, legend="below", sharey="row")


def row(runs: Sequence[Entry], bottom: bool) -> list[Panel]:
    """The error of each method on one problem, against rounds, bytes and seconds."""
    mine = {m: [e for e in runs if e["method"] == m] for m in methods(runs)}
    sending = {m: found for m, found in mine.items() if found[0]["bytes"][-1]}
    quantity = runs[0]["quantity"]
    ylabel = "test MSE" if quantity == "mse" else plot.QUANTITIES[quantity]
    if sought := SOUGHT.get(runs[0]["problem"]):
        ylabel = f"error of {sought}"
    parts = []
    for axis, word, drawn in (
        ("round", "round", mine),
        ("megabytes", "megabytes sent, both ways", sending),
        ("seconds", "seconds of one core", mine),
    ):
        first = axis == "round"
        parts.append(
            Panel(
                f"{runs[0]['problem']}, {runs[0]['clients']} clients" if first else "",
                word if bottom else "",
                ylabel,
                [styled(m, spread(e, axis)) for m, e in drawn.items()],
            )
        )
    return parts


def credited(entry: Entry) -> Entry:
    """A run with megabytes, and errors as the tables count them (``_tables``)."""
    errors = entry["error"]
    if entry["method"] not in OURS:
        errors = np.fmin.accumulate(errors).tolist()
    return {**entry, "error": errors, "megabytes": [b / 1e6 for b in entry["bytes"]]}


def convergence(*histories: Sequence[Round]) -> plot.Figure:
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
        "seconds; medians over the starts, quartiles shaded. Of baselines, the lowest "
        "error so far; a round of centralised descent is a block of iterations.",
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
    "suite-fedpinn": Drawing(
        lambda entries: rows(entries, tuple(FEDPINN), "fedpinn.json", 1.3),
        ("fedpinn.json",),
        "Suite fedpinn: error of FIPA, of centralised Gauss-Newton and of FedAvg with "
        "its published setting against rounds, bytes and seconds.",
    ),
    "suite-extra": Drawing(
        lambda entries: rows(entries, TIMES, "extra.json", 1.3),
        ("extra.json",),
        "Suite extra: the same for equations in time, systems and other domains.",
    ),
    "suite-inverse": Drawing(
        lambda entries: rows(entries, INVERSE, "extra.json"),
        ("extra.json",),
        "The same for unknown numbers and measured data.",
    ),
}
