"""Experiment ``paths``: the paths are compared on the same numbers."""

import pytest
from experiments.paths import ROWS, burgers, pointwise
from experiments.paths import lines as paths
from reference import relative
from torch import Generator, float64

from fedsciml.network import MLP
from fedsciml.residual import System, TaylorBlock


def test_every_path_is_checked_and_timed() -> None:
    lines = paths(repeats=1, rows=2)
    assert len({line["way"] for line in lines}) == 6
    assert lines[0]["ratio"] == 1
    assert all(line["difference"] < 1e-12 for line in lines)
    assert [line["rows_timed"] for line in lines] == [ROWS] * 4 + [2] * 2


def test_the_script_s_own_pde_is_what_is_timed() -> None:
    problem, _ = burgers()
    system = System(problem, problem.pooled())
    assert all(isinstance(block, TaylorBlock) for block in system.blocks)
    assert isinstance(problem.network, MLP)
    theta = problem.network.init(Generator(), float64)
    expected = pointwise(problem.network, system.shard.rows[0].points)(theta)
    assert relative(system.linearise(theta).jacobian(), expected) < 1e-13


def test_paths_that_disagree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.paths.on_jets", lambda u, row: u.t + u.value * u.x)
    with pytest.raises(RuntimeError, match="differs from"):
        paths(repeats=1, rows=2)
