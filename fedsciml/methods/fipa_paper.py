r"""FIPA as published: gramian sketches, local Adam, pseudo-inverse, a fixed step.

Chang, He, Hao 2026, arXiv 2601.13608. Each client sends delta_m from tau epochs of
local training and the leading eigenpairs H_m ~ U_m diag(lambda_m) U_m^T of its
Gauss-Newton gramian at the broadcast theta; the server solves in the span of all U_m,

    theta += step * H^+ sum_m H_m delta_m,    H = sum_m H_m,

by a thin QR of the stacked U_m, Q R, and K = R diag(lambda) R^T, with eigenvalues of K
below a relative cut-off dropped or with a ridge. Directions that no sketch sees are not
moved. For comparison; ``fipa`` is the method to use.

Differences from the authors' scripts: rows of H_m carry the weights of the loss, so
that boundary rows count in both alike, and K stands in for their dense p x p matrices,
which gives the same step.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedsciml.linalg.ranks import Budget, Fixed, Predictive, Published, Schedule, parse
from fedsciml.linalg.sketch import truncate
from fedsciml.methods._base import LOSS, Exchanges, Expected, Field, Info, Method, Parts
from fedsciml.methods._base import Opening as _Opening
from fedsciml.methods._base import State as _State
from fedsciml.methods._local import CARRIED, Carried, Local, Solver, train
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import (
    FIRST_RANK,
    Sketcher,
    budget,
    context,
    generator,
    limits,
    shown,
    sketched,
)
from fedsciml.methods._sums import losses, total
from fedsciml.residual import System


class State(_State):
    """What the server keeps from round to round.

    Attributes:
        seed: Of the randomised sketches.
        round: Number of the next round, from 1.
        gradient: |sum_j g_j| at the last theta; 0 if not known.
        limits: Rows of each client under a byte budget, shape [m].
    """

    seed: int
    round: int
    gradient: float = 0.0
    limits: Tensor | None = None


class Opening(_Opening):
    """Asks for eigenpairs and an update at theta; the other fields as in ``State``."""

    seed: int
    round: int
    gradient: float
    limits: Tensor | None = None


class Eigenpairs(Record):
    """What a client sends.

    Attributes:
        vectors: Of its gramian, one a row, shape [k, p].
        eigenvalues: Shape [k].
        delta: Update by its local training, shape [p].
        loss: Before that.
        gradient: At theta, shape [p], where the rank schedule asks for it.
        spectrum: Singular values for the shares of a byte budget, where there is one.
    """

    vectors: Tensor
    eigenvalues: Tensor
    delta: Tensor
    loss: float
    gradient: Tensor | None = None
    spectrum: Tensor | None = None


class Memory(Record):
    """The rank of a client's last sketch, and what its solver carries on."""

    rank: int
    carried: Carried | None = None


@dataclass(frozen=True)
class FipaPaper(Method):
    """The published FIPA.

    Args:
        local: Local training that gives delta_m.
        rank: How many eigenpairs a client sends.
        sketch: How it finds them; ``subspace`` is the published algorithm.
        step: Factor of the update, positive.
        cutoff: Eigenvalues of K below this fraction of the largest are dropped.
        ridge: beta; if positive, (K + beta) is inverted instead of the cut-off.

    Raises:
        ValueError: If a number is out of range, or ``rank`` is ``Predictive`` without a
            ridge. In a round, if ``rank`` is a ``Budget`` too small for the clients.
    """

    local: Local = field(default_factory=lambda: Local("adam", 20, 1e-4))
    rank: Schedule = field(default_factory=lambda: Fixed(20))
    sketch: Sketcher = "subspace"
    step: float = 0.5
    cutoff: float = 1e-5
    ridge: float = 0.0
    name: str = "fipa_paper"
    pooled: bool = False

    kinds = (State, Opening, Eigenpairs, Memory, *CARRIED)
    compares = True

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"The step must be positive, got {self.step}; try 0.5.")
        if not 0 <= self.cutoff < 1:
            raise ValueError(
                f"The relative cut-off must be in [0, 1), got {self.cutoff}; try 1e-5."
            )
        if not self.ridge >= 0:
            raise ValueError(f"The ridge must be at least 0, got {self.ridge}.")
        if isinstance(self.rank, Predictive) and not self.ridge:
            raise ValueError(
                "The rank schedule 'predictive' is for damped steps; give a ridge, "
                "such as 1e-6, or take another schedule."
            )

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, and what the published rank schedule wants to know."""
        return State(theta, seed, 1)

    def round(self, state: State) -> Exchanges[State]:
        """The published rule in the span of all sketches."""
        answers = yield Opening(
            state.theta, state.seed, state.round, state.gradient, state.limits
        )
        sent = list(answers.values())
        vectors = torch.cat([a.vectors for a in sent])
        eigenvalues = torch.cat([a.eigenvalues for a in sent])
        moves = torch.cat([a.vectors @ a.delta for a in sent])
        q, r = torch.linalg.qr(vectors.mT)
        gramian = (r * eigenvalues) @ r.mT
        values, basis = torch.linalg.eigh(gramian)
        if self.ridge > 0:
            inverse = 1 / (values + self.ridge)
        else:
            keep = values > self.cutoff * values[-1:]
            inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
        y = basis @ (inverse * (basis.mT @ (r @ (eigenvalues * moves))))
        info = Info(
            loss=total(sent),
            step=self.step,
            damping=self.ridge,
            cutoff=0.0 if self.ridge else self.cutoff**0.5,
            ranks=tuple(len(a.eigenvalues) for a in sent),
            epochs=self.local.epochs,
            losses=losses(answers),
        )
        gradients = [a.gradient for a in sent if a.gradient is not None]
        norm = float(torch.stack(gradients).sum(0).norm()) if gradients else 0.0
        spectra = {m: answer.spectrum for m, answer in answers.items()}
        shares = limits(spectra, self._rows(state.theta, len(sent)))
        theta = state.theta + self.step * (q @ y)
        return State(theta, state.seed, state.round + 1, norm, shares), info

    @property
    def client(self) -> Parts:
        """Eigenpairs at the broadcast theta, then local training."""
        return {Opening: self._eigenpairs}

    def _eigenpairs(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Eigenpairs, Memory]:
        theta = ask.theta
        fixed = self.rank.rank if isinstance(self.rank, Fixed) else None
        found, cutoff, loss = sketched(
            system,
            theta,
            self.sketch,
            1.0 if fixed and self.sketch == "subspace" else shown(theta.dtype),
            0.0,
            fixed or (memory.rank if memory else FIRST_RANK),
            generator(ask.seed, ask.round, system.shard.client),
        )
        values = found.singular_values
        adaptive = isinstance(self.rank, Published)
        gradient = system.linearise(theta).gradient if adaptive else found.gradient
        carried = memory.carried if memory else None
        delta, _, carried = train(system, theta, self.local, carried)
        rows = self._rows(theta, system.problem.clients)
        who = system.shard.client, system.problem.clients
        known = context(*who, ask, cutoff, gradient, self.ridge, rows)
        found = truncate(found, self.rank(values, found.factor @ delta, known))
        s = found.singular_values
        answer = Eigenpairs(
            found.factor / torch.where(s > 0, s, 1.0).unsqueeze(-1),
            s.square(),
            delta,
            loss,
            gradient if adaptive else None,  # the schedule asks for |sum_j g_j|
            values[:rows] if rows else None,
        )
        return answer, Memory(max(found.rank, 1), carried)

    def _rows(self, theta: Tensor, clients: int) -> int:
        """Rows of all clients that a byte budget pays for; 0 without one."""
        return budget(self.rank, clients, theta, len(theta) + 1, len(theta))

    def expects(self, ask: Record, size: int) -> Expected:
        """Eigenpairs, update and loss; by schedule, gradient or spectrum."""
        fields = {
            "vectors": Field(("k", size), scale=True),
            "eigenvalues": Field(("k",), scale=True, least=0),
            "delta": Field((size,), scale=True, moves=True),
            "loss": LOSS,
        }
        if isinstance(self.rank, Published):
            fields["gradient"] = Field((size,), scale=True)
        if isinstance(self.rank, Budget):
            fields["spectrum"] = Field(("values",))
        return Expected(Eigenpairs, fields)

    def renewed(self, state: State) -> State:
        """Without the clients' limits of a byte budget, which are shared anew."""
        return replace(state, limits=None)


def make(
    tau: int = 20,
    learning_rate: float = 1e-4,
    rank: str = "20",
    step: float = 0.5,
    cutoff: float = 1e-5,
    ridge: float = 0.0,
    local: Solver = "adam",
    sketch: Sketcher = "subspace",
    keep_state: bool = False,
) -> FipaPaper:
    """Published FIPA from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        rank: Rank schedule: a number, "published:1.0" (the authors' adaptive one),
            "energy:0.999", "cutoff", "bytes:400000" (of all clients' uploads in a
            round), or, with a ridge, "predictive:0.1".
        step: Factor of the update.
        cutoff: Relative cut-off of the gramian's eigenvalues.
        ridge: beta of the ridge solve; 0 for the cut-off.
        local: Local solver.
        sketch: Subspace iteration with J v and J^T w (published), or from the explicit
            Jacobian by range finder or full SVD.
        keep_state: Clients keep their optimiser's state over the rounds.
    """
    training = Local(local, tau, learning_rate, keep_state)
    return FipaPaper(training, parse(rank), sketch, step, cutoff, ridge)
