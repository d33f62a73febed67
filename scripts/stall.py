r"""Why a Gauss-Newton step stalls: one start that does and one that does not, examined.

With a hard cut-off 1e-10, poisson1d stalls from start 1 and converges from start 2. At
an early round of both: singular values s_i of J, targets c_i = -u_i . r, contributions
c_i / s_i to the step D; loss along D, actual and as the linear model has it; curvature
|r''[D, D]| / 2 beside |r| for steps of the first i directions. Then the deep stall of
sine8 from start 6, and the way of allen_cahn from start 0 through its hops. The figures
are drawn from the record by make_figures.py.

    python scripts/stall.py
"""

import argparse
import json
from pathlib import Path
from typing import Any

import _common  # noqa: F401  before torch, see there
import torch
from torch import Tensor

import problems
from fedsciml import policies, run
from fedsciml.federation.history import Round
from fedsciml.federation.record import replace_file
from fedsciml.methods.fipa import Fipa
from fedsciml.residual import Linearisation, System

RECORD = Path(__file__).parents[1] / "figures" / "data" / "stall.json"
PROBLEM, STALLED, CONVERGING = "poisson1d", 1, 2
HARD = "line_search:cutoff=1e-10"
CUTOFF = 1e-10
ROUND = 5
"""Where the starts are examined: after so many rounds with the cut-off."""

DEEP, DEEP_START, DEEP_ROUND = "sine8", 6, 52
"""A stall at a small loss; so many rounds of the default policy lead to it."""


def trained(problem: str, policy: str, seed: int, rounds: int) -> tuple[Tensor, Any]:
    """theta and history of a centralised run."""
    method = Fipa(policies.parse(policy), pooled=True)
    result = run(problems.load(problem), method, rounds, seed)
    return result.theta, result.history


def short(history: list[Round]) -> dict[str, list[float]]:
    """What the figures need of a history."""
    keys = ("loss", "step", "relative_l2")
    return {key: [getattr(line, key) for line in history] for key in keys}


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
            rows.append(
                {
                    "length": 2.0 ** (j / 2) * float(step.norm()),
                    "loss": float(residual @ residual) / 2 / linear.loss,
                    "contraction": float(
                        (inverse * -(residual @ left)).norm() / (inverse * c).norm()
                    ),
                }
            )
        result[f"1e-{level / 2:g}"] = rows
    return result


def main() -> None:
    """Run everything, about a minute, and replace the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    content: dict[str, object] = {"problem": PROBLEM, "round": ROUND}
    for name, seed in {"stalled": STALLED, "converging": CONVERGING}.items():
        content[name] = {
            "start": seed,
            "cut": short(trained(PROBLEM, HARD, seed, 50)[1]),
            "natural": short(trained(PROBLEM, "natural", seed, 50)[1]),
            **anatomy(PROBLEM, trained(PROBLEM, HARD, seed, ROUND)[0]),
        }
    theta = trained(DEEP, "natural", DEEP_START, DEEP_ROUND)[0]
    content["deep"] = {
        "problem": DEEP,
        "start": DEEP_START,
        "round": DEEP_ROUND,
        "history": short(trained(DEEP, "natural", DEEP_START, 110)[1]),
        "along": contraction(DEEP, theta),
    }
    content["hops"] = short(trained("allen_cahn", "natural", 0, 100)[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, json.dumps(content) + "\n")
    print(f"{out}: draw it by make figures.")


if __name__ == "__main__":
    main()
