"""A line through measurements of which a fifth are gross errors, by a robust loss.

u = 1 + 2 x on [0, 1], measured with normal errors of standard deviation ``noise``; a
fifth of the measurements read 1 to 5 too much. All errors are made up. The clients own
strips of x. Least squares are off by 0.6, the mean of the gross errors; Huber's loss
and Student's t, whose scale is the noise, by a part of the noise.

A fifth of the points, made alike, are for testing alone; the error of the solution is
against the line itself.
"""

from typing import Literal

import torch
from torch import Tensor

from fedsciml.collocation import equal, in_box, strips, uniform
from fedsciml.likelihoods import Gaussian, Huber, Likelihood, StudentT
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term
from fedsciml.problems._data import FIFTH
from fedsciml.problems._suite import given

POINTS = 500


def line(x: Tensor) -> Tensor:
    """1 + 2 x, shape [n]."""
    return 1 + 2 * x[:, 0]


def make(
    clients: int = 4,
    seed: int = 0,
    likelihood: Literal["huber", "student", "gaussian"] = "huber",
    noise: float = 0.05,
    outliers: float = 0.2,
) -> Problem:
    """The problem.

    Args:
        clients: Number of strips, equally wide.
        seed: Of points and errors.
        likelihood: huber, student, or gaussian: least squares, to compare with.
        noise: Standard deviation of what is no gross error, positive.
        outliers: Part of the measurements that are gross errors, at least 0, below 1/2.

    Raises:
        ValueError: If an option is out of range, or a client would have no point.
    """
    if not noise > 0 or not 0 <= outliers < 0.5:
        raise ValueError(
            "A robust line needs noise > 0 and a part of outliers from 0 to below 1/2; "
            f"got noise {noise} and outliers {outliers}."
        )
    generator = torch.Generator().manual_seed(seed)
    x = uniform(POINTS, [0.0], [1.0], generator)
    errors = noise * torch.randn(POINTS, generator=generator, dtype=x.dtype)
    gross = torch.rand(POINTS, generator=generator, dtype=x.dtype) < outliers
    far = uniform(POINTS, [1.0], [5.0], generator)[:, 0]
    u = line(x) + torch.where(gross, far, errors)
    known: dict[str, Likelihood] = {
        "huber": Huber(noise),
        "student": StudentT(noise),
        "gaussian": Gaussian(),
    }
    test = POINTS // FIFTH
    return Problem(
        "outliers",
        MLP((1, 1)),
        [
            Term(
                "measurements",
                given,
                x[test:],
                u[test:],
                sample=in_box([0.0], [1.0]),
                likelihood=known[likelihood],
            )
        ],
        strips(equal(0, 1, clients)),
        exact=line,
        test_points=torch.linspace(0, 1, 101, dtype=x.dtype)[:, None],
        domain=([0.0], [1.0]),
        parameters={
            "clients": clients,
            "seed": seed,
            "likelihood": likelihood,
            "noise": noise,
            "outliers": outliers,
        },
        tests=[
            Term(
                "measurements", given, x[:test], u[:test], likelihood=known[likelihood]
            )
        ],
    )
