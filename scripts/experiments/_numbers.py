"""Numbers as pages print them, read from records and from generated tables."""

from collections.abc import Iterable, Sequence
from functools import cache
from math import ceil, floor, log10
from pathlib import Path

from experiments._record import DATA, Entry, read
from experiments._registry import experiments
from experiments._runner import recorded
from experiments._table import Table, plain

UNITS = "%|ms|s|us|minutes?|hours?|B|kB|KB|MB|GB|KiB|MiB|GiB"
SMALL = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve"),
)
PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth"}
PARTS |= {7: "a seventh", 8: "an eighth", 9: "a ninth", 10: "a tenth"}
WORDS = r"\b(?:" + "|".join([*SMALL, *PARTS.values()]).replace(" ", r"\s") + r")\b"


def unpacked(path: Path) -> list[Entry]:
    """The entries of a record, as the experiment that makes it keeps them."""
    makers = [e for e in experiments().values() if e.path.name == path.name]
    unpack = makers[0].unpack if makers else read
    return unpack(path.read_bytes())


@cache
def record(name: str) -> list[Entry]:
    """The entries of a record of ``figures/data``."""
    return unpacked(DATA / name)


@cache
def tables() -> dict[str, list[Table]]:
    """All that the records make, by experiment."""
    return {
        name: list(e.tables(recorded(e, e.path)))
        for name, e in experiments().items()
        if e.path.is_file()
    }


def generated(name: str, nth: int = 0) -> Table:
    """The table of this name, or of several the one with this number."""
    return [t for found in tables().values() for t in found if t.name == name][nth]


def column(table: str, head: str, nth: int = 0) -> dict[str, str]:
    """The printed cells of a column of a generated table, by the first cell of a row.

    Args:
        table: Name of the table.
        head: That of the column.
        nth: Of several tables of this name.
    """
    found = generated(table, nth)
    at = list(found.heads).index(head)
    return {plain(row[0]): plain(row[at]) for row in found.rows}


def cell(table: str, row: str | Sequence[str], head: str, nth: int = 0) -> str:
    """What a generated table prints.

    Args:
        table: Name of the table.
        row: Its first cell, or its first cells.
        head: That of the column.
        nth: Of several tables of this name.

    Raises:
        KeyError: If there is not one such row.
    """
    first = (row,) if isinstance(row, str) else tuple(row)
    found = generated(table, nth)
    at = list(found.heads).index(head)
    rows = [r for r in found.rows if tuple(plain(c) for c in r[: len(first)]) == first]
    if len(rows) != 1:
        raise KeyError(f"Table {table} has {len(rows)} rows {first}.")
    return plain(rows[0][at])


def number(text: str) -> float:
    """The first number of a printed cell: ``4.4e-15 [...]`` is 4.4e-15."""
    return float(text.removeprefix("≤ ").split(" ")[0])


def digits(value: float, count: int = 2) -> str:
    """``0.39``, ``44``, ``1200``: so many significant digits, no power of ten."""
    if value == 0:
        return "0"
    places = count - 1 - floor(log10(abs(float(f"{value:.{count - 1}e}"))))
    return f"{round(value, places):.{max(places, 0)}f}"


def power(value: float) -> str:
    """``7e-16``: one digit and a power of ten."""
    first, _, exponent = f"{value:.0e}".partition("e")
    return f"{first}e{int(exponent)}"


def ceiling(value: float) -> str:
    """``5e-22``, ``0.7``: one digit, rounded up; a bound of what is not larger."""
    unit = 10.0 ** floor(log10(value))
    up = ceil(value / unit * (1 - 1e-12)) * unit
    return power(up) if up < 1e-2 else digits(up, 1)


def duration(seconds: float, count: int = 2) -> str:
    """``44 ms``, ``1.8 s``."""
    if seconds < 1:
        return f"{digits(1e3 * seconds, count)} ms"
    return f"{digits(seconds, count)} s"


def percent(share: float, count: int = 2) -> str:
    """``88 %``, of a share."""
    return f"{digits(100 * share, count)} %"


def word(count: int) -> str:
    """``seven``; from 13 on in digits."""
    return SMALL[count] if count < len(SMALL) else str(count)


def part(share: float) -> str:
    """``a fifth``: the nearest of one half to a tenth."""
    return PARTS[min(10, max(2, round(1 / share)))]


def ends(values: Iterable[float]) -> tuple[float, float]:
    """The least and the most."""
    found = sorted(values)
    return found[0], found[-1]
