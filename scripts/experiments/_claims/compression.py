"""The prose of docs/compression.md."""

from statistics import median

from experiments._numbers import ceiling, digits, ends, percent, power, record
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments._runs import first

EQUATIONS = ("allen_cahn", "poisson2d")
PROBLEMS = (*EQUATIONS, "sine4")
"""On which every start comes to an end within the rounds."""


def runs(word: str, problem: str) -> list[Entry]:
    """Of FIPA, with these uploads."""
    found = select(record("compression.json"), method="fipa", problem=problem)
    return select(found, compression=word)


def end(word: str, problem: str) -> float:
    """The last error, a median."""
    return median(e["error"][-1] for e in runs(word, problem))


def up(word: str, problem: str, target: float) -> float:
    """Bytes that clients sent to an error, a median."""
    return median(first(e, "up", target) for e in runs(word, problem))


def shares(word: str) -> list[str]:
    """The least and the most of the bytes without compression."""
    found = [
        up(word, p, target) / up("none", p, target)
        for p in PROBLEMS
        for target in (1e-6, 1e-10)
    ]
    return [percent(x) for x in ends(found)]


def worse(word: str) -> list[str]:
    """By which factors errors end above those without compression."""
    return [digits(x) for x in ends(end(word, p) / end("none", p) for p in PROBLEMS)]


CLAIMS = [
    Claim(
        "to 1e-6 and to 1e-10 ({} to {} are left), in about as many rounds. The errors "
        "at the end are {} to {} times as large, {} on allen_cahn, {} on sine4; with "
        "feedback {} to {} times.",
        lambda: [
            *shares("float32"),
            *worse("float32"),
            *(power(end("float32", p)) for p in ("allen_cahn", "sine4")),
            *worse("float32,feedback"),
        ],
    ),
    Claim(
        "errors end at {} on allen_cahn, {} on poisson2d and {} on sine4.",
        lambda: [power(end("bfloat16", p)) for p in PROBLEMS],
    ),
    Claim(
        "to 1e-6 and to 1e-10 ({} to {}), in about as many rounds, and ends at {} to "
        "{} times the error without compression, from every start below {}.",
        lambda: [
            *shares("bfloat16,feedback"),
            *worse("bfloat16,feedback"),
            ceiling(
                max(
                    e["error"][-1]
                    for p in PROBLEMS
                    for e in runs("bfloat16,feedback", p)
                )
            ),
        ],
    ),
]

SETTINGS: list[Setting] = ["by a 256th of it", "On heat_inverse 50 rounds"]
