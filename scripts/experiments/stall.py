r"""Why a Gauss-Newton step stalls: one start that does and one that does not, examined.

With a hard cut-off 1e-10, poisson1d stalls from start 1 and converges from start 2. At
an early round of both: singular values s_i of J, targets c_i = -u_i . r, contributions
c_i / s_i to the step D; loss along D, actual and as the linear model has it; curvature
|r''[D, D]| / 2 beside |r| for steps of the first i directions. Then the deep stall of
sine8 from start 6, and the way of allen_cahn from start 0 through its hops.
"""

from dataclasses import replace
from typing import Any

from experiments._drawing import Drawing
from experiments._experiment import Experiment
from experiments._words import title
from fedsciml import plot
from fedsciml.plot import Curve, Panel

History = dict[str, list[float]]
"""Loss, step and error, round by round."""

COLOURS = {"stalled": 1, "converging": 0}
POLICIES = {"cut": "hard cut-off", "natural": "default"}
DIRECTIONS = {
    "target, share of the residual, $|c_i| / |r|$": "direction $i$",
    "what it asks for, $|c_i| / s_i$": "direction $i$",
    "curvature over residual, $|r''[D, D]| / 2 |r|$": "directions in the step",
    "share of the loss not explained": "directions in the step",
}
"""Four quantities, with what they are drawn against."""

LABELS = {
    "loss": "loss where the method stands",
    "relative_l2": f"{plot.QUANTITIES['relative_l2']} of the model",
}


def stalls(record: dict[str, Any]) -> plot.Figure:
    """Losses from a start that stalls with a hard cut-off, and from another."""
    losses, along = [], []
    for name, colour in COLOURS.items():
        found = record[name]
        label = f"start {found['start']}"
        for dash, (policy, word) in enumerate(POLICIES.items()):
            loss = found[policy]["loss"]
            rounds = range(1, len(loss) + 1)
            losses.append(Curve(f"{label}, {word}", rounds, loss, colour, dash))
        for kind, y in found["along"]["cut"].items():
            words = f"{label}, {'linear model' if kind == 'model' else 'network'}"
            line = Curve(words, found["lengths"], y, colour, int(kind == "model"))
            along.append(line)
    damped = record["stalled"]["along"]["damped"]["actual"]
    label = f"start {record['stalled']['start']}, damped step"
    along.append(Curve(label, record["stalled"]["lengths"], damped, 2, 2))
    words = title(record["problem"])
    early = f"{words}, along the step of round {record['round']}"
    sides = "length $t$ of the step", "loss / loss at $t = 0$"
    parts = [
        Panel(words, "round", "loss", losses, "linear", ylim=(1e-42, 1e3)),
        Panel(early, *sides, along, ylim=(1e-3, 1e6)),
    ]
    return plot.panels(parts, height=2.6)


def directions(record: dict[str, Any]) -> plot.Figure:
    """What the directions of the step of both starts are, the strongest first."""
    whole: dict[str, list[Curve]] = {words: [] for words in DIRECTIONS}
    for name, colour in COLOURS.items():
        found = record[name]
        rest = [max(1 - x, 1e-16) for x in found["explained"]]
        bends = found["curvature"]
        values = found["targets"], found["contributions"], bends, rest
        for curves, y in zip(whole.values(), values, strict=True):
            label, order = f"start {found['start']}", range(1, len(y) + 1)
            curves.append(Curve(label, order, y, colour, 1 - colour, 2 - colour))
    parts = [
        Panel(words, DIRECTIONS[words], "", curves, "linear")
        for words, curves in whole.items()
    ]
    return plot.panels(parts, height=2.0, legend="below")


def hops(record: dict[str, Any]) -> plot.Figure:
    """Losses along a step of a deep stall, and round by round on the way out."""
    deep = record["deep"]
    return plot.panels(
        [
            step(deep, "loss", "loss / loss at $t = 0$"),
            way(deep["problem"], deep["start"], deep["history"], "loss"),
            way("allen_cahn", 0, record["hops"], "loss"),
        ],
        3,
        height=2.6,
    )


def errors(record: dict[str, Any]) -> plot.Figure:
    """Errors of the models that the same runs would return."""
    deep = record["deep"]
    parts = [
        way(deep["problem"], deep["start"], deep["history"], "relative_l2"),
        way("allen_cahn", 0, record["hops"], "relative_l2"),
    ]
    return plot.panels(parts, height=2.1)


def contraction(record: dict[str, Any]) -> plot.Figure:
    """How much of the next step is left along the step of a deep stall."""
    part = step(record["deep"], "contraction", r"next step / this step, $\Theta$")
    part = replace(part, yscale="linear", ylim=(0, 1.5))
    return plot.panels([part], 1, width=plot.COLUMN, height=2.6)


def step(deep: dict[str, Any], field: str, label: str) -> Panel:
    """Something along the step of a deep stall, by damping."""
    curves = []
    for k, (level, rows) in enumerate(deep["along"].items()):
        power = level.removeprefix("1e")
        words = rf"$\sqrt{{\mu}} = 10^{{{power}}} s_1$"
        x, y = ([row[name] for row in rows] for name in ("length", field))
        curves.append(Curve(words, x, y, k, k, width=2.4 - 0.4 * k))
    words = f"{title(deep['problem'])}, a step of round {deep['round']}"
    return Panel(words, "length $|t D|$ of the step", label, curves)


def way(problem: str, start: int, history: History, field: str) -> Panel:
    """Where a method stands or how good its model is, round by round."""
    rounds = range(1, len(history[field]) + 1)
    curves = [Curve("", rounds, history[field], int(field != "loss"))]
    heading = f"{title(problem)}, start {start}"
    return Panel(heading, "round", LABELS[field], curves, xscale="linear")


EXPERIMENT = Experiment(
    "stall",
    __doc__,
    drawings={
        "steps-stall": Drawing(
            stalls,
            "Why a Gauss-Newton step stalls from one start of the Poisson equation and "
            "not from another: the loss by round, and along an early step.",
        ),
        "steps-directions": Drawing(
            directions,
            "The directions of that step: weak ones ask for long steps whose curvature "
            "is large, and hardly matter.",
        ),
        "steps-hop": Drawing(
            hops,
            "The loss along a step of a deep stall, and how runs leave such stalls by "
            "letting the loss rise.",
        ),
        "steps-hop-error": Drawing(errors, "The error of the model in the same runs."),
        "steps-hop-contraction": Drawing(
            contraction,
            "How long the next step is beside this one, along the step of that stall.",
        ),
    },
)
