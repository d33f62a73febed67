"""Experiment ``deepxde`` and the DeepXDE scripts that it trains."""

import json
from math import inf

import numpy as np
import pytest
import torch
from experiments import _examples
from experiments import deepxde as experiment
from experiments._record import Entry
from experiments._yardstick import as_a_script

from fedsciml import deepxde
from fedsciml.residual import System


def entry(method: str, clients: int, errors: list[float], **more: object) -> Entry:
    """A run of one example that takes a second a round."""
    rounds = list(range(1, len(errors) + 1))
    found = {"example": "heat", "method": method, "clients": clients, "seed": 0}
    found["error"] = errors
    return {**found, "round": rounds, "seconds": [float(k) for k in rounds], **more}


@pytest.mark.parametrize("name", _examples.names())
def test_an_example_is_a_script_of_deepxde_alone_that_is_understood(name: str) -> None:
    assert "fedsciml" not in (_examples.SCRIPTS / f"{name}.py").read_text()
    with as_a_script(0):
        example = _examples.load(name)
        model = deepxde.deepxde().Model(example.data, example.net)
        model.compile("adam", lr=1e-3, loss_weights=example.weights)
        model.train(iterations=0, verbose=0)
        theirs = float(sum(model.train_state.loss_train))
        problem = deepxde.problem(
            example.data,
            example.net,
            example.weights,
            external_trainable_variables=example.variables,
            clients=4,
        )
    parties = [System(problem, shard) for shard in problem.shards()]
    start = problem.network.init(torch.Generator(), torch.float64)
    # Rounding of derivatives: the largest relative difference seen is 1e-13.
    assert 2 * sum(p.loss(start) for p in parties) == pytest.approx(theirs, rel=1e-11)
    points, values = example.test
    assert values.shape == (len(points), len(problem.outputs))


def test_burgers_solution_solves_the_equation_to_the_order_of_differences() -> None:
    with as_a_script(0):
        example = _examples.load("burgers")
    at, h = np.array([[0.3, 0.2], [-0.6, 0.25], [0.1, 0.9]]), 1e-3

    def u(dx: float, dt: float) -> np.ndarray:
        return example.data.soln(at + h * np.array([dx, dt]))

    u_t, u_x = (u(0, 1) - u(0, -1)) / (2 * h), (u(1, 0) - u(-1, 0)) / (2 * h)
    u_xx = (u(1, 0) - 2 * u(0, 0) + u(-1, 0)) / h**2
    # h^2 / 6 times third derivatives of at most 60.
    assert np.abs(u_t + u(0, 0) * u_x - 0.01 / np.pi * u_xx).max() < 1e-5


def test_training_starts_from_the_same_weights() -> None:
    with as_a_script(0):
        first, second = (_examples.load("poisson_robin") for _ in range(2))
    assert first.errors() != second.errors()  # the seed goes on, as in a script
    with as_a_script(0):
        again = _examples.load("poisson_robin")
    assert again.errors() == first.errors()


def test_a_run_tells_errors_of_outputs_and_unknowns() -> None:
    found = experiment.measure("diffusion_inverse", "fipa", 2, 0, 2, inf)
    assert found["round"] == [1, 2]
    assert all(len(found[axis]) == 2 for axis in ("error", "unknown", "seconds"))
    assert found["unknown"][0] < 2
    assert json.loads(json.dumps(found)) == found


def test_deepxde_trains_network_and_unknowns() -> None:
    adam = _examples.ADAM._replace(block=5, blocks=1)
    stages = (adam, _examples.LBFGS._replace(block=5, blocks=2))
    history = _examples.by_deepxde("diffusion_inverse", 0, inf, stages)
    assert [line["optimiser"] for line in history] == ["adam", "L-BFGS", "L-BFGS"]
    assert len({line["unknown"] for line in history}) == 3
    assert len({line["error"] for line in history}) == 3


def test_deepxde_counts_as_if_stopped_at_its_lowest_error() -> None:
    entries = [
        entry("deepxde", 1, [1.0, 0.2, 0.3], unknown=[0.1, 0.5, 0.6]),
        entry("gauss_newton", 1, [0.5, 0.1], unknown=[0.3, 0.2]),
        entry("fipa", 2, [0.3, 0.4], unknown=[0.3, 0.2]),
        entry("fipa", 4, [0.2, 0.2], unknown=[0.3, 0.2]),
    ]
    errors, unknowns = experiment.tables(entries)
    (row,) = errors.rows
    ours = [0.1, "2", "2", 0.4, "1", None, 0.2, "1", "1"]
    assert row == ["heat", 1, 0.2, "2", *ours]
    assert unknowns.rows == [["heat", 0.1, 0.2, 0.2, 0.2]]
    assert experiment.tables(entries[1:])[0].rows == []


def test_errors_and_seconds_of_an_example_are_medians_of_its_starts() -> None:
    setting = (("deepxde", 1), ("gauss_newton", 1), ("fipa", 2), ("fipa", 4))
    entries = [
        entry(method, clients, [1.0, error], seed=seed)
        for method, clients in setting
        for seed, error in enumerate((0.1, 0.2, 0.4))
    ]
    ((name, starts, error, seconds, *_),) = experiment.tables(entries)[0].rows
    assert (name, starts, error, seconds) == ("heat", 3, 0.2, "2")
