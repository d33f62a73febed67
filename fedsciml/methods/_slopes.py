r"""FIPA with the gradient beside the sketch, and with lazy sketches.

A sketch of few rows loses gradient: what it leaves out of J_m^T r_m is not small where
rows are confident and wrong. So each client sends all of its gradient with the sketch,
p numbers, and the server's model of the loss has the exact slope, and the curvature of
the sketches within their span; outside of it, at most what the clients left out, the
sum of the squares of their last singular values (``linalg.beside``).

Curvature changes more slowly than the gradient. With ``every`` > 1 a sketch is asked
for in every so many rounds only, or where the clients are others than before; in
between, clients send gradient, loss and target in the basis of their last sketch:

    sketch round   Opening     B_m [k, p], c_m [k], J^T r [p], loss
    other rounds   Glance      c_m = -U^T r, by the U and the root of the information of
                               the last sketch, J^T r [p], loss

Candidates are probed in every round.

The gradients of two rounds tell more of the curvature, and nothing more is sent for it:
the server keeps pairs s = theta' - theta, y = g' - g, and its steps are those of L-BFGS
(Nocedal, Mathematics of Computation 35, 1980) whose first matrix is the damped model
above, for each damping.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fedsciml.linalg.ranks import Fixed
from fedsciml.linalg.solve import Spectrum
from fedsciml.methods import _fipa
from fedsciml.methods._base import LOSS, Answers, Expected, Field, Info, Parts, Said
from fedsciml.methods._fipa import Fipa, Found, Memory, Opening, Probe, Sketched, asked
from fedsciml.methods._laws import ROUNDING, SHARE, Inconsistent
from fedsciml.methods._records import Record
from fedsciml.methods._sums import added, losses, total
from fedsciml.methods.gradient_only import two_loop
from fedsciml.policies import Candidates, Policy
from fedsciml.policies.greedy import Greedy
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.smoothness import has_kinks

LEFT = 0.1
"""Part of what sketches left out at most that counts as curvature outside of their
span: few directions have the most, and the damping is in addition. On digits 0.1 and 0
did alike, and with all of it the loss fell more slowly."""


class Kept(Record):
    """The server's last merged sketch.

    Attributes:
        s: Singular values, shape [k].
        basis: Shape [k, p].
        left: Maps the clients' targets to it, shape [rows, k].
        clients: Who sent sketches, and of how many rows, shape [m, 2].
        curvature: What they left out, at most.
        age: Rounds since.
    """

    s: Tensor
    basis: Tensor
    left: Tensor
    clients: Tensor
    curvature: float
    age: int


class Pairs(Record):
    """Curvature pairs, and what the next one begins with.

    Attributes:
        s: Steps, the oldest first, shape [h, p].
        y: Changes of the gradient along them, the prior's part with it, shape [h, p].
        theta: Where the last round started, shape [p].
        slope: Gradient there, shape [p].
    """

    s: Tensor
    y: Tensor
    theta: Tensor
    slope: Tensor

    def joined(self, theta: Tensor, slope: Tensor, most: int) -> "Pairs":
        """With the last step's pair if its curvature is positive; none without a step.

        Args:
            theta: Where the round starts, shape [p].
            slope: Gradient there.
            most: Pairs that are kept.
        """
        step, change = theta - self.theta, slope - self.slope
        if not step.any() or not most:
            return Pairs(self.s[:0], self.y[:0], theta, slope)
        least = torch.finfo(step.dtype).eps * float(step.norm() * change.norm())
        if not float(step @ change) > least:
            return Pairs(self.s, self.y, theta, slope)
        s, y = torch.cat([self.s, step[None]]), torch.cat([self.y, change[None]])
        return Pairs(_plain(s[-most:]), _plain(y[-most:]), theta, slope)


class State(_fipa.State):
    """FIPA's, the last sketch, and curvature pairs."""

    kept: Kept | None = None
    pairs: Pairs | None = None


class Glance(Record):
    """Asks for the slope at theta [p], without a sketch."""

    theta: Tensor


OPEN = (Opening, Glance)
"""What begins with the point where a round starts."""


class Slope(Record):
    """What a client tells without a sketch.

    Attributes:
        gradient: J^T r, shape [p].
        target: -U^T r with U of its last sketch, shape [k].
        loss: Of its rows.
    """

    gradient: Tensor
    target: Tensor
    loss: float


class Remembered(Memory):
    """FIPA's, and where the client was last asked, shape [p]."""

    at: Tensor | None = None


@dataclass(frozen=True)
class Slopes(Fipa):
    """FIPA whose clients send their gradients.

    Args:
        every: Rounds from one sketch to the next, at least 1.
        history: Curvature pairs that the server keeps, at least 0.
    """

    policy: Policy[Any] = field(default_factory=Greedy)
    every: int = 1
    history: int = 10

    _first = State
    stands_in = False
    personal = None

    def __post_init__(self) -> None:
        if self.every < 1 or self.history < 0:
            raise ValueError(
                "Sketches come every 1 or more rounds, with 0 or more curvature pairs; "
                f"got every={self.every} and history={self.history}."
            )
        if self.local is not None:
            raise ValueError(
                "A gradient beside the sketch is for the exact local step; leave out "
                "local training."
            )

    def _gather(self, state: _fipa.State) -> Generator[Record, Answers, _fipa.Merged]:
        """Sketches and gradients, or gradients alone."""
        assert isinstance(state, State)
        kept = state.kept
        if kept is not None and kept.age < self.every:
            told = yield Glance(state.at)
            if _sizes(told) == kept.clients.tolist():
                return self._paired(state, _without_sketch(kept, told))
        ask = self._opening(state)
        sent = yield ask
        merged = self._merged(state, sent)
        last = [
            float(a.factor.norm(dim=1).amin()) for a in sent.values() if len(a.target)
        ]
        curvature = LEFT * sum(value**2 for value in last)
        who, problem = torch.tensor(_sizes(sent), device="cpu"), merged.problem
        known = Kept(
            _plain(problem.s),
            _plain(problem.basis),
            _plain(problem.left),
            who,
            curvature,
            age=1,
        )
        found = replace(
            _with_slope(merged, sent),
            kept={**merged.kept, "kept": known if self.every > 1 else None},
            curvature=curvature,
        )
        return self._paired(state, found)

    def _paired(self, state: State, merged: _fipa.Merged) -> _fipa.Merged:
        """With the curvature pairs of the round."""
        assert merged.slope is not None
        slope, at = merged.slope + self.prior * state.at, state.at
        none = at.new_zeros(0, len(at))
        before = state.pairs or Pairs(none, none, at, slope)
        pairs = before.joined(at, slope, self.history)
        return replace(merged, kept={**merged.kept, "pairs": pairs})

    def _candidates(self, merged: _fipa.Merged, state: _fipa.State) -> Candidates:
        """The policy's dampings, and the steps of L-BFGS with them."""
        found = super()._candidates(merged, state)
        pairs: Pairs = merged.kept["pairs"]
        if not len(pairs.s):
            return found
        problem = merged.problem
        steps = torch.stack(
            [
                -two_loop(pairs.slope, pairs.s, pairs.y, self._damped(merged, mu))
                for mu in found.dampings
            ]
        )
        inside = steps @ problem.basis.mT
        beyond = steps - inside @ problem.basis
        return found._replace(coordinates=inside, beyond=beyond)

    def _removed(
        self, merged: _fipa.Merged, candidates: Candidates, steps: Tensor
    ) -> Tensor:
        """Of steps D = -H g of L-BFGS, g . H g / 2: of a model with the curvature H^-1.

        That of the sketches may see them rise; outside of its span it is but a bound.
        """
        pairs: Pairs = merged.kept["pairs"]
        if not len(pairs.s):
            return super()._removed(merged, candidates, steps)
        return -(steps @ pairs.slope) / 2

    def _damped(self, merged: _fipa.Merged, mu: float) -> Callable[[Tensor], Tensor]:
        """The inverse of the damped model's curvature, as a map of R^p."""
        problem, outside = merged.problem, 1 / (merged.curvature + self.prior + mu)
        inside = 1 / (problem.s.square() + mu) - outside

        def applied(q: Tensor) -> Tensor:
            return outside * q + (inside * (problem.basis @ q)) @ problem.basis

        return applied

    def _sketch(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Sketched, Memory]:
        """A client's sketch and gradient."""
        answer, kept = super()._sketch(system, ask, memory)
        slope, basis = system.slope(ask.theta), kept.basis
        if basis is not None:
            basis = replace(basis, left=_plain(basis.left))
        known = kept.rank, basis, kept.carried, kept.cutoff, kept.decay
        after = Remembered(*known, ask.theta)
        return replace(answer, gradient=slope), after

    def _glance(
        self, system: System, ask: Glance, memory: Remembered | None
    ) -> tuple[Slope, Remembered | None]:
        """A client's gradient, and its target in the basis of its last sketch."""
        at, gradient = ask.theta, system.slope(ask.theta)
        if memory is None or memory.basis is None:
            return Slope(gradient, gradient[:0], system.loss(at)), memory
        basis = memory.basis
        found, residuals = system.judged(at[None], basis.theta)
        target = basis.targets(system, residuals)[0]
        return Slope(gradient, target, float(found[0])), replace(memory, at=at)

    def _probe(
        self, system: System, ask: Probe, memory: Memory
    ) -> tuple[Found, Memory]:
        """A client's losses, and targets in the basis of its last sketch."""
        basis = asked(memory)
        assert isinstance(memory, Remembered)
        assert memory.at is not None
        losses, residuals = system.judged(ask.candidates(memory.at), basis.theta)
        kept = basis if self.every > 1 else None
        found = Found(losses, basis.targets(system, residuals))
        return found, replace(memory, basis=kept)

    @property
    def _most(self) -> int | None:
        """The rank, where it is fixed: the gradient does not depend on it."""
        return self.rank.rank if isinstance(self.rank, Fixed) else None

    @property
    def client(self) -> Parts:
        """FIPA's, and the slope without a sketch."""
        return {**super().client, Glance: self._glance}

    @property
    def kinds(self) -> tuple[type, ...]:
        """FIPA's, and those of this file."""
        return (*super().kinds, Kept, Pairs, Glance, Slope, Remembered)

    def expects(self, ask: Record, size: int) -> Expected:
        """FIPA's with the gradient; or gradient, target and loss."""
        gradient = Field((size,), scale=True)
        if isinstance(ask, Glance):
            target = Field(("k",), scale=True)
            fields = {"gradient": gradient, "target": target, "loss": LOSS}
            return Expected(Slope, fields)
        found = super().expects(ask, size)
        if isinstance(ask, Probe):
            return found
        return found._replace(fields={**found.fields, "gradient": gradient})

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """FIPA's; without a sketch, to losses that do not follow the gradient."""
        number = max(i for i, (ask, _) in enumerate(said) if isinstance(ask, OPEN))
        (opening, told), (ask, answer) = said[number], said[-1]
        assert isinstance(opening, OPEN)
        if not isinstance(told, Slope):
            return super().objection(problem, state, client, said[number:], unit)
        if not isinstance(ask, Probe) or has_kinks(problem):
            return None
        step = ask.near * ask.steps[ask.checked]
        slope, there = float(told.gradient @ step), float(answer.losses[-1])
        noise = told.loss + float(told.gradient.abs() @ opening.theta.abs())
        length = float(step.norm())
        allowed = SHARE * abs(slope) + ROUNDING[step.dtype] * noise
        allowed += unit * float(told.gradient.norm()) * length
        allowed += 4 * (state.top * length) ** 2  # curvature
        miss = abs(there - told.loss - slope)
        if miss <= allowed:
            return None
        return Inconsistent(
            f"its loss is {told.loss:.6g}, but {there:.6g} next to theta, where its "
            f"gradient predicts a change of {slope:.1e}"
        )

    def renewed(self, state: _fipa.State) -> _fipa.State:
        """As FIPA, without the sketch of other clients, and without pairs."""
        renewed = super().renewed(state)
        assert isinstance(renewed, State)
        return replace(renewed, kept=None, pairs=None)


def _plain(tensor: Tensor) -> Tensor:
    """As a checkpoint gives it back: rounding depends on where numbers lie."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _sizes(answers: Answers) -> list[list[int]]:
    """Who answered, and with targets of how many numbers."""
    return [[m, len(answer.target)] for m, answer in answers.items()]


def _with_slope(merged: _fipa.Merged, told: Answers) -> _fipa.Merged:
    """The problem, with the gradient of all clients."""
    slope = added(answer.gradient for answer in told.values())
    norms = {m: float(answer.gradient.norm()) for m, answer in told.items()}
    info, norm = replace(merged.info, gradients=norms), float(slope.norm())
    return replace(merged, slope=slope, gradient=norm, info=info)


def _without_sketch(kept: Kept, told: Answers) -> _fipa.Merged:
    """The last sketch's problem, with targets and gradient of another theta."""
    targets = torch.cat([answer.target for answer in told.values()])
    problem = Spectrum(kept.s, targets @ kept.left, kept.basis, kept.left)
    info = Info(total(told.values()), losses=losses(told), epochs=1)
    older = {"kept": replace(kept, age=kept.age + 1)}
    merged = _fipa.Merged(problem, problem, 0.0, info, older, curvature=kept.curvature)
    return _with_slope(merged, told)
