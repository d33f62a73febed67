"""Centralised Gauss-Newton training inside DeepXDE, in place of L-BFGS."""

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import torch
from torch import Generator

from fedsciml import methods
from fedsciml.deepxde.conversion import problem
from fedsciml.deepxde.weights import Model, restore
from fedsciml.federation import Federation, InProcess
from fedsciml.residual import System

log = getLogger(__name__)

History = Any
"""A ``deepxde.model.LossHistory``, and a ``TrainState``."""


def train(
    model: Model,
    iterations: int = 100,
    *,
    policy: str = "natural",
    sketch: str = "range",
    display_every: int = 1,
    verbose: int = 0,
    scales: Mapping[str, float] | None = None,
) -> tuple[History, History]:
    """Train a compiled ``dde.Model`` by centralised Gauss-Newton.

    DeepXDE itself fills its loss history with the losses of all terms, test losses and
    metrics, at the weights of the net in its own precision.

    Args:
        model: Compiled with any optimizer, which is not used, and ``loss="MSE"``.
        iterations: Number of Gauss-Newton steps.
        policy: Step policy, see ``fedsciml.policies``.
        sketch: How the Jacobian is factorised, as for ``gauss_newton``: ``range`` or
            ``svd``.
        display_every: Steps between two entries of the loss history.
        verbose: Above 0, DeepXDE prints its table.
        scales: Of some of the external trainable variables, as for ``problem``.

    Returns:
        ``model.losshistory`` and ``model.train_state``, as ``dde.Model.train``; the net
        and the external trainable variables have the trained values.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled, its loss
            is not the mean squared error, or something of it is not supported, see
            ``problem``.
        FloatingPointError: If theta or the loss stops being finite; the net then has
            the values of the last entry of the loss history.
    """
    if iterations < 0 or display_every < 1:
        raise ValueError(
            f"Training needs iterations >= 0 and display_every >= 1, got {iterations} "
            f"and {display_every}."
        )
    if model.opt_name is None:
        raise ValueError("The model is not compiled; call model.compile('adam', 1e-3).")
    made = problem(
        model.data,
        model.net,
        model.loss_weights,
        external_trainable_variables=model.external_trainable_variables,
        scales=scales,
        clients=1,
    )
    method = methods.load("gauss_newton", policy=policy, sketch=sketch)
    federation = Federation(made, method, InProcess().connect(made, method))
    start = made.network.init(Generator(), torch.float64)
    reached = federation.start(start, 0)
    model.stop_training = False
    progress = model.train_state
    progress.set_data_train(*model.data.train_next_batch())
    progress.set_data_test(*model.data.test())
    model._test(verbose=verbose)
    ours, theirs = 2 * System(made, made.pooled()).loss(start), sum(progress.loss_train)
    # In float32 the losses of derivatives agree to few digits.
    if abs(ours - theirs) > 0.01 * abs(ours) + 1e-6:
        raise ValueError(
            f"The model's loss is {theirs:.4e}, but the mean squares of its errors "
            f"make {ours:.4e}; compile it with loss='MSE'."
        )
    for step in range(1, iterations + 1):
        reached = federation.advance(reached).checkpoint
        progress.iteration += 1
        progress.step += 1
        if step % display_every == 0 or step == iterations:
            variables = model.external_trainable_variables
            restore(model, reached.state.theta, variables, problem=made)
            model._test(verbose=verbose)
            if model.stop_training:
                break
    held_out, _ = federation.held_out(reached)
    if held_out is not None and held_out.warning:
        log.warning("%s", held_out.warning)
    return model.losshistory, progress
