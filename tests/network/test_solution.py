"""A trained network as a torch module of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import CASES, draw, theta

from fedsciml import MLP
from fedsciml.network import Solution
from fedsciml.problem import Problem


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_the_module_is_the_solution_and_its_derivatives(
    make: Callable[[], Problem],
) -> None:
    problem = make()
    at, d = theta(problem), len(problem.coordinates)
    module = Solution(problem.network, at)
    x = draw(5, d, 3).requires_grad_()
    values, u = module(x), problem.solution(at, x)
    names = problem.outputs if len(problem.outputs) > 1 else [None]
    for column, name in enumerate(names):
        jet = u if name is None else getattr(u, name)
        assert torch.equal(values[:, column], jet.value)
        (slope,) = torch.autograd.grad(values[:, column].sum(), x, retain_graph=True)
        first = getattr(jet, problem.coordinates[0])
        assert torch.allclose(slope[:, 0], first, 1e-13, 1e-14)
    (bar,) = torch.autograd.grad(values.sum(), module.theta)
    assert bar.shape == at.shape
    assert float(bar.abs().sum()) > 0


@pytest.mark.parametrize("name", ["hard", "inverse", "transformed", "module"])
def test_the_module_is_like_any_other(name: str) -> None:
    problem = CASES[name]()
    at, x = theta(problem), draw(4, len(problem.coordinates))
    module = Solution(problem.network, at)
    values = module(x)
    assert [p.shape for p in module.parameters()] == [at.shape]
    other = Solution(problem.network, torch.zeros_like(at))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.eval()(x), values)
    single = other.to(torch.float32)(x)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), values, 1e-4, 1e-5)
    with torch.no_grad():
        module.theta += 1
    assert torch.equal(at, theta(problem))  # a copy


PROGRAM = """
import sys
sys.modules["fedsciml"] = None  # as if it were not installed
import torch
n = torch.load(sys.argv[2])
u = torch.export.load(sys.argv[1]).module()
torch.save(u(n), sys.argv[3])
"""


@pytest.mark.slow  # torch.export takes seconds to be imported, twice
def test_an_exported_solution_needs_torch_alone(tmp_path: Path) -> None:
    network = MLP(
        (2, 5, 4, 1),
        inputs=([0.0, 280.0], [0.1, 320.0]),
        outputs=(300.0, 5.0),
        lift=lambda x: x[:, 1],
        distance=lambda x: x[:, 0] * (0.1 - x[:, 0]),
    )
    at = network.init(torch.Generator().manual_seed(0))
    module, n = Solution(network, at), torch.export.Dim("n")
    program = torch.export.export(module, (draw(5, 2),), dynamic_shapes=({0: n},))
    torch.export.save(program, tmp_path / "u.pt2")
    points = torch.tensor([0.1, 320.0]) * draw(7, 2)
    torch.save(points, tmp_path / "points.pt")
    files = [str(tmp_path / name) for name in ("u.pt2", "points.pt", "values.pt")]
    subprocess.run([sys.executable, "-c", PROGRAM, *files], check=True)
    values = torch.load(tmp_path / "values.pt")
    assert torch.allclose(values, module(points), 1e-14)
