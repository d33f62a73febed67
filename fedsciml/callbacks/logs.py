"""Callbacks that write a run down while it goes on."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from fedsciml.extras import needed
from fedsciml.federation.files import append_to, replace_file
from fedsciml.federation.history import Round


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

    def __call__(self, history: Sequence[Round]) -> None:
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
        with needed("A log for TensorBoard needs", "loggers"):
            from torch.utils.tensorboard import SummaryWriter
        self.directory = Path(directory)
        self._open: Callable[..., Any] = SummaryWriter
        self._writer: Any = None
        self._rounds = 0

    def __call__(self, history: Sequence[Round]) -> None:
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
