r"""Local solvers: what a client does between broadcast and upload.

Client m minimises its part of the loss, scaled so that the shares' weighted mean of the
clients' objectives is the loss of the whole,

    F_m(x) = L_m(x) / share_m + lambda/2 |x|^2 + mu/2 |x - theta|^2 + h . (x - theta),

from x = theta, the broadcast; lambda is the problem's prior, mu FedProx's, h SCAFFOLD's
correction, both zero otherwise. Solvers are pure functions: what an optimiser carries
from round to round is a record that the client keeps.

Without ``batch`` every step sees all rows, so nothing is random. With it an epoch goes
once through the client's points of all terms, shuffled, so many a step, and a step sees

    (n / b) (loss of its b points) / share_m

in place of L_m / share_m: the mean over all draws is the same. The random numbers are
those of ``generator(seed, round, client)``: a ``Draw`` says which round it is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import accumulate
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor
from torch.nn import Parameter
from torch.optim import LBFGS
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import spectrum
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import generator
from fedsciml.problem import Rows
from fedsciml.registry import suggestion
from fedsciml.residual import Linearisation, System

Solver = Literal["adam", "sgd", "lbfgs", "gauss_newton"]
"""Names of the local solvers."""

DRAWN = ("adam", "sgd")
"""Those that can take the points in batches."""


@dataclass(frozen=True)
class Local:
    """How a client trains.

    Args:
        solver: ``adam`` (Kingma, Ba, arXiv 1412.6980), ``sgd`` (gradient descent, with
            momentum if asked for), ``lbfgs`` (strong Wolfe line search) or
            ``gauss_newton`` (exact damped steps -(J^T J + damping)^-1 J^T r).
        epochs: Local steps tau, at least 1; with ``batch`` passes through the points.
        learning_rate: Step of adam and sgd; the others find their own.
        keep_state: Go on with the optimiser's state in the next round; else start
            afresh. L-BFGS goes on only from the very theta where it stopped, as a
            centralised run does; its curvature pairs mean nothing elsewhere.
        momentum: Of sgd, in [0, 1).
        damping: mu of gauss_newton, absolute; with 0 singular values at rounding level
            are left out.
        proximal: FedProx's mu, at least 0.
        history: Curvature pairs of lbfgs.
        batch: Points of a step of adam or sgd, at least 1; None for all of them.
        decay: Factor of the learning rate from round to round, in (0, 1].

    Raises:
        ValueError: If an option is out of range.
    """

    solver: Solver = "adam"
    epochs: int = 100
    learning_rate: float = 1e-3
    keep_state: bool = False
    momentum: float = 0.0
    damping: float = 1e-6
    proximal: float = 0.0
    history: int = 50
    batch: int | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        names = get_args(Solver)
        if self.solver not in names:
            raise ValueError(
                f"There is no local solver '{self.solver}'; choose one of "
                f"{', '.join(names)}." + suggestion(str(self.solver), names)
            )
        if self.epochs < 1:
            raise ValueError(
                f"Local training needs tau >= 1 epochs, got {self.epochs}."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                f"The learning rate must be positive, got {self.learning_rate}; "
                "try 1e-3."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"Momentum must be in [0, 1), got {self.momentum}; try 0.9."
            )
        if self.momentum and self.solver != "sgd":
            raise ValueError(
                f"Momentum {self.momentum} is for sgd; leave it out with {self.solver}."
            )
        for name in ("damping", "proximal"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"The {name} factor must be at least 0, got {value}.")
        if self.history < 1:
            raise ValueError(
                f"L-BFGS needs a history of 1 or more, got {self.history}."
            )
        if self.batch is not None and self.batch < 1:
            raise ValueError(
                f"A batch needs 1 or more points, got {self.batch}; leave it out to "
                "take all of them in every step."
            )
        if not 0 < self.decay <= 1:
            raise ValueError(
                f"The decay of the learning rate must be in (0, 1], got {self.decay}."
            )
        for name in ("batch", "decay") if self.solver not in DRAWN else ():
            if getattr(self, name) not in (None, 1.0):
                raise ValueError(
                    f"Option {name} is for sgd and adam; leave it out with "
                    f"{self.solver}."
                )

    @property
    def draws(self) -> bool:
        """Whether training depends on the round, so that it needs a ``Draw``."""
        return self.batch is not None or self.decay < 1

    def draw(self, seed: int) -> "Draw | None":
        """Of the first round; None where training does not depend on it."""
        return Draw(seed, 1) if self.draws else None


class Draw(Record):
    """Which round it is, for random numbers and decay.

    Attributes:
        seed: Of the run.
        round: Its number, from 1.
    """

    seed: int
    round: int


class Adam(Record):
    """What Adam carries on: moments [p], and its steps, a tensor []."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor


class Sgd(Record):
    """What gradient descent carries on: its momentum [p]."""

    momentum_buffer: Tensor


class Lbfgs(Record):
    """What torch's L-BFGS carries on, under its names, and the theta where it stopped.

    Its lists of curvature pairs are stacked, shape [h, p] and [h].

    Attributes:
        rows: A sum over the points and weights of its rows: on others it starts anew,
            as pairs of two objectives are of neither.
    """

    theta: Tensor
    rows: float = 0.0
    func_evals: int = 0
    n_iter: int = 0
    d: Tensor | None = None
    t: Tensor | float | None = None
    old_dirs: Tensor | None = None
    old_stps: Tensor | None = None
    ro: Tensor | None = None
    H_diag: Tensor | float | None = None
    prev_flat_grad: Tensor | None = None
    prev_loss: Tensor | float | None = None


Carried = Adam | Sgd | Lbfgs
"""What a local solver goes on from in the next round."""

CARRIED: tuple[type, ...] = (Adam, Sgd, Lbfgs)
"""The types that it may be."""

Extra = Callable[[tuple[Rows, ...], Tensor], Tensor]
"""Gradient [p] of what else is minimised, from the rows of a step and x [p]."""


class Trained(NamedTuple):
    """What local training gives.

    Attributes:
        theta: Where it ended, shape [p].
        loss: L_m at the start, unscaled.
        gradient: Mean over all evaluations of the gradient of L_m / share_m and the
            prior, [p].
        carried: What the solver goes on from; None where it does not keep its state.
    """

    theta: Tensor
    loss: float
    gradient: Tensor
    carried: Carried | None


def train(
    system: System,
    theta: Tensor,
    local: Local,
    carried: Carried | None,
    correction: Tensor | None = None,
    draw: Draw | None = None,
    moving: Tensor | None = None,
) -> tuple[Tensor, float, Carried | None]:
    """``minimise`` as a step: (delta [p], loss at theta, what is carried on)."""
    trained = minimise(system, theta, local, carried, correction, draw, moving=moving)
    return trained.theta - theta, trained.loss, trained.carried


def minimise(
    system: System,
    theta: Tensor,
    local: Local,
    carried: Carried | None,
    correction: Tensor | None = None,
    draw: Draw | None = None,
    extra: Extra | None = None,
    moving: Tensor | None = None,
) -> Trained:
    """Train on one shard from theta.

    Args:
        system: The shard's residual.
        theta: The broadcast parameters, shape [p]; they stay as they are.
        local: How to train.
        carried: What the same solver carried on from the round before, if anything.
        correction: h, shape [p], added to every gradient.
        draw: Which round it is, where ``local`` needs to know.
        extra: What else is minimised, by sgd or adam.
        moving: Numbers of the parameters that are trained; all for None.

    Raises:
        ValueError: If a correction is given to ``gauss_newton``, what is added to
            anything but sgd and adam, or no draw where one is needed.
    """
    if local.draws and draw is None:
        raise ValueError(
            "Batches and decay need to know the round; give a draw, such as "
            "Draw(seed=0, round=1)."
        )
    if extra is not None and local.solver not in DRAWN:
        raise ValueError(f"Take sgd or adam for this loss, not {local.solver}.")
    if draw is not None:
        rate = local.learning_rate * local.decay ** (draw.round - 1)
        local = replace(local, learning_rate=rate)
    objective = _Objective(system, theta, local, correction, draw, extra, moving)
    before = carried if local.keep_state else None
    end, after = _SOLVERS[local.solver](objective, theta, local, before)
    mean = objective.total / objective.evaluations
    return Trained(end, objective.loss, mean, after if local.keep_state else None)


def batches(
    rows: Sequence[Rows], size: int, generator: Generator | None
) -> Iterator[tuple[Rows, ...]]:
    """All points once, shuffled, so many at a time; the last ones may be fewer.

    Args:
        rows: Of the terms of a client.
        size: Points of all terms together in a batch.
        generator: Of the random order.
    """
    ends = list(accumulate(len(part.points) for part in rows))
    order = torch.randperm(ends[-1], generator=generator, device="cpu")
    for chosen in order.split(size):
        found = []
        for part, end in zip(rows, ends, strict=True):
            start = end - len(part.points)
            own = chosen[(chosen >= start) & (chosen < end)] - start
            if len(own):
                found.append(part.part(own.to(part.points.device)))
        yield tuple(found)


class _Objective:
    """F_m, and what was seen of L_m on the way."""

    def __init__(
        self,
        system: System,
        start: Tensor,
        local: Local,
        correction: Tensor | None,
        draw: Draw | None,
        extra: Extra | None,
        moving: Tensor | None,
    ) -> None:
        self.system, self.start, self.extra = system, start, extra
        self.mask: Tensor | None = None
        if moving is not None:
            self.mask = torch.zeros_like(start)
            self.mask[moving] = 1.0
        self.share, self.prior = system.shard.share, system.problem.prior
        self.proximal, self.correction = local.proximal, correction
        self.total = torch.zeros_like(start)
        self.evaluations = 0
        points = system.shard.points
        self.batch = min(local.batch or points, points)
        told = self.batch == points and system.squares  # by the first linearisation
        self.loss = 0.0 if told else system.loss(start)
        self.generator = None
        if draw is not None:
            self.generator = generator(draw.seed, draw.round, system.shard.client)

    def linearise(self, x: Tensor) -> tuple[Linearisation, Tensor]:
        """r and J of the shard at x, and the gradient of F_m."""
        linear = self.system.linearise(x)
        if not self.evaluations:
            self.loss = linear.loss
        own = linear.gradient / self.share
        if self.extra is not None:
            own += self.extra(self.system.shard.rows, x)
        return linear, self._seen(own, x)

    def steps(self, epochs: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """The gradients of F_m as functions of x, as the steps see them."""
        system = self.system
        for _ in range(epochs):
            if self.batch < system.shard.points:
                for rows in batches(system.shard.rows, self.batch, self.generator):
                    yield partial(self._drawn, system.on(rows))
            elif system.squares:
                yield lambda x: self.linearise(x)[1]
            else:
                yield partial(self._drawn, system)

    def _drawn(self, part: System, x: Tensor) -> Tensor:
        """The gradient of F_m at x as some of the points see it."""
        whole = self.system.shard.points / part.shard.points
        own = (whole / self.share) * part.slope(x)
        if self.extra is not None:
            own += self.extra(part.shard.rows, x)
        return self._seen(own, x)

    def _seen(self, own: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        if self.prior:
            own = own + self.prior * self.system.common(x)
        self.total += own
        shift = self.shift(x)
        return self.moved(own if shift is None else own + shift)

    def moved(self, slopes: Tensor) -> Tensor:
        """Derivatives [..., p] with zeros for the parameters that stay."""
        return slopes if self.mask is None else slopes * self.mask

    def shift(self, x: Tensor) -> Tensor | None:
        """Gradient of the proximal term and the correction; None without either."""
        shift = self.proximal * (x - self.start) if self.proximal else None
        if self.correction is not None:
            shift = self.correction if shift is None else shift + self.correction
        return shift

    def value(self, x: Tensor, linear: Linearisation) -> float:
        """F_m(x)."""
        value = linear.loss / self.share + self.system.problem.penalty(
            self.system.common(x)
        )
        if self.proximal or self.correction is not None:
            moved = x - self.start
            value += self.proximal / 2 * float(moved @ moved)
            if self.correction is not None:
                value += float(self.correction @ moved)
        return value


# Adam and SGD are torch's own, called as functions: their state is plain tensors, and
# torch.optim's classes cost over a second of imports when the first one is made.


def _adam(
    objective: _Objective, theta: Tensor, local: Local, carried: Carried | None
) -> tuple[Tensor, Adam]:
    x = theta.clone()
    if isinstance(carried, Adam):
        first, second = carried.exp_avg.clone(), carried.exp_avg_sq.clone()
        # It counts its steps on the CPU, wherever a checkpoint was read to.
        step = carried.step.cpu().clone()
    else:
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        step = torch.zeros((), device="cpu")
    for gradient in objective.steps(local.epochs):
        adam(
            [x],
            [gradient(x)],
            [first],
            [second],
            [],
            [step],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=local.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
    return x, Adam(first, second, step)


def _sgd(
    objective: _Objective, theta: Tensor, local: Local, carried: Carried | None
) -> tuple[Tensor, Sgd | None]:
    x = theta.clone()
    buffers: list[Tensor | None] = [None]
    if isinstance(carried, Sgd):
        buffers = [carried.momentum_buffer.clone()]
    for gradient in objective.steps(local.epochs):
        sgd(
            [x],
            [gradient(x)],
            buffers,
            weight_decay=0.0,
            momentum=local.momentum,
            lr=local.learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
    (buffer,) = buffers
    return x, None if buffer is None else Sgd(buffer)


def lbfgs_scale(dtype: torch.dtype) -> float:
    """L-BFGS sees the objective times this; a power of two, so exactly.

    torch's keeps a curvature pair only if s . y > 1e-10, whatever the scale of the
    loss; a PINN's soon fall below that: allen_cahn after 3000 steps from start 0 is at
    2.9e-6 without a scale, at 2.8e-8 with 2^30, and at 1.4e-8 with 2^60 and
    2^128. Where no pair is that small (poisson1d, sine2) all scales are the same.

    The line search squares s . g, where the first s is g itself: a fourth power. The
    eighth root of the greatest number, 2^16 in float32 and 2^128 in float64, leaves
    room for gradients shorter than that.
    """
    return 2.0 ** (math.frexp(torch.finfo(dtype).max)[1] // 8)


_PAIRS = ("old_dirs", "old_stps", "ro")
"""Lists in the state of torch's L-BFGS; kept as stacked tensors."""


def _lbfgs(
    objective: _Objective, theta: Tensor, local: Local, carried: Carried | None
) -> tuple[Tensor, Lbfgs]:
    """L-BFGS, ``epochs`` iterations of it; tolerances off, so that it never idles."""
    scale = lbfgs_scale(theta.dtype)
    x = Parameter(theta.clone())
    optimiser = LBFGS(
        [x],
        max_iter=local.epochs,
        max_eval=25 * local.epochs,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=local.history,
        line_search_fn="strong_wolfe",
    )
    names = [f.name for f in fields(Lbfgs) if f.name not in ("theta", "rows")]
    rows = _sum(objective.system.shard.rows)
    same = isinstance(carried, Lbfgs) and carried.rows == rows
    if isinstance(carried, Lbfgs) and same and torch.equal(carried.theta, theta):
        state: dict[str, object] = {key: [] for key in _PAIRS}
        for key in names:
            value = getattr(carried, key)
            if key in _PAIRS and value is not None:
                # Clones: a dot product's last digit depends on its vectors' alignment.
                state[key] = [vector.clone() for vector in value]
            elif value is not None:
                state[key] = value.clone() if isinstance(value, Tensor) else value
        optimiser.state[x] = state

    def closure() -> float:
        point = x.detach()
        linear, gradient = objective.linearise(point)
        x.grad = scale * gradient
        return scale * objective.value(point, linear)

    optimiser.step(closure)
    end = x.detach()
    kept: dict[str, Any] = {}
    for key, value in optimiser.state[x].items():
        if key in _PAIRS and value:
            kept[key] = torch.stack(value)
        elif key in names and isinstance(value, Tensor | int | float):
            kept[key] = value
    return end, Lbfgs(end.clone(), rows, **kept)


def _sum(rows: tuple[Rows, ...]) -> float:
    """Over points and weights, by which rows are known again."""
    weights = [part.weights for part in rows]
    known = [float(w.sum()) if isinstance(w, Tensor) else w for w in weights]
    return sum(known) + sum(float(part.points.sum()) for part in rows)


def _gauss_newton(
    objective: _Objective, theta: Tensor, local: Local, carried: Carried | None
) -> tuple[Tensor, None]:
    """Exact damped Gauss-Newton steps, by singular values of J; nothing is kept."""
    if objective.correction is not None:
        raise ValueError(
            "The local solver gauss_newton takes no corrected gradients; use sgd or "
            "adam."
        )
    x, share = theta, objective.share
    # F_m times share_m: the prior and the proximal term are more damping.
    damping = local.damping + share * (objective.prior + local.proximal)
    for _ in range(local.epochs):
        linear, _ = objective.linearise(x)
        basis = spectrum(Sketch(objective.moved(linear.jacobian()), -linear.residual))
        eps = torch.finfo(x.dtype).eps * max(len(linear.residual), len(x))
        step = basis.step(damping, 0.0 if damping else eps)
        shift = objective.shift(x)
        if objective.prior:
            shift = objective.prior * x + (0.0 if shift is None else shift)
        if shift is not None:
            shift = objective.moved(shift)
            within = basis.basis @ shift
            outside = (shift - within @ basis.basis) / damping
            inside = (within / (basis.s**2 + damping)) @ basis.basis
            step = step - share * (inside + outside)
        x = x + step
    return x, None


_Function = Callable[
    [_Objective, Tensor, Local, Carried | None], tuple[Tensor, Carried | None]
]
_SOLVERS: dict[str, _Function] = {
    "adam": _adam,
    "sgd": _sgd,
    "lbfgs": _lbfgs,
    "gauss_newton": _gauss_newton,
}
