r"""Why a Gauss-Newton step stalls: one start that does and one that does not, examined.

With a hard cut-off 1e-10, poisson1d stalls from start 1 and converges from start 2. At
an early round of both: singular values s_i of J, targets c_i = -u_i . r, contributions
c_i / s_i to the step D; loss along D, actual and as the linear model has it; curvature
|r''[D, D]| / 2 beside |r| for steps of the first i directions. Then the deep stall of
sine8 from start 6, and the way of allen_cahn from start 0 through its hops.
"""

from typing import Any

from experiments._drawing import Drawing
from experiments._experiment import Experiment
from fedsciml import plot
from fedsciml.plot import Curve, Panel

History = dict[str, list[float]]
"""Loss, step and error, round by round."""


def stalls(record: dict[str, Any]) -> list[Panel]:
    """A start that stalls with a hard cut-off beside one that does not."""
    losses, spectra, bends, along = [], [], [], []
    for name, colour in {"stalled": 1, "converging": 0}.items():
        found = record[name]
        label = f"start {found['start']}"
        for dash, (policy, word) in enumerate(
            {"cut": "hard cut-off", "natural": "default"}.items()
        ):
            loss = found[policy]["loss"]
            rounds = range(1, len(loss) + 1)
            losses.append(Curve(f"{label}, {word}", rounds, loss, colour, dash))
        s = found["singular_values"]
        order = range(1, len(s) + 1)
        rest = [max(1 - x, 1e-16) for x in found["explained"]]
        spectra += [
            Curve(f"{label}: $|c_i| / |r|$", s, found["targets"], colour, None, 0),
            Curve(f"{label}: $|c_i| / s_i$", s, found["contributions"], colour, 0),
        ]
        bends += [
            Curve(f"{label}: curvature", order, found["curvature"], colour, 0),
            Curve(f"{label}: loss not explained", order, rest, colour, 1),
        ]
        lengths = found["lengths"]
        for dash, (kind, y) in enumerate(found["along"]["cut"].items()):
            along.append(Curve(f"{label}, {kind}", lengths, y, colour, dash))
    damped = record["stalled"]["along"]["damped"]["actual"]
    label = f"start {record['stalled']['start']}, damped step, actual"
    along.append(Curve(label, record["stalled"]["lengths"], damped, 2, 2))
    curvature = "curvature $|r''[D,D]| / 2|r|$, share of the loss"
    sides = "length t", "loss / loss at 0"
    return [
        Panel("loss", "round", "loss", losses, xscale="linear"),
        Panel("spectrum, targets, step", "$s_i / s_1$", "", spectra),
        Panel(curvature, "directions in the step", "", bends, "linear"),
        Panel("along the step", *sides, along, ylim=(1e-3, 1e6)),
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
    start = f"{deep['problem']}, start {deep['start']}"
    title, moved = f"{start}, round {deep['round']}", "$|t D|$"
    theta = r"$\Theta$"
    return [
        Panel(f"loss, {title}", moved, "loss / loss at 0", along),
        Panel(
            f"contraction, {title}",
            moved,
            theta,
            contracts,
            yscale="linear",
            ylim=(0, 1.5),
        ),
        way(start, deep["history"]),
        way("allen_cahn, start 0", record["hops"]),
    ]


def way(title: str, history: History) -> Panel:
    """Where a method stands and how good its model is, round by round."""
    rounds = range(1, len(history["loss"]) + 1)
    curves = [
        Curve("loss where the method stands", rounds, history["loss"], 0, 1),
        Curve("relative L2 error of the model", rounds, history["relative_l2"], 1),
    ]
    return Panel(title, "round", "", curves, xscale="linear")


EXPERIMENT = Experiment(
    "stall",
    __doc__,
    drawings={
        "steps-stall": Drawing(
            lambda record: plot.panels(stalls(record), height=2.3),
            "Why a Gauss-Newton step stalls from one start of poisson1d and not "
            "from another: weak directions ask for long steps whose curvature is "
            "large.",
        ),
        "steps-hop": Drawing(
            lambda record: plot.panels(hops(record), height=2.3),
            "A deep stall of sine8 along one step, and how runs leave such stalls "
            "by letting the loss rise.",
        ),
    },
)
