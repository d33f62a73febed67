r"""FedFisher: the clients' parameters merged by the Fisher matrices at their optima.

Jhunjhunwala, Wang, Joshi, AISTATS 2024, arXiv 2403.12329. Client m trains to theta_m
and sends the Fisher matrix F_m there, diagonal or by Kronecker factors (K-FAC, see
``kronecker``); the server minimises

    sum of share_m (w - theta_m)^T F_m (w - theta_m)

from the mean of the theta_m by steps of Adam, and stops early. For squared losses F_m
is the Gauss-Newton matrix J_m^T J_m / share_m, so that the shares cancel.

The paper's server looks at a validation set to see when to stop. Here nobody has one
for the whole: some points of the server's path, its start among them, go down, the
clients' losses there come up, and the lowest sum is taken. One round is the paper's
one-shot method; the next ones start from its result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedsciml.methods._base import Field, Fields, Info, Message, State
from fedsciml.methods._local import Local, Solver, train
from fedsciml.methods._uploads import added, foreign, mean, number, tensor, total
from fedsciml.methods.fedavg import FedAvg
from fedsciml.policies import lowest
from fedsciml.problem import Problem
from fedsciml.residual import System, kronecker
from fedsciml.residual.kronecker import Factors

Fisher = Literal["kfac", "diagonal"]

BETA1, BETA2, EPS = 0.9, 0.99, 1e-3
"""Of the server's Adam, without correction for its start; the authors' program."""


@dataclass(frozen=True)
class FedFisher(FedAvg):
    """FedFisher with diagonal or Kronecker-factored matrices.

    Args:
        local: How the clients train.
        server_step: Rate of the server's Adam, positive.
        fisher: ``kfac``, for an MLP, or ``diagonal``.
        steps: Of the server's Adam, at least 0; 0 is FedAvg.

    Raises:
        ValueError: If a number is out of range.
    """

    local: Local = field(default_factory=Local)
    server_step: float = 1e-2
    name: str = "fedfisher"
    fisher: Fisher = "kfac"
    steps: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise ValueError(f"The server needs 0 or more steps, got {self.steps}.")

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """Local training and the matrix at its end; then losses along the path."""
        if "path" in broadcast:
            return {"losses": system.losses(tensor(broadcast, "path"))}, memory
        theta = tensor(broadcast, "theta")
        delta, loss, memory = train(system, theta, self.local, memory)
        upload: Message = {"delta": delta, "loss": loss, "share": system.shard.share}
        linear = system.linearise(theta + delta)
        if self.fisher == "diagonal":
            upload["fisher"] = linear.jacobian().square().sum(0)
        else:
            found = kronecker.factors(system, linear)
            upload |= {
                "inputs": kronecker.packed(found.inputs),
                "outputs": kronecker.packed(found.outputs),
                "widths": torch.tensor(found.widths, device="cpu"),
            }
        return upload, memory

    def expects(self, broadcast: Message, size: int) -> Fields:
        """As FedAvg, and the matrix; then the losses along the path."""
        if "path" in broadcast:
            points = len(tensor(broadcast, "path"))
            return {"losses": Field((points,), finite=False, least=0)}
        expected = dict(super().expects(broadcast, size))
        if self.fisher == "diagonal":
            return {**expected, "fisher": Field((size,), scale=True, least=0)}
        for key in Factors._fields:
            expected[key] = Field((key,), scale=True, most=math.inf)
        return {**expected, "widths": Field(("widths",), dtype=torch.int64)}

    def objection(
        self, problem: Problem, state: State, upload: Message
    ) -> ValueError | None:
        """To Kronecker factors of another network."""
        del state
        if "widths" not in upload:
            return None
        sizes = kronecker.sizes(tensor(upload, "widths").tolist())
        terms = len(problem.terms)
        lengths = [terms * sum(k * k for k in layers) for layers in sizes]
        named = dict(zip(Factors._fields, lengths, strict=True))
        return foreign(problem, upload, named)

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The path; then the point of it with the lowest loss."""
        theta = tensor(state, "theta")
        if "losses" not in uploads[0]:
            gradient = _diagonal if "fisher" in uploads[0] else _kronecker
            start = mean(uploads, "delta")
            path = theta + self._path(start, gradient(uploads))
            after = {**state, "path": path, "loss": total(uploads, "loss")}
            return after, {"path": path}, None
        path, losses = tensor(state, "path"), added(uploads, "losses")
        choice = lowest(losses.unsqueeze(0), torch.inf)
        theta = path[choice.length if choice else 0]
        info = Info(number(state, "loss"), epochs=self.local.epochs, probes=len(losses))
        return {"theta": theta}, {"theta": theta}, info

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


def _diagonal(uploads: list[Message]) -> Callable[[Tensor], Tensor]:
    """x to the sum of J_m^T J_m (x - delta_m), the matrices' diagonals alone."""
    fishers, deltas = (
        torch.stack([tensor(upload, key) for upload in uploads])
        for key in ("fisher", "delta")
    )
    matrix, right = fishers.sum(0), (fishers * deltas).sum(0)
    return lambda x: matrix * x - right


def _kronecker(uploads: list[Message]) -> Callable[[Tensor], Tensor]:
    """The same with Kronecker factors."""
    parts, products = [], []
    for upload in uploads:
        before, after = kronecker.sizes(tensor(upload, "widths").tolist())
        inputs = kronecker.unpacked(tensor(upload, "inputs"), before)
        outputs = kronecker.unpacked(tensor(upload, "outputs"), after)
        parts.append(Factors(inputs, outputs))
        products.append(parts[-1].product(tensor(upload, "delta")))
    matrix, right = kronecker.merge(parts), torch.stack(products).sum(0)
    return lambda x: matrix.product(x) - right


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Solver = "adam",
    keep_state: bool = False,
    fisher: Fisher = "kfac",
    server_rate: float = 1e-2,
    server_steps: int = 200,
) -> FedFisher:
    """FedFisher from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        fisher: Fisher matrices: Kronecker factors, for an MLP; or diagonal.
        server_rate: Rate of the server's Adam.
        server_steps: Its steps, 2000 in the paper; the clients' losses choose after
            how many of them it stops.
    """
    solver = Local(local, tau, learning_rate, keep_state)
    return FedFisher(solver, server_rate, fisher=fisher, steps=server_steps)
