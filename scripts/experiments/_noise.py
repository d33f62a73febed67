"""Sums and their noise formed by one party in the clear: what masks would hide.

The same numbers as behind masks, with noise that can be drawn again by its seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsciml.methods import Answers, Exchanges, Method, Parts, Record, generator
from fedsciml.methods._sums import added
from fedsciml.problem import Problem
from fedsciml.wrappers import Around, Wrapped, relayed


@dataclass(frozen=True)
class Trusted(Wrapped):
    """A method of sums whose server is sent their noisy sum alone.

    Args:
        method: With differential privacy.
        seed: Of the noise.
        factor: Of the noise; 1 is what the method asks for.
    """

    seed: int = 0
    factor: float = 1.0

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the method whose clients answer."""
        bound = self.method.bound(problem, device, dtype)
        return replace(self, method=bound.noised())

    @property
    def kinds(self) -> tuple[type, ...]:
        """The method's and the state around its own."""
        return (Around, *self.method.kinds)

    @property
    def client(self) -> Parts:
        """The method's."""
        return self.method.client

    def start(self, theta: Tensor, seed: int) -> Around:
        """Around the method's."""
        return Around(theta, self.method.start(theta, seed))

    def round(self, state: Around) -> Exchanges[Around]:
        """The method's round, of the sum alone."""
        size = len(state.theta)

        def up(ask: Record, answers: Answers) -> Answers:
            noise = self.method.noise(ask, size)
            random = generator(self.seed, ask.round, -3)  # type: ignore[attr-defined]
            told = noisy(answers, noise, random, self.factor)
            return {0: self.method.summed(ask, told, len(answers))}

        inner, info = yield from relayed(self.method, state.inner, lambda a: a, up)
        return Around(inner.theta, inner), info


def noisy(
    answers: Answers,
    noise: Mapping[str, Tensor],
    random: torch.Generator,
    factor: float = 1.0,
) -> Any:  # noqa: ANN401
    """The sum of answers with noise of these standard deviations, by field."""
    found: dict[str, Any] = {"check": added(a.check for a in answers.values())}
    for name, deviation in noise.items():
        parts = [getattr(answer, name) for answer in answers.values()]
        like = deviation.double().cpu()
        drawn = torch.randn(like.shape, generator=random, dtype=like.dtype)
        drawn = (factor * like * drawn).to(deviation)
        plain = isinstance(parts[0], float)
        found[name] = sum(parts) + float(drawn) if plain else added(parts) + drawn
    return replace(next(iter(answers.values())), **found)
