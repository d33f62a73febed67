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

from dataclasses import dataclass
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
from fedsciml.methods._uploads import clients, own, tensor, without
from fedsciml.problem import Problem
from fedsciml.residual import System

Precision = Literal["float32", "bfloat16"]
"""What numbers are rounded to."""

_MARK = "compress."  # prefix of what the compression itself keeps and sends


@dataclass(frozen=True)
class Compressed(Wrapped):
    """A federated method whose clients round what they send.

    Rounded is what is as long as theta: sketches, updates, gradients. With feedback the
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

    def __post_init__(self) -> None:
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

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """The method's start."""
        return self.method.init(theta, seed)

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """The method's upload, rounded."""
        plain, kept = self.method.client(system, broadcast, without(memory, _MARK))
        copies = own(memory, _MARK)
        upload = dict(plain)
        for key in _long(self.method.expects(broadcast, system.size), system.size):
            value = tensor(plain, key)
            if self.feedback:
                known = copies.get(_MARK + key, value.new_zeros(0, system.size))
                weights = _weights(value, known)
                upload[_MARK + key] = weights
                value = value - weights.to(value) @ known
                upload[key] = value.to(self._dtype)
                copies[_MARK + key] = _directions(_read(upload, key, known))
            else:
                upload[key] = value.to(self._dtype)
        return upload, {**kept, **copies}

    def expects(self, broadcast: Message, size: int) -> Fields:
        """The method's fields; the long ones in ``dtype``, with feedback and W."""
        fields = dict(self.method.expects(broadcast, size))
        for key in _long(fields, size):
            field = fields[key]
            assert field.shape is not None
            least = None if self.feedback else field.least  # a change has any sign
            fields[key] = field._replace(dtype=self._dtype, least=least)
            if self.feedback:
                shape = (*field.shape[:-1], f"{_MARK}{key}.known")
                fields[_MARK + key] = Field(
                    shape, scale=field.scale, dtype=torch.float32
                )
        return fields

    def objection(
        self, problem: Problem, state: State, upload: Message
    ) -> ValueError | None:
        """To a change of what the server never had; then the method's."""
        try:
            whole = self._whole(state, upload)
        except ValueError as error:
            return error
        return objection(self.method, problem, without(state, _MARK), whole)

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The method's part on what was sent, in the precision of theta."""
        copies = own(state, _MARK)
        whole: list[Message] = []
        for m, upload in zip(clients(uploads), uploads, strict=True):
            message = self._whole(state, {**upload, "client": m})
            for mark in own(upload, _MARK):
                key = mark.removeprefix(_MARK)
                copies[f"{mark}.{m}"] = _directions(tensor(message, key))
            whole.append(message)
        inner, broadcast, info = self.method.server(without(state, _MARK), whole)
        return {**inner, **copies}, broadcast, info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """Of the method; the clients' last sketches stay known."""
        inner, opening = renewed(self.method, without(state, _MARK), broadcast)
        return {**inner, **own(state, _MARK)}, opening

    def _whole(self, state: State, upload: Message) -> Message:
        """What the client would have sent uncompressed, in the precision of theta."""
        theta = tensor(state, "theta")
        message = {
            key: value.to(theta.dtype)
            if isinstance(value, Tensor) and value.dtype == self._dtype
            else value
            for key, value in upload.items()
        }
        for mark in own(upload, _MARK):
            copy = f"{mark}.{upload['client']}"
            known = state.get(copy, theta.new_zeros(0, len(theta)))
            if not tensor(upload, mark).shape[-1]:  # the client has no memory
                known = known[:0]
            key = mark.removeprefix(_MARK)
            message[key] = _read(message, key, known)
        return without(message, _MARK)


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
    dtype, comma, option = text.partition(",")
    if dtype not in get_args(Precision) or (comma and option != "feedback"):
        raise ValueError(
            f"A compression is none, {', '.join(get_args(Precision))}, or one of these "
            f"with ,feedback after it; got '{text}'."
        )
    return Compressed(method, dtype, feedback=bool(comma))  # type: ignore[arg-type]


def _long(fields: Fields, size: int) -> list[str]:
    """Keys of what is [..., p]; losses at p candidates, which may overflow, are not."""
    return [
        key
        for key, field in fields.items()
        if field.finite and field.shape is not None and field.shape[-1:] == (size,)
    ]


def _weights(value: Tensor, known: Tensor) -> Tensor:
    """W = B K^+ in float32; shape [k, k'], of a vector [k']."""
    if not (value.numel() and len(known)):
        return value.new_zeros(*value.shape[:-1], len(known), dtype=torch.float32)
    rows = value if value.ndim > 1 else value[None]
    # Of the default, gelsy, torch leaves the first pivots to what is in the memory.
    found = torch.linalg.lstsq(known.mT.cpu(), rows.mT.cpu(), driver="gelsd")
    weights = found.solution.mT.to(value.device, torch.float32)
    return weights if value.ndim > 1 else weights[0]


def _read(message: Message, key: str, known: Tensor) -> Tensor:
    """W K + R.

    Raises:
        ValueError: If W is not made for K.
    """
    weights, change = tensor(message, _MARK + key), tensor(message, key)
    if weights.shape[-1] != len(known):
        raise ValueError(
            f"it holds the change of a '{key}' of {weights.shape[-1]} rows, but the "
            f"server knows one of {len(known)}; has another run's memory been given "
            "to the client? Empty it, and the client sends all again"
        )
    return weights.to(known) @ known + change.to(known)


def _directions(value: Tensor) -> Tensor:
    """Its rows that are not zero, at length 1."""
    rows = value.reshape(-1, value.shape[-1])
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    some = lengths[:, 0] > 0
    return rows[some] / lengths[some]
