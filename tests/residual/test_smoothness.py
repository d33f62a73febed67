"""Networks with kinks under residuals that read derivatives which kinks do not have."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cases import scalar
from torch import Tensor, nn
from torch.nn import functional

from fedsciml import MLP, ModuleNetwork, Parallel, Problem, methods, problems, run
from fedsciml.network import Network
from fedsciml.residual.smoothness import check_smooth


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


def module(activation: nn.Module | Callable[[Tensor], Tensor]) -> ModuleNetwork:
    """Two hidden layers of one activation."""
    part = activation if isinstance(activation, nn.Module) else Function(activation)
    torch.manual_seed(0)
    layers = nn.Linear(1, 16), part, nn.Linear(16, 16), part, nn.Linear(16, 1)
    return ModuleNetwork(nn.Sequential(*layers).double())


def hard(x: Tensor) -> Tensor:
    return x[:, 0] * (1 - x[:, 0])


KINKED: dict[str, tuple[Network, str]] = {
    "mlp": (MLP((1, 8, 1), activation="relu"), "relu"),
    "constrained": (MLP((1, 8, 1), activation="relu", distance=hard), "relu"),
    "parallel": (Parallel([MLP((1, 8, 1), activation="relu")]), "relu"),
    "leaky": (Parallel([module(nn.LeakyReLU())]), "leaky_relu"),
    "prelu": (module(nn.PReLU()), "prelu"),
    "hardtanh": (module(nn.Hardtanh()), "hardtanh"),
    "function": (module(functional.relu), "relu"),
    "clamp": (module(lambda z: z.clamp(min=0)), "clamp"),
    "where": (module(lambda z: torch.where(z > 0, z, 0 * z)), "where"),
    "product": (module(lambda z: z * (z > 0)), "piecewise linear"),
    "selu": (module(nn.SELU()), "elu"),
}
SMOOTH: dict[str, Network] = {
    "tanh": module(nn.Tanh()),
    "elu": module(nn.ELU()),
    "squared relu": module(lambda z: functional.relu(z) ** 2),
    "safe logarithm": module(lambda z: torch.log(1 + z.clamp(max=30).exp())),
    "linear": ModuleNetwork(nn.Linear(1, 1).double()),
}


@pytest.mark.parametrize("name", KINKED)
def test_a_kinked_network_under_second_derivatives_is_refused_by_name(
    name: str,
) -> None:
    network, kink = KINKED[name]
    with pytest.raises(ValueError, match=f"'pde'.*order 2 of u.*with.* {kink}"):
        run(replace(scalar(), network=network), methods.load("fipa"), 1)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_network_with_continuous_slope_is_not_refused(name: str) -> None:
    check_smooth(replace(scalar(), network=SMOOTH[name]))


def test_squared_relu_is_refused_where_third_derivatives_are_read() -> None:
    (pde, *rest) = scalar().terms
    third = replace(pde, residual=lambda u, row: u.xxx - u.value)
    problem = replace(scalar(), terms=[third, *rest], network=SMOOTH["squared relu"])
    with pytest.raises(ValueError, match="order 3 of u.*relu"):
        check_smooth(problem)


def test_only_the_output_that_is_differentiated_twice_must_be_smooth() -> None:
    (pde, ends) = scalar().terms
    problem = Problem(
        "two",
        Parallel([MLP((1, 4, 1)), MLP((1, 4, 1), activation="relu")]),
        [
            replace(pde, residual=lambda w, row: w.u.xx * w.k.value + w.k.x),
            replace(ends, residual=lambda w, row: w.u.value - row.target),
        ],
        scalar().partition,
        outputs=("u", "k"),
    )
    check_smooth(problem)
    swapped = replace(problem, outputs=("k", "u"))
    with pytest.raises(ValueError, match="order 2 of u"):
        check_smooth(swapped)


def test_a_residual_that_differentiates_by_itself_is_looked_through() -> None:
    def own(u: object, row: object) -> Tensor:
        (slope,) = torch.autograd.grad(u.values.sum(), row.points, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), row.points, create_graph=True)
        return bend[:, 0] + 1

    (pde, *rest) = scalar().terms
    terms = [replace(pde, residual=own, autograd=True), *rest]
    with pytest.raises(ValueError, match="order 2 of u"):
        check_smooth(replace(scalar(), terms=terms, network=module(nn.ReLU())))


def test_relu_stays_for_regression() -> None:
    check_smooth(problems.load("schaffer"))
    check_smooth(problems.load("sine2", activation="relu"))
