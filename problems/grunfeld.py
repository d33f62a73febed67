"""A mixed-effects model: what eleven firms invested, with an intercept of each its own.

Gross investment of eleven firms of the USA in each year from 1935 to 1954 (Y. Grunfeld,
thesis, Chicago 1958; restored by C. Kleiber and A. Zeileis, German Economic Review 11,
2010), in the public domain, comes with statsmodels. A firm is a client, with 20 rows,
in 1000 million dollars of 1947:

    investment = b_1 market + b_2 capital + b_0 + a_m + error

market is the value of the firm there, capital that of its plant and equipment. The
coefficients b are shared, a_m is the firm's own, and normal: variance(a_m) is the
error's over ``ratio``. Shared and own numbers that minimise

    1/2 mean of squared errors + personal_prior / 2 sum_m a_m^2,
    personal_prior = ratio / 220,

are the best linear unbiased estimates and predictions of the mixed model with that
ratio (C. R. Henderson, Biometrics 31, 1975).
"""

import csv

import torch
from torch import Tensor

from fedsciml.collocation import explicit, in_box
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._data import packaged

FIRMS = 11

UNIT = 1000.0
"""Of the amounts, in million dollars."""

BOX = [0.0, 0.0], [6.25, 2.25]
"""Of the two values."""


def measured() -> tuple[list[Tensor], list[Tensor]]:
    """Values on the market and of capital [20, 2], and investment [20], of each firm.

    Raises:
        ModuleNotFoundError: If statsmodels is not installed.
        FileNotFoundError: If it came without the data.
    """
    path = packaged("statsmodels", "datasets", "grunfeld", "grunfeld.csv")
    firms = dict[str, list[list[float]]]()
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            amounts = [float(row[name]) for name in ("value", "capital", "invest")]
            firms.setdefault(row["firm"], []).append(amounts)
    tables = [torch.tensor(rows, dtype=torch.float64) / UNIT for rows in firms.values()]
    return [rows[:, :2] for rows in tables], [rows[:, 2] for rows in tables]


def investment(u: Jet, row: Row) -> Tensor:
    """What the model says less what was invested."""
    return u.value + u.intercept - row.target


def sloped(u: Jet, row: Row) -> Tensor:
    """The same with a slope of capital of the firm's own."""
    return investment(u, row) + u.slope * row.capital


def make(clients: int = FIRMS, ratio: float = 0.375, slope: bool = False) -> Problem:
    """The problem.

    Args:
        clients: Number of firms, 1 to 11.
        ratio: Variance of the error over that of the firms' own intercepts; 0 for
            intercepts of which nothing is known. The default is that of restricted
            maximum likelihood, by statsmodels' MixedLM.
        slope: Whether the coefficient of capital differs from firm to firm, too, with
            the same ratio.

    Raises:
        ValueError: If there are no 1 to 11 clients, or the ratio is negative.
        ModuleNotFoundError: If statsmodels is not installed.
    """
    if not 1 <= clients <= FIRMS:
        raise ValueError(
            f"The data are of {FIRMS} firms; clients must be 1 to {FIRMS}, got "
            f"{clients}."
        )
    covariates, invested = measured()
    own = {"intercept": 0.0, **({"slope": 0.0} if slope else {})}
    points, target = covariates[:clients], invested[:clients]
    return Problem(
        "grunfeld",
        Parallel([MLP((2, 1))], personal=own, scales=dict.fromkeys(own, 1.0)),
        [
            Term(
                "investment",
                sloped if slope else investment,
                points,
                target,
                sample=in_box(*BOX),
            )
        ],
        explicit(clients),
        coordinates=("market", "capital"),
        outputs=("level",),
        domain=BOX,
        parameters={"clients": clients, "ratio": ratio, "slope": slope},
        personal_prior=ratio / sum(map(len, target)),
    )
