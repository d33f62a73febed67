"""What wrappers are made of: a method around a method."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from fedsciml.methods import Answers, Info, Method, Record, State


@dataclass(frozen=True)
class Wrapped(Method):
    """What stands around a method and goes by its name."""

    method: Method

    @property
    def name(self) -> str:
        """The method's own."""
        return self.method.name

    @property
    def pooled(self) -> bool:
        """Whether the method is centralised."""
        return self.method.pooled

    @property
    def compares(self) -> bool:
        """Whether the method compares losses of different rounds."""
        return self.method.compares


def relayed(
    method: Method,
    state: State,
    down: Callable[[Record], Record],
    up: Callable[[Record, Answers], Answers],
) -> Generator[Record, Answers, tuple[Any, Info]]:
    """A method's round, its messages changed on their way.

    Args:
        method: The one inside.
        state: Its own.
        down: From its ask to what the clients are asked.
        up: From its ask and their answers to what it is sent.
    """
    exchanges = method.round(state)
    ask = next(exchanges)
    while True:
        answers = yield down(ask)
        try:
            ask = exchanges.send(up(ask, answers))
        except StopIteration as end:
            found: tuple[Any, Info] = end.value
            return found
