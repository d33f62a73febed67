"""The prose of docs/equations.md."""

from experiments._numbers import cell, number, percent
from experiments._prose import Claim, Setting


def part(problem: str) -> str:
    """Bytes of a run by shared rows, of those by own sketches."""
    rows, own = (number(cell("basis", (problem, w), "MB")) for w in ("rows", "own"))
    return percent(rows / own, 1)


CLAIMS = [
    Claim(
        "clients send less, {} of the bytes on `allen_cahn` and {} on `poisson2d` (",
        lambda: [part("allen_cahn"), part("poisson2d")],
    )
]

SETTINGS: list[Setting] = [
    "coordinates and values of about 1.",
    "with weights of about 1",
    "N(0, 5^2 / d) of coordinates between -1 and 1",
    "whose biases are 0",
    "choose among 1, 2, 5 and 10",
    "promises to remove 99 % of the loss at sqrt(mu) = 1e-3 s_1",
    "start with 1 and say so",
    "itself between -1 and 1",
    "by 1 + |grad u|",
    "is 1.5 times that at the points",
]
