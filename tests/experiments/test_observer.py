"""What the reader of a message learns: what is claimed of it."""

import pytest
import torch
from experiments import observer
from experiments._reading import Observed, fitted, guessed, linearised, own_model
from torch import Tensor

from fedsciml.problem import Problem


def found(problem: Problem, guesses: Tensor, clients: int = 1) -> float:
    """Share of the first clients' points that guesses are near to."""
    shards = problem.shards()[:clients]
    points = torch.cat([shard.rows[0].points for shard in shards])
    nearest = torch.cdist(points, guesses).min(1)[0]
    return float((nearest <= observer.NEAR).double().mean())


@pytest.mark.parametrize("word", ["default", "rows", "sums"])
def test_few_points_are_read_from_one_client_s_message_with_their_values(
    word: str,
) -> None:
    problem = observer.federation(5, 1)
    truth = problem.shards()[0].rows[0]
    points, values = guessed(observer.sent(problem, word, 1))
    distance, nearest = torch.cdist(truth.points, points).min(1)
    assert distance.max() < 1e-9  # measured 1e-11
    assert truth.target is not None
    wrong = values[nearest] - truth.target.flatten()
    assert wrong.abs().max() < 1e-9  # measured 1e-11


def test_a_coarse_sketch_of_many_rows_hides_points_but_not_the_field() -> None:
    entry = observer.measure(60, "1e-2", 0)
    assert entry["rank"] < 20
    assert entry["found"] <= 0.1
    assert entry["model"] < observer.NOISE  # better than a measured value


@pytest.mark.slow
def test_a_gramian_hides_less_than_rows_cut_at_what_matters() -> None:
    problem = observer.federation(60, 0)
    rows, sums = (observer.sent(problem, word, 0) for word in ("rows", "sums"))
    assert rows.sketch.rank < 50 < sums.sketch.rank == 60
    assert found(problem, guessed(sums)[0]) > 0.8  # measured 0.93


@pytest.mark.slow
def test_the_sum_over_small_sites_gives_their_points_where_no_row_space_does() -> None:
    problem = observer.federation(20, 0, 20)
    seen = observer.sent(problem, observer.ALIKE, 0)
    assert seen.sketch.rank <= seen.points == 80
    points, _ = fitted(seen)
    assert len(points) <= 80
    # Measured 0.78, and 0.31 in a basis of two directions more.
    assert found(problem, points, 4) > 10 * observer.chance(80)


@pytest.mark.slow
def test_the_sum_of_all_steps_to_the_model_of_all_and_not_of_one() -> None:
    problem = observer.federation(5, 0)
    everyone, one = (observer.sent(problem, word, 0) for word in ("all", "sums"))
    shards = problem.shards()
    x = torch.cat([shard.rows[0].points for shard in shards])
    y = torch.cat([t for s in shards if (t := s.rows[0].target) is not None])
    assert everyone.basis is not None
    rows, u = linearised(everyone.theta, x)
    rows = everyone.basis.restricted(rows)
    best = rows @ torch.linalg.lstsq(rows, y - u, driver="gelsd").solution

    def loss(values: Tensor) -> float:
        return float((values - y).square().sum())

    whole = loss(own_model(everyone, x))
    assert abs(whole / loss(u + best) - 1) < 1e-6

    def missed(seen: Observed) -> float:
        return float((own_model(seen, x[:5]) - y[:5]).abs().max())

    assert missed(one) < 1e-9
    assert missed(everyone) > 0.03  # the noise of five values is not in the model
