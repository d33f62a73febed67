r"""FedPM: the clients' parameters mixed by their preconditioners.

Ishii, Niwa, Sawada, Fujino, Harada, Yokota, AAAI 2026, arXiv 2511.09100. Client m takes
tau preconditioned steps on its own loss, and the server mixes,

    theta_m <- theta_m - eta P_m^-1 grad L_m(theta_m) / share_m,
    theta   <- (sum of share_m P_m)^-1 sum of share_m P_m theta_m,

with P_m of the last step. Two preconditioners:

* ``foof``, what the paper takes for networks (Benzing, Gradient Descent on Neurons and
  its Link to Approximate Second-Order Optimization, ICML 2022, arXiv 2201.12250): layer
  by layer A_m (x) I with the second moment A_m of the layer's inputs, here over rows
  with the weights of the loss and over the channels of their jets, plus the damping.
* ``gramian``: J_m^T J_m / share_m plus the damping, the exact Gauss-Newton matrix:
  p x p numbers up.

With tau = 1, eta = 1 and ``gramian`` the move is -(J^T J + damping)^-1 J^T r of the
whole: the centralised Levenberg-Marquardt step, which is FIPA's at full rank. FIPA
sends a square root of J_m^T J_m of small rank, and searches step and damping.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsciml.methods._averaging import Update
from fedsciml.methods._base import (
    LOSS,
    SHARE,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Opening,
    Parts,
    Said,
    State,
)
from fedsciml.methods._records import Record
from fedsciml.methods._sums import foreign, losses, total
from fedsciml.problem import Problem
from fedsciml.residual import Linearisation, System, kronecker
from fedsciml.residual.kronecker import Shape

Preconditioner = Literal["foof", "gramian"]


class Preconditioned(Update):
    """The update, and the last preconditioner.

    Attributes:
        preconditioner: All numbers of its matrices, packed (see ``kronecker``).
        shapes: Of the network's layers [L, 3], by which they are unpacked; None for
            one matrix [p, p].
    """

    preconditioner: Tensor
    shapes: Tensor | None = None

    def matrices(self) -> list[Tensor]:
        """P_m, part by part."""
        sizes = [len(self.delta)]
        if self.shapes is not None:
            sizes, _ = kronecker.sizes(self.shapes.tolist())
        return [p[0] for p in kronecker.unpacked(self.preconditioner, sizes)]


@dataclass(frozen=True)
class FedPM(Method):
    """Federated preconditioned mixing.

    A preconditioner is a list of matrices P [k, k]; each acts from the right on its
    part of theta, a matrix [rows, k]: the layers', or theta itself as one row.

    Args:
        preconditioner: ``foof`` or ``gramian``.
        epochs: Local steps tau, at least 1.
        learning_rate: eta, positive.
        damping: Added to the diagonal of P, absolute, positive.

    Raises:
        ValueError: If a number is out of range.
    """

    preconditioner: Preconditioner = "foof"
    epochs: int = 10
    learning_rate: float = 1e-2
    damping: float = 1.0
    name: str = "fedpm"
    pooled: bool = False

    kinds = (State, Opening, Preconditioned)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(
                f"Local training needs tau >= 1 epochs, got {self.epochs}."
            )
        for name in ("learning_rate", "damping"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"FedPM's {name} must be positive, got {value}.")

    def round(self, state: State) -> Exchanges[State]:
        """The clients' parameters, mixed by their preconditioners."""
        answers = yield Opening(state.theta)
        moves = []
        for pairs in zip(*map(_weighed, answers.values()), strict=True):
            whole = torch.stack([p for p, _ in pairs]).sum(0)
            mixed = torch.stack([delta @ p for p, delta in pairs]).sum(0)
            moves.append(_divided(mixed, whole))
        gramian = self.preconditioner == "gramian"
        info = Info(
            loss=total(answers.values()),
            step=self.learning_rate if self.epochs == 1 else 1.0,
            damping=self.damping if gramian else 0.0,  # of J^T J, not of FOOF
            epochs=self.epochs,
            losses=losses(answers),
        )
        shapes = _layers(next(iter(answers.values())))
        return State(state.theta + _joined(shapes, moves)), info

    @property
    def client(self) -> Parts:
        """Preconditioned steps; the way, and the last preconditioner."""
        return {Opening: self._steps}

    def _steps(
        self, system: System, ask: Opening, memory: None
    ) -> tuple[Preconditioned, None]:
        """The client's part.

        Raises:
            FloatingPointError: If the loss, or a preconditioner, runs away.
        """
        theta, loss = ask.theta, 0.0
        x, shapes = theta, self._shapes(system)
        for step in range(self.epochs):
            linear = system.linearise(x)
            loss = loss if step else linear.loss
            if not math.isfinite(linear.loss):
                raise FloatingPointError(
                    f"The loss before local step {step + 1} of FedPM is "
                    f"{linear.loss}. Try a smaller learning rate or more damping."
                )
            p = self._preconditioner(system, linear)
            slope = linear.gradient / system.shard.share
            if prior := system.problem.prior:
                slope = slope + prior * x
            gradient = _parts(shapes, slope)
            moves = [_divided(g, a) for g, a in zip(gradient, p, strict=True)]
            x = x - self.learning_rate * _joined(shapes, moves)
        answer = Preconditioned(
            x - theta,
            loss,
            system.shard.share,
            kronecker.packed(p),
            torch.tensor(shapes, device="cpu") if shapes else None,
        )
        return answer, memory

    def _shapes(self, system: System) -> Sequence[Shape]:
        """Of the layers that have a matrix each; none where theta has one."""
        foof = self.preconditioner == "foof"
        return kronecker.shapes(system.problem.network) if foof else ()

    def _preconditioner(self, system: System, linear: Linearisation) -> list[Tensor]:
        """P of one client, damped."""
        if self.preconditioner == "gramian":
            jacobian = linear.jacobian()
            blocks = [jacobian.mT @ jacobian]
        else:
            weights = linear.residual.new_zeros(len(system.problem.terms))
            for rows in system.shard.rows:
                weights[rows.term] = rows.weight**2
            blocks = [
                (weights[:, None, None] * a).sum(0)
                for a in kronecker.inputs(system, linear)
            ]
        blocks = [block / system.shard.share for block in blocks]
        for block in blocks:
            block.diagonal().add_(self.damping + system.problem.prior)
        return blocks

    def expects(self, ask: Record, size: int) -> Expected:
        """The way, the last preconditioner, the loss, the client's part of all rows.

        With ``foof`` also the layers' shapes, by which both fall into layers.
        """
        gramian = self.preconditioner == "gramian"
        numbers: int | str = size**2 if gramian else "numbers"
        fields = {
            "delta": Field((size,), scale=True, moves=True),
            "preconditioner": Field((numbers,), scale=True, most=math.inf),
            "loss": LOSS,
            "share": SHARE,
        }
        if not gramian:
            fields["shapes"] = Field(("layers", 3), dtype=torch.int64)
        return Expected(Preconditioned, fields)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """To a preconditioner of another network, or not positive definite."""
        _, answer = said[-1]
        if answer.shapes is not None:
            sizes, _ = kronecker.sizes(answer.shapes.tolist())
            numbers = answer.preconditioner, sum(k * k for k in sizes)
            if wrong := foreign(problem, answer.shapes, {"preconditioner": numbers}):
                return wrong
        if any(int(torch.linalg.cholesky_ex(p).info) for p in answer.matrices()):
            return ValueError("its preconditioner is not positive definite")
        return None


def _parts(shapes: Sequence[Shape], vector: Tensor) -> list[Tensor]:
    """A vector [p] as the matrices on which the preconditioner acts."""
    return kronecker.matrices(shapes, vector) if shapes else [vector.unsqueeze(0)]


def _joined(shapes: Sequence[Shape], parts: Sequence[Tensor]) -> Tensor:
    """The inverse of ``_parts``."""
    return kronecker.joined(shapes, parts) if shapes else parts[0].flatten()


def _layers(answer: Preconditioned) -> list[list[int]]:
    """The shapes that it was sent with; none for one matrix."""
    return [] if answer.shapes is None else answer.shapes.tolist()


def _weighed(answer: Preconditioned) -> Iterable[tuple[Tensor, Tensor]]:
    """share_m P_m and the way, part by part."""
    weighed = (answer.share * p for p in answer.matrices())
    return zip(weighed, _parts(_layers(answer), answer.delta), strict=True)


def _divided(left: Tensor, p: Tensor) -> Tensor:
    """left P^-1 for a positive definite P.

    Raises:
        FloatingPointError: If P is not, to rounding: theta has run away.
    """
    factor, failed = torch.linalg.cholesky_ex(p)
    if int(failed):
        raise FloatingPointError(
            "A preconditioner of FedPM is not positive definite; its largest entry is "
            f"{float(p.abs().max()):.1e}. Try a smaller learning rate or more damping."
        )
    return torch.cholesky_solve(left.mT, factor).mT


def make(
    tau: int = 10,
    learning_rate: float = 1e-2,
    damping: float = 1.0,
    preconditioner: Preconditioner = "foof",
) -> FedPM:
    """FedPM from plain options.

    Args:
        tau: Local steps per round.
        learning_rate: Of the local steps.
        damping: Added to the preconditioner's diagonal, absolute.
        preconditioner: The inputs' second moment layer by layer, for an MLP; or the
            exact Gauss-Newton matrix, p x p numbers a round.
    """
    return FedPM(preconditioner, tau, learning_rate, damping)
