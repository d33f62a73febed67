"""The yardstick: DeepXDE trains our problems, not its own."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from cases import theta
from experiments import _yardstick as yardstick
from experiments._yardstick import ADAM, LBFGS, NNCG, Line, Stage, as_a_script, history

from fedsciml import problems
from fedsciml.command.suite import SUITE
from fedsciml.deepxde import deepxde
from fedsciml.problem import Problem
from fedsciml.residual import System

STAGES = (ADAM._replace(blocks=2), LBFGS._replace(blocks=2), NNCG._replace(blocks=2))


def small(name: str) -> Problem:
    return problems.load(name, points=20 if name == "heat_inverse" else 0.02)


def weights(problem: Problem) -> list[float]:
    return [term.weight for term in problem.terms]


def without_seconds(lines: list[Line]) -> list[Line]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """A short training by all optimisers."""
    return history(small("allen_cahn"), 0, math.inf, STAGES)


OTHERS = ("kovasznay", "heat_inverse", "poisson_ring", "wave", "euler_beam", "kdv")


@pytest.mark.parametrize("name", [*SUITE, *OTHERS])
def test_deepxde_s_loss_is_twice_ours(name: str) -> None:
    problem = small(name)
    system = System(problem, problem.pooled())
    start = problem.network.init(torch.Generator().manual_seed(3), torch.float64)
    for at in (start, theta(problem)):
        with as_a_script(0):
            made = yardstick.model(problem, at)
            yardstick.prepare(made, weights(problem), ADAM)
            made.train(iterations=0, verbose=0)
        assert made.train_state.loss_train.sum() == pytest.approx(
            2 * system.loss(at), rel=1e-12
        )


@pytest.mark.parametrize("name", SUITE)
def test_deepxde_trains_on_the_same_points_and_targets(name: str) -> None:
    problem = small(name)
    first, *boundary = problem.pooled().rows
    with as_a_script(0):
        data = yardstick.data(problem)
    points = np.concatenate([rows.points for rows in (*boundary, first)])
    assert data.train_x.dtype == np.float64
    assert np.array_equal(data.train_x, points)
    known = data.train_aux_vars if boundary else data.train_y
    assert np.array_equal(known[-len(first.points) :, 0], first.target)
    for rows, given in zip(boundary, data.bcs if boundary else (), strict=True):
        assert np.array_equal(given.points, rows.points)
        assert torch.equal(given.values[:, 0], rows.target)


@pytest.mark.parametrize("name", ["sine2", "poisson3d"])
def test_the_network_is_the_same_function_of_the_same_parameters(name: str) -> None:
    problem = small(name)
    at, points = theta(problem), problem.test_points
    with as_a_script(0):
        made = yardstick.model(problem, at)
        values = made.net(points).detach()
    assert torch.equal(yardstick.parameters(made), at)
    gap = values - problem.network(at, points)
    assert float(gap.abs().max()) < 1e-14


def test_training_leaves_the_start_as_it_was() -> None:
    problem = small("sine2")
    at = theta(problem)
    before = at.clone()
    with as_a_script(0):
        made = yardstick.model(problem, at)
        yardstick.prepare(made, weights(problem), ADAM)
        yardstick.advance(made, ADAM._replace(block=3))
    assert torch.equal(at, before)
    assert not torch.equal(yardstick.parameters(made), before)


def test_every_optimiser_lowers_the_loss(lines: list[Line]) -> None:
    problem = small("allen_cahn")
    start = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
    losses = [System(problem, problem.pooled()).loss(start)]
    losses += [line["loss"] for line in lines]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-4 * losses[0]


def test_lines_hold_running_totals(lines: list[Line]) -> None:
    assert [line["round"] for line in lines] == [1, 2, 3, 4, 5, 6]
    names = [stage.optimiser for stage in STAGES for _ in range(2)]
    assert [line["optimiser"] for line in lines] == names
    totals = [line["iterations"] for line in lines]
    made = [after - before for before, after in pairwise([0, *totals])]
    assert made[:2] == [100, 100]
    # L-BFGS makes fewer iterations where its line searches take more evaluations.
    assert all(80 < m <= 100 for m in made[2:4])
    assert made[4:] == [1, 1]
    seconds = [0.0, *(line["seconds"] for line in lines)]
    assert all(after > before for before, after in pairwise(seconds))


def test_the_same_seed_gives_the_same_history(lines: list[Line]) -> None:
    torch.rand(1)
    again = history(small("allen_cahn"), 0, math.inf, STAGES)
    assert without_seconds(again) == without_seconds(lines)


@pytest.mark.parametrize("stage", [ADAM, LBFGS], ids=["adam", "L-BFGS"])
def test_blocks_go_on_where_the_last_one_ended(stage: Stage) -> None:
    def loss(block: int, blocks: int) -> float:
        stages = (stage._replace(block=block, blocks=blocks),)
        return history(small("sine2"), 0, math.inf, stages)[-1]["loss"]

    assert loss(20, 3) == loss(60, 1)


def test_no_block_begins_when_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Stage] = []
    monkeypatch.setattr(
        yardstick, "history", lambda problem, seed, budget, stages: asked.extend(stages)
    )
    yardstick.trained("sine2", 0, 1.0)
    assert history(small("sine2"), 0, 0.0, asked) == []
    assert len(history(small("sine2"), 0, 1e-9, asked)) == 1
    assert [stage.optimiser for stage in asked] == ["adam", "L-BFGS"]
    asked.clear()
    yardstick.trained("sine2", 0, 1.0, nncg=True)
    assert [stage.optimiser for stage in asked] == ["adam", "L-BFGS", "NNCG"]
    shares = [stage.share for stage in asked]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1


def test_training_is_silent_and_puts_all_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dde = deepxde()
    capsys.readouterr()
    dtype, random = torch.get_default_dtype(), torch.get_rng_state()
    precision = dde.config.default_float()
    history(small("sine2"), 0, math.inf, (NNCG._replace(blocks=1),))
    assert torch.get_default_dtype() == dtype
    assert dde.config.default_float() == precision
    assert torch.equal(torch.get_rng_state(), random)
    assert capsys.readouterr() == ("", "")


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(FloatingPointError, match="last by adam, the loss is"):
        history(small("sine2"), 0, math.inf, (ADAM._replace(rate=1e300),))


def test_an_optimiser_that_cannot_go_on_leaves_the_rest_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def advance(made: object, stage: Stage) -> int:
        if stage == LBFGS:
            raise torch.linalg.LinAlgError("not positive-definite")
        return real(made, stage)

    real = yardstick.advance
    monkeypatch.setattr(yardstick, "advance", advance)
    adam = ADAM._replace(block=1, blocks=1)
    lines = history(small("sine2"), 0, math.inf, (adam, LBFGS, adam))
    assert [line["optimiser"] for line in lines] == ["adam", "adam"]


def test_unknown_numbers_are_trained_and_told() -> None:
    (first, *_, last) = history(small("heat_inverse"), 0, math.inf, STAGES[:2])
    assert set(last["errors"]) == {"u", "nu"}
    assert last["errors"]["nu"] != first["errors"]["nu"]
    assert last["loss"] < first["loss"]
