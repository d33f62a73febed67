"""The prose of docs/problems.md."""

import re
from statistics import median

from experiments._hard import EVEN, STEEP
from experiments._hard_tables import of
from experiments._numbers import ends, power, record
from experiments._prose import Claim, Setting
from experiments._record import select
from experiments._table import plain


def steep() -> str:
    """Error of burgers with weights and twice the points, median over the starts."""
    return power(median(e["error"][-1] for e in of(record("hard.json"), STEEP)))


def even() -> list[str]:
    """The least and the largest error of the even network."""
    runs = of(record("hard.json"), EVEN)
    return [power(x) for x in ends(e["error"][-1] for e in runs)]


def published(*names: str) -> list[str]:
    """The lowest error of FedAvg in all rounds that it was published with."""
    found = select(record("fedpinn.json"), method="fedavg", budget=0.0, seed=0)
    return [
        plain(min(e["error"])) for name in names for e in select(found, problem=name)
    ]


CLAIMS = [
    Claim(
        "its lowest error is {} on `gramacy_lee`, {} on `poisson_multiscale`, {} on "
        "`euler_beam` and {} on `inverse_diffusion_reaction`.",
        lambda: published(
            *("gramacy_lee", "poisson_multiscale", "euler_beam"),
            "inverse_diffusion_reaction",
        ),
    ),
    Claim("the error is {} ([Hard", lambda: [steep()]),
    Claim("end at {} to {} after 100 rounds", even),
]

SETTINGS: list[Setting] = [
    "10, 30 or 50 seconds",
    "learning rate 1e-3 (1e-4 for",
    "`piece` = 1",
    "published 32 points",
    "with its 34",
    "within 1/125 of the shock",
    "the side x = 1 fix",
    "from 0.002 to 0.3",
    # Equations and sizes of the problems.
    re.compile(
        r"(?m)^\| `(?:kdv|schroedinger|wave|poisson10d|poisson_square|digits|mnist5k|"
        r"randhie|ammonium|outliers|oscillations|materials|gauges|grunfeld)`.*$"
    ),
    "GLM to 1e-8",  # asserted by tests/problems/test_measured.py
    "to 1e-6, about",  # likewise
    "CIFAR-10 and CIFAR-100",
    "1 for the whole ranges, 0 for sites",
    "of the factor 1, source",
    "MixedLM to 1e-11",  # asserted by tests/problems/test_families.py
]
