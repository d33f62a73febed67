"""Callbacks that end a run, or look at it now and then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan

import torch
from torch import Generator

from fedsciml.analysis import metrics
from fedsciml.federation.history import RISES, Round
from fedsciml.problem import Problem

METRICS = ("accuracy", "deviance", "calibration")
"""What is measured on a problem's tests."""

QUANTITIES = ("loss", "relative_l2", "mse", "held_out", *METRICS)
"""Of a round, what can be waited for."""


@dataclass(frozen=True)
class Until:
    """Ends a run when it is good enough.

    Args:
        value: At most this, or at least, of ``accuracy``.
        quantity: ``loss``, ``relative_l2``, ``mse``, or ``held_out``, which is known in
            every tenth round; ``accuracy``, ``deviance`` or ``calibration`` on the
            tests.

    Raises:
        ValueError: If the value is no positive number, an accuracy is above 1, or there
            is no such quantity; in a run, if it is not known, as there is no reference
            or there are no tests of which it is told.
    """

    value: float
    quantity: str = "loss"

    def __post_init__(self) -> None:
        _check(self.quantity)
        if not 0 < self.value < inf:
            raise ValueError(
                f"Until waits for a positive number, such as 1e-8; got {self.value}."
            )
        if self.quantity in RISES and self.value > 1:
            raise ValueError(
                f"The {self.quantity} is a part of 1, such as 0.98; got {self.value:g}."
            )

    @classmethod
    def read(cls, text: str) -> "Until":
        """From a word: ``1e-8`` of the loss, or ``relative_l2=1e-8``.

        Raises:
            ValueError: If it is something else.
        """
        quantity, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError as error:
            raise ValueError(
                f"'{text}' is not VALUE or QUANTITY=VALUE, such as 1e-8 or "
                "relative_l2=1e-8."
            ) from error
        return cls(number, quantity) if equals else cls(number)

    def check(self, problem: Problem) -> None:
        """Refuse to wait for a metric that the problem's tests do not tell.

        Raises:
            ValueError: If it is so.
        """
        if self.quantity not in METRICS:
            return
        start = problem.network.init(Generator().manual_seed(0), torch.float64)
        view = problem.personal
        own = dict.fromkeys(range(problem.clients), view.values) if view else None
        if self.quantity not in metrics(problem, start, own):
            raise ValueError(self._unknown)

    @property
    def _unknown(self) -> str:
        return (
            f"The {self.quantity} is not known, as the problem has no tests that tell "
            f"it: give it tests= of which a likelihood tells the {self.quantity}, or "
            "wait for the loss."
        )

    def __str__(self) -> str:
        sign = ">=" if self.quantity in RISES else "<="
        return f"{self.quantity} {sign} {self.value:g}"

    def __call__(self, history: Sequence[Round]) -> bool:
        """Whether the last round is good enough."""
        found = history[-1].value(self.quantity)
        if isnan(found) and self.quantity in METRICS:
            raise ValueError(self._unknown)
        if isnan(found) and self.quantity != "held_out":
            raise ValueError(
                f"The {self.quantity} is not known, as the problem has no reference: "
                "give it exact= or test_points= and reference=, or wait for the loss."
            )
        return found >= self.value if self.quantity in RISES else found <= self.value


@dataclass(frozen=True)
class Plateau:
    """Ends a run that hardly gets any better.

    Args:
        rounds: If the lowest value of so many rounds
        factor: is not below this factor of the lowest one before.
        quantity: As of ``Until``, but for ``accuracy``, which does not fall; of
            ``held_out`` rounds count in which it is known.

    Raises:
        ValueError: If a number is out of range, or there is no such quantity.
    """

    rounds: int = 20
    factor: float = 0.99
    quantity: str = "loss"

    def __post_init__(self) -> None:
        _check(self.quantity)
        if self.quantity in RISES:
            raise ValueError(
                f"Plateau waits for what falls, and the {self.quantity} rises: give "
                "it the deviance."
            )
        if self.rounds < 1 or not 0 < self.factor <= 1:
            raise ValueError(
                "Plateau needs at least 1 round and a factor in (0, 1], got "
                f"{self.rounds} and {self.factor}."
            )

    def __str__(self) -> str:
        return f"{self.quantity} not below {self.factor:g} times that of before"

    def __call__(self, history: Sequence[Round]) -> bool:
        """Whether the last rounds got no better."""
        told = [line.value(self.quantity) for line in history]
        known = [value for value in told if not isnan(value)]
        before, last = known[: -self.rounds], known[-self.rounds :]
        return bool(before) and not min(last) < self.factor * min(before)


@dataclass(frozen=True)
class Every:
    """Calls a function of the history every so many rounds.

    A run that is resumed after such a round calls it for this round again.

    Args:
        rounds: As 10: after the rounds 10, 20, ...
        function: What is called; the run ends where it returns true.

    Raises:
        ValueError: If ``rounds`` is below 1.
    """

    rounds: int
    function: Callable[[list[Round]], object]

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"Every needs at least 1 round, got {self.rounds}.")

    def __call__(self, history: list[Round]) -> object:
        """What the function returns, where it is called."""
        return len(history) % self.rounds == 0 and self.function(history)


def _check(quantity: str) -> None:
    if quantity not in QUANTITIES:
        raise ValueError(
            f"A round has no '{quantity}' to wait for; choose one of "
            f"{', '.join(QUANTITIES)}."
        )
