"""What entries tell of runs: errors, costs, and medians over the starts.

Of FIPA and centralised Gauss-Newton the error of the model at a round counts. Of every
other method it is the lowest error of the run so far, as if someone who knows the
solution had stopped it there: in favour of those that waver. Between the starts medians
are taken, with the quartiles in brackets.
"""

from collections.abc import Callable, Sequence
from math import inf, isfinite
from statistics import mean, median
from typing import Any

from experiments._record import Entry, select
from experiments._table import Spread
from fedsciml.command.suite import SUITE
from fedsciml.federation.history import Round

OURS = ("fipa", "gauss_newton")
ROUNDS = 50
"""The number of rounds at which methods are compared."""


def root(line: Round, quantity: str) -> float:
    """Relative L2 error, or the root of the mean squared error."""
    value = float(getattr(line, quantity))
    return value**0.5 if quantity == "mse" else value


def mean_rank(history: Sequence[Round]) -> float | None:
    """Of all clients and rounds; None of methods without ranks."""
    ranks = [rank for line in history for rank in line.ranks]
    return mean(ranks) if ranks else None


def thinned(rounds: int) -> list[int]:
    """Which of many rounds are kept: the first 60, then one in fifty of those so far.

    And the last, always.
    """
    kept = list(range(min(rounds, 60)))
    while kept[-1] < rounds - 1:
        kept.append(min(rounds - 1, kept[-1] + 1 + kept[-1] // 50))
    return kept


def longest(
    entries: Sequence[Entry], key: Sequence[str], length: Callable[[Entry], Any]
) -> list[Entry]:
    """Of the entries with the same values of a key, the longest run."""
    found = {tuple(e[name] for name in key): e for e in sorted(entries, key=length)}
    return list(found.values())


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


def reached(costs: Sequence[float]) -> str:
    """Median of what the starts took that got there: ``3.2 (2 of 3)``, ``never``."""
    some = [cost for cost in costs if isfinite(cost)]
    of = "" if len(some) == len(costs) else f" ({len(some)} of {len(costs)})"
    return f"{median(some):.3g}{of}" if some else "never"


class Runs:
    """The runs of a record, by problem and method."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.problems = [
            name for name in SUITE if any(e["problem"] == name for e in entries)
        ]

    def of(self, problem: str, method: str) -> list[Entry]:
        """The starts."""
        return select(self.entries, problem=problem, method=method)

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
