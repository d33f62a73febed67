"""The prose of docs/ranks.md."""

from collections.abc import Sequence

from experiments._numbers import cell, digits, ends, number, power
from experiments._prose import Claim, Setting
from experiments.ranks import PROBLEMS

LINES = tuple(name for name in PROBLEMS if name != "poisson2d")
TO = ("MB to 1e-6", "MB to 1e-10")


def of(problem: str, schedule: str, head: str) -> str:
    """A cell of the table of a problem."""
    return cell(f"ranks-{problem}", f"`{schedule}`", head)


def fewer(*problems: str) -> list[str]:
    """How many times fewer numbers than p x p the default sends."""
    cells = (of(p, "cutoff", "floats / p^2") for p in problems)
    return [text.removeprefix("1 / ") for text in cells]


def share(
    schedule: str, heads: Sequence[str], problems: Sequence[str] = PROBLEMS
) -> list[str]:
    """The least and the most of the default's bytes, where both get there."""
    pairs = [
        [of(p, word, head) for word in (schedule, "cutoff")]
        for p in problems
        for head in heads
    ]
    found = [number(a) / number(b) for a, b in pairs if "never" not in (a, b)]
    return [digits(x) for x in ends(found)]


def stops(schedule: str, problems: Sequence[str]) -> list[str]:
    """The least and the largest error at the end."""
    found = [number(of(p, schedule, "error at end")) for p in problems]
    return [power(x) for x in ends(found)]


def kept(schedule: str) -> list[str]:
    """The least and the largest mean rank."""
    found = [number(of(p, schedule, "mean rank")) for p in PROBLEMS]
    return [f"{x:.1f}" for x in ends(found)]


CLAIMS = [
    Claim(
        "with {}, {} and {} times fewer numbers than p x p on allen_cahn, "
        "reaction_diffusion and sine4, and {} times fewer on poisson2d.",
        lambda: fewer("allen_cahn", "reaction_diffusion", "sine4", "poisson2d"),
    ),
    Claim(
        "To 1e-6 `energy:0.9999999999` takes {} to {} of its bytes",
        lambda: share("energy:0.9999999999", TO[:1]),
    ),
    Claim(
        "to 1e-10 `bytes:400000` takes {} of them on allen_cahn",
        lambda: share("bytes:400000", TO[1:], ["allen_cahn"])[:1],
    ),
    Claim(
        "`predictive:0.1` needs {} to {} of the default's bytes to 1e-6 and to 1e-10",
        lambda: share("predictive:0.1", TO),
    ),
    Claim("`predictive:1` needs {} to {} of them", lambda: share("predictive:1", TO)),
    Claim(
        "in one dimension 10 stops at {} to {}, and 40 sends {} to {} times the "
        "default's bytes",
        lambda: [*stops("10", LINES), *share("40", ["MB in all"], LINES)],
    ),
    Claim(
        "keeps {} to {} directions in the mean and stops between {} and {}.",
        lambda: [*kept("published"), *stops("published", PROBLEMS)],
    ),
]

SETTINGS: list[Setting] = ["always 20", "falls like 1/k", "50 rounds with"]
