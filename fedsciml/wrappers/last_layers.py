"""The last layers alone: the others stay as they are when training begins.

After a warm-up, ``Warmup(first, 20, LastLayers(then))``, they stay where that ended.
The method in it sees a problem whose network is ``network.Partial``: rows of J,
sketches, gradients and updates are as long as the trained layers have parameters. Down
goes, with what begins a round, all of theta: a client that comes late, or has forgotten
everything, lacks nothing. What the fixed layers make of a client's points is computed
once.
"""

from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Generator, Tensor

from fedsciml.methods import (
    ClientPart,
    Exchanges,
    Expected,
    Field,
    Method,
    Parts,
    Record,
    Said,
)
from fedsciml.methods._anchored import Anchored
from fedsciml.network import Partial, Trained
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers._base import (
    Around,
    AskAround,
    Wrapped,
    bare,
    changed,
    check_inner,
    relayed,
    unanchored,
    unwrapped,
)

WORDS = get_args(get_args(Trained)[1])
"""What ``train`` may be, beside a number."""


class State(Around):
    """All parameters; the method's state has those of the trained layers."""

    @property
    def point(self) -> Tensor:
        """That of the method, in all parameters."""
        own = self.inner.point
        return torch.cat([self.theta[: len(self.theta) - len(own)], own])


class Fixed(AskAround):
    """An ask at some theta, with the parameters that stay."""

    fixed: Tensor

    @property
    def theta(self) -> Tensor:
        """All parameters, shape [p]."""
        return torch.cat([self.fixed, self.ask.theta])


class Memory(Record):
    """The method's memory, and the parameters that stay."""

    fixed: Tensor
    inner: Record | None = None


@dataclass(frozen=True)
class LastLayers(Wrapped):
    """A method that trains the last layers of a network; the others stay.

    ``gn_gap`` compares with the step of all layers. A prior holds for all parameters in
    what is reported, and moves the trained ones.

    Args:
        method: Any that needs no basis which the parties share; FIPA then sends own
            sketches.
        train: How many of the last layers, of those with weights; ``classifier``: the
            last one; ``dense``: all dense ones behind the convolutions.
        problem: That of the trained layers; ``bound`` makes it.

    Raises:
        ValueError: If ``train`` is something else, or the method trains the last layers
            already, works in a shared basis or adds noise; when bound, if the network
            is no MLP or ConvNet of so many layers.
    """

    train: Trained = "classifier"
    problem: Problem | None = field(default=None, repr=False)

    apart = "sites tell sums apart by all layers, of which the last alone are trained"

    def __post_init__(self) -> None:
        check_inner(self.method)
        number = isinstance(self.train, int) and self.train >= 1
        if not (number or self.train in WORDS):
            raise ValueError(
                f"Of the last layers a number from 1 on is trained, or "
                f"{' or '.join(WORDS)}; got {self.train!r}."
            )
        if Fixed in self.method.client:
            raise ValueError("This method trains the last layers alone already.")
        if Anchored in self.method.client:
            raise ValueError(
                f"Method {self.name} works in a basis that all parties share, which is "
                "not known of a network whose first layers stay. Give it basis own, or "
                "leave out train."
            )
        if self.method.budget is not None:
            raise ValueError(
                "Differential privacy is derived for training of all layers; leave out "
                "train, or the privacy."
            )

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the method, bound to the problem of the trained layers."""
        theta = problem.network.init(Generator().manual_seed(0), torch.float64)
        network = Partial(problem.network, theta, self.train)
        # Rows at anchors would be those of other fixed layers.
        own = unanchored(replace(problem, network=network))
        return replace(self, method=self.method.bound(own, device, dtype), problem=own)

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        return (State, Fixed, Memory, *self.method.kinds)

    @property
    def _own(self) -> Problem:
        if self.problem is None:
            raise ValueError(
                "Which layers are the last ones is known of a problem's network: run "
                "the method by fedsciml.run, or take method.bound(problem)."
            )
        return self.problem

    @property
    def _size(self) -> int:
        """Number of trained parameters."""
        return self._own.network.size

    def start(self, theta: Tensor, seed: int) -> State:
        """The method's start, at the parameters of the last layers."""
        return State(theta, self.method.start(theta[-self._size :].clone(), seed))

    def round(self, state: State) -> Exchanges[State]:
        """The method's round; the others are told where an ask tells theta."""
        fixed = state.theta[: -self._size]

        def down(ask: Record) -> Record:
            return Fixed(ask, fixed) if hasattr(ask, "theta") else ask

        inner, info = yield from relayed(
            self.method, state.inner, down, lambda ask, answers: answers
        )
        return State(torch.cat([fixed, inner.theta]), inner), info

    @property
    def client(self) -> Parts:
        """The method's parts, on rows of the trained layers."""
        parts = {kind: self._later(part) for kind, part in self.method.client.items()}
        return {**parts, Fixed: self._first}

    def _first(
        self, system: System, ask: Fixed, memory: Memory | None
    ) -> tuple[Record, Record | None]:
        known = Memory(ask.fixed, memory.inner if memory else None)
        return self._later(self.method.part(ask.ask))(system, ask.ask, known)

    def _later(self, part: ClientPart) -> ClientPart:
        def answered(
            system: System, ask: Record, memory: Memory | None
        ) -> tuple[Record, Memory]:
            if memory is None:
                raise ValueError("A client was asked before it was told what stays.")
            # Rows must not depend on where the trained layers are.
            begin = self._own.network.init(Generator(), memory.fixed.dtype)
            theta = torch.cat([memory.fixed, begin.to(memory.fixed.device)])
            own = system.under(Partial(system.problem.network, theta, self.train))
            answer, inner = part(own, ask, memory.inner)
            return answer, Memory(memory.fixed, inner)

        return answered

    def points(self, ask: Record, memory: Any) -> Tensor:  # noqa: ANN401
        """The method's, in all parameters."""
        known = ask if isinstance(ask, Fixed) else memory
        found = super().points(ask, memory)
        return torch.cat([known.fixed.expand(len(found), -1), found], 1)

    def moved(self, state: State, theta: Tensor) -> State:
        """Around the method's."""
        inner = self.method.moved(state.inner, theta[-self._size :])
        return State(theta, inner)

    def expects(self, ask: Record, size: int) -> Expected:
        """Of the method, whose theta is shorter."""
        own = self._size

        def shorter(_: str, given: Field) -> Field:
            long = given.shape is not None and given.shape[-1:] == (own,)
            most = own if given.most is None else given.most
            return given._replace(bulk=given.bulk or long, most=most)

        found: Expected = changed(self.method.expects(bare(ask), own), shorter)
        return found

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """The method's, of the problem of the trained layers."""
        said = unwrapped(said, Fixed)
        return super().objection(self._own, state, client, said, unit)
