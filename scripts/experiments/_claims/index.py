"""The prose of docs/index.md."""

from experiments._numbers import cell, number, power, record
from experiments._prose import Claim, Setting


def widest() -> str:
    """The most parameters that rounds are recorded of."""
    return f"{max(int(e['parameters']) for e in record('memory.json')):,}"


CLAIMS = [
    Claim(
        "on `burgers` at {}, and",
        lambda: [power(number(cell("extra", "burgers", "FIPA")))],
    ),
    Claim("rounds with {} were measured", lambda: [widest()]),
]

SETTINGS: list[Setting] = ["some 10,000 parameters", "it has 100,000 and more"]
