r"""Why a Gauss-Newton step stalls: one start that does and one that does not, examined.

With a hard cut-off 1e-10, poisson1d stalls from start 1 and converges from start 2. At
an early round of both: singular values s_i of J, targets c_i = -u_i . r, contributions
c_i / s_i to the step D; loss along D, actual and as the linear model has it; curvature
|r''[D, D]| / 2 beside |r| for steps of the first i directions. Then the deep stall of
sine8 from start 6, and the way of allen_cahn from start 0 through its hops. A minute.
"""

import json
from typing import Any

import torch
from torch import Tensor

import problems
from experiments._drawing import Drawing
from experiments._experiment import Experiment
from experiments._record import Entry
from fedsciml import plot, policies, run
from fedsciml.methods.fipa import Fipa
from fedsciml.plot import Curve, Panel
from fedsciml.residual import Linearisation, System

PROBLEM = "poisson1d"
STARTS = {"stalled": 1, "converging": 2}
CUTOFF = 1e-10
HARD = "line_search:cutoff=1e-10"
ROUND = 5
"""Where the starts are examined: after so many rounds with the cut-off."""

DEEP, DEEP_START, DEEP_ROUND = "sine8", 6, 52
"""A stall at a small loss; so many rounds of the default policy lead to it."""

History = dict[str, list[float]]
"""Loss, step and error, round by round."""


def trained(
    problem: str, policy: str, seed: int, rounds: int
) -> tuple[Tensor, History]:
    """theta and history of a centralised run."""
    method = Fipa(policies.parse(policy), pooled=True)
    result = run(problems.load(problem), method, rounds, seed)
    keys = ("loss", "step", "relative_l2")
    return result.theta, {k: [getattr(e, k) for e in result.history] for k in keys}


def decomposed(
    problem: str, theta: Tensor
) -> tuple[System, Linearisation, tuple[Tensor, Tensor, Tensor]]:
    """The pooled residual, its linearisation at theta, and J = U diag(s) V^T."""
    made = problems.load(problem)
    system = System(made, made.pooled())
    linear = system.linearise(theta)
    left, s, basis = torch.linalg.svd(linear.jacobian(), full_matrices=False)
    return system, linear, (left, s, basis)


def anatomy(problem: str, theta: Tensor) -> dict[str, object]:
    """Spectrum, contributions, loss along the step and curvature at theta."""
    system, linear, (left, s, basis) = decomposed(problem, theta)
    keep = s > CUTOFF * s[0]
    s, basis = s[keep], basis[keep]
    r, c = linear.residual, -(linear.residual @ left[:, keep])
    whole = (c / s) @ basis
    damped = (s / (s**2 + (1e-2 * s[0]) ** 2) * c) @ basis
    lengths = [2.0 ** (-j / 2) for j in range(37)]
    along = {}
    for name, step in {"cut": whole, "damped": damped}.items():
        slope = linear.jvp(step)
        actual = [2 * system.loss(theta + t * step) / float(r @ r) for t in lengths]
        model = [float((r + t * slope).square().sum() / (r @ r)) for t in lengths]
        along[name] = {"actual": actual, "model": model}
    bends = []
    for i in range(1, len(s) + 1):
        step = (c[:i] / s[:i]) @ basis[:i]
        h = 1e-3 / float(step.norm())
        ahead, behind = (system.residual(theta + x * step) for x in (h, -h))
        bends.append(float((ahead - 2 * r + behind).norm() / h**2 / 2 / r.norm()))
    return {
        "singular_values": (s / s[0]).tolist(),
        "targets": (c.abs() / r.norm()).tolist(),
        "contributions": (c / s).abs().tolist(),
        "explained": (c.square().cumsum(0) / (r @ r)).tolist(),
        "lengths": lengths,
        "along": along,
        "curvature": bends,
    }


def contraction(problem: str, theta: Tensor) -> dict[str, object]:
    """Loss, relative to that at theta, and Theta along damped steps."""
    system, linear, (left, s, basis) = decomposed(problem, theta)
    c = -(linear.residual @ left)
    result: dict[str, object] = {}
    for level in (10, 12, 14, 15):
        inverse = s / (s**2 + (10 ** (-level / 2) * s[0]) ** 2)
        step, rows = (inverse * c) @ basis, []
        for j in range(-24, 3):
            residual = system.residual(theta + 2.0 ** (j / 2) * step)
            there = -(residual @ left)
            rows.append(
                {
                    "length": 2.0 ** (j / 2) * float(step.norm()),
                    "loss": float(residual @ residual) / 2 / linear.loss,
                    "contraction": float(
                        (inverse * there).norm() / (inverse * c).norm()
                    ),
                }
            )
        result[f"1e-{level / 2:g}"] = rows
    return result


def measure() -> Entry:
    """Everything."""
    content: Entry = {"problem": PROBLEM, "round": ROUND}
    for name, seed in STARTS.items():
        content[name] = {
            "start": seed,
            "cut": trained(PROBLEM, HARD, seed, 50)[1],
            "natural": trained(PROBLEM, "natural", seed, 50)[1],
            **anatomy(PROBLEM, trained(PROBLEM, HARD, seed, ROUND)[0]),
        }
    theta, _ = trained(DEEP, "natural", DEEP_START, DEEP_ROUND)
    content["deep"] = {
        "problem": DEEP,
        "start": DEEP_START,
        "round": DEEP_ROUND,
        "history": trained(DEEP, "natural", DEEP_START, 110)[1],
        "along": contraction(DEEP, theta),
    }
    content["hops"] = trained("allen_cahn", "natural", 0, 100)[1]
    return content


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


EXPERIMENTS = (
    Experiment(
        "stall",
        __doc__,
        (),
        [()],
        measure,
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
        pack=lambda entries: json.dumps(*entries) + "\n",
    ),
)
