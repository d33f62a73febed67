"""Figures of the step policies: why steps stall, hops, performance profiles."""

from math import inf
from typing import Any

from _common import Entry
from _figures import Drawing

from fedsciml import plot
from fedsciml.plot import Curve, Panel

TARGET = "1e-06"
"""Error to which the step policies are compared."""

WITHIN = 100
"""Rounds that they have for it."""


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


def costs(entries: list[Entry]) -> dict[str, dict[str, list[float]]]:
    """Step policies, each at its best options, on the runs that all of them have."""
    found: dict[str, dict[tuple[Any, ...], Any]] = {}
    for entry in entries:
        case = tuple(entry[key] for key in ("problem", "setting", "seed"))
        cost = entry["reached"][TARGET]
        late = cost is not None and cost["rounds"] > WITHIN
        found.setdefault(entry["policy"], {})[case] = None if late else cost
    cases = sorted(set.intersection(*(set(runs) for runs in found.values())))

    def solved(policy: str) -> tuple[int, bool]:
        count = sum(found[policy][case] is not None for case in cases)
        return count, ":" not in policy  # of equals, that with the default options

    best: dict[str, str] = {}
    for policy in sorted(found, key=solved):
        best[policy.partition(":")[0]] = policy
    shown = sorted(best.values(), key=solved, reverse=True)
    # Not the seconds: the runs of the record were made on a more or less busy machine.
    kinds = {"rounds": "rounds", "candidate losses": "probes"}
    return {
        kind: {
            policy: [
                cost[field] if (cost := found[policy][case]) else inf for case in cases
            ]
            for policy in shown
        }
        for kind, field in kinds.items()
    }


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
    "steps-profile": Drawing(
        lambda entries: plot.profile(costs(entries), f"to the error {TARGET}"),
        ("steps.json",),
        "Performance profiles of the step policies: the share of problems and starts "
        "solved within a factor of the best.",
    ),
}
