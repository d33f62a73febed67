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
    Field,
    Fields,
    Info,
    Message,
    Method,
    State,
    Wrapped,
    objection,
    renewed,
)
from fedsciml.methods._uploads import clients, number, tensor, total, without
from fedsciml.problem import Problem
from fedsciml.residual import System

Balance = Literal["none", "terms", "clients"]
"""What gets the same weight."""

_MARK = "balance."  # prefix of what the balancing itself keeps and sends
_ASK, _SEED = _MARK + "ask", _MARK + "seed"
_TRACES, _FACTORS, _LOSS = _MARK + "traces", _MARK + "factors", _MARK + "loss"


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
    that are not scaled.

    Args:
        method: One whose broadcast of a point carries it as ``theta``.
        by: What gets the same weight.

    Raises:
        ValueError: If ``by`` is none of its words.
    """

    by: Balance

    def __post_init__(self) -> None:
        if self.by not in get_args(Balance):
            raise ValueError(
                f"Rows are balanced by one of {', '.join(get_args(Balance))}; got "
                f"'{self.by}'."
            )

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """The question for the traces at theta; the method starts after the answer."""
        return {"theta": theta, _SEED: seed}, {"theta": theta, _ASK: 1}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """The traces; afterwards the method's part on scaled rows, and the own loss."""
        if _ASK in broadcast:
            return {_TRACES: traces(system, tensor(broadcast, "theta"))}, memory
        found = tensor(broadcast if _FACTORS in broadcast else memory, _FACTORS)
        own = found[min(system.shard.client, len(found) - 1)]
        scaled = system.scaled(own.tolist())
        upload, kept = self.method.client(
            scaled, without(broadcast, _MARK), without(memory, _MARK)
        )
        if "theta" in broadcast:
            upload = {**upload, _LOSS: system.loss(tensor(broadcast, "theta"))}
        return upload, {**kept, _FACTORS: found}

    def expects(self, broadcast: Message, size: int) -> Fields:
        """The traces of all terms; afterwards of the method, and the own loss."""
        if _ASK in broadcast:
            return {
                _TRACES: Field(("terms",), dtype=torch.float64, least=0, most=math.inf)
            }
        inner = self.method.expects(without(broadcast, _MARK), size)
        return {**inner, _LOSS: Field(least=0)} if "theta" in broadcast else inner

    def objection(
        self, problem: Problem, state: State, upload: Message
    ) -> ValueError | None:
        """To traces of other terms; afterwards the method's."""
        if _TRACES not in upload:
            inner, plain = without(state, _MARK), without(upload, _MARK)
            return objection(self.method, problem, inner, plain)
        found, terms = len(tensor(upload, _TRACES)), len(problem.terms)
        if found != terms:
            return ValueError(f"it has traces of {found} terms; there are {terms}")
        return None

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The factors; afterwards the method's part, with the own loss reported."""
        if _TRACES in uploads[0]:
            found = self._factors(uploads)
            theta, seed = tensor(state, "theta"), int(number(state, _SEED))
            state, opening = self.method.init(theta, seed)
            return {**state, _FACTORS: found}, {**opening, _FACTORS: found}, None
        if _LOSS in uploads[0]:
            state = {**state, _LOSS: total(uploads, _LOSS)}
        inner, broadcast, info = self.method.server(
            without(state, _MARK), [without(upload, _MARK) for upload in uploads]
        )
        kept = {_FACTORS: state[_FACTORS]}
        if info is None:
            return {**inner, **kept, _LOSS: number(state, _LOSS)}, broadcast, None
        info = replace(info, loss=number(state, _LOSS))
        return {**inner, **kept}, {**broadcast, **kept}, info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """Of the method; the factors stay."""
        if _FACTORS not in state:
            return state, broadcast
        kept = {_FACTORS: state[_FACTORS]}
        inner, opening = renewed(
            self.method, without(state, _MARK), without(broadcast, _MARK)
        )
        return {**inner, **kept}, {**opening, **kept}

    def _factors(self, uploads: list[Message]) -> Tensor:
        """A row for all clients, or one for each and a last one for those missing."""
        found = factors(torch.stack([tensor(u, _TRACES) for u in uploads]), self.by)
        if self.by == "terms":
            return found[:1]
        numbers = clients(uploads)
        rows = found.new_ones(max(numbers) + 2, found.shape[1])
        rows[numbers] = found
        return rows


def balanced(method: Method, by: Balance) -> Method:
    """The method on scaled rows; itself for "none"."""
    return method if by == "none" else Balanced(method, by)
