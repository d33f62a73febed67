r"""Parameters of each client's own: theta is shared, f stays where it is.

Server and messages know theta_s [p_s] alone. What a client has of its own, f [p_f], it
keeps with what it remembers, and moves by itself:

* Around FIPA and Gauss-Newton it *eliminates* f from the rows that it tells of
  (``residual.Eliminated``). A round's ask carries the damping mu_f of d, a part of the
  damping of the last step that was taken; in the first round f is held. When the server
  has taken t D, the next ask carries t, and the client goes t d(D) by itself. Together
  that is the joint Gauss-Newton step of all parameters, of dampings (mu_s, mu_f).
* Around local training it trains theta and f *together*, or f before theta
  (*alternate*), and sends how far theta came.

A lone client of a centralised method holds the parameters of all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fedsciml.methods import (
    ClientPart,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Parts,
    Record,
    Said,
)
from fedsciml.methods._averaging import Averaging
from fedsciml.methods._base import LOSS, Evaluation
from fedsciml.methods._local import train
from fedsciml.problem import Problem
from fedsciml.residual import Eliminated, System, Together
from fedsciml.residual.held_out import Breakdown, Fresh, HeldOut
from fedsciml.residual.personal import Step
from fedsciml.wrappers._base import Around, AskAround, Wrapped, bare, relayed, unwrapped

Order = Literal["together", "alternate"]
"""Whether local training moves theta and f at once, or f before theta."""

RAISED = 10.0
"""Factor of mu_f after a round without a step; and of its part of mu_s after one that
was not full, at most to 1. After a full one mu_f is a tenth of that part: what is each
client's own is small and soon near its best, while the policy damps theta for long. On
oscillations with their equation as a term the error after 45 rounds was 1e-4 with mu_f
= mu_s, and 1e-10 so (three families). Where a policy does not probe it stays mu_s: no
one sees whether f went too far."""

ROWS = 10.0
"""How long all rows may be, by theta_s and f, over those by theta_s that a server has
seen: rounding next to theta is that of all. Without it one honest client in 76 runs was
refused, by a third of what was allowed."""

NEXT = 1e-3
"""Length up to which a step is one next to theta, which no policy takes."""

TINY = 1e-20
"""Part of mu_s that mu_f is at least."""

LEAST = 1e-24
"""mu_f, at least, over the largest eigenvalue of J_s^T J_s so far. What is left of rows
can vanish, and with it mu_s: where f can do everything, as where a client has fewer
rows than parameters of its own, it went to 1e8 in a round without this."""


class Way(Record):
    """What the server did since the clients were last told.

    Attributes:
        round: How many rounds are done.
        fraction: t of the last step.
        kept: 1 if the round begins at the model, else 0.
        back: 1 if clients go back to what they had at the model, else 0.
    """

    round: int
    fraction: float
    kept: int
    back: int


class State(Around):
    """FIPA's or another method's, and what clients need to know of the last step.

    Attributes:
        way: Since the last round.
        damping: mu_f of the next one; infinite to hold f.
        top: Largest singular value of a merged sketch so far.
        part: Of the damping of the last step that mu_f is.
    """

    way: Way
    damping: float
    top: float = 0.0
    part: float = 1.0


class Told(AskAround):
    """An ask at some theta, what was done since the last one, and mu_f."""

    way: Way
    damping: float


class Evaluate(Record):
    """Asks for losses of the model.

    Attributes:
        theta: The model, shape [p_s].
        way: Since the last round.
        at: Where the next step starts, shape [p_s]; None for the model.
        terms: How many terms there are, to have the loss of each, and held-out losses;
            0 for neither.
    """

    theta: Tensor
    way: Way
    at: Tensor | None = None
    terms: int = 0


class Evaluated(Record):
    """A client's loss at the model; held-out losses and those of terms, if asked."""

    loss: float
    held_out: Tensor | None = None
    terms: Tensor | None = None


class Begun(Record):
    """A round that a client takes part in.

    Attributes:
        theta: Where it begins, shape [p_s].
        damping: mu_f.
        round: Its number.
        step: How the client's own go with theta.
    """

    theta: Tensor
    damping: float
    round: int
    step: Step

    def gone(self, values: Tensor, fraction: float, theta: Tensor) -> Tensor:
        """f [S, p_f] after this part of the step, which ended at theta [p_s]."""
        followed = self.step.follow @ (theta - self.theta)
        return values + fraction * self.step.start - followed


class Memory(Record):
    """What a client keeps.

    Attributes:
        values: Its own parameters f, of a centralised method those of all, [S, p_f].
        model: Those of the model, likewise.
        begun: The round that it takes part in.
        inner: The method's memory.
    """

    values: Tensor
    model: Tensor
    begun: Begun | None = None
    inner: Record | None = None


@dataclass(frozen=True)
class Personal(Wrapped):
    """A method whose clients have parameters of their own.

    ``fitted`` puts it around a method where a problem has such parameters.

    Args:
        method: FIPA, Gauss-Newton, or one of local training.
        order: Of local training.
        own_epochs: Local epochs of f alone, with order ``alternate``; as many as of
            theta for None.

    Raises:
        ValueError: If the method is another one, or the order is not for it.
    """

    order: Order = "together"
    own_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.method.personal is None:
            raise ValueError(
                f"Method {self.name} as it is here cannot train parameters of each "
                "client's own; take fipa without a gradient beside the sketch, fedavg, "
                "fedprox, fedadam, or centralised gauss_newton, adam and lbfgs."
            )
        if self.order not in get_args(Order):
            raise ValueError(
                f"Local training is {' or '.join(get_args(Order))}; got {self.order!r}."
            )
        if self.order == "alternate" and not isinstance(self.method, Averaging):
            raise ValueError(
                f"The order alternate is for averaging methods, not {self.name}; leave "
                "it out."
            )
        if self.own_epochs is not None and (
            self.order != "alternate" or self.own_epochs < 1
        ):
            raise ValueError(
                f"{self.own_epochs} epochs of personal parameters alone: give 1 or "
                "more, with the order alternate."
            )

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        own = (State, Way, Told, Evaluate, Evaluated, Memory, Begun, Step)
        return (*own, *self.method.kinds)

    @property
    def apart(self) -> str | None:
        """That sums of losses do not reach what clients have of their own."""
        return "clients with parameters of their own tell of their losses one by one"

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the bound method.

        Raises:
            ValueError: If no parameters are personal, the method in it cannot have
                any, or the local solver gauss_newton is to have a prior of theta.
        """
        if problem.personal is None:
            raise ValueError(
                f"Problem '{problem.name}' has no personal parameters. Give some to "
                "its network: Parallel(personal={...}), Personal(network), or lora."
            )
        local = getattr(self.method, "local", None)
        if problem.prior and local is not None and local.solver == "gauss_newton":
            raise ValueError(
                f"Problem '{problem.name}' has a prior of the shared parameters, which "
                "local steps of gauss_newton would give the personal ones, too. Leave "
                "it out, or take adam, sgd or lbfgs."
            )
        return super().bound(problem, device, dtype)

    def start(self, theta: Tensor, seed: int) -> State:
        """The method's; clients hold f in the first round."""
        way = Way(0, 0.0, 1, 0)
        return State(theta, self.method.start(theta, seed), way, inf)

    def round(self, state: State) -> Exchanges[State]:
        """The method's; an ask that tells theta tells what was done since."""
        choice = False

        def down(ask: Record) -> Record:
            nonlocal choice
            choice = choice or _shorter(ask)
            told = hasattr(ask, "theta")
            return Told(ask, state.way, state.damping) if told else ask

        inner, info = yield from relayed(
            self.method, state.inner, down, lambda ask, answers: answers
        )
        kept = torch.equal(inner.theta, inner.point)
        way = Way(state.way.round + 1, info.step, int(kept), 0)
        top = getattr(inner, "top", 0.0)
        damping, part = _damped(state, info, top, choice)
        top = max(top, state.top)
        return State(inner.theta, inner, way, damping, top, part), info

    @property
    def client(self) -> Parts:
        """The method's parts, on rows of the shared parameters."""
        parts = {kind: self._later(part) for kind, part in self.method.client.items()}
        first = self._led if self.method.personal == "eliminated" else self._trained
        return {**parts, Told: first, Evaluate: self._evaluate}

    def _led(
        self, system: System, told: Told, memory: Memory | None
    ) -> tuple[Record, Memory]:
        """The first half of a round: f is eliminated at theta."""
        known = _settled(system, memory, told.way, told.theta)
        rows = Eliminated(system, told.theta, known.values, told.damping)
        part = self.method.part(told.ask)
        answer, inner = part(rows, told.ask, known.inner)
        begun = Begun(told.theta, told.damping, told.way.round + 1, rows.step)
        return answer, replace(known, begun=begun, inner=inner)

    def _later(self, part: ClientPart) -> ClientPart:
        """A later half of it: f goes with the candidates."""

        def answered(
            system: System, ask: Record, memory: Memory | None
        ) -> tuple[Record, Memory]:
            if memory is None or memory.begun is None:
                raise ValueError("A client was asked before it was told of theta.")
            begun, fractions = memory.begun, getattr(ask, "fractions", None)
            rows = Eliminated(system, begun.theta, memory.values, begun.damping)
            rows = rows.going(fractions, begun.step)
            answer, inner = part(rows, ask, memory.inner)
            return answer, replace(memory, inner=inner)

        return answered

    def _trained(
        self, system: System, told: Told, memory: Memory | None
    ) -> tuple[Record, Memory]:
        """Local training of theta and f; the answer tells of theta alone."""
        known = _settled(system, memory, told.way, told.theta)
        part, values = self.method.part(told.ask), known.values
        ask: Any = told.ask
        found: Any
        if self.order == "alternate":
            values = self._alone(system, ask, values)
            loss = Eliminated(system, ask.theta, known.values).loss(ask.theta)
            fixed = Eliminated(system, ask.theta, values)
            found, inner = part(fixed, ask, known.inner)
            answer = replace(found, loss=loss)
        else:
            whole = Together(system)
            told_all = replace(ask, theta=whole.joined(ask.theta, values))
            found, inner = part(whole, told_all, known.inner)
            name = "theta" if hasattr(found, "theta") else "delta"
            shared, own = whole.split(getattr(found, name))
            answer = replace(found, **{name: shared.clone()})
            values = own.clone() if name == "theta" else values + own
            if isinstance(self.method, Averaging):
                answer = self.method.told(ask, answer)
        return answer, Memory(values, values, None, inner)

    def _alone(self, system: System, ask: Any, values: Tensor) -> Tensor:  # noqa: ANN401
        """f after local epochs of it alone, [S, p_f]."""
        assert isinstance(self.method, Averaging)
        local = self.method.local
        epochs = self.own_epochs or local.epochs
        local = replace(local, epochs=epochs, keep_state=False, proximal=0.0)
        rows = Together(system, ask.theta)
        moved, _, _ = train(rows, values.flatten(), local, None, draw=ask.draw)
        return values + moved.view_as(values)

    def _evaluate(
        self, system: System, ask: Evaluate, memory: Memory | None
    ) -> tuple[Evaluated, Memory]:
        """A client's losses at the model, with f of its own there."""
        theta = ask.theta
        known = _settled(system, memory, ask.way, theta if ask.at is None else ask.at)
        loss = Eliminated(system, theta, known.model).loss(theta)
        if not ask.terms:
            return Evaluated(loss), known
        pairs = zip(system.sites, known.model.to(theta), strict=True)
        told = Breakdown.total(
            [Fresh(site).breakdown(system.view.joined(theta, f)) for site, f in pairs]
        )
        parts = theta.new_tensor(told.held_out), theta.new_tensor(told.terms)
        return Evaluated(loss, *parts), known

    @property
    def evaluates(self) -> bool:
        """Losses are those with f of each client's own."""
        return True

    def evaluation(self, state: State, held_out: bool, terms: int = 0) -> Evaluation:
        """Losses at the model, added up."""
        at = None if state.way.kept else state.inner.point
        ask = Evaluate(state.theta, state.way, at, terms if held_out else 0)
        told = (yield ask).values()
        if not told:
            return None
        if not held_out:
            return [sum(answer.loss for answer in told)]
        several = [[*a.held_out.tolist(), *a.terms.tolist()] for a in told]
        return [sum(column) for column in zip(*several, strict=True)]

    def enough(self, ask: Record, answered: Collection[int]) -> bool | None:
        """Losses are those of whoever answers."""
        return isinstance(ask, Evaluate) or super().enough(ask, answered)

    def own(self, system: System, state: State, memory: Memory | None) -> Tensor:
        """The parameters of a client's own at the model, [S, p_f]."""
        return _settled(system, memory, state.way, state.inner.point).model

    def pooling(
        self, whole: System, state: State, memories: Sequence[Memory | None]
    ) -> System:
        """With the clients' own eliminated, as they were and with the same damping."""
        values = [known.values for known in memories if known is not None]
        theta = state.inner.point
        return Eliminated(whole, theta, torch.cat(values), state.damping)

    def expects(self, ask: Record, size: int) -> Expected:
        """What the method expects; losses, and held-out ones where they are asked."""
        if not isinstance(ask, Evaluate):
            return self.method.expects(bare(ask), size)
        fields: dict[str, Field] = {"loss": LOSS}
        if ask.terms:
            fields["held_out"] = Field((len(HeldOut._fields),), least=0)
            fields["terms"] = Field((ask.terms,), least=0)
        return Expected(Evaluated, fields)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """The method's.

        Rounding is that of all rows: what is left of them may be far smaller.
        """
        told = [(_sized(ask, state), answer) for ask, answer in unwrapped(said, Told)]
        return super().objection(problem, state, client, told, unit)

    def renewed(self, state: State) -> State:
        """Around the method's; clients go back with it where it goes back."""
        inner = self.method.renewed(state.inner)
        way = state.way
        if not torch.equal(inner.point, state.inner.point):
            way = Way(way.round, 0.0, 1, 1)
        return replace(state, inner=inner, way=way)

    def moved(self, state: State, theta: Tensor) -> State:
        """Around the method's; f stays."""
        inner = self.method.moved(state.inner, theta)
        way = Way(-1, 0.0, 1, 0)
        return replace(state, theta=theta, inner=inner, way=way)


def _sized(ask: Any, state: State) -> Record:  # noqa: ANN401
    """An ask that tells the size of all rows, where it tells one."""
    top = ROWS * state.top
    if getattr(ask, "top", inf) < top:
        ask = replace(ask, top=top)
    known: Record = ask
    return known


def _shorter(ask: Record) -> bool:
    """Whether steps that are not full are among those that losses are asked for."""
    lengths = getattr(ask, "lengths", None)
    return lengths is not None and bool(((lengths < 1) & (lengths > NEXT)).any())


def _damped(state: State, info: Info, top: float, choice: bool) -> tuple[float, float]:
    """mu_f of the next round, and what part of the damping mu_s it is.

    Args:
        state: Before the round.
        info: Of it.
        top: Largest singular value, to which cut-offs are relative.
        choice: Whether a shorter step could have been taken: else that it was full
            says nothing of f.
    """
    if not info.step:
        return RAISED * state.damping, 1.0
    if not (info.probes and choice):
        part = 1.0
    elif info.step == 1:
        part = max(TINY, state.part / RAISED)
    else:
        part = min(1.0, RAISED * state.part)
    level = info.damping or (info.cutoff * top) ** 2
    return max(part * level, LEAST * max(top, state.top) ** 2), part


def _settled(system: System, memory: Memory | None, way: Way, at: Tensor) -> Memory:
    """What a client has of its own where the server is, at theta [p_s]."""
    if memory is None:
        many = len(system.shard.parts) or 1
        begin = system.view.values.to(at).expand(many, -1).clone()
        return Memory(begin, begin)
    values, begun = memory.values, memory.begun
    if way.back:
        values = memory.model
    elif begun is not None and begun.round == way.round:
        values = begun.gone(values, way.fraction, at)
    model = values if way.kept else memory.model
    return Memory(values, model, None, memory.inner)
