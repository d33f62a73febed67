"""Columns of a CSV file."""

import csv
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from fedsciml.problem._table import Form, Table, columns, fault, few

DELIMITERS = ",;\t| "
"""What may stand between cells."""

LONGEST = 10_000
"""Letters of a first line that are looked at."""


def read_csv(path: Path, wanted: Sequence[str], form: Form) -> Table:
    """The wanted columns of a CSV file.

    Raises:
        SiteError: If it cannot be read; no value in it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Spaces after a delimiter count for nothing: several in a row are one.
            reader = csv.reader(
                file, delimiter=form.delimiter, skipinitialspace=True, strict=True
            )
            try:
                lines = (
                    (reader.line_num - 1, cells)
                    for cells in reader
                    if any(map(str.strip, cells))
                )
                _, header = next(lines, (0, []))
                names = [name.strip() for name in header]
                _check(path, names, wanted, form)
                return _table(path, names, wanted, lines, form)
            except csv.Error as error:
                file.seek(0)
                _separated(path, file.readline(LONGEST), wanted, form)
                number = reader.line_num
                what = f"cannot be read as CSV at line {number}: {error}."
                raise fault(path, what) from error
    except UnicodeDecodeError as error:
        what = "cannot be read as CSV text in UTF-8. Save it in UTF-8."
        raise fault(path, what) from error


def _table(
    path: Path,
    names: Sequence[str],
    wanted: Sequence[str],
    lines: Iterator[tuple[int, list[str]]],
    form: Form,
) -> Table:
    positions = [names.index(name) for name in wanted]
    words, rows = form.words, list[int]()
    values, missing = array("d"), bytearray()
    for row, cells in lines:
        few(path, len(rows) + 1, form)
        if len(cells) != len(names):
            more = len(cells) > len(names) and form.delimiter == ","
            comma = " Are its decimal signs commas? Separate columns by ';'."
            raise fault(
                path,
                f"has {len(cells)} columns, but the header has {len(names)}."
                + (comma if more else ""),
                row=row,
            )
        rows.append(row)
        for name, position in zip(wanted, positions, strict=True):
            cell = cells[position].strip()
            missing.append(cell in words)
            try:
                values.append(np.nan if cell in words else form.number(cell))
            except ValueError as error:
                raise fault(
                    path, _kind(cell, form), f"It is '{cell}'.", row=row, column=name
                ) from error
    shape = (len(rows), len(wanted))
    return Table(
        np.array(values).reshape(shape), np.array(missing, bool).reshape(shape), rows
    )


def _kind(cell: str, form: Form) -> str:
    """What is wrong with a cell that is no number, without what is in it."""
    if not cell:
        return "the cell is empty, not a number. Fill it, or give missing=['']."
    if form.decimal == "." and re.fullmatch(r"[-+]?\d*,\d+([eE][-+]?\d+)?", cell):
        return (
            "the number has a decimal comma. Give decimal=',', with another delimiter "
            "such as ';'."
        )
    if form.decimal == "," and "." in cell:
        return "the number has a point, but the decimal sign is ','."
    return (
        "the text is not a number. Correct it, or say by missing=[...] what stands for "
        "a missing value."
    )


def _check(path: Path, names: Sequence[str], wanted: Sequence[str], form: Form) -> None:
    """Raise SiteError if the first line does not name the wanted columns."""
    example = f"a line of column names, '{form.delimiter.join(wanted)}'"
    if not names:
        raise fault(path, f"is empty; it needs {example}, and a row for each point.")
    text = form.delimiter.join(names)
    if not set(wanted) <= set(names):
        _separated(path, text, wanted, form)
        parts = re.split(f"[{DELIMITERS}{re.escape(form.delimiter)}]", text)
        if not set(wanted) & set(names) and any(map(_numeric, parts)):
            raise fault(
                path,
                f"has no header: its first line holds numbers. It must start with "
                f"{example}.",
                f"The first line is '{text}'.",
            )
    columns(path, names, wanted)


def _separated(path: Path, text: str, wanted: Sequence[str], form: Form) -> None:
    """Raise SiteError if the first line names the columns with another delimiter."""

    def fits(delimiter: str) -> bool:
        names = {part.strip(" \t\r\n\"'") for part in text.split(delimiter)}
        return set(wanted) <= names and len(names) > 1

    for other in DELIMITERS.replace(form.delimiter, ""):
        if fits(other) and not fits(form.delimiter):
            raise fault(
                path,
                f"looks as if its columns are separated by {other!r}: give "
                f"delimiter={other!r}.",
            )


def _numeric(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False
