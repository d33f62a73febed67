"""The DeepXDE scripts of ``deepxde_examples``, run as far as their data and network.

Each is a script as DeepXDE's users write them: it defines ``data`` and ``net``, perhaps
``loss_weights``, and the true values of its unknown variables in ``truth``; what it
trains with stands under ``__main__`` and is not run here.
"""

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments._yardstick import LBFGS, Data, Line, Stage, as_a_script, training
from fedsciml.deepxde import deepxde

SCRIPTS = Path(__file__).parents[1] / "deepxde_examples"

ADAM = Stage("adam", 500, 10, 0.5, rate=1e-3)
"""DeepXDE's usual training: at most 5000 iterations, then L-BFGS to its end."""


class Example(NamedTuple):
    """What a script defines.

    Attributes:
        data: A ``deepxde.data.Data``.
        net: The network, at its start.
        weights: Of the losses, one each.
        variables: Unknown numbers, which the equation refers to.
        truth: Their true values.
        test: Points [n, d] and the solution there [n, c].
    """

    data: Data
    net: Any
    weights: list[float]
    variables: dict[str, Tensor]
    truth: Mapping[str, float]
    test: tuple[np.ndarray, np.ndarray]

    def errors(self) -> Line:
        """The worst relative L2 error of an output, and of an unknown."""
        points, values = self.test
        with torch.no_grad():
            found = self.net(torch.from_numpy(points)).numpy()
        outputs = np.linalg.norm(found - values, axis=0) / np.linalg.norm(
            values, axis=0
        )
        unknown = [
            abs(float(self.variables[k].detach()) / true - 1)
            for k, true in self.truth.items()
        ]
        return {"error": float(outputs.max()), "unknown": max(unknown, default=None)}


def names() -> list[str]:
    """Names of all examples, sorted."""
    return sorted(path.stem for path in SCRIPTS.glob("*.py"))


def load(name: str) -> Example:
    """Run the script; call within ``as_a_script``, whose seed draws the start."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        found = runpy.run_path(str(SCRIPTS / f"{name}.py"))
        data, net, truth = found["data"], found["net"], found.get("truth", {})
        points = data.test()[0]
    finally:
        np.random.set_state(state)
    losses = len(data.bcs) + _equations(data, net)
    return Example(
        data,
        net,
        [float(w) for w in found.get("loss_weights", [1] * losses)],
        {name: found[name] for name in truth},
        truth,
        (points, np.asarray(data.soln(points))),
    )


def _equations(data: Data, net: Any) -> int:  # noqa: ANN401
    """How many residuals the equation has."""
    x = torch.from_numpy(data.train_x_all).requires_grad_()
    residuals = data.pde(x, net(x))
    deepxde().gradients.clear()
    return len(residuals) if isinstance(residuals, (list, tuple)) else 1


def by_deepxde(
    name: str, seed: int, budget: float, stages: Sequence[Stage] = (ADAM, LBFGS)
) -> list[Line]:
    """The history of DeepXDE's training, a line per block; see ``training``."""
    with as_a_script(seed):
        example = load(name)
        made = deepxde().Model(example.data, example.net)

        def measured() -> Line:
            return {"loss": float(sum(made.train_state.loss_train))} | example.errors()

        variables = list(example.variables.values())
        return training(made, example.weights, budget, stages, measured, variables)
