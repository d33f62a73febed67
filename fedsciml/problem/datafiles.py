"""Measured data of the clients: one file each, ``.npz`` or ``.csv``.

A CSV file starts with a line of column names; all else in it is numbers, separated by
commas, one row per point. An ``.npz`` file holds one array [n] per column, under the
column's name. Other columns are ignored. Rows are counted from 1: row k of a CSV file
is the line k + 1 of the file, of which blank ones are skipped but counted.
"""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


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


def load_points(
    paths: Sequence[Path | str | None],
    coordinates: Sequence[str],
    targets: Sequence[str] = (),
) -> Points:
    """Read each client's points and measured values from its own file.

    Args:
        paths: One file per client, in the order of the clients; ``.csv`` or ``.npz``.
            None for a client whose file is elsewhere: it has no rows here.
        coordinates: Columns of the points, in the order of ``Problem.coordinates``.
        targets: Columns of the known values, if any.

    Returns:
        Points and targets in float64, to be used with ``collocation.explicit``.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is of another kind or damaged, a column is missing, rows
            or columns differ in length, or a value is not a finite number; the message
            names file, row and column.
    """
    if isinstance(paths, (str, Path)) or len(paths) == 0:
        raise ValueError(
            f"load_points needs a list with one file per client, got {paths!r}."
        )
    if isinstance(coordinates, str) or isinstance(targets, str) or not coordinates:
        raise ValueError(
            "load_points needs lists of column names, coordinates=['x', 't'] and "
            f"targets=['u']; got {coordinates!r} and {targets!r}."
        )
    wanted = [*coordinates, *targets]
    d = len(coordinates)
    elsewhere = torch.empty(0, len(wanted), dtype=torch.float64, device="cpu")
    tables = [
        elsewhere if path is None else _table(Path(path), wanted) for path in paths
    ]
    if not targets:
        return Points(tables, None)
    values = [table[:, d:] for table in tables]
    if len(targets) == 1:
        values = [v.squeeze(1) for v in values]
    return Points([table[:, :d] for table in tables], values)


def _table(path: Path, wanted: Sequence[str]) -> Tensor:
    """The wanted columns of a file, shape [n, columns], checked."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no data file {path}; give one per client.")
    readers = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"Data file {path} is neither .csv nor .npz; convert it to one of them."
        )
    return torch.from_numpy(readers[path.suffix.lower()](path, wanted))


def _finite(
    path: Path, wanted: Sequence[str], table: np.ndarray, rows: Sequence[int]
) -> np.ndarray:
    """The table, checked; ``rows`` are the numbers of its rows."""
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        index, column = bad[0]
        raise ValueError(
            f"{path}, row {rows[index]}, column '{wanted[column]}': "
            f"{table[index, column]} is not a finite number. Correct the value or "
            "leave out the row."
        )
    return table


def _read_csv(path: Path, wanted: Sequence[str]) -> np.ndarray:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num - 1, line) for line in reader if line]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read as CSV text: {error}.") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    numbers = _positions(path, header, wanted)
    table = np.empty((len(lines) - 1, len(wanted)))
    for index, (row, line) in enumerate(lines[1:]):
        if len(line) != len(header):
            raise ValueError(
                f"{path}, row {row} has {len(line)} columns, but the header has "
                f"{len(header)}: {', '.join(header)}."
            )
        for k, number in enumerate(numbers):
            try:
                table[index, k] = float(line[number])
            except ValueError as error:
                raise ValueError(
                    f"{path}, row {row}, column '{wanted[k]}': '{line[number]}' is "
                    "not a number."
                ) from error
    return _finite(path, wanted, table, [row for row, _ in lines[1:]])


def _read_npz(path: Path, wanted: Sequence[str]) -> np.ndarray:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a NumPy archive; write it with numpy.savez(path, x=..., "
            "u=...)."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            _positions(path, list(file.files), wanted)
            columns = [file[name] for name in wanted]
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(
            f"{path} holds pickled objects, which are not loaded because they can run "
            "code. Save plain arrays of numbers."
        ) from error
    for name, column in zip(wanted, columns, strict=True):
        if column.ndim != 1 or column.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}, column '{name}' has shape {column.shape} and type "
                f"{column.dtype}; it must be one array [n] of real numbers."
            )
        if len(column) != len(columns[0]):
            raise ValueError(
                f"{path}, column '{name}' has {len(column)} rows, but column "
                f"'{wanted[0]}' has {len(columns[0])}."
            )
    table = np.stack([column.astype(np.float64) for column in columns], axis=1)
    return _finite(path, wanted, table, range(1, len(table) + 1))


def _positions(path: Path, names: list[str], wanted: Sequence[str]) -> list[int]:
    repeated = sorted({name for name in wanted if names.count(name) > 1})
    missing = [name for name in wanted if name not in names]
    if missing or repeated:
        what = (
            f"has no column '{missing[0]}'"
            if missing
            else (f"has column '{repeated[0]}' twice")
        )
        raise ValueError(
            f"{path} {what}; its columns are {', '.join(names) or 'none'}. A CSV file "
            "starts with a line of column names."
        )
    return [names.index(name) for name in wanted]
