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

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedsciml.linalg.ranks import (
    Budget,
    Context,
    Fixed,
    Predictive,
    Published,
    Schedule,
    parse,
)
from fedsciml.linalg.sketch import truncate
from fedsciml.methods._base import Field, Fields, Info, Message, State
from fedsciml.methods._local import Local, Solver, train
from fedsciml.methods._sketching import (
    FIRST_RANK,
    Sketcher,
    generator,
    limit,
    limits,
    shown,
    sketched,
)
from fedsciml.methods._uploads import number, tensor, total
from fedsciml.residual import System


@dataclass(frozen=True)
class FipaPaper:
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

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """theta, and what the published rank schedule wants to know."""
        state: State = {"theta": theta, "seed": seed, "round": 1, "gradient": 0.0}
        return state, state

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """Eigenpairs at the broadcast theta, then local training."""
        theta, round_ = tensor(broadcast, "theta"), int(number(broadcast, "round"))
        fixed = self.rank.rank if isinstance(self.rank, Fixed) else None
        known = int(number(memory, "rank")) if "rank" in memory else FIRST_RANK
        found, cutoff, loss = sketched(
            system,
            theta,
            self.sketch,
            1.0 if fixed and self.sketch == "subspace" else shown(theta.dtype),
            0.0,
            fixed or known,
            generator(int(number(broadcast, "seed")), round_, system.shard.client),
        )
        values = found.singular_values
        adaptive = isinstance(self.rank, Published)
        gradient = system.linearise(theta).gradient if adaptive else found.gradient
        delta, _, memory = train(system, theta, self.local, memory)
        clients = system.problem.clients
        rows = self._rows(theta, clients)
        context = Context(
            round_,
            cutoff,
            damping=self.ridge / clients,
            gradient_norm=float(gradient.norm()),
            total_gradient_norm=number(broadcast, "gradient"),
            limit=limit(system, broadcast, rows),
        )
        found = truncate(found, self.rank(values, found.factor @ delta, context))
        s = found.singular_values
        upload: Message = {
            "vectors": found.factor / torch.where(s > 0, s, 1.0).unsqueeze(-1),
            "eigenvalues": s.square(),
            "delta": delta,
            "loss": loss,
        }
        if adaptive:
            upload["gradient"] = gradient  # the schedule asks for |sum_j g_j|
        if rows:
            upload["spectrum"] = values[:rows]
        return upload, {**memory, "rank": max(found.rank, 1)}

    def _rows(self, theta: Tensor, clients: int) -> int:
        """Rows of all clients that a byte budget pays for; 0 without one."""
        if not isinstance(self.rank, Budget):
            return 0
        size, p = theta.element_size(), len(theta)
        return self.rank.rows(clients, p + 1, size, fixed=size * p + 8)

    def expects(self, broadcast: Message, size: int) -> Fields:
        """Eigenpairs, update and loss; by schedule, gradient or spectrum."""
        del broadcast
        expected = {
            "vectors": Field(("k", size), scale=True),
            "eigenvalues": Field(("k",), scale=True, least=0),
            "delta": Field((size,), scale=True),
            "loss": Field(least=0),
        }
        if isinstance(self.rank, Published):
            expected["gradient"] = Field((size,), scale=True)
        if isinstance(self.rank, Budget):
            expected["spectrum"] = Field(("values",))
        return expected

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The published rule in the span of all sketches."""
        vectors = torch.cat([tensor(u, "vectors") for u in uploads])
        eigenvalues = torch.cat([tensor(u, "eigenvalues") for u in uploads])
        moves = torch.cat([tensor(u, "vectors") @ tensor(u, "delta") for u in uploads])
        q, r = torch.linalg.qr(vectors.mT)
        gramian = (r * eigenvalues) @ r.mT
        values, basis = torch.linalg.eigh(gramian)
        if self.ridge > 0:
            inverse = 1 / (values + self.ridge)
        else:
            keep = values > self.cutoff * values[-1:]
            inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
        y = basis @ (inverse * (basis.mT @ (r @ (eigenvalues * moves))))
        ranks = tuple(len(tensor(u, "eigenvalues")) for u in uploads)
        info = Info(
            loss=total(uploads, "loss"),
            step=self.step,
            damping=self.ridge,
            cutoff=0.0 if self.ridge else self.cutoff**0.5,
            ranks=ranks,
            epochs=self.local.epochs,
        )
        gradients = [tensor(u, "gradient") for u in uploads if "gradient" in u]
        after: State = {
            **state,
            "theta": tensor(state, "theta") + self.step * (q @ y),
            "round": int(number(state, "round")) + 1,
            "gradient": float(torch.stack(gradients).sum(0).norm())
            if gradients
            else 0.0,
        }
        after |= limits(uploads, self._rows(tensor(state, "theta"), len(uploads)))
        return after, after, info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """Without the clients' limits of a byte budget, which are shared anew."""
        del broadcast
        after = {key: value for key, value in state.items() if key != "limits"}
        return after, after


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
