"""Figures of the runs on classification."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from statistics import median

import numpy as np

from experiments._classes import first, plain, tuned
from experiments._classes_tables import OURS, by_ranks, gains, images_of, ours, setting
from experiments._drawing import Drawing, Look, MissingRecordError, look
from experiments._record import Entry, select
from experiments._words import title
from fedsciml import plot
from fedsciml.plot import Curve, Panel

ACCURACY = "accuracy on the test fifth, %"
AXES = {
    "round": "round",
    "up": "numbers that a client sends, over the parameters",
    "seconds": "seconds of one core",
}
TO = AXES | {"round": "rounds"}
LAZY = list(OURS)[1]
LOOKS = {
    "FIPA, rank 20, gradient": look("fipa")._replace(label="FIPA, rank 20"),
    LAZY: Look("FIPA, lazy: rank 10, every 8 rounds", 5, 1, 2),
}
SHOWN = ("fedavg", "scaffold", "feddyn", "fedpm", "fedrcl", "fipa_paper")


def centre(runs: Sequence[Entry], axis: str = "round") -> Curve:
    """Median accuracy, in per cent, with quartiles; lines between rounds."""
    if not runs:
        return Curve("", [], [])
    tables = [
        (e[axis] if axis != "round" else range(1, len(e["accuracy"]) + 1), e)
        for e in runs
    ]
    end = min(x[-1] for x, _ in tables)
    grid = np.unique(np.concatenate([np.asarray(x, dtype=float) for x, _ in tables]))
    grid = grid[(grid <= end) & (grid >= max(x[0] for x, _ in tables))]
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, 60).astype(int))]
    all_ = [np.interp(grid, x, 100 * np.array(e["accuracy"])) for x, e in tables]
    low, middle, high = np.quantile(all_, [0.25, 0.5, 0.75], axis=0).tolist()
    return Curve("", grid.tolist(), middle, band=(low, high) if len(runs) > 1 else None)


def like(name: str, curve: Curve) -> Curve:
    """In the look of a method."""
    of = LOOKS.get(name, look(name))
    return replace(curve, **of._asdict())


def lines(entries: Sequence[Entry], alpha: float, axis: str) -> list[Curve]:
    """A curve for each method on digits."""
    groups = {name: ours(entries, "digits", alpha, OURS[name]) for name in LOOKS}
    groups |= {method: tuned(entries, "digits", alpha, method) for method in SHOWN}
    if not any(groups.values()):
        raise MissingRecordError(f"has no entries with alpha {alpha}")
    return [like(name, centre(runs, axis)) for name, runs in groups.items() if runs]


def against(axis: str, scale: str) -> Drawing:
    """Accuracy against what was spent, for two alphas."""

    def draw(entries: Sequence[Entry]) -> plot.Figure:
        parts = [
            Panel(
                rf"{title('digits')}, five clients, $\alpha = {alpha}$",
                AXES[axis],
                ACCURACY,
                lines(entries, alpha, axis),
                xscale=scale,
                yscale="linear",
                ylim=(85, 100),
            )
            for alpha in (0.1, 0.05)
        ]
        return plot.panels(parts, 2, height=2.5, legend="below")

    words = {"round": "rounds", "up": "uploads", "seconds": "seconds"}
    return Drawing(
        draw,
        f"Accuracy on digits against {words[axis]}: medians and quartiles of five "
        "starts, the rivals with their best settings.",
    )


def ranks(entries: Sequence[Entry]) -> plot.Figure:
    """Accuracy against rounds by rank."""
    parts = []
    for word, sent in (("with the gradient", True), ("without it", False)):
        curves = []
        for k, rank in enumerate(("5", "10", "20", "50")):
            runs = ours(entries, "digits", 0.1, by_ranks(rank, sent))
            found = centre([e for e in runs if e["seed"] < 3])
            if found.x:
                one = replace(found, colour=k, dash=k, marker=k + 1)
                curves.append(replace(one, label=f"rank {rank}"))
        if not curves:
            continue
        parts.append(
            Panel(
                rf"{title('digits')}, FIPA {word}, $\alpha = 0.1$",
                AXES["round"],
                ACCURACY,
                curves,
                xscale="linear",
                yscale="linear",
                ylim=(0, 100),
            )
        )
    if not parts:
        raise MissingRecordError("has no entries by rank")
    width = plot.PAGE if len(parts) > 1 else 4.5
    return plot.panels(parts, len(parts), width=width, height=2.6, legend="below")


def by_alpha(axis: str, what: str) -> Drawing:
    """What the median start spends to get to 97 %, by alpha."""

    def draw(entries: Sequence[Entry]) -> plot.Figure:
        alphas, curves = (0.05, 0.1, 0.3, 0.5), list[Curve]()
        for name in (*LOOKS, "fedavg", "scaffold"):
            of = OURS.get(name)
            points = []
            for alpha in alphas:
                runs = (
                    tuned(entries, "digits", alpha, name)
                    if of is None
                    else ours(entries, "digits", alpha, of)
                )
                if runs:
                    points.append((alpha, median(first(e, 0.97, axis) for e in runs)))
            there = [(x, y) for x, y in points if isfinite(y)]
            if there:
                x, y = zip(*there, strict=True)
                curves.append(like(name, Curve("", x, y)))
        if not curves:
            raise MissingRecordError("has no entries of digits")
        words = f"{title('digits')}: to an accuracy of 97 %; no mark: never there"
        label = r"$\alpha$ of the partition (larger: clients more alike)"
        part = Panel(words, label, TO[axis], curves)
        return plot.panels([part], 1, width=4.5, height=2.6, legend="below")

    return Drawing(draw, f"Median {what} to 97 % on digits, by alpha.")


def spectra(entries: Sequence[Entry]) -> plot.Figure:
    """The gain over FedAvg against what the clients' sketches have in common."""
    curves = []
    for k, alpha in enumerate((0.05, 0.1, 0.3, 0.5)):
        pairs = gains(entries, alpha)
        if pairs:
            x, y = zip(*pairs, strict=True)
            label = rf"$\alpha = {alpha}$"
            curves.append(Curve(label, x, y, k, None, k + 1))
    if not curves:
        raise MissingRecordError("has no entries with overlaps")
    part = Panel(
        f"{title('digits')}, a mark for each start",
        "overlap of the clients' leading subspaces",
        "percentage points above FedAvg, round 10",
        curves,
        xscale="linear",
        yscale="linear",
    )
    return plot.panels([part], 1, width=4.5, height=2.6, legend="each")


def warm(entries: Sequence[Entry]) -> plot.Figure:
    """FedAvg going on, and FIPA after some rounds of it."""
    mine = [e for e in entries if not plain(e)]
    if not mine:
        raise MissingRecordError("has no entries with a warm-up")
    options = mine[0]["options"]["warm_up"][1]
    on = select(entries, method="fedavg", options=options, alpha=0.1, rounds=60)
    parts = []
    for rounds in sorted({e["options"]["warm_up"][2] for e in mine}):
        curves = [replace(like("fedavg", centre(on)), band=None)]
        for k, (label, trained, lazy) in enumerate(
            (
                ("then FIPA, lazy, on all parameters", "all", True),
                ("then FIPA, lazy, on the last layer", "classifier", True),
            )
        ):
            runs = [
                e
                for e in mine
                if e["options"]["warm_up"][2] == rounds
                and e["options"]["trained"] == trained
                and ("every" in e["options"]) == lazy
            ]
            found = centre(runs)
            keep = [i for i, x in enumerate(found.x) if x >= rounds]
            cut = Curve(label, [found.x[i] for i in keep], [found.y[i] for i in keep])
            curves.append(replace(cut, colour=(0, 2)[k], dash=k))
        words = f"{title('digits')}, after {rounds} rounds of FedAvg"
        parts.append(
            Panel(
                words,
                AXES["round"],
                ACCURACY,
                curves,
                xscale="linear",
                yscale="linear",
                ylim=(85, 100),
            )
        )
    return plot.panels(parts, 2, height=2.2, legend="below", sharey="row")


def images(axis: str, scale: str) -> Drawing:
    """The convolutional network."""

    def draw(entries: Sequence[Entry]) -> plot.Figure:
        curves = []
        for runs in images_of(entries):
            name = runs[0]["method"]
            if name == "fipa":
                lazy = "every" in runs[0]["options"]
                name = LAZY if lazy else "fipa"
            found = like(name, centre(runs, axis))
            if runs[0]["method"] == "fipa":
                words = setting(runs[0]["options"])
                words = re.sub(r"every (\d+)", r"sketches every \1 rounds", words)
                found = replace(found, label=f"FIPA, {words}")
            curves.append(found)
        if not curves:
            raise MissingRecordError("has no entries of mnist5k")
        part = Panel(
            rf"{title('mnist5k')}, convolutional network, $\alpha = 0.1$",
            AXES[axis],
            ACCURACY,
            curves,
            xscale=scale,
            yscale="linear",
            ylim=(50, 100),
        )
        return plot.panels([part], 1, width=4.5, height=2.8, legend="below")

    words = {"round": "rounds", "up": "uploads", "seconds": "seconds"}
    return Drawing(
        draw, f"Accuracy of a convolutional network on MNIST against {words[axis]}."
    )


DRAWINGS: Mapping[str, Drawing] = {
    "classes-rounds": against("round", "linear"),
    "classes-uploads": against("up", "log"),
    "classes-seconds": against("seconds", "log"),
    "classes-ranks": Drawing(
        ranks,
        "Accuracy on handwritten digits by the rank of FIPA's sketches, three starts.",
    ),
    "classes-alpha-rounds": by_alpha("round", "rounds"),
    "classes-alpha-uploads": by_alpha("up", "uploads"),
    "classes-spectra": Drawing(
        spectra,
        "What FIPA gains over FedAvg against the overlap of the clients' leading "
        "singular subspaces in its run.",
    ),
    "classes-warm-up": Drawing(
        warm, "Accuracy on digits when FIPA follows some rounds of FedAvg."
    ),
    "classes-images-rounds": images("round", "linear"),
    "classes-images-uploads": images("up", "log"),
    "classes-images-seconds": images("seconds", "log"),
}
