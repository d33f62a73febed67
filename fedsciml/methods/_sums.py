"""Sums over the clients' answers, and checks that several methods share."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from torch import Tensor

from fedsciml.problem import Problem
from fedsciml.residual import kronecker


class Lossy(Protocol):
    """An answer with the loss of the client's rows."""

    @property
    def loss(self) -> float:
        """1/2 |r|^2."""


class Shared(Protocol):
    """An answer with the client's part of all rows."""

    @property
    def share(self) -> float:
        """In [0, 1]."""


A = TypeVar("A", bound=Shared)


def total(answers: Iterable[Lossy]) -> float:
    """Loss of the whole: the sum over the clients."""
    return sum(answer.loss for answer in answers)


def losses(answers: Mapping[int, Lossy]) -> dict[int, float]:
    """Of each client, by its number."""
    return {m: answer.loss for m, answer in answers.items()}


def added(tensors: Iterable[Tensor]) -> Tensor:
    """Sum of tensors of the same shape."""
    first, *rest = tensors
    return sum(rest, first)


def shared(answers: Iterable[A], of: Callable[[A], Tensor]) -> Tensor:
    """Sum of share_m x_m: the mean over all clients, x_m = 0 for those missing."""
    return added(answer.share * of(answer) for answer in answers)


def mean(answers: Iterable[A], of: Callable[[A], Tensor]) -> Tensor:
    """Mean over the clients that answered, weighted by their shares."""
    answers = list(answers)
    return shared(answers, of) / math.fsum(answer.share for answer in answers)


def foreign(
    problem: Problem, shapes: Tensor, matrices: Mapping[str, tuple[Tensor, int]]
) -> ValueError | None:
    """Why matrices of layers are not those of the problem's network; None if they are.

    Args:
        problem: Whose network has layers, or there are no such matrices.
        shapes: Of the layers that they were made for, [L, 3].
        matrices: By name, all their numbers in a row, and how many there must be.
    """
    own, found = kronecker.shapes(problem.network), shapes.tolist()
    if not own or found != [list(shape) for shape in own]:
        return ValueError(
            f"its layers {found} are not those of the network; did the client build "
            "the same one?"
        )
    for name, (numbers, length) in matrices.items():
        if len(numbers) != length:
            return ValueError(f"its {name} has {len(numbers)} numbers, not {length}")
    return None
