"""Networks in their own units: what changes and what must not."""

import pytest
import torch
from cases import draw
from reference import NaiveJet, relative
from torch import Tensor

from fedsciml import MLP, Parallel, Problem, Term, methods, run
from fedsciml.collocation import strips
from fedsciml.network import standard, sums
from fedsciml.network.jet import Jet, channel, layout
from fedsciml.problem import Row
from fedsciml.residual import AutogradBlock, System

LOWER, UPPER = (-1e6, 300.0), (3e6, 400.0)
SCALED = {
    "inputs": MLP((2, 5, 2), inputs=(LOWER, UPPER)),
    "both": MLP((2, 5, 2), inputs=(LOWER, UPPER), outputs=([350.0, 0.0], [50.0, 1e10])),
    "both, constrained": MLP(
        (2, 5, 2),
        inputs=(LOWER, UPPER),
        outputs=(350.0, 50.0),
        lift=lambda x: x[:, 0].sin(),
        distance=lambda x: x * 1e-6,
    ),
}


def points() -> Tensor:
    lower, upper = torch.tensor([LOWER, UPPER], dtype=torch.float64)
    return lower + (upper - lower) * (draw(7, 2) % 1)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("wanted", ["value", "x", "yy", "xy", "xxy", "xxxx"])
def test_jets_of_a_scaled_network_are_nested_derivatives(
    name: str, wanted: str
) -> None:
    network, x = SCALED[name], points()
    theta = network.init(torch.Generator().manual_seed(0))
    top = layout([channel(wanted, "xy")])
    jets = network.forward(theta, network.prepared(x, top), top).output
    constrained = network.constrain(x, top)
    jets = constrained.apply(jets) if constrained else jets
    naive = NaiveJet(
        lambda p: network(theta, p.unsqueeze(0)).squeeze(0), x, "xy", ("u", "v")
    )
    expected = [getattr(naive.u, wanted), getattr(naive.v, wanted)]
    found = jets[top.channels.index(channel(wanted, "xy"))]
    assert relative(found, torch.stack(expected, 1)) < 1e-12  # measured 2e-14


def test_jacobian_of_scaled_networks_is_that_of_torch_autograd() -> None:
    network = Parallel([SCALED["inputs"], SCALED["both, constrained"]], {"nu": 0.3})

    def residual(w: Jet, row: Row) -> Tensor:
        return 1e6 * w.a.xy + w.c.y * w.nu + w.d.value * w.b.x

    term = Term("pde", residual, points())
    problem = Problem(
        "p", network, [term], strips([-1e6, 3e6]), "xy", ("a", "b", "c", "d")
    )
    theta = network.init(torch.Generator().manual_seed(0))
    rows = problem.pooled().rows[0]
    expected = AutogradBlock(problem, rows).linearise(theta)
    found = System(problem, problem.pooled()).linearise(theta)
    dense = torch.empty_like(found.jacobian())
    expected.jacobian(dense)
    assert relative(found.residual, expected.residual) < 1e-13
    assert relative(found.jacobian(), dense) < 1e-13


def trained(length: float, size: float, method: str) -> str:
    """theta's hash for u'' = -1 on [0, 1], in other units of x and u."""
    x = length * (draw(40, 1) % 1)
    ends = torch.tensor([[0.0], [length]], dtype=torch.float64)
    problem = Problem(
        "units",
        MLP((1, 8, 8, 1), inputs=([0.0], [length]), outputs=(size, 2 * size)),
        [
            Term("pde", lambda u, row: u.xx * length**2 / size + 1, x),
            Term("ends", lambda u, row: u.value / size - row.target, ends, 0.0),
        ],
        strips([0, length / 2, length]),
    )
    return run(problem, methods.load(method), 4).theta_sha256()


@pytest.mark.parametrize("method", ["fipa", "gradient_only"])
def test_a_power_of_two_in_a_unit_changes_no_digit(method: str) -> None:
    expected = trained(1.0, 1.0, method)
    assert trained(2.0**20, 2.0**-33, method) == expected
    assert trained(2.0**-30, 2.0**33, method) == expected


def test_units_of_all_sites_are_mean_and_deviation_of_the_pooled_values() -> None:
    values = 350 + 20 * draw(90, 2)
    told = [sums(part, 273.15) for part in values.split([50, 0, 40])]
    shift, scale = standard(told, 273.15)
    torch.testing.assert_close(torch.tensor(shift).double(), values.mean(0))
    deviation = values.std(0, correction=0)
    torch.testing.assert_close(torch.tensor(scale).double(), deviation)


def test_values_that_do_not_differ_have_units_all_the_same() -> None:
    assert standard([sums(torch.full((9,), 300.5))]) == ([300.5], [300.5])
    assert standard([sums(torch.zeros(3))]) == ([0.0], [1.0])
    with pytest.raises(ValueError, match="0 values"):
        standard([sums(torch.zeros(0, 2))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inputs": ([0.0], [1.0])}, r"2 coordinates.*lower < upper; got"),
        ({"inputs": ([0.0, 1.0], [1.0, 1.0])}, "lower < upper"),
        ({"outputs": (0.0, 0.0)}, "every scale above 0"),
        ({"outputs": ([1.0, 2.0], 1.0)}, "1 of them"),
        ({"inputs": ([0, 0], [1, 1]), "features": torch.sin}, "leave inputs out"),
    ],
)
def test_units_that_fit_no_network_are_refused(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        MLP((2, 4, 1), **options)  # type: ignore[arg-type]
