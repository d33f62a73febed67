"""The prose of docs/stragglers.md."""

from math import inf, log10
from statistics import median

from experiments._numbers import ceiling, digits, ends, power, record, word
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments.stragglers import PROBLEMS, STALENESS

LATE = 35
"""From which round on everybody's runs are at their end."""


def runs(scenario: str, *staleness: int, problem: str | None = None) -> list[Entry]:
    """Of these stand-ins, or of any."""
    found = select(record("stragglers.json"), scenario=scenario)
    found = select(found, staleness=staleness or STALENESS)
    return select(found, problem=problem or PROBLEMS)


def last(scenario: str, *staleness: int, problem: str | None = None) -> list[float]:
    """Errors of the last round."""
    return [e["error"] for e in runs(scenario, *staleness, problem=problem)]


def largest(scenario: str, *staleness: int) -> str:
    """A bound of all last errors."""
    return ceiling(max(last(scenario, *staleness)))


def late(*staleness: int) -> float:
    """The largest error from round ``LATE`` on, clients missing at random."""
    return max(max(e["errors"][LATE - 1 :]) for e in runs("at random", *staleness))


def jump(*staleness: int) -> float:
    """By which factor a round raised the error the most, clients missing at random."""
    return max(
        after / before
        for e in runs("at random", *staleness)
        for before, after in zip(e["errors"], e["errors"][1:], strict=False)
    )


def arrived(staleness: int) -> str:
    """When heat is at 1e-10 from which two are gone for ten rounds, median."""
    found = runs("two for ten rounds", staleness, problem="heat")
    spent = [
        next((k for k, x in enumerate(e["errors"], 1) if x <= 1e-10), inf)
        for e in found
    ]
    return f"{median(spent):g}"


CLAIMS = [
    Claim(
        "all runs end below {}; those with everybody below {}.",
        lambda: [largest("two for ten rounds"), largest("nobody")],
    ),
    Claim(
        "heat is at 1e-10 in round {} in the median, without stand-ins in round {}:",
        lambda: [arrived(20), arrived(0)],
    ),
    Claim(
        "all end below {}, and below {} without stand-ins or with those for two or "
        "five rounds.",
        lambda: [largest("one for ever"), largest("one for ever", 0, 2, 5)],
    ),
    Claim(
        "runs end at {} to {}; the heat equation",
        lambda: [
            digits(x, 1) for x in ends(last("an end for ever", problem="allen_cahn"))
        ],
    ),
    Claim(
        "everywhere else, and ends at {} to {}.",
        lambda: [power(x) for x in ends(last("an end for ever", problem="heat"))],
    ),
    Claim(
        "in a tenth of the rounds**: all end below {}.", lambda: [largest("at random")]
    ),
    Claim(
        "jumps up by as much as {} digits in a round where clients are missing, and "
        "from round 35 on it is up to {}:",
        lambda: [word(round(log10(jump(0)))), power(late(0))],
    ),
    Claim(
        "a round raises it {} times at most, and from round 35 on it is below {}.",
        lambda: [digits(jump(2), 1), ceiling(late(2))],
    ),
]

SETTINGS: list[Setting] = ["for rounds 6 to 15", "gone for ever from round 6", "x = 0"]
