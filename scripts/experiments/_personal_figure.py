"""Figures of the runs with personal parameters."""

from collections.abc import Sequence

import numpy as np

from experiments._drawing import Drawing, chosen, spread
from experiments._personal_tables import FOUR, OURS, reported
from experiments._record import Entry
from fedsciml import plot
from fedsciml.plot import Curve, Panel

LOOKS = {
    OURS: (0, 0),
    FOUR: (0, 1),
    "FedRep": (1, 0),
    "FedPer": (3, 2),
    "FedAvg, magnitudes personal": (4, 1),
    "FedSA-LoRA": (2, 0),
    "FedLoRA-Optimizer as published": (5, 1),
    "FedLoRA-Optimizer, together": (5, 3),
    "FedAvg, then tuned at the site": (7, 1),
    "FedAvg of all": (7, 3),
    "local, Adam": (6, 0),
    "local, Gauss-Newton": (6, 3),
}
"""By label: colour and dash."""

WORDS = {
    OURS: "FIPA, own parameters eliminated",
    FOUR: "FIPA, the lowest loss of four starts",
    "FedLoRA-Optimizer as published": "FedLoRA-Optimizer, as published",
    "FedAvg of all": "FedAvg of all parameters",
    "local, Adam": "each site alone, Adam",
    "local, Gauss-Newton": "each site alone, Gauss-Newton",
}
"""Where labels need others."""

TITLES = {
    "exact": "Damped oscillations without noise; FIPA with the equation",
    "noisy": "Damped oscillations, noise 0.01, data alone",
}


def by_rounds(entries: Sequence[Entry]) -> plot.Figure:
    """Medians over the families; of others the lowest error so far."""
    panels = []
    for case, title in TITLES.items():
        chosen(entries, case=case)
        curves = []
        found = reported(entries, case)
        for k, (label, (colour, dash)) in enumerate(LOOKS.items()):
            if label in found:
                curves.append(_curve(label, found[label], colour, dash, k))
        panels.append(Panel(title, "round", "mean relative error of the sites", curves))
    return plot.panels(panels, 2, height=2.8, legend="below")


def _curve(
    label: str, runs: Sequence[Entry], colour: int, dash: int, marker: int
) -> Curve:
    lowest = [
        {
            "round": e["round"],
            "error": e["error"]
            if label in (OURS, FOUR)
            else np.fmin.accumulate(e["error"]).tolist(),
        }
        for e in runs
    ]
    found = spread(lowest, "round")
    band = found.band if label in (OURS, FOUR) else None
    width = 1.6 if label in (OURS, FOUR) else 1.0
    words = WORDS.get(label, label)
    return Curve(words, found.x, found.y, colour, dash, marker, band, width)


DRAWINGS = {
    "personal-rounds": Drawing(
        by_rounds,
        "Families of oscillations: errors against rounds, medians of ten families.",
    )
}
