"""Experiment ``classification``: what it keeps, searches and counts."""

from math import inf

import pytest
import torch
from experiments import classification
from experiments._classes import (
    FREE,
    SEARCHED,
    first,
    load,
    measure,
    overlapping,
    ranked,
    score,
    search,
    sgd,
    tuned,
)
from experiments._classes_tables import gains, middle
from experiments._record import Entry
from torch import Generator

from fedsciml import methods, problems, run
from fedsciml.residual import System


def entry(options: dict[str, object], seed: int, accuracy: list[float]) -> Entry:
    """A run of FedAvg on digits."""
    of = {"problem": "digits", "alpha": 0.1, "method": "fedavg", "rounds": 40}
    rest = {"accuracy": accuracy, "up": [1.0, 2.0, 3.0], "seconds": [0.1, 0.2, 0.3]}
    return {**of, "options": options, "seed": seed, **rest}


def test_an_entry_is_the_accuracy_uploads_and_seconds_of_its_run() -> None:
    options = sgd(1.0, 1)
    found = measure("digits", 0.1, "fedavg", options, 1, 2)
    problem = load("digits", 0.1, 1)
    assert (problem.parameters["fold"], problem.parameters["seed"]) == (1, 1)
    history = run(problem, methods.load("fedavg", **options), 2, 1).history
    expected = [line.metrics["accuracy"] for line in history]
    assert found["accuracy"] == pytest.approx(expected, rel=1e-3)
    assert found["up"] == pytest.approx([1, 2], rel=0.01)  # and the loss, a number
    assert found["seconds"][0] < found["seconds"][1]


def test_a_warm_up_goes_on_where_it_ended() -> None:
    options = sgd(1.0, 2)
    whole = measure("digits", 0.1, "fedavg", options, 0, 4)
    warm = {"warm_up": ["fedavg", options, 2], "trained": "all"}
    parts = measure("digits", 0.1, "fedavg", {**options, **warm}, 0, 4)
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["up"] == pytest.approx(whole["up"], rel=1e-3)
    warm["trained"] = "classifier"
    last = measure("digits", 0.1, "fedavg", {**options, **warm}, 0, 3)
    sent = (32 * 10 + 10) / 2410
    assert last["up"][2] - last["up"][1] == pytest.approx(sent, rel=0.01)


def test_the_overlap_is_that_of_the_singular_vectors_of_the_jacobians() -> None:
    problem = problems.load("digits", clients=2, alpha=1.0, size=60)
    theta = problem.network.init(Generator().manual_seed(0))
    jacobians = [
        System(problem, shard).linearise(theta).jacobian() for shard in problem.shards()
    ]
    one, two = (torch.linalg.svd(j, full_matrices=False)[2][:5] for j in jacobians)
    cosines = torch.linalg.svdvals(one @ two.mT)
    expected = float(cosines.square().mean())
    assert overlapping(problem, theta, 5) == pytest.approx(expected, rel=1e-9)


def test_the_search_prefers_the_first_at_the_target_and_waits_for_all() -> None:
    slow, fast, never = [0.9, 0.9, 0.98], [0.9, 0.985, 0.98], [0.9, 0.97, 0.96]
    assert first(entry({}, 0, slow), 0.98) == 3
    assert first(entry({}, 0, fast), 0.98, "up") == 2.0
    assert first(entry({}, 0, never), 0.98) == inf
    assert score(entry({}, 0, never)) == pytest.approx(50)
    others = FREE["fedavg"][2:]
    entries = [entry(o, seed, never) for o in others for seed in SEARCHED]
    entries += [entry(FREE["fedavg"][0], seed, slow) for seed in SEARCHED]
    assert ranked(entries, "fedavg") == []
    assert not any(case[2] == "fedprox" for case in search(entries))
    entries += [entry(FREE["fedavg"][1], seed, fast) for seed in SEARCHED]
    assert ranked(entries, "fedavg")[:2] == [FREE["fedavg"][1], FREE["fedavg"][0]]
    assert any(case[2] == "fedprox" for case in search(entries))
    assert tuned(entries, "digits", 0.1, "fedavg")[0]["options"] == FREE["fedavg"][1]


def test_a_median_counts_the_starts_that_never_get_there() -> None:
    assert middle([3.0, 5.0, inf]) == "5 (2 of 3)"
    assert middle([3.0, inf, inf]) == "never (1 of 3)"


def test_no_run_is_made_twice_and_the_record_has_the_first_ones() -> None:
    cases = classification.cases([])
    keys = [str(case) for case in cases]
    assert len(set(keys)) == len(keys)
    assert gains([], 0.1) == []
