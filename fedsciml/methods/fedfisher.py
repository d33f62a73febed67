r"""FedFisher: the clients' parameters merged by the Fisher matrices at their optima.

Jhunjhunwala, Wang, Joshi, AISTATS 2024, arXiv 2403.12329. Client m trains to theta_m
and sends the Fisher matrix F_m there, diagonal or by Kronecker factors (K-FAC, see
``kronecker``); the server minimises

    sum of share_m (w - theta_m)^T F_m (w - theta_m)

from the mean of the theta_m by steps of Adam, and stops early. F_m is the Gauss-Newton
matrix J_m^T J_m / share_m of the likelihood, so that the shares cancel. A prior adds
lambda |w - mean|^2, up to a constant: it is in every F_m.

Ours in its place: ``sketch``, the leading rows B_m [k, p] of J_m. The server has its
minimum then without steps, damped towards the mean, at some dampings in decades,

    argmin over w of sum of |B_m (w - theta_m)|^2 + mu |w - mean|^2.

The paper's server looks at a validation set to see when to stop. Here nobody has one
for the whole: some points of the server's path, the mean among them, go down, the
clients' losses there come up, and the lowest sum is taken. One round is the paper's
one-shot method; the next ones start from its result.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedsciml.linalg import Sketch, spectrum
from fedsciml.methods import _averaging
from fedsciml.methods._averaging import Averaging, Opening, State
from fedsciml.methods._base import Exchanges, Expected, Field, Info, Parts, Said
from fedsciml.methods._local import CARRIED, Carried, Draw, Local, Solver, train
from fedsciml.methods._prior import Judged, Losses, Path
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import generator, leading
from fedsciml.methods._sums import foreign, losses, mean, total
from fedsciml.problem import Problem
from fedsciml.residual import System, kronecker
from fedsciml.residual.kronecker import Factors

Fisher = Literal["kfac", "diagonal", "sketch"]

BETA1, BETA2, EPS = 0.9, 0.99, 1e-3
"""Of the server's Adam, without correction for its start; the authors' program."""

DECADES = 8
"""Dampings with sketches: the largest eigenvalue, and down by so many decades."""


class Diagonal(_averaging.Update):
    """The update, and the diagonal of J_m^T J_m at its end, [p]."""

    fisher: Tensor


class Kronecker(_averaging.Update):
    """The update, and the Kronecker factors of J_m^T J_m at its end.

    Attributes:
        inputs: Of all terms and layers, packed (see ``kronecker``).
        outputs: Likewise.
        shapes: Of the network's layers [L, 3], by which they are unpacked.
    """

    inputs: Tensor
    outputs: Tensor
    shapes: Tensor


class Factor(_averaging.Update):
    """The update, and the leading rows B of J_m at its end, [k, p]."""

    factor: Tensor


@dataclass(frozen=True)
class FedFisher(Judged, Averaging):
    """FedFisher with diagonal or Kronecker-factored matrices, or sketches.

    Args:
        local: How the clients train.
        server_step: Rate of the server's Adam, positive.
        fisher: ``kfac``, for an MLP or a ConvNet, ``diagonal`` or ``sketch``.
        steps: Of the server's Adam, at least 0; 0 is FedAvg. None with sketches.
        rank: Of the sketches, at least 1.
        prior: lambda of lambda/2 |theta|^2; ``bound`` takes it from the problem.

    Raises:
        ValueError: If a number is out of range.
    """

    local: Local = field(default_factory=Local)
    server_step: float = 1e-2
    name: str = "fedfisher"
    fisher: Fisher = "kfac"
    steps: int = 200
    rank: int = 50

    personal = None
    kinds = (State, Opening, Draw, Diagonal, Kronecker, Factor, Path, Losses, *CARRIED)
    apart = "its server reads each client's curvature by itself"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise ValueError(f"The server needs 0 or more steps, got {self.steps}.")
        if self.rank < 1:
            raise ValueError(f"A sketch needs a rank of 1 or more, got {self.rank}.")

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, and the first round's number where anything is drawn."""
        drawn = self.fisher == "sketch" or self.local.draws
        return State(theta, draw=Draw(seed, 1) if drawn else None)

    def round(self, state: State) -> Exchanges[State]:
        """The server's path; then the point of it with the lowest loss."""
        answers = yield Opening(state.theta, draw=state.draw)
        updates, told = list(answers.values()), losses(answers)
        start = mean(updates, lambda answer: answer.delta)
        if self.fisher == "sketch":
            path = state.theta + _minima(updates, start, self.prior)
        else:
            known = _diagonal if self.fisher == "diagonal" else _kronecker
            gradient = known(updates)
            path = state.theta + self._path(
                start, lambda x: gradient(x) + self.prior * (x - start)
            )
        best = yield from self._best(path)
        info = Info(
            total(updates), epochs=self.local.epochs, probes=len(path), losses=told
        )
        return State(path[best], draw=state.next_draw), info

    @property
    def client(self) -> Parts:
        """Local training and the matrix at its end; then losses along the path."""
        return {Opening: self._fisher, Path: self._losses}

    def _fisher(
        self, system: System, ask: Opening, memory: Carried | None
    ) -> tuple[_averaging.Update, Carried | None]:
        delta, loss, memory = train(
            system, ask.theta, self.local, memory, draw=ask.draw
        )
        share, linear = system.shard.share, system.linearise(ask.theta + delta)
        if self.fisher == "diagonal":
            diagonal = linear.jacobian().square().sum(0)
            return Diagonal(delta, loss, share, diagonal), memory
        if self.fisher == "sketch":
            assert ask.draw is not None  # as the server starts
            random = generator(ask.draw.seed, ask.draw.round, system.shard.client)
            found = leading(linear, self.rank, random)
            return Factor(delta, loss, share, found.factor), memory
        factors = kronecker.factors(system, linear)
        inputs, outputs = map(kronecker.packed, factors)
        layers = kronecker.shapes(system.problem.network)
        shapes = torch.tensor(layers, device="cpu")
        return Kronecker(delta, loss, share, inputs, outputs, shapes), memory

    def expects(self, ask: Record, size: int) -> Expected:
        """As FedAvg, and the matrix; then the losses along the path."""
        if isinstance(ask, Path):
            return self._judgement(ask)
        fields = dict(super().expects(ask, size).fields)
        if self.fisher == "diagonal":
            fields["fisher"] = Field((size,), scale=True, least=0)
            return Expected(Diagonal, fields)
        if self.fisher == "sketch":
            fields["factor"] = Field(("k", size), scale=True)
            return Expected(Factor, fields)
        for name in Factors._fields:
            fields[name] = Field((name,), scale=True, most=math.inf)
        fields["shapes"] = Field(("layers", 3), dtype=torch.int64)
        return Expected(Kronecker, fields)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """To Kronecker factors of another network."""
        _, answer = said[-1]
        if not isinstance(answer, Kronecker):
            return None
        terms = len(problem.terms)
        sizes = kronecker.sizes(answer.shapes.tolist())
        matrices = {
            name: (getattr(answer, name), terms * sum(k * k for k in layers))
            for name, layers in zip(Factors._fields, sizes, strict=True)
        }
        return foreign(problem, answer.shapes, matrices)

    def _path(self, start: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
        """Adam's path [C, p]: its start, and after n/2^j of n steps, down to one."""
        seen = {self.steps >> j for j in range(self.steps.bit_length())}
        x, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
        path = [x]
        for k in range(1, self.steps + 1):
            g = gradient(x)
            first = BETA1 * first + (1 - BETA1) * g
            second = BETA2 * second + (1 - BETA2) * g**2
            x = x - self.server_step * first / (second.sqrt() + EPS)
            if k in seen:
                path.append(x)
        return torch.stack(path)


def _minima(updates: Sequence[Factor], start: Tensor, prior: float) -> Tensor:
    """The start, and minima from the most damped on, [2 + decades, p]."""
    factor = torch.cat([update.factor for update in updates])
    moves = torch.cat([update.factor @ update.delta for update in updates])
    known = spectrum(Sketch(factor, moves - factor @ start))
    dampings = [known.top**2 * 10.0**-k + prior for k in range(DECADES + 1)]
    steps = [known.step(damping) for damping in dampings]
    return start + torch.stack([torch.zeros_like(start), *steps])


def _diagonal(updates: Iterable[Diagonal]) -> Callable[[Tensor], Tensor]:
    """x to the sum of J_m^T J_m (x - delta_m), the matrices' diagonals alone."""
    fishers = torch.stack([update.fisher for update in updates])
    deltas = torch.stack([update.delta for update in updates])
    matrix, right = fishers.sum(0), (fishers * deltas).sum(0)
    return lambda x: matrix * x - right


def _kronecker(updates: Iterable[Kronecker]) -> Callable[[Tensor], Tensor]:
    """The same with Kronecker factors."""
    parts, products = [], []
    for update in updates:
        shapes = update.shapes.tolist()
        before, after = kronecker.sizes(shapes)
        inputs = kronecker.unpacked(update.inputs, before)
        outputs = kronecker.unpacked(update.outputs, after)
        parts.append(Factors(inputs, outputs))
        products.append(parts[-1].product(update.delta, shapes))
    matrix, right = kronecker.merge(parts), torch.stack(products).sum(0)
    return lambda x: matrix.product(x, shapes) - right


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Solver = "adam",
    keep_state: bool = False,
    fisher: Fisher = "kfac",
    server_rate: float = 1e-2,
    server_steps: int = 200,
    rank: int = 50,
    momentum: float = 0.0,
    batch: int | None = None,
    decay: float = 1.0,
) -> FedFisher:
    """FedFisher from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        fisher: Fisher matrices: Kronecker factors, for an MLP or a ConvNet; diagonal;
            or the leading rows of the Jacobian.
        server_rate: Rate of the server's Adam.
        server_steps: Its steps, 2000 in the paper; the clients' losses choose after
            how many of them it stops.
        rank: Of the sketches.
        momentum: Of the local solver sgd.
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if not given.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    solver = Local(
        local, tau, learning_rate, keep_state, momentum, batch=batch, decay=decay
    )
    return FedFisher(solver, server_rate, fisher=fisher, steps=server_steps, rank=rank)
