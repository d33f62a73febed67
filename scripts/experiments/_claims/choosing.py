"""The prose of docs/choosing.md."""

import re

from experiments._claims.steps import reaching
from experiments._prose import Claim, Setting

CLAIMS = [Claim("in {} of {} runs that the [scoreboard]", reaching)]

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
