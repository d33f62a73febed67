"""Figures of the stalls: why steps stall, hops."""

from typing import Any

from experiments._drawing import Drawing

from fedsciml import plot
from fedsciml.plot import Curve, Panel


def stalls(record: dict[str, Any]) -> list[Panel]:
    """A start that stalls with a hard cut-off beside one that does not."""
    starts = {"stalled": 1, "converging": 0}
    losses, spectra, bends, along = [], [], [], []
    for name, colour in starts.items():
        found = record[name]
        label = f"start {found['start']}"
        for dash, policy in enumerate(("cut", "natural")):
            history = found[policy]["loss"]
            losses.append(
                Curve(
                    f"{label}, {'hard cut-off' if policy == 'cut' else 'default'}",
                    range(1, len(history) + 1),
                    history,
                    colour,
                    dash,
                )
            )
        s = found["singular_values"]
        order = range(1, len(s) + 1)
        spectra += [
            Curve(f"{label}: $|c_i| / |r|$", s, found["targets"], colour, None, 0),
            Curve(f"{label}: $|c_i| / s_i$", s, found["contributions"], colour, 0),
        ]
        bends += [
            Curve(f"{label}: curvature", order, found["curvature"], colour, 0),
            Curve(
                f"{label}: loss not explained",
                order,
                [max(1 - x, 1e-16) for x in found["explained"]],
                colour,
                1,
            ),
        ]
        for dash, kind in enumerate(("actual", "model")):
            along.append(
                Curve(
                    f"{label}, {kind}",
                    found["lengths"],
                    found["along"]["cut"][kind],
                    colour,
                    dash,
                )
            )
    damped = record["stalled"]["along"]["damped"]["actual"]
    lengths = record["stalled"]["lengths"]
    label = f"start {record['stalled']['start']}, damped step, actual"
    along.append(Curve(label, lengths, damped, 2, 2))
    rank = "directions in the step"
    return [
        Panel("loss", "round", "loss", losses, xscale="linear"),
        Panel("spectrum, targets, step", "$s_i / s_1$", "", spectra),
        Panel(
            "curvature $|r''[D,D]| / 2|r|$, share of the loss",
            rank,
            "",
            bends,
            "linear",
        ),
        Panel(
            "along the step", "length t", "loss / loss at 0", along, ylim=(1e-3, 1e6)
        ),
    ]


def hops(record: dict[str, Any]) -> list[Panel]:
    """A deep stall seen along a step, and a way to machine precision."""
    deep = record["deep"]
    along, contracts = [], []
    for colour, (level, rows) in enumerate(deep["along"].items()):
        x = [row["length"] for row in rows]
        label = rf"$\sqrt{{\mu}} = s_1 \cdot$ {level}"
        along.append(Curve(label, x, [row["loss"] for row in rows], colour))
        contracts.append(Curve(label, x, [row["contraction"] for row in rows], colour))
    title = f"{deep['problem']}, start {deep['start']}, round {deep['round']}"
    moved = "$|t D|$"
    theta = r"$\Theta$"
    contraction = Panel(
        f"contraction, {title}",
        moved,
        theta,
        contracts,
        yscale="linear",
        ylim=(0, 1.5),
    )
    return [
        Panel(f"loss, {title}", moved, "loss / loss at 0", along),
        contraction,
        way(f"{deep['problem']}, start {deep['start']}", deep["history"]),
        way("allen_cahn, start 0", record["hops"]),
    ]


def way(title: str, history: dict[str, list[float]]) -> Panel:
    """Where a method stands and how good its model is, round by round."""
    rounds = range(1, len(history["loss"]) + 1)
    curves = [
        Curve("loss where the method stands", rounds, history["loss"], 0, 1),
        Curve("relative L2 error of the model", rounds, history["relative_l2"], 1),
    ]
    return Panel(title, "round", "", curves, xscale="linear")


DRAWINGS = {
    "steps-stall": Drawing(
        lambda record: plot.panels(stalls(record), height=2.3),
        ("stall.json",),
        "Why a Gauss-Newton step stalls from one start of poisson1d and not from "
        "another: weak directions ask for long steps whose curvature is large.",
    ),
    "steps-hop": Drawing(
        lambda record: plot.panels(hops(record), height=2.3),
        ("stall.json",),
        "A deep stall of sine8 along one step, and how runs leave such stalls by "
        "letting the loss rise.",
    ),
}
