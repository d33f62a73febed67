"""The prose of docs/hard.md."""

from collections.abc import Sequence
from statistics import median

from experiments import _hard_tables as tables
from experiments._experiment import token
from experiments._hard import (
    AUTO,
    EVERY,
    GRAMACY,
    HELMHOLTZ,
    MILD,
    POISSON5,
    Plan,
    every,
    plan_of,
)
from experiments._numbers import cell, digits, ends, number, part, record
from experiments._prose import Claim, Setting
from experiments._record import Entry
from experiments._runs import middle as typical
from experiments._table import plain
from experiments.hard import KEY
from fedsciml.command.suite import LINES

ALL = "all with enough points"
"""The last row of the table of all problems."""


def runs(problem: str, first: str = "") -> list[Entry]:
    """From the published start, or with a first-layer frequency."""
    return tables.of(record("hard.json"), plan_of(problem, first))


def there() -> list[str]:
    """Runs of the first table: planned, and in the record."""
    planned = {token(case) for case in every(EVERY, range(5))}
    found = {token(tuple(e[k] for k in KEY)) for e in record("hard.json")}
    return [str(len(planned)), str(len(planned & found))]


def share(head: str) -> str:
    """``88 %``, of ``79 of 90 (88%)``."""
    text = cell("hard-every", ALL, head)
    return text.partition("(")[2].rstrip("%)") + " %"


def starts(problem: str) -> list[str]:
    """Those that get there with `first=auto`, of how many, and as published."""
    auto, published = (
        cell("hard-every", f"`{problem}`", head).split(" of ")
        for head in ("auto: to 1e-6", "to 1e-6")
    )
    return [*auto, published[0]]


def rounds(problems: Sequence[str]) -> list[float]:
    """With `first=auto` over those as published, by problem."""
    pairs = (
        [cell("hard-every", f"`{p}`", head) for head in ("auto: rounds", "rounds")]
        for p in problems
    )
    return [number(a) / number(b) for a, b in pairs if "never" not in (a, b)]


def ranks(*problems: str) -> list[float]:
    """The mean rank with `first=auto` over that as published, by problem."""
    return [
        median(e["rank"] for e in runs(p, AUTO)) / median(e["rank"] for e in runs(p))
        for p in problems
    ]


def after(plan: Plan, rounds: int = 100) -> list[float]:
    """Errors of the starts, the best first."""
    return sorted(tables.error(e, rounds) for e in tables.of(record("hard.json"), plan))


def reached(plan: Plan, rounds: int, asked: float) -> list[str]:
    """How many starts get to an error, of how many."""
    found = after(plan, rounds)
    return [str(sum(x <= asked for x in found)), str(len(found))]


def middle(plan: Plan, rounds: int = 100) -> str:
    """The median over the starts, as the table has it."""
    return plain(typical(after(plan, rounds)))


CLAIMS = [
    Claim("of {} runs of the first table {} are there.", there),
    Claim(
        "Of the runs that there are {} get there as published and {} with",
        lambda: [share("to 1e-6"), share("auto: to 1e-6")],
    ),
    Claim(
        "`gramacy_lee`, of which {} of {} starts get there instead of {};",
        lambda: starts("gramacy_lee"),
    ),
    Claim(
        "`sine8`, in {} of the rounds; the equations in one dimension, in {} to {} of "
        "them.",
        lambda: [part(rounds(["sine8"])[0]), *(digits(x) for x in ends(rounds(LINES)))],
    ),
    Claim(
        "`poisson_ring`, of which {} of {} starts get there instead of {};",
        lambda: starts("poisson_ring:clients=2"),
    ),
    Claim(
        "is {} to {} times that as published on the equations in one dimension, {} "
        "times in the median of `lame`, `schroedinger` and `poisson_square`, and {} "
        "times on `heat`.",
        lambda: [
            digits(x)
            for x in (
                *ends(ranks(*LINES)),
                median(ranks("lame", "schroedinger", "poisson_square")),
                *ranks("heat"),
            )
        ],
    ),
    Claim(
        "({} of {} starts at 50 rounds and {} of {} at 100)",
        lambda: [*reached(POISSON5, 50, 1e-5), *reached(POISSON5, 100, 1e-7)],
    ),
    Claim(
        "that it takes the best start ends at {}, as",
        lambda: [plain(after(HELMHOLTZ[0])[0])],
    ),
    Claim(
        '"auto" does not try, {} of {} starts get there, and the worst ends at {}.',
        lambda: [*reached(HELMHOLTZ[1], 100, 1e-8), plain(after(HELMHOLTZ[1])[-1])],
    ),
    Claim(
        "with a median of {}, and with sines, where starts end anywhere between {} and "
        "{}.",
        lambda: [
            middle(GRAMACY[0], 60),
            *(plain(x) for x in ends(after(GRAMACY[2], 60))),
        ],
    ),
    Claim(
        "`poisson_ring` (median {}), `kovasznay` ({}), `taylor_green` ({}), `burgers` "
        "with nu = 0.01 ({}),",
        lambda: [
            *(
                middle(plan_of(name))
                for name in ("poisson_ring:clients=2", "kovasznay", "taylor_green")
            ),
            middle(MILD),
        ],
    ),
    Claim(
        "**Over all it takes {} times the rounds and {} times the messages**, {} times "
        "the bytes and {} times the seconds.",
        lambda: [
            cell("hard-curves", "all: ratio of the same starts", head)
            for head in ("rounds", "messages", "MB", "s")
        ],
    ),
]

SETTINGS: list[Setting] = [
    "get to 1e-6, from every start",
    "ends at an error of 1e-9",
    "after 240 s of one core",
    "more than 4000 parameters",
    "Asked: 95 % of the starts at 1e-6",
    "The published 32 points of `poisson_multiscale` and 34 of",
    "the median to 1e-6 of the starts",
    "A start counts where it got to 1e-6",
    "of which 1e-8 from ten starts",
    "with the frequency 2",
    "With 0.3",
    "nu = 0.01 / pi",
    "1e-12 is asked",
    "Medians until 1e-6 of the starts that got there in 100 rounds",
]
