"""Measured data of the clients: one file each, ``.csv`` or ``.npz``.

A CSV file starts with a line of column names; all else in it is numbers, one row per
point. An ``.npz`` file holds one array [n] per column, under the column's name. Other
columns are ignored. Rows are counted from 1: row k of a CSV file is the line k + 1 of
the file, of which blank ones are skipped but counted.

Errors name file, row and column and hold no value: see ``SiteError``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedsciml.problem._csv import read_csv
from fedsciml.problem._npz import read_npz
from fedsciml.problem._table import MOST_ROWS, Form, Table, fault
from fedsciml.problem.folder import MissingFileError, in_folder

log = getLogger(__name__)


class Points(NamedTuple):
    """Points and targets, one tensor per client, as ``Term`` takes them.

    Such a pair is equal to itself alone, as it holds tensors.

    Attributes:
        points: Shape [n_m, d] each; [0, d] for a client without rows.
        target: Shape [n_m] each, or [n_m, q] for q > 1 target columns; None for none.
    """

    points: list[Tensor]
    target: list[Tensor] | None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Points of {[len(points) for points in self.points]} rows"


@dataclass(frozen=True)
class DataFile:
    """A client's file that is written in another way than those of the others.

    Args:
        path: The ``.csv`` or ``.npz`` file.
        delimiter: Between the cells of a CSV file, one letter.
        decimal: Decimal sign of a CSV file, "." or ",".
        missing: What stands for a value that is not known, such as ("", "NA", "-999").
    """

    path: str
    delimiter: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()


def load_points(
    paths: Path | str | Sequence[Path | str | DataFile | None],
    coordinates: Sequence[str],
    targets: Sequence[str] = (),
    *,
    delimiter: str = ",",
    decimal: str = ".",
    missing: Sequence[str] = (),
    most_rows: int = MOST_ROWS,
) -> Points:
    """Read each client's points and measured values from its own file.

    Args:
        paths: A folder with one file per client, ``.csv`` or ``.npz``, taken in the
            order of their names; or a list of the files. In a list None is for a client
            whose file is elsewhere, or who has none: it has no rows here; and a
            ``DataFile`` has a form of its own.
        coordinates: Columns of the points, in the order of ``Problem.coordinates``.
        targets: Columns of the known values, if any.
        delimiter: As all that follow, of files that are given by their paths; see
            ``DataFile``.
        decimal: Decimal sign.
        missing: What stands for a value that is not known. Rows with such a value in
            one of the columns are left out; the log says how many. A number also
            stands for cells of the same value, "nan" for NaN in an ``.npz`` file.
        most_rows: Most rows of a file.

    Returns:
        Points and targets in float64, to be used with ``collocation.explicit``.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a folder is not there or holds anything else, a file is of
            another kind, damaged, too large or without rows, a column is missing, rows
            or columns differ in length, or a value is not a finite number; the message
            names file, row and column, and no value.
    """
    if isinstance(paths, (str, Path)):
        paths = in_folder(Path(paths))
    if len(paths) == 0:
        raise ValueError(
            f"load_points needs a folder or a list with one file per client, got "
            f"{paths!r}."
        )
    if isinstance(coordinates, str) or isinstance(targets, str) or not coordinates:
        raise ValueError(
            "load_points needs lists of column names, coordinates=['x', 't'] and "
            f"targets=['u']; got {coordinates!r} and {targets!r}."
        )
    if isinstance(missing, str):
        raise ValueError(
            f"What counts as missing is a list of words, missing=['', 'NA']; got "
            f"{missing!r}."
        )
    wanted = [*coordinates, *targets]
    d = len(coordinates)
    tables = []
    for given in paths:
        if given is None:
            table = torch.empty(0, len(wanted), dtype=torch.float64, device="cpu")
        elif isinstance(given, DataFile):
            form = Form(given.delimiter, given.decimal, given.missing, most_rows)
            table = _table(Path(given.path), wanted, form)
        else:
            form = Form(delimiter, decimal, tuple(missing), most_rows)
            table = _table(Path(given), wanted, form)
        tables.append(table)
    if not targets:
        return Points(tables, None)
    values = [table[:, d:] for table in tables]
    if len(targets) == 1:
        values = [v.squeeze(1) for v in values]
    return Points([table[:, :d] for table in tables], values)


def _table(path: Path, wanted: Sequence[str], form: Form) -> Tensor:
    """The wanted columns of a file, shape [n, columns], checked."""
    if not path.is_file():
        raise MissingFileError(
            f"There is no data file {path.name}; give one per client.",
            f"The file would be {path}.",
        )
    readers: dict[str, Callable[[Path, Sequence[str], Form], Table]]
    readers = {".csv": read_csv, ".npz": read_npz}
    if path.suffix.lower() not in readers:
        raise fault(path, "is neither .csv nor .npz; convert it to one of them.")
    try:
        table = readers[path.suffix.lower()](path, wanted, form)
    except OSError as error:
        raise fault(
            path, f"cannot be opened: {error.strerror or type(error).__name__}."
        ) from error
    return torch.from_numpy(_complete(path, wanted, table, form))


def _complete(
    path: Path, wanted: Sequence[str], table: Table, form: Form
) -> np.ndarray:
    """The rows of a table without missing values, all finite."""
    values = table.values
    unknown = table.missing | np.isin(values, form.numbers)
    if form.unknown_is_nan:
        unknown |= np.isnan(values)
    bad = np.argwhere(~np.isfinite(values) & ~unknown)
    if len(bad):
        index, column = bad[0]
        raise fault(
            path,
            f"{values[index, column]} is not a finite number. Correct the value, leave "
            "out the row, or say by missing= what stands for a missing value.",
            row=table.rows[index],
            column=wanted[column],
        )
    left = ~unknown.any(axis=1)
    if not len(values):
        raise fault(
            path,
            "has column names, but no rows: a header only. Put in the rows, or give "
            "None in its stead for a client without data.",
        )
    if not left.any():
        raise fault(
            path,
            f"has a missing value in each of its {len(values)} rows. Is what counts as "
            "missing right?",
        )
    if not left.all():
        log.warning(
            "%s: %d of %d rows have a missing value and are left out.",
            *(path, (~left).sum(), len(values)),
        )
    return values[left]
