r"""What clients send as long as theta, in fewer bits: half or a quarter of the bytes.

A number is rounded to float32 (unit roundoff u = 2^-24) or bfloat16 (u = 2^-8, with the
range of float32). Every row of a sketch B has an error of u times its own length then,

    B + E,    |E_i| <= u |B_i|,

so weak directions stay as well known as strong ones. Targets are not rounded, they are
k numbers for k p of B: where all residuals vanish the step is zero whatever B is, so
the method still converges to the solution, and every round asks anew for what the last
one missed. Where they do not, as with noise in data, B^T c is wrong by u at a point of
rest. And E turns a direction that two clients share into two, whose difference damping
below (u s_1)^2 fits: a quadratic convergence becomes a linear one.

Feedback, off by default. What rounding drops is usually added to the next message
(Seide, Fu, Droppo, Li, Yu, Interspeech 2014), which helps where messages add up.
Sketches do not: every round's problem is solved alone, and as a Gauss-Newton step asks
anew for what is missing, adding would ask twice. Instead, what is sent is the change
(Richtarik, Sokolov, Fatkhullin, EF21, NeurIPS 2021, arXiv 2106.05203; of Hessians:
Safaryan, Islamov, Qian, Richtarik, FedNL, ICML 2022, arXiv 2106.02969). Client and
server keep the rows of length 1 of the last sketch as the server read it, K [k', p]:

    client sends  W = B K^+ [k, k'] in float32  and  R = rounded(B - W K) [k, p],
    server reads  W K + R.

Singular vectors are known up to signs and rotations only, which W follows. The error is
u |B - W K|: it goes to zero as the row space of J settles, at the price of k k' numbers
of float32 a message and of a copy of every sketch at the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from fedsciml.methods import (
    Answers,
    ClientPart,
    Exchanges,
    Expected,
    Field,
    Method,
    Parts,
    Record,
    Said,
    flatten,
    rebuild,
)
from fedsciml.methods._rows import Rows
from fedsciml.methods._summed import Sums
from fedsciml.problem import Problem
from fedsciml.registry import Word, options_of
from fedsciml.residual import System
from fedsciml.wrappers._base import (
    Around,
    Wrapped,
    changed,
    check_inner,
    relayed,
    unanchored,
)

Precision = Literal["float32", "bfloat16"]
"""What numbers are rounded to."""


class State(Around):
    """The method's state, and with feedback the last sketches.

    ``copies`` are the directions K [k', p] of what a client sent last, under the name
    of the field and the client's number: ``factor.2``.
    """

    copies: Mapping[str, Tensor] = field(default_factory=dict)


class Changed(Record):
    """An answer with changes R in the long fields, and the weights W by their names."""

    answer: Record
    weights: Mapping[str, Tensor]


class Memory(Record):
    """The method's memory, and with feedback K by the names of the fields."""

    inner: Record | None = None
    copies: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Compressed(Wrapped):
    """A federated method whose clients round what they send.

    Rounded is what is as long as theta, sketches, updates, gradients, and rows in a
    shared basis, of which there is no feedback; gramians are not. With feedback the
    sizes of W and of R are held against the other clients' in their stead.

    Args:
        method: Any federated one.
        dtype: To what.
        feedback: Whether changes are sent.

    Raises:
        ValueError: If ``dtype`` is none of its words, or the method is centralised; in
            a round, if a client's change is one of a sketch that the server never had.
    """

    dtype: Precision = "float32"
    feedback: bool = False

    carries = True
    apart = "uploads under masks cannot be rounded; leave the compression out"

    def __post_init__(self) -> None:
        check_inner(self.method)
        if self.dtype not in get_args(Precision):
            raise ValueError(
                f"Uploads are rounded to one of {', '.join(get_args(Precision))}; got "
                f"'{self.dtype}'."
            )
        if self.pooled:
            raise ValueError(
                f"Method {self.name} is centralised: nothing is sent that could be "
                "compressed. Leave the compression out."
            )
        if Sums in self.method.kinds:
            raise ValueError(
                "A gramian that is rounded has lost its weak directions: solutions "
                "stay at 1e-3. Send upload rows, or leave the compression out."
            )
        if self.feedback and Rows in self.method.kinds:
            raise ValueError(
                "Feedback follows the rows of a sketch from round to round; in a "
                "shared basis, which changes in every round, there are none. Leave "
                "feedback out."
            )

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the bound method; with feedback by own sketches."""
        known = unanchored(problem) if self.feedback else problem
        return super().bound(known, device, dtype)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        return (State, Changed, Memory, *self.method.kinds)

    def start(self, theta: Tensor, seed: int) -> State:
        """The method's start."""
        return State(theta, self.method.start(theta, seed), {})

    def round(self, state: State) -> Exchanges[State]:
        """The method's round on what was sent, in the precision of theta."""
        copies = dict(state.copies)

        def up(ask: Record, answers: Answers) -> Answers:
            return {
                m: self._whole(state, m, told, copies) for m, told in answers.items()
            }

        inner, info = yield from relayed(self.method, state.inner, lambda ask: ask, up)
        return State(inner.theta, inner, copies), info

    @property
    def client(self) -> Parts:
        """The method's answers, rounded."""
        return {kind: self._rounded(part) for kind, part in self.method.client.items()}

    def _rounded(self, part: ClientPart) -> ClientPart:
        def answered(
            system: System, ask: Record, memory: Memory | None
        ) -> tuple[Record, Memory]:
            inner, copies = (memory.inner, memory.copies) if memory else (None, {})
            plain, inner = part(system, ask, inner)
            names = _long(self.method.expects(ask, system.size), system.size)
            if not names:
                return plain, Memory(inner, copies)
            content, weights, kept = flatten(plain), {}, dict(copies)
            for name in names:
                value = _tensor(content, name)
                if self.feedback:
                    known = _fitting(copies.get(name), value)
                    weights[name] = _weights(value, known)
                    value = value - weights[name].to(value) @ known
                value = value.to(self._dtype)
                content[_path(name)] = value
                if self.feedback:
                    kept[name] = _directions(_read(name, weights[name], value, known))
            answer = rebuild(content, self.method.kinds)
            if self.feedback:
                answer = Changed(answer, weights)
            return answer, Memory(inner, kept)

        return answered

    def expects(self, ask: Record, size: int) -> Expected:
        """The method's fields; the long ones in ``dtype``, with feedback and W."""
        inner = self.method.expects(ask, size)
        names, weights = _long(inner, size), {}

        def rounded(name: str, given: Field) -> Field:
            if name not in names:
                return given
            assert given.shape is not None
            if not self.feedback:
                return given._replace(dtype=self._dtype)
            shape = (*given.shape[:-1], f"{name}.known")
            weights[name] = Field(shape, scale=given.scale, dtype=torch.float32)
            # A change has any sign.
            return given._replace(dtype=self._dtype, least=None)

        sent = changed(inner, rounded)
        return (
            Expected(Changed, {"answer": sent, "weights": weights}) if weights else sent
        )

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """To a change of what the server never had; then the method's."""
        try:
            copies = dict(state.copies)
            whole = [(a, self._whole(state, client, told, copies)) for a, told in said]
        except ValueError as error:
            return error
        unit = max(unit, torch.finfo(self._dtype).eps / 2)
        return self.method.objection(problem, state.inner, client, whole, unit)

    def _whole(
        self, state: State, client: int, answer: Record, copies: dict[str, Tensor]
    ) -> Record:
        """What the client would have sent uncompressed, in the precision of theta.

        Its directions are put into ``copies``, in the stead of those that it followed.
        """
        weights: Mapping[str, Tensor] = {}
        theta = state.theta
        if isinstance(answer, Changed):
            weights, answer = answer.weights, answer.answer
        content = {
            path: value.to(theta.dtype)
            if isinstance(value, Tensor) and value.dtype == self._dtype
            else value
            for path, value in flatten(answer).items()
        }
        for name, w in weights.items():
            change = _tensor(content, name).to(theta)
            known = _fitting(copies.get(f"{name}.{client}"), change)
            if not w.shape[-1]:  # the client has no memory
                known = known[:0]
            sent = content[_path(name)] = _read(name, w, change, known)
            copies[f"{name}.{client}"] = _directions(sent)
        return rebuild(content, self.method.kinds)


def compressed(method: Method, text: str) -> Method:
    """The method with the compression of a word; itself for "none".

    Args:
        method: Any federated one.
        text: "none", or a ``Precision``, for feedback with ",feedback" after it.

    Raises:
        ValueError: If the word is none of these, or the method is centralised.
    """
    if text == "none":
        return method
    form = f"none, {', '.join(get_args(Precision))}, or one of these with ,feedback"
    word = Word("compression", text, form, named=False)
    try:
        values = word.values(options_of(Compressed), positional=1)
    except ValueError:
        raise ValueError(f"A compression is {form} after it; got '{text}'.") from None
    return Compressed(method, **values)


def _long(expected: Expected, size: int) -> list[str]:
    """Names of what is [..., p] or bulky; losses at p candidates are not.

    The name of a field of a field is ``outer.inner``.
    """
    found: list[str] = []

    def seen(name: str, given: Field) -> Field:
        long = given.shape is not None and given.shape[-1:] == (size,)
        if given.finite and (long or given.bulk):
            found.append(name)
        return given

    changed(expected, seen)
    return found


def _path(name: str) -> str:
    """Where ``flatten`` has the field."""
    return name.replace(".", "/")


def _tensor(content: Mapping[str, object], name: str) -> Tensor:
    value = content[_path(name)]
    assert isinstance(value, Tensor)
    return value


def _weights(value: Tensor, known: Tensor) -> Tensor:
    """W = B K^+ in float32; shape [k, k'], of a vector [k']."""
    if not (value.numel() and len(known)):
        return value.new_zeros(*value.shape[:-1], len(known), dtype=torch.float32)
    rows = value if value.ndim > 1 else value[None]
    # Of the default, gelsy, torch leaves the first pivots to what is in the memory.
    found = torch.linalg.lstsq(known.mT.cpu(), rows.mT.cpu(), driver="gelsd")
    weights = found.solution.mT.to(value.device, torch.float32)
    return weights if value.ndim > 1 else weights[0]


def _read(name: str, weights: Tensor, change: Tensor, known: Tensor) -> Tensor:
    """W K + R.

    Raises:
        ValueError: If W is not made for K.
    """
    if weights.shape[-1] != len(known):
        raise ValueError(
            f"it holds the change of a '{name}' of {weights.shape[-1]} rows, but the "
            f"server knows one of {len(known)}; has another run's memory been given "
            "to the client? Empty it, and the client sends all again"
        )
    return weights.to(known) @ known + change.to(known)


def _fitting(known: Tensor | None, value: Tensor) -> Tensor:
    """Directions that are known, none of rows of another length, [k', p]."""
    width = value.shape[-1]
    if known is None or known.shape[-1] != width:
        return value.new_zeros(0, width)
    return known


def _directions(value: Tensor) -> Tensor:
    """Its rows that are not zero, at length 1."""
    rows = value.reshape(-1, value.shape[-1])
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    some = lengths[:, 0] > 0
    return rows[some] / lengths[some]
