"""The prose of docs/choosing.md."""

import re

from experiments._numbers import record
from experiments._prose import Claim, Setting
from experiments._record import select


def settled() -> list[str]:
    """Runs of the default policy that got to 1e-6 in 100 rounds, and all."""
    runs = select(record("steps.json"), policy="natural")
    runs = [e for e in runs if e["problem"] != "poisson5d"]
    there = [e for e in runs if "1e-06" in e["reached"]]
    soon = [e for e in there if e["reached"]["1e-06"]["rounds"] <= 100]
    return [str(len(soon)), str(len(runs))]


CLAIMS = [Claim("in {} of {} runs that the [scoreboard]", settled)]

SETTINGS: list[Setting] = [
    "some 10,000 parameters",
    "a prior of 1e-3",
    "reached 1e-6 within",
    "on the way to 1e-6",
    "up to 1000 parameters",
    "10 rows every 8 rounds",
    "the gradient and 20 rows",
    "5 rows every 5 rounds",
    "10 if not given, 0 for none",
    "of classes is not 0",
    re.compile(r"(?m)^\d\. "),
    "an error near 1",
    "far from 1",
]
