"""What is called after each round of a run, with its history.

    run(problem, method, 500, callbacks=[Until(1e-8), CSV("loss.csv")])

Any function of the history is one; where it returns true the run ends. A run that is
resumed calls each with the history so far, before its first round.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import inf, isnan
from pathlib import Path
from typing import Any

from fedsciml.federation.files import append_to, replace_file
from fedsciml.federation.history import Round

QUANTITIES = ("loss", "relative_l2", "mse", "held_out")
"""Of a round, what can be waited for."""

History = Sequence[Round]


@dataclass(frozen=True)
class Until:
    """Ends a run when it is good enough.

    Args:
        value: At most this.
        quantity: ``loss``, ``relative_l2``, ``mse``, or ``held_out``, which is known in
            every tenth round.

    Raises:
        ValueError: If the value is no positive number or there is no such quantity; in
            a run, if the error is not known, as there is no reference.
    """

    value: float
    quantity: str = "loss"

    def __post_init__(self) -> None:
        _check(self.quantity)
        if not 0 < self.value < inf:
            raise ValueError(
                f"Until waits for a positive number, such as 1e-8; got {self.value}."
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
                "relative_l2=1e-8"
            ) from error
        return cls(number, quantity) if equals else cls(number)

    def __str__(self) -> str:
        return f"{self.quantity} <= {self.value:g}"

    def __call__(self, history: History) -> bool:
        """Whether the last round is good enough."""
        found = getattr(history[-1], self.quantity)
        if found is not None and isnan(found):
            raise ValueError(
                f"The {self.quantity} is not known, as the problem has no reference: "
                "give it exact= or test_points= and reference=, or wait for the loss."
            )
        return found is not None and bool(found <= self.value)


@dataclass(frozen=True)
class Plateau:
    """Ends a run that hardly gets any better.

    Args:
        rounds: If the lowest value of so many rounds
        factor: is not below this factor of the lowest one before.
        quantity: As of ``Until``; of ``held_out`` rounds count in which it is known.

    Raises:
        ValueError: If a number is out of range, or there is no such quantity.
    """

    rounds: int = 20
    factor: float = 0.99
    quantity: str = "loss"

    def __post_init__(self) -> None:
        _check(self.quantity)
        if self.rounds < 1 or not 0 < self.factor <= 1:
            raise ValueError(
                "Plateau needs at least 1 round and a factor in (0, 1], got "
                f"{self.rounds} and {self.factor}."
            )

    def __str__(self) -> str:
        return f"{self.quantity} not below {self.factor:g} times that of before"

    def __call__(self, history: History) -> bool:
        """Whether the last rounds got no better."""
        told = [getattr(line, self.quantity) for line in history]
        known = [value for value in told if value is not None]
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


class CSV:
    """Writes the history to a CSV file, a row for each round.

    A mapping has a column for each of its entries: ``terms.pde``, ``losses.0``. What a
    round does not know is empty. The file is always that of the whole history: in a run
    that is resumed, rows of rounds that are done again are replaced.

    Args:
        path: The file.

    Raises:
        FileExistsError: After the first round, if the file holds something else than
            the beginning of this history.
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._columns: list[str] = []
        self._rounds = 0

    def __call__(self, history: History) -> None:
        """Add what is new."""
        goes_on = 0 < self._rounds < len(history)
        new = history[self._rounds :] if goes_on else history
        rows = [flat(line) for line in new]
        if not goes_on:
            self._check(rows)
            self._columns = []
        fresh = {key: None for row in rows for key in row if key not in self._columns}
        if fresh:
            self._columns += fresh
            rows = [flat(line) for line in history]
        text = StringIO()
        table = csv.DictWriter(text, self._columns, lineterminator="\n")
        if fresh:
            table.writeheader()
        table.writerows(rows)
        if fresh:
            replace_file(self.path, text.getvalue())
        else:
            append_to(self.path, text.getvalue())
        self._rounds = len(history)

    def _check(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Refuse to replace the file of another run."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            there = [
                (row.get("round"), row.get("loss")) for row in csv.DictReader(file)
            ]
        own = [(str(row["round"]), str(row["loss"])) for row in rows]
        known = min(len(there), len(own))
        if there[:known] != own[:known]:
            raise FileExistsError(
                f"{self.path} holds something else than the first rounds of this run. "
                "Name another file, or remove it."
            )


class TensorBoard:
    """Writes the numbers of each round for TensorBoard: ``tensorboard --logdir DIR``.

    Tags are ``loss``, ``terms/pde``, ``losses/0``, ...; the step is the round. A run
    that is resumed replaces what is there, so nothing is there twice.

    Args:
        directory: Of this run alone.

    Raises:
        ModuleNotFoundError: If the package is missing; says how it is installed.
    """

    def __init__(self, directory: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "TensorBoard needs a package that is not installed: "
                f"pip install 'fedsciml[loggers]' ({error})."
            ) from error
        self.directory = Path(directory)
        self._open: Callable[..., Any] = SummaryWriter
        self._writer: Any = None
        self._rounds = 0

    def __call__(self, history: History) -> None:
        """Add what is new."""
        if self._writer is None or not self._rounds < len(history):
            # Whatever is there of these rounds or later ones does not count any more.
            self._writer = self._open(str(self.directory), purge_step=1)
            self._rounds = 0
        for line in history[self._rounds :]:
            for key, value in flat(line).items():
                if isinstance(value, (int, float)) and key != "round":
                    tag = key.replace(".", "/", 1)
                    self._writer.add_scalar(tag, value, line.round)
        self._writer.flush()
        self._rounds = len(history)


def flat(line: Round) -> dict[str, object]:
    """What a round knows, by columns: ``loss``, ``terms.pde``, ``ranks``, ..."""
    found: dict[str, object] = {}
    for key, value in json.loads(line.line()).items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": part for name, part in value.items()}
        elif isinstance(value, list):
            found[key] = "/".join(map(str, value))
        else:
            found[key] = value
    return {key: value for key, value in found.items() if value is not None}


def _check(quantity: str) -> None:
    if quantity not in QUANTITIES:
        raise ValueError(
            f"A round has no '{quantity}' to wait for; choose one of "
            f"{', '.join(QUANTITIES)}."
        )
