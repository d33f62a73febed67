"""Tables of the benchmark, in Markdown and for LaTeX (booktabs), from its record.

Of FIPA and centralised Gauss-Newton the error of the model at a round counts. Of every
other method it is the lowest error of the run so far, as if someone who knows the
solution had stopped it there: in favour of those that waver. Between the starts medians
are taken, with the quartiles in brackets.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from _common import SUITE, Entry

from fedsciml.federation.record import replace_file

ROOT = Path(__file__).parents[1]
TARGETS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
OURS = ("fipa", "gauss_newton")
ROUNDS = 50
"""The number of rounds at which methods are compared."""


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
    """A table: its name, what it shows, the heads of its columns, the rows."""

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]

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


def error(entry: Entry, axis: str, level: float) -> float:
    """A run's error when ``axis`` (round, bytes, ...) is at most a level, or inf."""
    pairs = zip(entry[axis], entry["error"], strict=True)
    within = [value for spent, value in pairs if spent <= level] or [inf]
    return within[-1] if entry["method"] in OURS else min(within)


def first(entry: Entry, axis: str, target: float) -> float:
    """What a run had spent when it got to an error; inf if it never did."""
    pairs = zip(entry[axis], entry["error"], strict=True)
    return next((float(spent) for spent, value in pairs if value <= target), inf)


def spread(values: Sequence[float]) -> Spread | None:
    """Median and quartiles; None of nothing.

    Between two values the logarithm is interpolated. Those of starts that never got
    there are infinite.
    """
    if not values:
        return None
    ranked = sorted(values)

    def quantile(q: float) -> float:
        at, part = divmod(q * (len(ranked) - 1), 1.0)
        low = ranked[int(at)]
        return low ** (1 - part) * ranked[int(at) + 1] ** part if part else low

    return Spread(quantile(0.5), quantile(0.25), quantile(0.75), len(values))


def middle(values: Sequence[float]) -> float | None:
    """Median; None of nothing or if it is infinite."""
    found = spread(values)
    return found.median if found and isfinite(found.median) else None


class Runs:
    """The runs of a record, by problem and method."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.problems = [
            name for name in SUITE if any(e["problem"] == name for e in entries)
        ]

    def of(self, problem: str, method: str) -> list[Entry]:
        """The starts."""
        which = (problem, method)
        return [e for e in self.entries if (e["problem"], e["method"]) == which]

    def errors(self, problem: str, method: str, rounds: int = ROUNDS) -> list[float]:
        """The error of each start after so many rounds."""
        return [error(e, "round", rounds) for e in self.of(problem, method)]

    def median(self, problem: str, method: str) -> float | None:
        """At equal rounds."""
        return middle(self.errors(problem, method))

    def pairs(self, problem: str, one: str, two: str) -> list[tuple[Entry, Entry]]:
        """Runs of two methods from the same start."""
        others = {e["seed"]: e for e in self.of(problem, two)}
        mine = self.of(problem, one)
        return [(e, others[e["seed"]]) for e in mine if e["seed"] in others]


def overview(runs: Runs, rivals: Sequence[str]) -> Table:
    """A row per problem: FIPA beside centralised Gauss-Newton and the best rival."""
    rows: list[list[Cell]] = []
    for problem in runs.problems:
        mine = runs.of(problem, "fipa")
        if not mine:
            continue
        found = [(e, name) for name in rivals if (e := runs.median(problem, name))]
        best, name = min(found, default=(None, ""))
        fedavg = runs.median(problem, "fedavg")
        ours = spread(runs.errors(problem, "fipa"))
        rows.append(
            [
                problem,
                _kind(mine[0]),
                ours,
                runs.median(problem, "gauss_newton"),
                runs.median(problem, "fipa_paper"),
                fedavg,
                f"{plain(best)} ({name})" if best else None,
                f"{mean(mean(e['rank'][:ROUNDS]) for e in mine):.0f}",
                megabytes(_at(mine, "bytes")),
                f"{(_at(mine, 'seconds') or 0) / ROUNDS:.2g}",
            ]
        )
    heads = ["problem", "error", "FIPA [quartiles]", "centralised Gauss-Newton"]
    heads += ["published FIPA", "FedAvg", "best other federated", "mean rank", "MB"]
    caption = f"Error after {ROUNDS} rounds, median over the starts."
    return Table("overview", caption, [*heads, "s / round"], rows)


def matrix(runs: Runs, methods: Sequence[str]) -> Table:
    """A row per method, a column per problem."""
    rows: list[list[Cell]] = []
    for method in methods:
        cells = [runs.median(problem, method) for problem in runs.problems]
        if any(cell is not None for cell in cells):
            rows.append([method, *cells])
    caption = f"Error after {ROUNDS} rounds, medians over the starts."
    return Table("methods", caption, ["method", *runs.problems], rows)


def against(runs: Runs, rival: str = "fedavg") -> Table:
    """FIPA against a rival at equal rounds, bytes and seconds."""
    rows: list[list[Cell]] = []
    for problem in runs.problems:
        pairs = runs.pairs(problem, "fipa", rival)
        if not pairs:
            continue
        factor = middle(
            [error(b, "round", ROUNDS) / error(a, "round", ROUNDS) for a, b in pairs]
        )
        cells: list[Cell] = [problem, runs.median(problem, "fipa")]
        cells += [runs.median(problem, rival), factor]
        for axis in ("bytes", "seconds"):
            cells += [_equal(pairs, axis), _equal([(b, a) for a, b in pairs], axis)]
        cells.append(megabytes(middle([ahead(a, b, "bytes") for a, b in pairs])))
        rows.append(cells)
    heads = ["problem", "FIPA", rival, "factor"]
    heads += [f"{rival} at FIPA's bytes", f"FIPA at {rival}'s bytes"]
    heads += [f"{rival} at FIPA's seconds", f"FIPA at {rival}'s seconds"]
    caption = f"FIPA and {rival} after {ROUNDS} rounds, and when they spent the same."
    return Table(f"against-{rival}", caption, [*heads, "FIPA ahead from MB"], rows)


def ahead(one: Entry, two: Entry, axis: str) -> float:
    """From where on the error of ``one`` stays below that of ``two``.

    As far as both have run; infinite if it is not below at the end.
    """
    end = min(one[axis][-1], two[axis][-1])
    levels = sorted({x for x in (*one[axis], *two[axis]) if x <= end}, reverse=True)
    since = inf
    for level in levels:
        if not error(one, axis, level) < error(two, axis, level):
            break
        since = float(level)
    return since


def published(runs: Runs, authors: Sequence[Entry]) -> Table:
    """How soon FIPA gets to the best error of the authors and of their rule here.

    Args:
        runs: Of ``fipa`` and ``fipa_paper``.
        authors: Best error, its round and seconds, of the authors' own program.
    """
    theirs = {line["problem"]: line for line in authors}
    rows: list[list[Cell]] = []
    for problem in runs.problems:
        mine, line = runs.of(problem, "fipa"), theirs.get(problem)
        paper = runs.pairs(problem, "fipa_paper", "fipa")
        if not mine or not (line or paper):
            continue
        cells: list[Cell] = [problem]
        if line:
            took = middle([first(e, "seconds", line["error"]) for e in mine])
            seconds = line["seconds"]
            cells += [float(line["error"]), f"{line['round']} / {seconds or '?'}"]
            cells.append(_costs(mine, line["error"], central=False))
            cells.append(f"{seconds / took:.0f}" if took and seconds else None)
        else:
            cells += [None] * 4
        bests = [min(a["error"]) for a, _ in paper]
        ratios, theirs_cost, ours_cost = [], [], []
        for (a, b), best in zip(paper, bests, strict=True):
            theirs_cost.append(_costs([a], best, central=False))
            ours_cost.append(_costs([b], best, central=False))
            ratios.append(first(a, "seconds", best) / first(b, "seconds", best))
        if paper:
            at = sorted(range(len(bests)), key=bests.__getitem__)[(len(bests) - 1) // 2]
            cells += [bests[at], theirs_cost[at], ours_cost[at]]
            cells.append(f"{ratios[at]:.0f}" if ratios[at] else None)
        else:
            cells += [None] * 4
        rows.append(cells)
    heads = ["problem", "authors' best", "round / s", "FIPA to it", "times faster"]
    heads += ["published rule's best", "round / MB / s", "FIPA to it", "times faster"]
    caption = (
        "The authors' program on two cores and the published rule in this library, at "
        "their best errors; FIPA to the same error (rounds / MB / seconds)."
    )
    return Table("published", caption, heads, rows)


def detail(runs: Runs, problem: str, methods: Sequence[str]) -> Table:
    """A row per method: errors when it spent as much as FIPA, and costs of errors."""
    rows: list[list[Cell]] = []
    for method in methods:
        mine = runs.of(problem, method)
        if not mine:
            continue
        pairs = runs.pairs(problem, "fipa", method)
        central = not any(e["bytes"][-1] for e in mine)
        cells: list[Cell] = [method, spread(runs.errors(problem, method))]
        for axis in ("bytes", "epochs", "seconds"):
            cells.append(None if axis == "bytes" and central else _equal(pairs, axis))
        for target in TARGETS:
            cells.append(_costs(mine, target, central))
        rows.append(cells)
    kind = _kind(runs.of(problem, methods[0])[0])
    heads = ["method", f"{ROUNDS} rounds"]
    heads += [f"FIPA's {axis}" for axis in ("bytes", "epochs", "seconds")]
    heads += [f"to {target:.0e}" for target in TARGETS]
    caption = (
        f"{problem}: {kind} after {ROUNDS} rounds, and at the bytes, local epochs and "
        f"seconds of FIPA's {ROUNDS} rounds; rounds / MB / seconds to an error."
    )
    return Table(f"detail-{problem}", caption, heads, rows)


def paste(path: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- end of name -->``.

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
    replace_file(path, re.sub(pattern, put, whole, flags=re.DOTALL))


def megabytes(number: float | None) -> str | None:
    """``1.4``, of bytes."""
    return None if number is None else f"{number / 1e6:.3g}"


def _at(entries: Sequence[Entry], axis: str) -> float | None:
    """Median of what the starts have spent after ``ROUNDS`` rounds."""
    return middle(
        [
            max(x for x, k in zip(e[axis], e["round"], strict=True) if k <= ROUNDS)
            for e in entries
        ]
    )


def _equal(pairs: Sequence[tuple[Entry, Entry]], axis: str) -> Cell:
    """The second's error when it has spent what the first has in ``ROUNDS`` rounds."""
    errors, whole = [], True
    for one, two in pairs:
        level = _at([one], axis)
        if level is None:
            continue
        errors.append(error(two, axis, level))
        whole &= two[axis][-1] >= level
    found = middle(errors)
    return found if whole or found is None else AtMost(found)


def _costs(entries: Sequence[Entry], target: float, central: bool) -> Cell:
    rounds, sent, seconds = (
        middle([first(e, axis, target) for e in entries])
        for axis in ("round", "bytes", "seconds")
    )
    if rounds is None:
        return None
    parts = [f"{rounds:.0f}", "-" if central else megabytes(sent), f"{seconds:.2g}"]
    return " / ".join(str(part) for part in parts)


def _kind(entry: Entry) -> str:
    return "MSE" if entry["quantity"] == "mse" else "relative L2"


def _number(value: float) -> tuple[str, int]:
    """Two digits and the exponent of ten."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return digits, int(exponent)


def plain(cell: Cell) -> str:
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
    return re.sub(r"([_%&#])", r"\\\1", text)
