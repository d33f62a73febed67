"""Recorded runs, finished or not, read without their problem."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fedsciml.command.summary import manner
from fedsciml.federation import Round, RunDirectory
from fedsciml.federation.directory import MODEL
from fedsciml.federation.history import RISES
from fedsciml.federation.saving import read

NAMES = {
    "relative_l2": "relative L2 error",
    "mse": "MSE",
    "accuracy": "accuracy",
    "deviance": "mean deviance",
    "loss": "loss",
}
"""Quantities of a round by which runs are compared, the first that is known."""


class Recorded(NamedTuple):
    """What is in a run directory.

    Attributes:
        directory: The directory.
        configuration: Content of its run.json.
        history: The rounds that were done.
        model: Content of its model file, if the run came to its end.
        failure: Why it ended before that, if that is known.
    """

    directory: Path
    configuration: Mapping[str, Any]
    history: Sequence[Round]
    model: Mapping[str, Any] | None
    failure: str

    @property
    def method(self) -> str:
        """The method as it was asked for."""
        order = self.configuration.get("command")
        return manner(order) if order else str(self.configuration["method"])

    @property
    def state(self) -> str:
        """``finished``, ``failed`` or how far it is."""
        if self.model is not None:
            return "finished"
        done = f"round {len(self.history)} of {self.configuration['rounds']}"
        return f"failed after {done}" if self.failure else f"not finished, {done}"


def recorded(directory: Path) -> Recorded:
    """The run in a directory.

    Raises:
        ValueError: If there is none, or its record is damaged.
    """
    if not directory.is_dir():
        raise ValueError(f"There is no directory {directory}.{_others(directory)}")
    if not (directory / "run.json").is_file():
        raise ValueError(
            f"There is no run in {directory}: it has no run.json.{_others(directory)}"
        )
    record, failure = RunDirectory.resume(directory), ""
    with suppress(ValueError, KeyError):
        failure = record.failure
    model = read(directory / MODEL) if record.finished else None
    history = record.history() if model is None else model["history"]
    return Recorded(directory, record.configuration, history, model, failure)


def known(history: Iterable[Round]) -> list[str]:
    """The quantities of ``NAMES`` that a history tells."""
    last = list(history)[-1:]
    return [n for n in NAMES if all(math.isfinite(k.value(n)) for k in last)]


def written(quantity: str, value: float, digits: int = 1) -> str:
    """A value of one of them, to so many digits behind the point."""
    return f"{value:.{digits}{'%' if quantity in RISES else 'e'}}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be, numbers to the right."""
    shown = []
    for head, *cells in zip(heads, *rows, strict=True):
        width = max(map(len, (head, *cells)))
        side = str.rjust if all(cell[:1].isdigit() for cell in cells) else str.ljust
        shown.append([side(cell, width) for cell in (head, *cells)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*shown, strict=True))


def _others(directory: Path) -> str:
    """Runs that are near."""
    for near in (directory, directory.parent, Path("runs")):
        found = sorted(str(path.parent) for path in near.glob("*/run.json"))
        if found:
            return f" There are: {', '.join(found[:5])}{', ...' * (len(found) > 5)}."
    return ""
