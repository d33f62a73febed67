"""Centralised Gauss-Newton training inside DeepXDE, in place of L-BFGS."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from logging import getLogger
from typing import Any

import torch
from torch import Generator, Tensor

from fedsciml import methods
from fedsciml.deepxde.conversion import problem
from fedsciml.deepxde.package import deepxde
from fedsciml.deepxde.weights import Model, restore
from fedsciml.federation import Federation, InProcess, Round
from fedsciml.federation.progress import Progress, shown
from fedsciml.residual import System

log = getLogger(__name__)

History = Any
"""A ``deepxde.model.LossHistory``, and a ``TrainState``."""

Callback = Any
"""A ``deepxde.callbacks.Callback``."""


def train(
    model: Model,
    iterations: int = 100,
    *,
    policy: str = "natural",
    sketch: str = "range",
    display_every: int = 1,
    verbose: int = 0,
    callbacks: Sequence[Callback] = (),
    progress: Progress = None,
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
        callbacks: As for ``dde.Model.train``: an epoch is a step, after which the net
            and the variables have its values. As there, losses and metrics are new
            every ``display_every`` steps. Where a callback changes the points of the
            data, the loss weights, the net or the variables, training goes on with
            these, as ``PDEPointResampler`` asks for.
        progress: As for ``fedsciml.run``, of steps; a function is given a line with the
            number of each and the loss before it, half of DeepXDE's. Beside DeepXDE's
            table there is no bar by default.
        scales: Of some of the external trainable variables, as for ``problem``.

    Returns:
        ``model.losshistory`` and ``model.train_state``, as ``dde.Model.train``; the net
        and the external trainable variables have the trained values.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled, its loss
            is not the mean squared error, or something of it is not supported, see
            ``problem``; or a callback is of no use here.
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
    told = _callbacks(callbacks)
    steps = _Steps(model, policy, sketch, scales)
    model.callbacks = told
    told.set_model(model)
    model.stop_training = False
    state = model.train_state
    state.set_data_train(*model.data.train_next_batch())
    state.set_data_test(*model.data.test())
    model._test(verbose=verbose)
    ours, theirs = steps.loss(), sum(state.loss_train)
    # In float32 the losses of derivatives agree to few digits.
    if abs(ours - theirs) > 0.01 * abs(ours) + 1e-6:
        raise ValueError(
            f"The model's loss is {theirs:.4e}, but the mean squares of its errors "
            f"make {ours:.4e}; compile it with loss='MSE'."
        )
    if progress is None and verbose > 0:
        progress = False
    told.on_train_begin()
    with shown(progress, "gauss_newton", iterations) as show:
        for step in range(1, iterations + 1):
            told.on_epoch_begin()
            told.on_batch_begin()
            if steps.outdated():
                steps = steps.renewed()
            state.set_data_train(*model.data.train_next_batch())
            loss = steps.advance()
            state.iteration += 1
            state.step += 1
            tested = step % display_every == 0 or step == iterations
            if tested or told.callbacks:
                steps.restore()
            if tested:
                model._test(verbose=verbose)
            told.on_batch_end()
            told.on_epoch_end()
            show(Round(step, loss))
            if model.stop_training:
                break
    told.on_train_end()
    warning = steps.warning()
    if warning:
        log.warning("%s", warning)
    return model.losshistory, state


class _Steps:
    """Gauss-Newton steps from the present weights of a model.

    Raises:
        ValueError: If something of the model is not supported, see ``problem``.
    """

    def __init__(
        self, model: Model, policy: str, sketch: str, scales: Mapping[str, float] | None
    ) -> None:
        self._model, self._how = model, (policy, sketch, scales)
        self._made = problem(
            model.data,
            model.net,
            model.loss_weights,
            external_trainable_variables=model.external_trainable_variables,
            scales=scales,
            clients=1,
        )
        self._method = methods.load("gauss_newton", policy=policy, sketch=sketch)
        clients = InProcess().connect(self._made, self._method)
        self._federation = Federation(self._made, self._method, clients)
        self._start = self._made.network.init(Generator(), torch.float64)
        self._reached = self._federation.start(self._start, 0)
        self._remember()

    def renewed(self) -> "_Steps":
        """The same from the model as it is now, with the damping that was reached."""
        made = _Steps(self._model, *self._how)
        state = self._method.renewed(self._reached.state)
        state = replace(state, theta=made._start, at=made._start)
        made._reached = made._reached._replace(state=state)
        return made

    def loss(self) -> float:
        """Twice the loss at the start, as DeepXDE counts it."""
        return 2 * System(self._made, self._made.pooled()).loss(self._start)

    def advance(self) -> float:
        """Make a step, and the loss before it; the model is not touched."""
        done = self._federation.advance(self._reached)
        self._reached = done.checkpoint
        return done.info.loss

    def restore(self) -> None:
        """Put the values that were reached into the model."""
        theta = self._reached.state.theta
        variables = self._model.external_trainable_variables
        restore(self._model, theta, variables, problem=self._made)
        self._remember()

    def warning(self) -> str | None:
        """What there is to say of the residual at points that are not trained on."""
        told, _ = self._federation.breakdown(self._reached)
        return told.held_out.warning if told is not None else None

    def outdated(self) -> bool:
        """Whether somebody else has changed the model since."""
        points, weights, values = self._left
        before = [*values, *points]
        now = [*self._values(), *self._points()]
        same = len(before) == len(now) and all(map(_equal, before, now))
        return not (same and weights == _listed(self._model.loss_weights))

    def _remember(self) -> None:
        values = [value.detach().clone() for value in self._values()]
        weights = _listed(self._model.loss_weights)
        self._left = self._points(), weights, values

    def _values(self) -> list[Tensor]:
        variables = self._model.external_trainable_variables
        return [*self._model.net.parameters(), *variables]

    def _points(self) -> list[object]:
        data = self._model.data
        return [getattr(data, "train_x", None), getattr(data, "train_x_all", None)]


def _equal(before: object, now: object) -> bool:
    """Whether tensors have the same values; other objects are the same object."""
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return torch.equal(before, now)
    return before is now


def _listed(weights: Sequence[float] | None) -> list[float] | None:
    return None if weights is None else [float(weight) for weight in weights]


def _callbacks(callbacks: Sequence[Callback]) -> Any:  # noqa: ANN401
    """DeepXDE's list of callbacks.

    Raises:
        ValueError: If they are not a list of callbacks, or one is of no use here.
    """
    known = deepxde().callbacks
    listed = [callbacks] if isinstance(callbacks, known.Callback) else list(callbacks)
    for callback in listed:
        if not isinstance(callback, known.Callback):
            raise ValueError(
                f"A callback is of the kind {type(callback).__name__}; derive it from "
                "dde.callbacks.Callback."
            )
        if isinstance(callback, known.DropoutUncertainty):
            raise ValueError(
                "DropoutUncertainty needs a net with dropout, which makes residuals "
                "random and cannot be trained here; leave it out."
            )
    return known.CallbackList(listed)
