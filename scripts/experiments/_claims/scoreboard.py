"""The prose of docs/scoreboard.md."""

from collections.abc import Mapping
from math import inf
from statistics import median

from experiments._numbers import ends, power, record
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments._runs import longest
from experiments.steps import KEY
from fedsciml.command.suite import SINES

HOPS = ("natural:hops=false", "natural")


def last(problem: str) -> list[str]:
    """Median last error without hops and with, centralised, from the same starts."""
    runs = longest(record("steps.json"), KEY[:-1], lambda e: e["rounds"])
    found = [
        {
            e["seed"]: [*e["error_at"].values()][-1]
            for e in select(runs, problem=problem, policy=policy, setting="central")
        }
        for policy in HOPS
    ]
    both = set.intersection(*map(set, found))
    return [f"{median(mine[seed] for seed in both):.1e}" for mine in found]


def regressions() -> list[str]:
    """The least and the largest |r| at which they stop."""
    found = select(record("precision.json"), problem=SINES)
    return [power(r) for r in ends(e["default"]["residual"] for e in found)]


def balanced(setting: str) -> tuple[int, int, int]:
    """Pairs of runs, with terms of equal weight and not, that need fewer, or more."""
    one, two = (
        rounds(select(record("balance.json"), policy=policy, setting=setting))
        for policy in ("natural balance=terms", "natural")
    )
    pairs = [(one[case], two[case]) for case in one.keys() & two.keys()]
    return len(pairs), sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)


def rounds(entries: list[Entry]) -> Mapping[tuple[str, int], float]:
    """To 1e-6, by problem and start."""
    return {
        (e["problem"], e["seed"]): cost["rounds"] if cost else inf
        for e in entries
        for cost in [e["reached"]["1e-06"]]
    }


def terms() -> list[str]:
    """Centralised: fewer, of how many, more; with 8 clients the same."""
    found = [balanced(setting) for setting in ("central", "8")]
    return [str(k) for pairs, fewer, more in found for k in (fewer, pairs, more)]


CLAIMS = [
    Claim(
        "the medians are {} instead of {} on poisson1d, {} instead of {} on sine8.",
        lambda: [*last("poisson1d"), *last("sine8")],
    ),
    Claim("stop at |r| of {} to {}, nearly all of it", regressions),
    Claim(
        "to 1e-6 in {} of {} centralised pairs of runs and more in {}, with 8 clients "
        "fewer in {} of {} and more in {} (",
        terms,
    ),
]

SETTINGS: list[Setting] = [
    "less than 0.1 s",
    "the way to 1e-10 is the same",
    "2 and 8 are clients",
    "poisson_square for 150",
    "cut at 1e-13",
    "with 50 rounding units",
    "weaker than 1e-13 s_1",
    # tests/problems/test_precision.py asserts these.
    "Jets are within 10, targets within 3 units of the last place",
    "best of the lengths 2^-j",
]
