r"""Row scaling: all terms, or all clients, get the same weight in the step.

A term whose rows of J are long dominates the directions that are solved first, whatever
its part in the error. With a factor f of the loss of a term (r and J times sqrt(f)),

    f_t = mean_t' tr(J_t'^T J_t') / tr(J_t^T J_t),     J_t: all clients' rows of term t,

all terms have the same trace, and the sum of the traces stays. These are the weights by
the trace of the neural tangent kernel of Wang, Yu and Perdikaris (When and why PINNs
fail to train, J. Comput. Phys. 449, 2022, 110768, arXiv 2007.14527), up to a common
factor. They cancel the terms' own weights: the steps no longer depend on them. All
clients have the same factors, so their problems still add up to the centralised one.
The server tells the factors of all to all: what a client learns of the others is the
size of their Jacobians.
With a factor per client instead, f_m = mean_m' tr(J_m'^T J_m') / tr(J_m^T J_m), they
add up to that of the scaled rows.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from fedsciml.methods import (
    LOSS,
    Answers,
    Exchanges,
    Expected,
    Field,
    Method,
    Opening,
    Parts,
    Record,
    Said,
)
from fedsciml.methods import State as _State
from fedsciml.network.starts import settled
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers._base import AskAround, Wrapped, check_inner, relayed, unwrapped

Balance = Literal["none", "terms", "clients"]
"""What gets the same weight."""


class State(_State):
    """The state of the method on scaled rows.

    Attributes:
        seed: For its start.
        inner: Its own; None before the first round.
        factors: Of the losses, see ``factors``; a row for all clients, or one for each
            and a last one for those missing.
    """

    seed: int
    inner: _State | None = None
    factors: Tensor | None = None

    @property
    def point(self) -> Tensor:
        """That of the method."""
        return self.inner.point if self.inner else self.theta


class Traces(Opening):
    """Asks for the traces of the terms at theta."""


class Sizes(Record):
    """A client's traces, shape [T], float64."""

    traces: Tensor


class Scaled(AskAround):
    """The first ask of a round, with the factors of the losses."""

    factors: Tensor


class Weighed(Record):
    """The answer on scaled rows, and the problem's own loss."""

    answer: Record
    own_loss: float


class Memory(Record):
    """The method's memory, and the factors of the losses."""

    factors: Tensor
    inner: Record | None = None


def traces(system: System, theta: Tensor) -> Tensor:
    """tr(J_t^T J_t) of the shard's rows of each term t at theta, shape [T], float64.

    Zero for a term without rows here.
    """
    found = [0.0] * len(system.problem.terms)
    for block, part in zip(system.blocks, system.parts(theta, 0), strict=True):
        found[block.rows.term] += float(part.jacobian().norm()) ** 2
    return torch.tensor(found, dtype=torch.float64, device="cpu")


def factors(traces: Tensor, by: Balance) -> Tensor:
    """Factors of the losses of clients and terms, from their traces; both [M, T].

    What has no trace counts for nothing in the mean and gets the factor 1, as do all
    where the mean overflows.
    """
    if by == "none":
        return torch.ones_like(traces)
    sums = traces.sum(0 if by == "terms" else 1, keepdim=True)
    known = (sums > 0) & sums.isfinite()
    found = sums[known].mean() / sums
    found = torch.where(known & found.isfinite(), found, 1.0)
    return found.expand_as(traces).contiguous()


@dataclass(frozen=True)
class Balanced(Wrapped):
    """A method on scaled rows.

    The first round has one exchange more: the clients send their traces at the start
    theta, a number per term; the server answers with the factors. They are then fixed,
    so that a policy can compare its losses over all rounds.

    The method works with the scaled loss alone, and the theta that it keeps is that of
    the lowest scaled loss: steps chosen by one measure are not judged by another one,
    which may be blind to a term of little weight. What is reported is the problem's own
    loss at the round's start, for which the clients evaluate their residual once more;
    it may rise where the scaled one falls. ``gn_gap`` compares with the step on rows
    that are not scaled. A prior is not scaled: beside rows that are, it weighs more or
    less than in the problem's loss. Factors of one start are none for another one, so
    none is chosen: of a network with ``first="auto"`` the first is taken.

    Args:
        method: Any.
        by: What gets the same weight.

    Raises:
        ValueError: If ``by`` is none of its words, or the method is balanced already.
    """

    by: Balance

    apart = "its rows are scaled by what every client tells of its own"

    def __post_init__(self) -> None:
        check_inner(self.method)
        if self.by not in get_args(Balance):
            raise ValueError(
                f"Rows are balanced by one of {', '.join(get_args(Balance))}; got "
                f"'{self.by}'."
            )
        if Traces in self.method.client:
            raise ValueError("The rows of this method are balanced already.")

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the bound method, which chooses no start."""
        network = settled(problem.network)
        if network is not problem.network:
            problem = replace(problem, network=network)
        return super().bound(problem, device, dtype)

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        own = (State, Traces, Sizes, Scaled, Weighed, Memory)
        return (*own, *self.method.kinds)

    def start(self, theta: Tensor, seed: int) -> State:
        """The method starts after the traces are known."""
        return State(theta, seed)

    def round(self, state: State) -> Exchanges[State]:
        """The factors, once; then the method's round, with the own loss reported."""
        inner, found, losses = state.inner, state.factors, dict[int, float]()
        if inner is None or found is None:
            found = self._factors((yield Traces(state.theta)))
            inner = self.method.start(state.theta, state.seed)

        def down(ask: Record) -> Record:
            return ask if losses else Scaled(ask, found)

        def up(ask: Record, answers: Answers) -> Answers:
            if losses:
                return answers
            losses.update({m: answer.own_loss for m, answer in answers.items()})
            return {m: answer.answer for m, answer in answers.items()}

        inner, info = yield from relayed(self._on(found), inner, down, up)
        after = State(inner.theta, state.seed, inner, found)
        return after, replace(info, loss=sum(losses.values()), losses=losses)

    @property
    def client(self) -> Parts:
        """The traces; afterwards the method's part on scaled rows, and the own loss."""
        inner = dict.fromkeys(self.method.client, self._later)
        return {**inner, Traces: self._traces, Scaled: self._first}

    def _traces(
        self, system: System, ask: Traces, memory: Memory | None
    ) -> tuple[Sizes, Memory | None]:
        return Sizes(traces(system.normalised(ask.theta), ask.theta)), memory

    def _first(
        self, system: System, ask: Scaled, memory: Memory | None
    ) -> tuple[Weighed, Record | None]:
        memory = Memory(ask.factors, memory.inner if memory else None)
        answer, kept = self._later(system, ask.ask, memory)
        at = ask.ask.theta
        return Weighed(answer, system.normalised(at).loss(at)), kept

    def _later(
        self, system: System, ask: Record, memory: Memory | None
    ) -> tuple[Record, Memory]:
        if memory is None:
            raise ValueError("A client was asked before it was told the factors.")
        found = memory.factors
        own = found[min(system.shard.client, len(found) - 1)]
        part = self._on(found).part(ask)
        answer, inner = part(system.scaled(own.tolist()), ask, memory.inner)
        return answer, Memory(found, inner)

    def _on(self, found: Tensor) -> Method:
        """The method where terms count as at the clients."""
        if self.by == "clients":
            return self.method
        return self.method.scaled(tuple(found[0].tolist()))

    def expects(self, ask: Record, size: int) -> Expected:
        """The traces of all terms; afterwards of the method, and the own loss."""
        if isinstance(ask, Traces):
            sizes = Field(("terms",), dtype=torch.float64, least=0, most=math.inf)
            return Expected(Sizes, {"traces": sizes})
        if isinstance(ask, Scaled):
            inner = self.method.expects(ask.ask, size)
            return Expected(Weighed, {"answer": inner, "own_loss": LOSS})
        return self.method.expects(ask, size)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """To traces of other terms; afterwards the method's."""
        _, answer = said[-1]
        if isinstance(answer, Sizes):
            found, terms = len(answer.traces), len(problem.terms)
            if found != terms:
                return ValueError(f"it has traces of {found} terms; there are {terms}")
            return None
        inner = state.inner or self.method.start(state.theta, state.seed)
        factors = [ask.factors for ask, _ in said if isinstance(ask, Scaled)]
        on = self._on(factors[0]) if factors else self.method
        plain = [
            (ask, told.answer if isinstance(told, Weighed) else told)
            for ask, told in unwrapped(said, Scaled)
            if not isinstance(told, Sizes)
        ]
        return on.objection(problem, inner, client, plain, unit)

    def renewed(self, state: State) -> State:
        """The method's renewed state; the factors stay."""
        if state.inner is None:
            return state
        return replace(state, inner=self.method.renewed(state.inner))

    def _factors(self, answers: Answers) -> Tensor:
        """A row for all clients, or one for each and a last one for those missing."""
        found = factors(torch.stack([a.traces for a in answers.values()]), self.by)
        if self.by == "terms":
            return found[:1]
        rows = found.new_ones(max(answers) + 2, found.shape[1])
        rows[list(answers)] = found
        return rows


def balanced(method: Method, by: Balance) -> Method:
    """The method on scaled rows; itself for "none"."""
    return method if by == "none" else Balanced(method, by)
