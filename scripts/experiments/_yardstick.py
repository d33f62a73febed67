"""DeepXDE itself, centralised: the outside yardstick.

The problems of suite `fipa` are models as DeepXDE's users write them; of others DeepXDE
has the network and the residuals as they are here, by nested ``torch.autograd``. They
are trained through DeepXDE's own interface (Lu, Meng, Mao, Karniadakis, SIAM Review 63,
2021, arXiv 1907.04502) in float64, from the same start, on the same points, targets
and weights of the terms: Adam, then L-BFGS, then, where wanted, NNCG, a damped Newton
method with preconditioned conjugate gradients (Rathore et al., ICML 2024, arXiv
2402.01868).

The settings are the best of a short search by the error itself, from start 0, with one
core. By the length of Adam (rate 1e-3), the relative L2 error of allen_cahn after 60 s
(loss times 2^30) and the mean squared error of sine2 after 30 s (``SCALE``):

    iterations of Adam           0     1000     2000     5000
    allen_cahn              1.5e-8   1.4e-8   9.5e-9   5.4e-8
    sine2                  5.9e-12           3.6e-14  5.5e-13
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.nn import Parameter
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fedsciml import problems
from fedsciml.analysis.metrics import measure
from fedsciml.command.suite import SUITE
from fedsciml.deepxde import deepxde
from fedsciml.deepxde.package import double_precision
from fedsciml.network import MLP
from fedsciml.problem import Problem, Rows
from fedsciml.residual import System
from fedsciml.residual.autograd_rows import AutogradBlock

Model = Any
"""A ``deepxde.Model``: DeepXDE is not typed."""

Data = Any
"""A ``deepxde.data.Data``."""

REACTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "poisson1d": torch.zeros_like,
    "poisson2d": torch.zeros_like,
    "poisson3d": torch.zeros_like,
    "poisson5d": torch.zeros_like,
    "allen_cahn": lambda u: u**3 - u,
    "bratu": lambda u: -torch.exp(u),
    "fisher_kpp": lambda u: u * (1 - u),
    "reaction_diffusion": lambda u: u**2,
}
"""g(u) of the equations -Lap u + g(u) = f; the other problems are regressions."""

SCALE = 2.0**60
"""L-BFGS minimises the loss times this. torch's keeps a curvature pair only if
s . y > 1e-10, whatever the scale of the loss, and stalls when it keeps none: allen_cahn
at an error of 5e-6 without, sine2 at a mean squared error of 1e-12 with 2^30. A power
of two: exact."""

RANK = 10
"""Of NNCG's preconditioner. With DeepXDE's default of 50 its Cholesky factorisation
breaks down on allen_cahn, whose Hessian has fewer directions above the rounding."""

DAMPING = 1e-3
"""Of NNCG. From an error of 2.0e-7 of L-BFGS on allen_cahn, 15 s with 1e-1, 1e-3, ...,
1e-9 (and at most 200 products a step) lead to 1.43e-7, 1.42e-7, 3.4e-7, 4.2e-7 and
4.5e-7, while L-BFGS gets to about 3e-8."""


Line = dict[str, Any]
"""A block of the history: its number, optimiser, running totals, loss and errors."""


class Stage(NamedTuple):
    """An optimiser of DeepXDE, until its blocks or its share of the budget are spent.

    Args:
        optimiser: As DeepXDE calls it.
        block: Iterations between two lines of the history.
        blocks: At most so many.
        share: Of the budget, spent by this stage and those before it.
        scale: Factor of the loss that it minimises.
        rate: Learning rate, where it has one.
    """

    optimiser: str
    block: int
    blocks: float
    share: float
    scale: float = 1.0
    rate: float | None = None


ADAM = Stage("adam", 100, 20, 0.25, rate=1e-3)
LBFGS = Stage("L-BFGS", 100, math.inf, 1.0, SCALE)
NNCG = Stage("NNCG", 1, math.inf, 1.0)


def trained(
    problem_name: str, seed: int, budget_seconds: float, nncg: bool = False
) -> list[Line]:
    """The history of DeepXDE's training of a problem of the suite.

    Args:
        problem_name: NAME or NAME:OPTION=VALUE,...
        seed: Draws the start theta, as ``fedsciml.run`` does, and what NNCG draws.
        budget_seconds: Processor seconds after which no block begins.
        nncg: Adam, L-BFGS and NNCG instead of Adam and L-BFGS.

    Returns:
        A line per block: its number ``round`` and ``optimiser``, the running totals
        ``iterations`` and ``seconds`` (of the processor; measuring is not counted), and
        after the block ``loss`` (the problem's, half of DeepXDE's), ``relative_l2``,
        ``mse`` and ``errors`` of outputs and unknown numbers. The lines end before the
        budget where L-BFGS converges.

    Raises:
        FloatingPointError: If the loss stops being finite.
    """
    stages = (ADAM, LBFGS._replace(share=0.75), NNCG) if nncg else (ADAM, LBFGS)
    return history(problems.parse(problem_name), seed, budget_seconds, stages)


def history(
    problem: Problem, seed: int, budget: float, stages: Sequence[Stage]
) -> list[Line]:
    """As ``trained``, for any stages."""
    system = System(problem, problem.pooled())
    weights = [term.weight for term in problem.terms]
    with as_a_script(seed):
        start = problem.network.init(Generator().manual_seed(seed), torch.float64)
        made = model(problem, start)

        def measured() -> Line:
            theta = parameters(made)
            found = measure(problem, theta)
            errors = {"relative_l2": found.relative_l2, "mse": found.mse}
            return {"loss": system.loss(theta), **errors, "errors": found.each}

        return training(made, weights, budget, stages, measured)


def training(
    made: Model,
    weights: Sequence[float],
    budget: float,
    stages: Sequence[Stage],
    measured: Callable[[], Line],
    variables: Sequence[Tensor] = (),
) -> list[Line]:
    """The history of a model's training.

    Args:
        made: The model.
        weights: One per loss of the model.
        budget: Processor seconds after which no block begins.
        stages: What trains it, one after the other.
        measured: Asked for the ``loss`` and the errors after each block.
        variables: Trained with the network.

    Raises:
        FloatingPointError: If the loss stops being finite.
    """
    result: list[Line] = []
    seconds, iterations = 0.0, 0
    for stage in stages:
        prepare(made, weights, stage, variables)
        blocks = 0
        while blocks < stage.blocks and seconds < stage.share * budget:
            begin = time.process_time()
            try:
                done = advance(made, stage)
            except LinAlgError:  # NNCG's preconditioner; see RANK
                break
            seconds += time.process_time() - begin
            blocks, iterations = blocks + 1, iterations + done
            line: Line = {"round": len(result) + 1, "optimiser": stage.optimiser}
            line |= {"iterations": iterations, "seconds": seconds} | measured()
            if not math.isfinite(line["loss"]):
                raise FloatingPointError(
                    f"After {iterations} iterations of DeepXDE, the last by "
                    f"{stage.optimiser}, the loss is {line['loss']}."
                )
            result.append(line)
            if done <= 1 < stage.block:  # where DeepXDE holds L-BFGS converged
                break
    return result


@contextmanager
def as_a_script(seed: int) -> Iterator[None]:
    """DeepXDE in float64, seeded and silent; all is put back at the end."""
    with (
        double_precision(),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        warnings.catch_warnings(),
        torch.random.fork_rng([]),
    ):
        # NNCG's line search makes numbers of losses that are on the graph.
        warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")
        torch.default_generator.manual_seed(seed)
        yield


def model(problem: Problem, theta: Tensor) -> Model:
    """The problem at theta [p] as a ``deepxde.Model``."""
    if problem.name not in SUITE:
        return as_it_is(problem, theta)
    dde, network = deepxde(), problem.network
    assert isinstance(network, MLP)
    net = dde.nn.FNN(list(network.widths), network.activation, "zeros")
    vector_to_parameters(theta.clone(), net.parameters())
    return dde.Model(data(problem), net)


def as_it_is(problem: Problem, theta: Tensor) -> Model:
    """Any problem at theta [p]: DeepXDE has its network, and a loss for each term."""
    dde = deepxde()
    blocks = [AutogradBlock(problem, rows) for rows in problem.pooled().rows]

    class Net(dde.nn.NN):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.theta = Parameter(theta.clone())

        def forward(self, points: Tensor) -> Tensor:
            return problem.network(self.theta, points)

    class Terms(dde.data.Data):  # type: ignore[misc, name-defined]
        """A point, as DeepXDE asks for one; a term has its own."""

        def losses(self, *_: object, **__: object) -> list[Tensor]:
            found = [block.evaluate(net.theta) for block in blocks]
            return [residuals.square().sum(0).mean() for residuals in found]

        def train_next_batch(self, batch_size: int | None = None) -> Any:  # noqa: ANN401
            del batch_size
            return blocks[0].rows.points[:1].numpy(), np.zeros((1, 1))

        def test(self) -> Any:  # noqa: ANN401
            return self.train_next_batch()

    net = Net()
    return dde.Model(Terms(), net)


def parameters(made: Model) -> Tensor:
    """theta [p] of a model; DeepXDE's layers are in the order of ``MLP``."""
    return parameters_to_vector(made.net.parameters()).detach()


def data(problem: Problem) -> Data:
    """Points, targets and equation as a ``deepxde.data.Data``."""
    dde = deepxde()
    arrays = [(rows.points.numpy(), _column(rows)) for rows in problem.pooled().rows]
    if problem.name not in REACTIONS:
        ((points, values),) = arrays
        return dde.data.DataSet(points, values, points, values)
    (inside, source), (boundary, values) = arrays
    d = inside.shape[1]
    # DeepXDE puts the boundary points first and evaluates the equation there too, but
    # leaves it out of the mean: f does not matter there.
    f_everywhere = np.concatenate([np.zeros_like(values), source])

    def pde(x: Tensor, u: Tensor, f: Tensor) -> Tensor:
        second = (dde.grad.hessian(u, x, i=i, j=i) for i in range(d))
        return -sum(second) + REACTIONS[problem.name](u) - f

    return dde.data.PDE(
        dde.geometry.Hypercube([0] * d, [1] * d),
        pde,
        [dde.icbc.PointSetBC(boundary, values)],
        anchors=inside,
        auxiliary_var_function=lambda points: f_everywhere,
    )


def prepare(
    made: Model,
    weights: Sequence[float],
    stage: Stage,
    variables: Sequence[Tensor] = (),
) -> None:
    """Compile a model for a stage: sum of scale * weight * mean(residual^2)."""
    optimizers = deepxde().optimizers
    # A block is one call of torch's L-BFGS, which goes on where the last one ended.
    optimizers.set_LBFGS_options(ftol=0, gtol=0, maxiter=1)
    optimizers.config.LBFGS_options.update(
        iter_per_step=stage.block, fun_per_step=stage.block * 5 // 4
    )
    optimizers.set_NNCG_options(rank=RANK, mu=DAMPING)
    made.compile(
        stage.optimiser,
        lr=stage.rate,
        loss_weights=[stage.scale * weight for weight in weights],
        external_trainable_variables=list(variables),
        verbose=0,
    )


def advance(made: Model, stage: Stage) -> int:
    """Train for a block; the number of iterations made."""

    def total() -> int:
        return sum(state["n_iter"] for state in made.opt.state.values())

    search = stage.optimiser == "L-BFGS"  # may make fewer than asked for
    before = total() if search else 0
    made.train(iterations=stage.block, verbose=0)
    return total() - before if search else stage.block


def _column(rows: Rows) -> np.ndarray:
    assert rows.target is not None
    return rows.target.unsqueeze(1).numpy()
