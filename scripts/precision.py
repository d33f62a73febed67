r"""What stops each problem of suite `fipa` where it stops: rounding, or something else.

Centralised Gauss-Newton trains every problem; then the causes are told apart, each by
an experiment that takes away one of them and nothing else.

rounding     The residual once more in extended precision (np.longdouble, 64 bits): the
             difference is what rounding adds, and the targets' share of it. theta is
             rounded too: r moves by |J (ulp(theta) / sqrt(12))|. If the final |r| is
             at that level, rounding it is. Crosswise: a few Gauss-Newton steps with
             theta, r and targets in extended precision and dampings down to 1e-13. If
             rounding was the cause, they help; if they help where |r| is far above the
             rounding level, more rounds would have.
quadrature   |r| on fresh points, targets in extended precision, over |r| on those
             trained on: 1 if the points stand for the domain. And trained anew with
             twice the points.
capacity     How much of r a linearised step could remove: r = part in the range of J,
             cut at 1e-13 of its largest singular value, + part outside. And trained
             anew with hidden layers half as wide again.
damping      Trained anew with the least damping that ``Natural`` allows, 50 rounding
             units, in all directions and from the start. The default starts with 1e-11,
             less only after hops, and more where J has more than ``directions``
             singular values above that.

The verdict is the experiment that lowers the error at least threefold, and the most.
The run with the least damping is then examined in the same way.

    python scripts/precision.py                            # what is missing
    python scripts/precision.py --problems poisson5d       # hours: only when asked for
    python scripts/precision.py --table                    # only print
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import _common  # before torch, see there
import numpy as np
import torch
from _common import SUITE, Entry
from experiments._suites import ROWS
from torch import Tensor

import problems
from fedsciml import methods, run
from fedsciml.federation.loop import Result
from fedsciml.linalg.randomised import range_finder
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.methods.fipa import Fipa
from fedsciml.network import MLP
from fedsciml.network.jet import VALUE, Channel, Jet
from fedsciml.policies.natural import Natural
from fedsciml.problem import Problem, Row
from fedsciml.residual import System

RECORD = Path(__file__).parents[1] / "figures" / "data" / "precision.json"
ROUNDS = {"gaussians2d": 60, "poisson2d": 50, "poisson3d": 30, "poisson5d": 60}
"""Enough to come to a stop; others take ``--rounds``."""

FLOOR = 50 * torch.finfo(torch.float64).eps
"""Relative sqrt(mu) of the least damping; less is not to be had, see ``Natural``."""

FLOORS = {"poisson3d": 1e-11, "poisson5d": 1e-11}
"""Where ``Natural.directions`` stops the default before its floor."""

LEFT_OUT = {"poisson3d": ("points", "width"), "poisson5d": ("points", "width")}
"""Experiments that take long."""

CUTOFF = 1e-13
GAIN = 3.0
"""An experiment that lowers the error so much has found the cause."""

FAR = 100.0
"""A residual so many times its rounding level is not stopped by rounding."""

LARGER = ("points", "width")

Array = np.ndarray[Any, np.dtype[np.longdouble]]


class Extended(np.ndarray[Any, np.dtype[np.longdouble]]):
    """An array of long doubles that torch's functions take, so that residuals do."""

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """NumPy's function of the same name."""
        del types
        return getattr(np, function.__name__)(*args, **(kwargs or {}))

    def unbind(self, dim: int = 0) -> "tuple[Extended, ...]":
        """As of a tensor."""
        return tuple(np.moveaxis(self, dim, 0))


def extended(values: Tensor) -> Extended:
    """The same numbers in more digits."""
    return values.numpy().astype(np.longdouble).view(Extended)


def rounded(values: Array) -> Tensor:
    """The nearest float64."""
    return torch.from_numpy(np.asarray(values, dtype=np.float64))


def norm(values: Array | Tensor) -> float:
    """Euclidean."""
    return float(np.sqrt(np.square(np.asarray(values)).sum()))


def network(mlp: MLP, theta: Array, x: Extended, laplacian: bool) -> list[Array]:
    """N(x) and, where asked for, its Laplacian, [n, c], of a tanh network.

    Straight from the chain rule, independent of ``fedsciml.network.jet``.
    """
    layers, start = [], 0
    for a, b in zip(mlp.widths, mlp.widths[1:], strict=False):
        weight, start = theta[start : start + a * b].reshape(b, a), start + a * b
        layers.append((weight, theta[start : start + b]))
        start += b
    weight, bias = layers[0]
    z = x @ weight.T + bias
    slopes = [np.broadcast_to(column, z.shape) for column in weight.T]
    second = np.zeros_like(z)
    for weight, bias in layers[1:]:
        t = np.tanh(z)
        z = t @ weight.T + bias
        if laplacian:
            f1 = 1 - t * t
            squares = sum(slope * slope for slope in slopes)
            second = (f1 * second - 2 * t * f1 * squares) @ weight.T
            slopes = [(f1 * slope) @ weight.T for slope in slopes]
    return [z, second]


def residual(
    problem: Problem, theta: Array, targets: list[Extended] | None = None
) -> Array:
    """The pooled weighted residual [n] in extended precision; exact targets if None."""
    mlp, d = problem.network, len(problem.coordinates)
    assert isinstance(mlp, MLP)
    assert mlp.activation == "tanh"
    second = tuple((i, i) for i in range(d))
    parts = []
    for rows, target in zip(
        problem.pooled().rows, targets or exact_targets(problem), strict=True
    ):
        x = extended(rows.points)
        laplacian = len(problem.terms) > 1 and rows.term == 0
        channels = dict(
            zip((VALUE, second), network(mlp, theta, x, laplacian), strict=True)
        )

        def read(channel: Channel, known: dict[Channel, Any] = channels) -> Any:  # noqa: ANN401
            return known[channel]

        jet = Jet(read, problem.coordinates, problem.outputs)
        row = Row(x, target, problem.coordinates)  # type: ignore[arg-type]
        part: Any = problem.terms[rows.term].residual(jet, row)
        parts.append(part * np.longdouble(rows.weight))
    return np.concatenate(parts)


def given_targets(problem: Problem) -> list[Extended]:
    """The targets of each term as they are, rounded."""
    targets = [rows.target for rows in problem.pooled().rows]
    return [extended(target) for target in targets if target is not None]


def exact_targets(problem: Problem) -> list[Extended]:
    """The same in extended precision; constants such as pi stay those of the code."""
    exact: Any = problem.exact
    source = getattr(
        import_module(f"problems.{problem.name}"),
        "source",
        lambda x: math.pi**2 * exact(x),  # Poisson's
    )
    functions = [exact] if len(problem.terms) == 1 else [source, exact]
    rows = problem.pooled().rows
    return [f(extended(r.points)) for f, r in zip(functions, rows, strict=True)]


def error(problem: Problem, theta: Array) -> float:
    """Relative L2 error on the test points, nothing rounded."""
    assert isinstance(problem.network, MLP)
    assert problem.test_points is not None
    x, exact = extended(problem.test_points), problem.exact
    u = np.asarray(exact(x))  # type: ignore[arg-type,misc]
    found = network(problem.network, theta, x, False)[0][:, 0]
    return norm(found - u) / norm(u)


def sketched(system: System, theta: Tensor) -> tuple[Spectrum, Tensor]:
    """J down to ``CUTOFF`` in its own basis, and its left singular vectors [n, k]."""
    linear = system.linearise(theta)
    jacobian = linear.jacobian()
    v = torch.ones(system.size, dtype=theta.dtype)
    for _ in range(10):
        v = torch.nn.functional.normalize(jacobian.mT @ (jacobian @ v), dim=0)
    least = CUTOFF * float((jacobian @ v).norm())
    generator = torch.Generator().manual_seed(0)
    found = range_finder(jacobian, linear.residual, least, 100, generator)
    assert found.left is not None
    own = spectrum(found)
    keep = own.s > least
    left = (found.left @ own.left)[:, keep]
    return Spectrum(own.s[keep], own.c[keep], own.basis[keep], own.left), left


def refined(problem: Problem, start: Array, own: Spectrum, left: Tensor) -> Entry:
    """Gauss-Newton steps of the lowest |r| with nothing rounded but J, kept fixed."""
    theta, r = start, residual(problem, start)
    for _ in range(4):
        best = theta, r
        target = -(left.mT @ rounded(r))
        for relative in (1e-8, 1e-9, 1e-10, 1e-11, 1e-12, CUTOFF):
            damping = (relative * float(own.s[0])) ** 2
            step = extended((own.inverse(damping) * target) @ own.basis)
            for length in (1.0, 0.1):
                there = theta + length * step
                at = residual(problem, there)
                if norm(at) < norm(best[1]):
                    best = there, at
                    break
        if norm(best[1]) > 0.9 * norm(r):
            break
        theta, r = best
    return {"error": error(problem, theta), "residual": norm(r)}


def examined(problem: Problem, theta: Tensor) -> Entry:
    """Where theta stands, and what rounding, the points and J have to do with it."""
    name = problem.name
    system, exactly = System(problem, problem.pooled()), extended(theta)
    r = system.residual(theta)
    given = residual(problem, exactly, given_targets(problem))
    exact = residual(problem, exactly)
    fresh = problems.load(name, seed=1)
    share = norm(residual(fresh, exactly)) / norm(exact)
    own, left = sketched(system, theta)
    inside = float((left.mT @ rounded(exact)).norm())
    ulp = torch.from_numpy(np.spacing(theta.abs().numpy()))
    jacobian = system.linearise(theta).jacobian()
    u = problem.network(theta, problem.test_points)[:, 0]  # type: ignore[arg-type]
    assert isinstance(problem.network, MLP)
    assert problem.test_points is not None
    v = network(problem.network, exactly, extended(problem.test_points), False)[0][:, 0]
    return {
        "error": error(problem, exactly),
        "residual": float(r.norm()),
        "rounding_jets": norm(extended(r) - given),
        "rounding_targets": norm(given - exact),
        "rounding_theta": float((jacobian * ulp / 12**0.5).norm()),
        "rounding_u": norm(extended(u) - v) / norm(v),
        "fresh": share,
        "rank": len(own.s),
        "inside": inside,
        "outside": max(norm(exact) ** 2 - inside**2, 0.0) ** 0.5,
        "refined": refined(problem, exactly, own, left),
    }


def trained(problem: Problem, rounds: int, floor: float | None = None) -> Result:
    """Centralised Gauss-Newton from start 0; with a floor, in all directions."""
    if floor is None:
        method = methods.load("gauss_newton", **ROWS["gauss_newton"].options)
    else:
        policy = Natural(floor=floor, directions=2400)
        method = Fipa(policy, name="gauss_newton", pooled=True)
    with _common.progress(problem.name, rounds, quiet=False) as show:
        return run(problem, method, rounds, progress=show)


def measured(name: str, rounds: int) -> Entry:
    """All experiments with one problem."""
    problem = problems.load(name)
    rounds = ROUNDS.get(name, rounds)
    default = trained(problem, rounds)
    errors = [line.relative_l2 for line in default.history]
    entry: Entry = {
        "problem": name,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "default": examined(problem, default.theta),
        "earlier": errors[3 * rounds // 4 - 1],
        "floor": FLOORS.get(name, FLOOR),
    }
    lower = trained(problem, rounds, entry["floor"])
    entry["floored"] = examined(problem, lower.theta)
    assert isinstance(problem.network, MLP)
    width = problem.network.widths[1] * 3 // 2
    for key, value in (("points", 2), ("width", width)):
        if key not in LEFT_OUT.get(name, ()):
            result = trained(problems.load(name, **{key: value}), rounds)
            entry[key] = {
                "error": result.errors()[0],
                "residual": math.sqrt(2 * result.loss),
            }
    return entry


def rounding(state: Entry) -> float:
    """Level of r: jets, targets and theta together."""
    keys = ("rounding_jets", "rounding_targets", "rounding_theta")
    return math.hypot(*(state[key] for key in keys))


def helped(entry: Entry) -> dict[str, float]:
    """By what factor each experiment lowered the error of the default."""
    state = entry["default"]
    error = state["error"]
    word = "not converged" if state["residual"] > FAR * rounding(state) else "rounding"
    gains = {"not converged": entry["earlier"] / error}
    gains[word] = max(gains.get(word, 0.0), error / state["refined"]["error"])
    gains["damping"] = error / entry["floored"]["error"]
    for key, word in (("points", "quadrature"), ("width", "capacity")):
        if key in entry:
            gains[word] = error / entry[key]["error"]
    return gains


def rounded_off(state: Entry) -> str | None:
    """What rounding stopped, if it was that."""
    if state["error"] < GAIN * state["rounding_u"]:
        return "rounding of u"
    return "rounding of r" if state["residual"] < GAIN * rounding(state) else None


def verdict(entry: Entry) -> str:
    """What stopped the default."""
    if word := rounded_off(entry["default"]):
        return word
    gains = helped(entry)
    best = max(gains, key=lambda word: gains[word])
    return best if gains[best] >= GAIN else "unclear"


def then(entry: Entry) -> str:
    """What stops the run with the least damping."""
    state = entry["floored"]
    if word := rounded_off(state):
        return word
    if state["fresh"] > GAIN:
        return "quadrature"
    gained = state["error"] / state["refined"]["error"] >= GAIN
    return "not converged" if gained else "damping"


def table(entries: list[Entry]) -> str:
    """Markdown: a row for each problem."""
    heads = [
        "problem",
        "error",
        "\\|r\\|",
        "rounding of r: jets, targets, theta",
        "fresh / train",
        "reducible, rest",
        "exact arithmetic",
        "points x 2",
        "width x 1.5",
        "least damping",
        "its \\|r\\|",
        "its rounding of r, u",
        "stopped by",
        "then by",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]

    def shown(*values: float) -> str:
        return ", ".join(f"{value:.1e}" for value in values)

    found = {entry["problem"]: entry for entry in entries}
    for name in SUITE:
        if name not in found:
            continue
        entry = found[name]
        default, floored = entry["default"], entry["floored"]
        keys = ("rounding_jets", "rounding_targets", "rounding_theta")
        cells = [
            name,
            f"**{default['error']:.1e}**",
            shown(default["residual"]),
            shown(*(default[key] for key in keys)),
            f"{default['fresh']:.2f}",
            shown(default["inside"], default["outside"]),
            shown(default["refined"]["error"]),
            *(shown(entry[k]["error"]) if k in entry else "" for k in LARGER),
            f"**{floored['error']:.1e}**",
            shown(floored["residual"]),
            shown(rounding(floored), floored["rounding_u"]),
            verdict(entry),
            then(entry),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = [name for name in SUITE if name != "poisson5d"]
    parser.add_argument("--problems", nargs="+", choices=SUITE, default=usual)
    parser.add_argument("--rounds", type=int, default=100, help="default 100")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    if np.finfo(np.longdouble).eps > 1e-18:
        parser.error("np.longdouble has no more digits than float64 on this machine.")
    keys = [] if todo.table else [(name,) for name in todo.problems]
    measure = partial(measured, rounds=todo.rounds)
    entries = _common.completed(
        todo.out, ("problem",), keys, measure, 1, todo.threads, todo.fresh
    )
    print(table(entries))


if __name__ == "__main__":
    main()
