"""Tables in Markdown and for LaTeX (booktabs), and the pages that show them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from experiments._record import FIGURES, ROOT
from fedsciml.federation.files import replace_file


class AtMost(NamedTuple):
    """A number that is known not to be exceeded."""

    value: float


class Spread(NamedTuple):
    """Median and quartiles over several starts."""

    median: float
    low: float
    high: float
    starts: int


Cell = float | int | str | AtMost | Spread | None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: That of its marks on the page and of its file.
        caption: What it shows.
        heads: Of the columns.
        rows: A cell for each column.
        page: Where it is shown, from the root of the repository; else it is printed.
        tex: Whether it is kept for LaTeX in ``figures/tables``.
    """

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    page: str = ""
    tex: bool = False

    def markdown(self) -> str:
        """For a README."""
        lines = [self.heads, ["---"] * len(self.heads)]
        lines += [[plain(cell) for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def latex(self) -> str:
        """For a paper; needs the package booktabs."""
        heads = " & ".join(_escaped(head) for head in self.heads)
        lines = [
            rf"% {self.caption}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.heads) - 1)}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *(" & ".join(_tex(cell) for cell in row) + r" \\" for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def publish(tables: Iterable[Table]) -> list[str]:
    """Put tables where README, docs and papers take them from; says what changed."""
    changed = []
    for table in tables:
        if table.tex:
            place = FIGURES / "tables" / f"{table.name}.tex"
            place.parent.mkdir(exist_ok=True)
            replace_file(place, table.latex())
        if table.page and paste(ROOT / table.page, table.name, table.markdown()):
            changed.append(f"{table.page}: table {table.name}")
    return changed


def paste(path: Path, name: str, text: str) -> bool:
    """Replace what stands between ``<!-- name -->`` and ``<!-- end of name -->``.

    Returns:
        Whether that is something else.

    Raises:
        ValueError: If the file does not have these two lines.
    """
    whole = path.read_text()
    pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)"
    if not re.search(pattern, whole, re.DOTALL):
        raise ValueError(
            f"{path} has no lines '<!-- {name} -->' and '<!-- end of {name} -->' to "
            "put the table between; add them."
        )
    put: Callable[[re.Match[str]], str] = lambda m: f"{m[1]}{text}\n{m[2]}"  # noqa: E731
    new = re.sub(pattern, put, whole, flags=re.DOTALL)
    if new != whole:
        replace_file(path, new)
    return new != whole


def megabytes(number: float | None) -> str | None:
    """``1.4``, of bytes."""
    return None if number is None else f"{number / 1e6:.3g}"


def time_of(seconds: float) -> str:
    """``2.1 ms``."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def plain(cell: Cell) -> str:
    """A cell for people."""
    match cell:
        case None:
            return ""
        case AtMost(value):
            return f"≤ {plain(value)}"
        case Spread(median, low, high, starts):
            if starts == 1:
                return f"{plain(median)} (1 start)"
            return f"{plain(median)} [{plain(low)}, {plain(high)}]"
        case float():
            return f"{_number(cell)[0]}e{_number(cell)[1]}" if isfinite(cell) else ""
    return str(cell)


def _number(value: float) -> tuple[str, int]:
    """Two digits and the exponent of ten."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return digits, int(exponent)


def _tex(cell: Cell) -> str:
    match cell:
        case AtMost(value):
            return rf"$\le$ {_tex(value)}"
        case Spread(median, low, high, starts):
            quartiles = "" if starts == 1 else f" [{_tex(low)}, {_tex(high)}]"
            return _tex(median) + quartiles
        case float():
            digits, exponent = _number(cell)
            return rf"${digits}\cdot10^{{{exponent}}}$" if isfinite(cell) else ""
    return _escaped(plain(cell))


def _escaped(text: str) -> str:
    text = re.sub(r"([_%&#])", r"\\\1", text)
    text = re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", text)
    return re.sub(r"`(.*?)`", r"\\texttt{\1}", text)
