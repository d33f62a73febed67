"""What the figures share: records, one look per method, medians over the starts."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments._record import DATA, Entry, select
from experiments._words import spelt
from fedsciml import plot
from fedsciml.plot import Curve
from fedsciml.plot.shown import fingerprint
from fedsciml.plot.style import arrange

LEAST = 1e-34
"""What an error of exactly zero is drawn as; below the square of a rounding unit."""

POINTS = 80
"""Of a median; more are not seen."""


class MissingRecordError(LookupError):
    """A record that a figure needs is not there, or not what it needs."""


@dataclass(frozen=True)
class Drawing:
    """A figure of the paper.

    Args:
        draw: Makes it from the records, in their order.
        shows: A sentence for the list of figures.
        records: Files in the directory of the records; that of the experiment if none
            are named.
    """

    draw: Callable[..., plot.Figure]
    shows: str
    records: tuple[str, ...] = ()

    def figure(self, data: Path = DATA) -> plot.Figure:
        """The figure, from the records in a directory.

        Raises:
            MissingRecordError: If one is not there or has nothing that is drawn.
        """
        found = [_read(data / name) for name in self.records]
        try:
            return self.draw(*found)
        except MissingRecordError as error:
            raise MissingRecordError(f"{', '.join(self.records)} {error}") from error


class Look(NamedTuple):
    """Of a method, in every figure: its name, and numbers as of ``Curve``."""

    label: str
    colour: int
    dash: int
    marker: int


METHODS = {
    "fipa": Look("FIPA", 0, 0, 7),
    "gauss_newton": Look("Gauss-Newton, centralised", 7, 1, 6),
    "fipa_paper": Look("FIPA as published", 5, 0, 4),
    "fedavg": Look("FedAvg", 1, 0, 1),
    "fedprox": Look("FedProx", 4, 1, 2),
    "scaffold": Look("SCAFFOLD", 3, 2, 3),
    "fedadam": Look("FedAdam", 1, 3, 5),
    "feddyn": Look("FedDyn", 4, 0, 4),
    "fedrcl": Look("FedRCL", 6, 1, 3),
    "fedpm": Look("FedPM", 2, 0, 3),
    "fedpm_foof": Look("FedPM with FOOF", 2, 5, 6),
    "fedfisher_kfac": Look("FedFisher, K-FAC", 2, 1, 2),
    "fedfisher_diagonal": Look("FedFisher, diagonal", 2, 3, 1),
    "fedfisher_oneshot": Look("FedFisher, one shot", 2, 4, 7),
    "gradient_only": Look("gradients only, L-BFGS", 6, 0, 5),
    "local_only": Look("one client alone", 6, 3, 6),
    "adam": Look("Adam, centralised", 7, 3, 0),
    "lbfgs": Look("L-BFGS, centralised", 7, 2, 1),
    "deepxde": Look("DeepXDE, centralised", 3, 0, 0),
    "deepxde_nncg": Look("DeepXDE with NNCG", 3, 1, 5),
}


def look(method: str) -> Look:
    """How a method is drawn; one without a look of its own is grey under its name."""
    return METHODS.get(method, Look(spelt(method), 6, 5, 0))


def methods_of(entries: Iterable[Entry]) -> list[str]:
    """The methods of the entries, those with a look first, in its order."""
    found = {str(entry["method"]) for entry in entries}
    order = list(METHODS)
    return sorted(found, key=lambda m: (order.index(m) if m in order else 99, m))


def chosen(entries: Sequence[Entry], **wanted: object) -> list[Entry]:
    """As ``select``, for a figure.

    Raises:
        MissingRecordError: If there are none.
    """
    found = select(entries, **wanted)
    if not found:
        raise MissingRecordError(f"has no entries with {wanted}")
    return found


def spread(runs: Sequence[Entry], x: str) -> Curve:
    """Median error of several runs against x, with a band between the quartiles.

    Logarithms are interpolated at the x of the runs, from where all of them have begun;
    a run that has ended keeps its last error.

    Args:
        runs: With lists "error" and x.
        x: The field of increasing, positive numbers.
    """
    every = []
    for run in runs:
        pair = np.array([run[x], run["error"]], dtype=float)
        every.append(np.log(np.maximum(pair[:, np.isfinite(pair[1])], LEAST)))
    every = [pair for pair in every if pair.size]
    if not every:
        return Curve("", [], [])
    grid = np.unique(np.concatenate([at for at, _ in every]))
    grid = grid[grid >= max(at[0] for at, _ in every)]
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, POINTS).astype(int))]
    table = [np.interp(grid, at, error) for at, error in every]
    low, middle, high = np.exp(np.quantile(table, [0.25, 0.5, 0.75], axis=0)).tolist()
    ends = (low, high) if len(every) > 1 else None
    return Curve("", np.exp(grid).tolist(), middle, band=ends)


def error_axis(runs: Sequence[Entry]) -> str:
    """The label of the error of runs; ``_runs.root`` of a regression."""
    mse = runs[0]["quantity"] == "mse"
    return "root mean squared error" if mse else plot.QUANTITIES["relative_l2"]


def styled(method: str, curve: Curve) -> Curve:
    """The curve of a method in its look."""
    width = 1.6 if method == "fipa" else 1.0
    return replace(curve, **look(method)._asdict(), width=width)


def written(
    drawing: Drawing,
    data: Path,
    out: Path,
    name: str,
    formats: Sequence[str] = ("pdf", "png"),
) -> tuple[str, str]:
    """Write a figure in all formats.

    Args:
        drawing: The figure.
        data: Directory of the records.
        out: Directory of the figures.
        name: Of its files.
        formats: Endings of their names.

    Returns:
        A hash of what it shows; or nothing, and which record is missing.
    """
    try:
        figure = drawing.figure(data)
    except MissingRecordError as error:
        return "", str(error)
    shown = fingerprint(figure)
    arrange(figure)  # once: it takes a third of the time
    for form in formats:
        plot.save(figure, out / f"{name}.{form}")
    return shown, ""


def drawn(found: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The hashes of the figures written, by name; others are named as not drawn.

    Args:
        found: What ``written`` returned for each.
    """
    for name, (_, missing) in found.items():
        if missing:
            print(f"{name} not drawn: {missing}", file=sys.stderr)
    return {name: shown for name, (shown, _) in found.items() if shown}


def _read(path: Path) -> object:
    """A record: JSON, or the arrays of an .npz."""
    if not path.is_file():
        raise MissingRecordError(f"{path.name} is not there")
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    return json.loads(path.read_text())
