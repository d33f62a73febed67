"""What a report is made from, and what a panel of it is."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fedsciml.federation import Result, Round, RunDirectory
from fedsciml.problem import Problem
from fedsciml.report.markup import Html


@dataclass(frozen=True, eq=False)
class Story:
    """A run, as far as it is known.

    Attributes:
        directory: Where it is recorded.
        configuration: What was run, as in run.json, with its environment.
        history: A record of each round; there may be none.
        problem: What was trained; None where only the record is at hand.
        result: What came out; None of a run that did not come to its end.
        failure: Why it did not, if that is known.
    """

    directory: Path
    configuration: Mapping[str, Any]
    history: Sequence[Round]
    problem: Problem | None = None
    result: Result | None = None
    failure: str = ""

    @property
    def theta(self) -> Tensor | None:
        """The trained parameters, shape [p]; None if there are none or not finite."""
        if self.result is None or not self.result.theta.isfinite().all():
            return None
        return self.result.theta

    @property
    def warnings(self) -> Sequence[str]:
        """Why the result may be wrong."""
        return self.result.warnings if self.result else ()

    @property
    def private(self) -> bool:
        """Whether noise hides single points: nothing else may be told of them."""
        return any(line.epsilon is not None for line in self.history)

    @property
    def pooled(self) -> bool:
        """Whether nothing was sent: a centralised method."""
        return bool(self.history) and self.history[-1].sent == 0

    @property
    def clients(self) -> int:
        """Number of clients, 1 of a centralised method."""
        return int(self.configuration.get("clients", 1))

    def known(self, quantity: str) -> bool:
        """Whether any round has a finite value of a field or metric of ``Round``."""
        return any(math.isfinite(line.value(quantity)) for line in self.history)

    def column(self, quantity: str) -> list[float]:
        """A field or metric over the rounds; NaN where it is not known."""
        return [line.value(quantity) for line in self.history]


@dataclass(frozen=True)
class Panel:
    """A part of a report.

    Attributes:
        title: In words, for the heading and the list of contents.
        summary: What it shows, in a sentence or two, for those who do not look at its
            pictures, too.
        body: The rest: pictures, tables.
        order: Panels stand in ascending order; those of this package have tens.
    """

    title: str
    summary: str
    body: Html = field(default_factory=Html)
    order: int = 1000


def of_result(result: Result) -> Story:
    """The story of a finished run.

    Raises:
        ValueError: If the run was not recorded.
    """
    if result.out is None:
        raise ValueError(
            "The run was not recorded, so there is no place for its report; give "
            "run(..., out=DIRECTORY)."
        )
    out, failure = result.out, RunDirectory.resume(result.out).failure
    told = _configuration(out), result.history, result.problem, result, failure
    return Story(out, *told)


def of_record(directory: Path, problem: Problem | None = None) -> Story:
    """The story of a run that is not finished, from its record.

    Args:
        directory: The run directory.
        problem: What was trained, if it is at hand.

    Raises:
        ValueError: If there is no run, or its record is damaged.
    """
    record = RunDirectory.resume(directory)
    told = _configuration(directory), record.history(), problem, None, record.failure
    return Story(directory, *told)


def _configuration(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "run.json").read_text())
    return found
