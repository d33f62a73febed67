"""What a method is: pure functions over typed records.

A round is one or several *exchanges*: the server asks, and every client answers. The
server's half of a round is a generator: it yields what it asks, is sent the answers,
and returns its next state. A client's half is one function per kind of ask:

    state = method.start(theta, seed)
    repeat:   exchanges   = method.round(state)
              ask         = next(exchanges)
              repeat:  part    = method.client[type(ask)]
                       answers = {m: part(system_m, ask, memory_m)}
                       ask     = exchanges.send(answers)
              until it returns (state, info)

A round that must begin again is simply a new generator. States, memories, asks and
answers are ``Record`` types: a checkpoint, a resumed run and a message on a wire need
no code of their own.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from fedsciml.methods._records import Record
from fedsciml.problem import Problem
from fedsciml.residual import System


class State(Record):
    """What a server keeps from round to round.

    Attributes:
        theta: The model, shape [p].
    """

    theta: Tensor

    @property
    def point(self) -> Tensor:
        """Where the next step starts, shape [p]; it need not be the model."""
        return self.theta


class Opening(Record):
    """The first ask of a round, at a point of the parameter space.

    Attributes:
        theta: The point, shape [p].
    """

    theta: Tensor


class Addressed(Record):
    """An ask of which each client gets its own.

    Attributes:
        parts: By the number of the client, as a word.
    """

    parts: Mapping[str, Record]


def addressed(ask: Record, client: int) -> Record:
    """What this client is asked; of an ``Addressed`` it has a part."""
    return ask.parts[str(client)] if isinstance(ask, Addressed) else ask


def reaches(ask: Record, client: int) -> bool:
    """Whether this client is asked."""
    return not isinstance(ask, Addressed) or str(client) in ask.parts


@dataclass(frozen=True)
class Info:
    """What a round reports, for the record.

    Attributes:
        loss: Loss where the round's step starts, summed over the clients.
        step: Length of the step taken, as a fraction of the full one; 0 if none was.
        damping: mu of the step, absolute; 0 for none.
        cutoff: Relative cut-off of singular values in the step; 0 for none.
        ranks: Rank of each client's sketch, in the order of the clients; empty for
            methods without sketches.
        losses: Of each client where the step starts, by its number.
        gradients: Norm of the gradient that each client told of, likewise; empty for
            methods that tell none.
        suspects: Clients whose data seem to contradict the others', and how strongly.
        against: Clients that alone kept the round from a step.
        refuted: Clients that told what cannot be true: they are asked no more.
        epochs: Local epochs of each client in this round.
        probes: Candidate steps whose losses the clients were asked for.
        basis: Directions of the basis that all parties share; None without one.
        outside: Part of the gradient that lies outside of it, in [0, 1]; None without.
        condition: Of the sum of whitened gramians; None without.
        promised: Part of the loss that the best of the steps would remove if the
            residual were linear, in [0, 1]; None where no step is computed so.
        curve: Length of the bend over that of the step; None for a straight one.
        first: Frequency of the first layer that the round chose; None for no choice.
        tried: Frequencies that it tried, and what part of the loss each promised.
        epsilon: Privacy spent until the end of the round; None without noise.
        delta: Of that (epsilon, delta).
    """

    loss: float
    step: float = 1.0
    damping: float = 0.0
    cutoff: float = 0.0
    ranks: tuple[int, ...] = ()
    epochs: int = 0
    probes: int = 0
    basis: int | None = None
    outside: float | None = None
    condition: float | None = None
    promised: float | None = None
    curve: float | None = None
    first: float | None = None
    tried: tuple[tuple[float, float], ...] = ()
    epsilon: float | None = None
    delta: float | None = None
    losses: Mapping[int, float] = field(default_factory=dict)
    gradients: Mapping[int, float] = field(default_factory=dict)
    suspects: Mapping[int, float] = field(default_factory=dict)
    against: tuple[int, ...] = ()
    refuted: tuple[int, ...] = ()

    __hash__ = None  # type: ignore[assignment]


EARLY = 3
"""First rounds, in which a client that stands out is suspected and no more: what is not
fitted yet may seem to contradict."""


class Field(NamedTuple):
    """What a field of an answer must hold, for the server to merge it.

    Attributes:
        shape: Of a tensor: numbers, or words for sizes that are the client's own, such
            as the rank "k"; a word means the same size throughout a client's round.
            None for a plain number.
        finite: Whether every entry must be finite; if not, one of several is enough.
        overflows: Whether even that need not be.
        scale: Whether its norm is held against those of the other clients, where the
            rules say so.
        moves: Whether it is a move of theta.
        dtype: Of the tensor; None for that of theta.
        least: What no entry may be below, such as 0 for a sum of squares; None for
            no bound.
        most: The largest size that its words may stand for; None for the length of
            theta, which no rank exceeds.
        bulk: Whether it is most of a message though it is not as long as theta: what
            may be rounded on its way.
        agreed: Whether it must equal the client's part of all rows, as agreed at the
            start.
    """

    shape: tuple[int | str, ...] | None = None
    finite: bool = True
    scale: bool = False
    moves: bool = False
    dtype: torch.dtype | None = None
    least: float | None = None
    most: float | None = None
    agreed: bool = False
    bulk: bool = False
    overflows: bool = False


LOSS = Field(least=0)
"""A sum of squares."""

SHARE = Field(agreed=True)
"""A client's part of all rows."""


class Expected(NamedTuple):
    """What an answer must be.

    Attributes:
        kind: Its type.
        fields: What its fields must hold; those that are not listed must be None.
        anew: Whether words in shapes may stand for other sizes than in answers before:
            a round may ask for sketches at several starts.
    """

    kind: type[Any]
    fields: "Mapping[str, Field | Expected | Mapping[str, Field]]"
    anew: bool = False

    @property
    def again(self) -> bool:
        """Whether it, or an answer in it, is ``anew``."""
        inner = [f for f in self.fields.values() if isinstance(f, Expected)]
        return self.anew or any(part.again for part in inner)


S = TypeVar("S", bound=State)
"""A method's type of state."""

Answers = Mapping[int, Any]
"""Answers of one type by the numbers of the clients, in their order; never empty."""

Said = Sequence[tuple[Record, Any]]
"""What a client was asked in a round, and what it answered, in their order."""

Exchanges = Generator[Record, Answers, tuple[S, Info]]
"""The server's half of a round."""

REMEMBERS = (
    "its clients remember from round to round, and one whose memory a server turns "
    "back could be told from the others"
)
"""Why a method cannot do with sums."""

Evaluation = Generator[Record, Answers, list[float] | None]
"""Exchanges by which losses are known; None in the end if they are not."""

ClientPart = Callable[[System, Any, Any], tuple[Record, Record | None]]
"""A client's half of an exchange: (system, ask, memory) -> (answer, memory).

The memory is None at first.
"""

Parts = Mapping[type[Record], ClientPart]
"""A client's half of a round: a function for each kind of ask."""


class Budget(NamedTuple):
    """What a run costs in privacy.

    Attributes:
        releases: Sums with noise, at most.
        each: 1 / z^2 of one of noise multiplier z. They add up over sums and runs:
            together all are one Gaussian mechanism of multiplier (sum 1 / z^2)^(-1/2).
    """

    releases: int
    each: float


def conclude(
    exchanges: Exchanges[S], answer: Callable[[Record], Answers]
) -> tuple[S, Info]:
    """A round of clients that never fail.

    Args:
        exchanges: The server's half of it.
        answer: From what the clients are asked to their answers.

    Returns:
        The server's next state, and what the round was.
    """
    ask = next(exchanges)
    while True:
        try:
            ask = exchanges.send(answer(ask))
        except StopIteration as end:
            found: tuple[S, Info] = end.value
            return found


Own = Literal["eliminated", "trained"] | None
"""What clients do with parameters of their own."""


class Method:
    """A federated or centralised method; each has a type of ``State`` of its own."""

    @property
    def name(self) -> str:
        """As on the command line."""
        raise NotImplementedError

    @property
    def personal(self) -> Own:
        """What its clients do with parameters of their own; None if they have none.

        They eliminate them from the rows that they tell of, or train them with theta.
        """
        return None

    @property
    def pooled(self) -> bool:
        """Whether it trains centralised: one client holds all rows."""
        return False

    @property
    def kinds(self) -> tuple[type, ...]:
        """All types of its asks, answers, states and memories, and of their parts."""
        raise NotImplementedError

    @property
    def client(self) -> Parts:
        """A client's half of a round: a function for each kind of ask."""
        raise NotImplementedError

    def part(self, ask: Record) -> ClientPart:
        """The client's half for this kind of ask.

        Raises:
            ValueError: If the method never asks so.
        """
        if type(ask) not in self.client:
            raise ValueError(
                f"Method {self.name} never asks a client for {type(ask).__name__}. Do "
                "server and clients run the same method?"
            )
        return self.client[type(ask)]

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> "Method":
        """The method as it runs on a problem; itself where it needs no more of it.

        What a bound method keeps of the problem is public: of no party's rows. Clients
        in one process share it.
        """
        return self

    def advice(self, problem: Problem) -> list[str]:
        """What to tell of the method on a problem before it runs."""
        return []

    def scaled(self, factors: tuple[float, ...]) -> "Method":
        """The bound method where the loss of term t counts ``factors[t]`` times."""
        return self

    def start(self, theta: Tensor, seed: int) -> State:
        """The server's first state; nothing but theta where it keeps nothing else."""
        return State(theta)

    def round(self, state: Any) -> Exchanges[Any]:  # noqa: ANN401
        """The server's half of a round."""
        raise NotImplementedError

    def expects(self, ask: Record, size: int) -> Expected:
        """What every client's answer to this ask must be; theta is [size]."""
        raise NotImplementedError

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """Why an answer that is as expected cannot be used; None if it can.

        Args:
            problem: What is trained.
            state: The server's at the start of the round.
            client: Who answered.
            said: What this client was asked in this round, and its answers, as
                ``expects`` says; the last one is the one in question.
            unit: To which long tensors were rounded on their way, relative.

        Returns:
            An ``Inconsistent`` where a law is broken that every honest client obeys: a
            client of which that is found twice is asked no more.
        """
        return None

    @property
    def apart(self) -> str | None:
        """Why the server needs answers one by one; None if sums of them will do.

        A method of sums is sent answers that stand for groups of clients, by the
        numbers of the groups. To an ask after the first of a round it may be sent none
        at all, ``{}``: a client is gone, so that the sum is not known.
        """
        return "its server reads every client's answers by themselves"

    def summand(self, ask: Record, answer: Any) -> Any:  # noqa: ANN401
        """An answer in the form in which it is added to those of other clients."""
        return answer

    def summed(self, ask: Record, total: Any, clients: int) -> Any:  # noqa: ANN401
        """The answer that stands for so many clients, from their sum."""
        return total

    def points(self, ask: Record, memory: Any) -> Tensor:  # noqa: ANN401
        """Where a client is evaluated to answer, shape [N, p]."""
        return ask.theta[None]  # type: ignore[attr-defined]

    def noise(self, ask: Record, size: int) -> Mapping[str, Tensor]:
        """What noise the sum of all clients' answers to this ask must have.

        Returns:
            By field, standard deviations, of its shape; nothing without noise. Each
            client adds its share of the variance.
        """
        return {}

    def again(self, state: Any) -> Any:  # noqa: ANN401
        """The state for a round that is begun again, or the first of a resumed run."""
        return state

    def moved(self, state: Any, theta: Tensor) -> Any:  # noqa: ANN401
        """The state at another theta [p], with no losses of before."""
        return replace(self.renewed(state), theta=theta)

    def evaluation(
        self,
        state: Any,  # noqa: ANN401
        held_out: bool,
        terms: int = 0,
    ) -> Evaluation:
        """How the losses of the model are asked for where they are told in sums alone.

        Args:
            state: Whose theta is the model.
            held_out: Whether at points that are not trained on.
            terms: How many terms there are, to have the loss of each besides; or 0.

        Returns:
            Exchanges that end with the sums, ``[loss]`` or ``HeldOut``'s numbers and
            the losses of the terms; with None where they are not known.
        """
        raise NotImplementedError

    @property
    def sums_only(self) -> bool:
        """Whether a client's numbers leave it in sums with others' alone."""
        return False

    def noised(self) -> "Method":
        """The method as it runs where ``noise`` is added; itself without noise.

        Clients of a method whose sums need noise answer no one else.
        """
        return self

    @property
    def evaluates(self) -> bool:
        """Whether losses at the model are asked for by ``evaluation``."""
        return self.sums_only

    def own(
        self,
        system: System,
        state: Any,  # noqa: ANN401
        memory: Any,  # noqa: ANN401
    ) -> Tensor | None:
        """Parameters of a client's own at the model, [S, p_f]; None if it has none."""
        return None

    def pooling(
        self,
        whole: System,
        state: Any,  # noqa: ANN401
        memories: Sequence[Any],
    ) -> System:
        """The pooled rows as the server's step of a round sees them.

        Args:
            whole: The rows.
            state: At the start of the round.
            memories: Of all clients after it.
        """
        return whole

    @property
    def chooses(self) -> bool:
        """Whether it chooses a network's start in its first round."""
        return False

    @property
    def silent(self) -> bool:
        """Whether clients tell no losses outside of rounds, at the end or held out."""
        return False

    def interrupted(self, state: Any) -> Any:  # noqa: ANN401
        """The state to go on from where a round after it was begun, and not kept."""
        return state

    @property
    def budget(self) -> "Budget | None":
        """What the sums of a run cost in privacy; None without noise."""
        return None

    def finished(self, state: Any) -> str | None:  # noqa: ANN401
        """Why there can be no further round after this state; None if there can."""
        return None

    def enough(self, ask: Record, answered: Collection[int]) -> bool | None:
        """Whether the round goes on with the answers of these clients to this ask.

        None where it goes on with all answers alone, or begins again without those who
        gave none.
        """
        return None

    @property
    def least(self) -> int:
        """Fewest clients of a round."""
        return 1

    @property
    def compares(self) -> bool:
        """Whether the server compares losses of different rounds."""
        return False

    def renewed(self, state: Any) -> Any:  # noqa: ANN401
        """The state to begin a round with when clients left or came.

        theta stays. Losses of other clients cannot be compared with those of before:
        what was concluded from them is forgotten.
        """
        return state

    @property
    def stands_in(self) -> bool:
        """Whether an absent client's last answers can stand in for it."""
        return False

    def remembered(self, ask: Record, answer: Any) -> Record | None:  # noqa: ANN401
        """What to keep of this answer in case the client is absent later, or None."""
        return None

    def stand_in(self, ask: Record, last: Any) -> tuple[Record, Record]:  # noqa: ANN401
        """The answer predicted from ``last``, and ``last`` updated for the next ask.

        Args:
            ask: What the client would be asked.
            last: What was ``remembered`` of it, or was returned here.
        """
        raise NotImplementedError
