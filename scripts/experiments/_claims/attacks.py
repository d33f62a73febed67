"""The prose of docs/attacks.md."""

from experiments import honest
from experiments._numbers import record
from experiments._prose import Claim, Setting

CLAIMS = [
    Claim(
        "the runs that were made so far, {} of {}, each with its commit",
        lambda: [str(len(record("honest.json"))), str(len(honest.CASES))],
    )
]

SETTINGS: list[Setting] = [
    "|c|^2 <= 2 loss holds there",
    "factors of 1e8 between the sites",
    "FIPA with its defaults, 40 rounds",
    "with 2 to 16 clients",
]
