"""What the receiver of a sketch learns: what is claimed of it."""

import torch
from experiments import observer


def test_the_points_of_a_whole_sketch_are_read_with_their_values() -> None:
    problem = observer.federation(5, 1)
    truth = problem.shards()[0].rows[0]
    seen = observer.sent(problem, "default", 1)
    points, values = observer.guessed(seen)
    distance, nearest = torch.cdist(truth.points, points).min(1)
    assert distance.max() < 1e-9
    assert truth.target is not None
    wrong = values[nearest] - truth.target.flatten()
    assert wrong.abs().max() < 1e-9


def test_a_coarse_sketch_of_many_rows_hides_points_but_not_the_field() -> None:
    entry = observer.measure(60, "1e-2", 0)
    assert entry["rank"] < 20
    assert entry["found"] <= 0.1
    assert entry["model"] < observer.NOISE  # better than a measured value
