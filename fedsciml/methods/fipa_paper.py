r"""FIPA as published: gramian sketches, local Adam, pseudo-inverse, a fixed step.

Chang, He, Hao 2026, arXiv 2601.13608. Each client sends delta_m from tau epochs of
local training and the leading eigenpairs H_m ~ U_m diag(lambda_m) U_m^T of its
Gauss-Newton gramian at the broadcast theta; the server solves in the span of all U_m,

    theta += step * H^+ sum_m H_m delta_m,    H = sum_m H_m,

by a thin QR of the stacked U_m, Q R, and K = R diag(lambda) R^T, with eigenvalues of K
below a relative cut-off dropped or with a ridge. Directions that no sketch sees are not
moved: ``outside="still"``, published for equations. For comparison; ``fipa`` is the
method to use.

For images the paper moves them, too: ``outside="mean"``. With K = R diag(lambda / C)
R^T of C clients and b the mean of U_m diag(lambda_m) U_m^T delta_m it states

    z = (K + beta)^-1 Q^T b,    theta += gamma (beta Q z + (b - Q Q^T b)).

That is gamma beta (H + beta)^-1 b with H = Q K Q^T. So b must have beta delta_m beside
H_m delta_m, or it has no part outside of Q, and beta is to be divided out. What is done
here is the step so mended: with delta = sum share_m delta_m,

    b = sum (H_m + beta share_m) delta_m,
    theta += gamma (Q (K + beta)^-1 Q^T b + (delta - Q Q^T delta)),

to the minimum over x of the sum of (x - delta_m)^T (H_m + beta share_m) (x - delta_m).
At beta = 0 that is H^+ sum H_m delta_m within the span of Q and FedAvg's step outside;
at a large beta it is FedAvg's. H is the sum over the clients here, whose rows carry the
weights of the loss, and the mean in the authors' units. ``probe`` then asks for the
losses at this point, for ``RIDGES`` times beta, and at FedAvg's, and takes the lowest:
the published mixing alone may end above FedAvg.

The published settings are presets (``PRESETS``): ``regression``; ``line``, ``plane``
and ``space`` for equations by their dimension; ``images``, after a warm-up;
``classifier`` for its layers alone.

Differences from the authors' scripts: rows of H_m carry the weights of the loss, so
that boundary rows count in both alike, and K stands in for their dense p x p matrices,
which gives the same step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fedsciml.linalg import POWER_STEPS
from fedsciml.linalg.ranks import Budget, Fixed, Predictive, Published, Schedule, parse
from fedsciml.linalg.sketch import Sketch, truncate
from fedsciml.linalg.solve import spectrum
from fedsciml.methods._base import LOSS, SHARE, Exchanges, Expected, Field, Info, Parts
from fedsciml.methods._base import Opening as _Opening
from fedsciml.methods._base import State as _State
from fedsciml.methods._local import CARRIED, Carried, Draw, Local, Solver, train
from fedsciml.methods._prior import Judged, Losses, Path
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import (
    FIRST_RANK,
    Sketcher,
    budget,
    context,
    generator,
    leading,
    limits,
    shown,
    sketched,
)
from fedsciml.methods._sums import added, losses, total
from fedsciml.residual import System

Outside = Literal["still", "mean"]
"""What is done in directions that no sketch sees: nothing, or FedAvg's step."""

RIDGES = (10.0, 100.0)
"""Factors of the ridge that are probed besides."""

OVERSAMPLE = 16
"""Columns of the subspace iteration beyond the rank, if nothing is said."""


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
        share: Its part of all rows, where the mean update is needed.
    """

    vectors: Tensor
    eigenvalues: Tensor
    delta: Tensor
    loss: float
    gradient: Tensor | None = None
    spectrum: Tensor | None = None
    share: float | None = None


class Memory(Record):
    """The rank of a client's last sketch, and what its solver carries on."""

    rank: int
    carried: Carried | None = None


@dataclass(frozen=True)
class FipaPaper(Judged):
    """The published FIPA.

    Args:
        local: Local training that gives delta_m.
        rank: How many eigenpairs a client sends.
        sketch: How it finds them; ``subspace`` is the published algorithm.
        step: Factor of the update, positive.
        cutoff: Eigenvalues of K below this fraction of the largest are dropped.
        ridge: beta; if positive, (K + beta) is inverted instead of the cut-off.
        outside: What is done where no sketch sees.
        probe: With the mean, whether the lowest of several points is taken, FedAvg's
            among them.
        oversampling: Columns of the subspace iteration beyond a fixed rank, at least 1.
        power: Its steps, at least 1.
        prior: lambda of lambda/2 |theta|^2, which with the mean is added to beta and to
            the losses probed; ``bound`` takes it from the problem.

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
    outside: Outside = "still"
    probe: bool = True
    oversampling: int = OVERSAMPLE
    power: int = POWER_STEPS
    name: str = "fipa_paper"
    pooled: bool = False

    kinds = (State, Opening, Eigenpairs, Path, Losses, Memory, *CARRIED)
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
        if min(self.oversampling, self.power) < 1:
            raise ValueError(
                "Subspace iteration needs oversampling and power steps of 1 or more, "
                f"got {self.oversampling} and {self.power}."
            )
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
        theta = state.theta + self.step * self._move(sent, self.ridge)
        step, probes = self.step, 0
        if self.outside == "mean" and self.probe:
            average = state.theta + _average(sent)
            ridges = [k * self.ridge for k in RIDGES if self.ridge]
            others = [state.theta + self.step * self._move(sent, k) for k in ridges]
            points = torch.stack([average, theta, *others])
            taken, probes = (yield from self._best(points)), len(points)
            theta, step = points[taken], self.step if taken else 1.0
        info = Info(
            loss=total(sent),
            step=step,
            damping=self.ridge,
            probes=probes,
            cutoff=0.0 if self.ridge else self.cutoff**0.5,
            ranks=tuple(len(a.eigenvalues) for a in sent),
            epochs=self.local.epochs,
            losses=losses(answers),
        )
        gradients = [a.gradient for a in sent if a.gradient is not None]
        norm = float(torch.stack(gradients).sum(0).norm()) if gradients else 0.0
        spectra = {m: answer.spectrum for m, answer in answers.items()}
        shares = limits(spectra, self._rows(state.theta, len(sent)))
        return State(theta, state.seed, state.round + 1, norm, shares), info

    def _move(self, sent: Sequence[Eigenpairs], ridge: float) -> Tensor:
        """The full move, shape [p]."""
        vectors = torch.cat([a.vectors for a in sent])
        eigenvalues = torch.cat([a.eigenvalues for a in sent])
        moves = torch.cat([a.vectors @ a.delta for a in sent])
        if self.outside == "mean":
            average = _average(sent)
            root = eigenvalues.sqrt()
            factor = root.unsqueeze(-1) * vectors
            known = spectrum(Sketch(factor, root * moves - factor @ average))
            damping = ridge + self.prior
            return average + known.step(damping, 0.0 if damping else self.cutoff**0.5)
        q, r = torch.linalg.qr(vectors.mT)
        gramian = (r * eigenvalues) @ r.mT
        values, basis = torch.linalg.eigh(gramian)
        if ridge > 0:
            inverse = 1 / (values + ridge)
        else:
            keep = values > self.cutoff * values[-1:]
            inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
        y = basis @ (inverse * (basis.mT @ (r @ (eigenvalues * moves))))
        return q @ y

    @property
    def client(self) -> Parts:
        """Eigenpairs at the broadcast theta, then local training."""
        return {Opening: self._eigenpairs, Path: self._losses}

    def _eigenpairs(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Eigenpairs, Memory]:
        theta = ask.theta
        random = generator(ask.seed, ask.round, system.shard.client)
        if isinstance(self.rank, Fixed) and self.sketch == "subspace":
            linear = system.linearise(theta)
            how = self.power, self.oversampling, self.outside == "mean"
            found = leading(linear, self.rank.rank, random, *how)
            cutoff, loss = 0.0, linear.loss
        else:
            rank = memory.rank if memory else FIRST_RANK
            rank = self.rank.rank if isinstance(self.rank, Fixed) else rank
            reach = shown(theta.dtype)
            found, cutoff, loss, _ = sketched(
                system, theta, self.sketch, reach, 0.0, rank, random
            )
        values = found.singular_values
        adaptive = isinstance(self.rank, Published)
        gradient = system.linearise(theta).gradient if adaptive else found.gradient
        carried = memory.carried if memory else None
        draw = Draw(ask.seed, ask.round)
        delta, _, carried = train(system, theta, self.local, carried, draw=draw)
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
            system.shard.share if self.outside == "mean" else None,
        )
        return answer, Memory(max(found.rank, 1), carried)

    def _rows(self, theta: Tensor, clients: int) -> int:
        """Rows of all clients that a byte budget pays for; 0 without one."""
        return budget(self.rank, clients, theta, len(theta) + 1, len(theta))

    def expects(self, ask: Record, size: int) -> Expected:
        """Eigenpairs, update and loss; by schedule, gradient or spectrum; losses."""
        if isinstance(ask, Path):
            return self._judgement(ask)
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
        if self.outside == "mean":
            fields["share"] = SHARE
        return Expected(Eigenpairs, fields)

    def renewed(self, state: State) -> State:
        """Without the clients' limits of a byte budget, which are shared anew."""
        return replace(state, limits=None)


def _average(sent: Sequence[Eigenpairs]) -> Tensor:
    """FedAvg's move, shape [p]."""
    shares = [answer.share or 0.0 for answer in sent]
    moves = added(s * a.delta for s, a in zip(shares, sent, strict=True))
    return moves / math.fsum(shares)


class Setting(NamedTuple):
    """Published options, by the names of ``make``."""

    tau: int = 20
    rank: str = "20"
    step: float = 0.5
    learning_rate: float = 1e-4
    ridge: float = 0.0
    local: Solver = "adam"
    outside: Outside = "still"
    oversampling: int = OVERSAMPLE
    power: int = POWER_STEPS
    batch: int | None = None
    decay: float = 1.0


Preset = Literal["regression", "line", "plane", "space", "images", "classifier"]
"""Kinds of problems that settings are published for."""

_IMAGES = Setting(5, "200", 0.5, 0.01, 0.5, "sgd", "mean", 50, 9, 50, 0.998)

PRESETS: dict[Preset, Setting] = {
    "regression": Setting(),
    "line": Setting(tau=100, step=0.3),
    "plane": Setting(300, "50", 0.3),
    "space": Setting(300, "200", 0.5),
    "images": _IMAGES,
    "classifier": _IMAGES._replace(
        rank="10", step=1.0, ridge=0.01, oversampling=10, power=2
    ),
}
"""The settings of arXiv 2601.13608: functions and equations in one, two and more
dimensions, images, and the last layers of their classifiers."""


def make(
    preset: Preset = "regression",
    tau: int | None = None,
    learning_rate: float | None = None,
    rank: str | None = None,
    step: float | None = None,
    cutoff: float = 1e-5,
    ridge: float | None = None,
    local: Solver | None = None,
    sketch: Sketcher = "subspace",
    keep_state: bool = False,
    outside: Outside | None = None,
    probe: bool = True,
    oversampling: int | None = None,
    power: int | None = None,
    momentum: float = 0.0,
    batch: int | None = None,
    decay: float | None = None,
) -> FipaPaper:
    """Published FIPA from plain options; those not given are the preset's.

    Args:
        preset: Published settings: of regressions (tau 20, rank 20, step 0.5), of
            equations on a line (100, 20, 0.3), in the plane (300, 50, 0.3) and in space
            (300, 200, 0.5), of images and of their classifiers (``PRESETS``). An option
            that is given beside it counts instead of the preset's.
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
        outside: In directions that no sketch sees: no step (published for equations),
            or the clients' mean (published for images).
        probe: With the mean, take the lowest of several points, FedAvg's among them.
        oversampling: Columns of the subspace iteration beyond a fixed rank.
        power: Power steps of the subspace iteration at a fixed rank.
        momentum: Of the local solver sgd.
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if neither given nor the preset's.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    given: dict[str, Any] = {
        "tau": tau,
        "rank": rank,
        "step": step,
        "learning_rate": learning_rate,
        "ridge": ridge,
        "local": local,
        "outside": outside,
        "oversampling": oversampling,
        "power": power,
        "batch": batch,
        "decay": decay,
    }
    chosen = PRESETS[preset]._replace(
        **{key: value for key, value in given.items() if value is not None}
    )
    training = Local(
        chosen.local,
        chosen.tau,
        chosen.learning_rate,
        keep_state,
        momentum,
        batch=chosen.batch,
        decay=chosen.decay,
    )
    return FipaPaper(
        training,
        parse(chosen.rank),
        sketch,
        chosen.step,
        cutoff,
        chosen.ridge,
        chosen.outside,
        probe,
        chosen.oversampling,
        chosen.power,
    )
