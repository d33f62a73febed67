"""What readers of data files share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedsciml.problem.outward import SiteError

MOST_ROWS = 10_000_000
"""Rows of a file, by default: with three columns 240 MB."""


@dataclass(frozen=True, eq=False)
class Table:
    """The wanted columns of a file.

    Attributes:
        values: Shape [n, columns]; NaN where they are missing.
        missing: Shape [n, columns]: cells that the file says are missing.
        rows: Number of each row in the file, n of them.
    """

    values: np.ndarray
    missing: np.ndarray
    rows: Sequence[int]


@dataclass(frozen=True)
class Form:
    """How files are written; see ``load_points``.

    Raises:
        ValueError: If an argument makes no sense.
    """

    delimiter: str
    decimal: str
    missing: tuple[str, ...]
    most_rows: int

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n0123456789+-.':
            raise ValueError(
                "A delimiter is one letter, such as ',', ';' or '\\t'; got "
                f"{self.delimiter!r}."
            )
        if self.decimal not in (".", ",") or self.decimal == self.delimiter:
            raise ValueError(
                "A decimal sign is '.' or ',', and not the delimiter; got decimal "
                f"{self.decimal!r} and delimiter {self.delimiter!r}."
            )
        if not all(isinstance(word, str) for word in self.missing):
            raise ValueError(
                "What counts as missing is a list of words, missing=['', 'NA']; got "
                f"{self.missing!r}."
            )
        if self.most_rows < 1:
            raise ValueError(f"most_rows is at least 1, got {self.most_rows}.")

    def number(self, cell: str) -> float:
        """The number in a cell.

        Raises:
            ValueError: If it is none. Python's digit groups, ``1_000``, are none.
        """
        if "_" in cell or (self.decimal == "," and "." in cell):
            raise ValueError("not a number")
        return float(cell.replace(self.decimal, "."))

    @property
    def words(self) -> set[str]:
        """Texts that count as missing."""
        return {word.strip() for word in self.missing}

    @property
    def numbers(self) -> list[float]:
        """Values that count as missing."""
        return [value for value in map(self._value, self.missing) if value == value]

    @property
    def unknown_is_nan(self) -> bool:
        """Whether NaN counts as missing."""
        return "nan" in (word.strip().lower() for word in self.missing)

    def _value(self, word: str) -> float:
        try:
            return self.number(word)
        except ValueError:
            return float("nan")


def fault(
    path: Path,
    what: str,
    detail: str = "",
    *,
    row: int | None = None,
    column: str | None = None,
) -> SiteError:
    """What is wrong with a file; the path and the detail stay at the site."""
    where = path.name
    if row is not None:
        where += f", row {row}"
    if column is not None:
        where += f", column '{column}'" + (":" if row is not None else "")
    return SiteError(f"{where} {what}", f"The file is {path}. {detail}".strip())


def columns(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise SiteError if a wanted column is not among those of a file, just once.

    The file's own names are told at the site alone: of a CSV file without a header they
    are data.
    """
    detail = f"Its columns are {', '.join(names) or 'none'}."
    for name in wanted:
        if list(names).count(name) > 1:
            raise fault(path, f"has column '{name}' twice.", detail)
        if name not in names:
            like = [other for other in names if other.lower() == name.lower()]
            hint = (
                f"It has '{like[0]}', which is another."
                if like
                else "A CSV file starts with a line of column names."
            )
            what = f"has no column '{name}' among its {len(names)}. {hint}"
            raise fault(path, what, detail)


def few(path: Path, rows: int, form: Form) -> None:
    """Raise SiteError if a file has too many rows."""
    if rows > form.most_rows:
        raise fault(
            path,
            f"has more than {form.most_rows} rows. Thin them out, spread them over "
            "more clients, or give most_rows=... if there is memory for them.",
        )
