"""Solutions on a plane: the exact u, and how far the models of some methods are off.

Every pair of a problem and a method is trained in a run directory of its own, and goes
on where it stopped. The record is an .npz file of float32 arrays [61, 61]; index [i, j]
is the point (i / 60, j / 60) of the first two coordinates of the unit cube, all others
are 1/2:

    poisson2d/reference   u
    poisson2d/fipa        u_theta - u, taken in float64: also 1e-13 keeps its digits
    runs                  JSON texts: problem, method, seed, rounds, options, error

    python scripts/solutions.py                           # what is missing; an hour
    python scripts/solutions.py --problems poisson2d --methods fipa
    python scripts/solutions.py --runs runs/poisson3d-fipa-1    # trained by run.py
"""

import argparse
import io
import json
from itertools import product
from pathlib import Path
from typing import Any

import _common  # before torch, see there
import numpy as np
import torch
from experiments._suites import options_of
from torch import Tensor

import problems
from fedsciml import methods, run
from fedsciml.analysis.metrics import errors
from fedsciml.federation.checkpoint import unpack
from fedsciml.federation.record import Record, replace_file
from fedsciml.problem import Problem

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "solutions.npz"
WORK = ROOT / "runs" / "solutions"
PROBLEMS = ("gaussians2d", "poisson2d", "poisson3d", "poisson5d")
METHODS = ("fipa", "fedavg", "gauss_newton")
SIDE = 61
"""Points along a side of the plane."""

RUNS = "runs"

Arrays = dict[str, np.ndarray[Any, Any]]
"""The content of the record."""


def plane(problem: Problem) -> Tensor:
    """The points of the plane, shape [SIDE^2, d], the second coordinate fastest.

    Raises:
        ValueError: If the problem has no plane to show, or nothing to compare with.
    """
    d = len(problem.coordinates)
    if d < 2 or problem.domain is None or problem.exact is None:
        raise ValueError(
            f"A plane needs a domain of at least 2 coordinates and an exact solution; "
            f"problem '{problem.name}' has not all of them. Choose another."
        )
    corners = zip(*problem.domain, strict=True)
    axes = [torch.linspace(a, b, SIDE, dtype=torch.float64) for a, b in corners]
    middle = [axis[SIDE // 2 : SIDE // 2 + 1] for axis in axes[2:]]
    return torch.cartesian_prod(*axes[:2], *middle)


def read(path: Path) -> Arrays:
    """The record as it is; empty if there is none."""
    if not path.is_file():
        return {}
    with np.load(path) as content:
        return dict(content)


def write(path: Path, content: Arrays) -> None:
    """Replace the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    ordered: dict[str, Any] = {key: content[key] for key in sorted(content)}
    np.savez_compressed(buffer, **ordered)
    replace_file(path, buffer.getvalue())


def with_run(content: Arrays, directory: Path) -> Arrays:
    """The record with the model that a run directory holds, in place of an older one.

    Raises:
        ValueError: If there is no run or no round of it, or its problem has no plane.
    """
    record = Record.resume(directory)
    checkpoint = record.directory / "checkpoint.safetensors"
    if not checkpoint.exists():
        raise ValueError(f"The run in {directory} has not made a round yet.")
    found = unpack(checkpoint)
    made: dict[str, Any] = record.configuration
    problem = problems.load(made["problem"], **made["problem_parameters"])
    points = plane(problem)
    assert problem.exact is not None
    theta: Tensor = found["state/theta"]
    exact = problem.exact(points)
    with torch.no_grad():
        off = problem.network(theta, points.to(theta))[:, 0] - exact
    quantity = _common.quantity(problem)
    relative_l2, mse = errors(problem, theta)
    line = {
        "problem": problem.name,
        "method": made["method"],
        "seed": made["seed"],
        "rounds": found["round"],
        "options": made["method_options"],
        "quantity": quantity,
        "error": _common.short(mse if quantity == "mse" else relative_l2),
    }
    lines = [json.loads(text) for text in content.get(RUNS, ())]
    names = ("problem", "method")
    lines = [old for old in lines if any(old[n] != line[n] for n in names)]
    texts = sorted(json.dumps(each) for each in [*lines, line])
    return {
        **content,
        f"{problem.name}/reference": _map(exact),
        f"{problem.name}/{line['method']}": _map(off),
        RUNS: np.array(texts),
    }


def _map(values: Tensor) -> np.ndarray[Any, Any]:
    return values.view(SIDE, SIDE).numpy().astype(np.float32)


def main() -> None:
    """Train what is missing, or take what is given; keep every model at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rounds", type=int, default=50, help="default 50")
    parser.add_argument("--seed", type=int, default=0, help="start; default 0")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--runs", nargs="+", type=Path, help="take these and end")
    parser.add_argument("--work", type=Path, default=WORK, help=f"default {WORK}")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    torch.set_num_threads(todo.threads)
    content = read(todo.out)
    if todo.runs:
        for directory in todo.runs:
            content = with_run(content, directory)
            write(todo.out, content)
        return
    for name, method in product(todo.problems, todo.methods):
        if f"{name}/{method}" in content:
            continue
        directory = todo.work / f"{name}-{method}"
        made = methods.load(method, **options_of(name, method))
        begun = (directory / "run.json").is_file()
        with _common.progress(f"{name} {method}", todo.rounds, False) as show:
            run(
                problems.load(name),
                made,
                todo.rounds,
                todo.seed,
                out=directory,
                resume=begun,
                progress=show,
            )
        content = with_run(content, directory)
        write(todo.out, content)


if __name__ == "__main__":
    main()
