"""FedAdam against a naive loop, and its limits."""

import pytest
import torch
from cases import linear, optimum, scalar, theta
from exchanges import rounds

from fedsciml import methods
from fedsciml.methods import Local
from fedsciml.methods.fedadam import FedAdam


def test_the_server_takes_adam_s_steps_on_the_mean_update() -> None:
    problem = scalar()
    rate, b1, b2, eps = 0.02, 0.8, 0.95, 1e-2
    method = methods.load(
        "fedadam", tau=3, server_rate=rate, beta1=b1, beta2=b2, eps=eps
    )
    fedavg = methods.load("fedavg", tau=3)
    x = theta(problem)
    m, v = torch.zeros_like(x), torch.full_like(x, eps**2)
    for _ in range(4):
        mean = rounds(problem, fedavg, 1, x)[0].theta - x
        for i in range(len(x)):  # element by element
            m[i] = b1 * m[i] + (1 - b1) * mean[i]
            v[i] = b2 * v[i] + (1 - b2) * mean[i] ** 2
            x[i] += rate * m[i] / (v[i] ** 0.5 + eps)
    found = rounds(problem, method, 4)[0].theta
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


def test_a_large_eps_without_momentum_is_fedavg() -> None:
    # theta += rate d / (sqrt(v) + eps) with v = eps^2: half of rate / eps. The error is
    # of the relative size (d / eps)^2.
    eps = 1e6
    method = methods.load(
        "fedadam", tau=3, beta1=0.0, beta2=0.0, eps=eps, server_rate=eps
    )
    found = rounds(scalar(), method, 3)[0].theta
    expected = rounds(scalar(), methods.load("fedavg", tau=3), 3)[0].theta
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta1": 1.0}, "beta1 must be in"),
        ({"beta2": -0.1}, "beta2 must be in"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"server_step": 0.0}, "server step must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(
    options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FedAdam(Local(), **options)


def test_it_comes_near_the_optimum_of_a_line() -> None:
    problem = linear()
    method = methods.load(
        "fedadam", tau=1, local="sgd", learning_rate=0.3, server_rate=1e-2
    )
    end = rounds(problem, method, 500)[0].theta
    # One local epoch of descent is an exact gradient: Adam on the whole loss.
    assert float((end - optimum(problem)).norm()) < 1e-2
