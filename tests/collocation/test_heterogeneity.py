"""How differently the clients' points are distributed."""

import pytest
import torch
from cases import draw
from scipy.stats import wasserstein_distance_nd

from fedsciml.collocation import heterogeneity, pieces


def test_more_pieces_make_the_clients_more_alike() -> None:
    points = draw(2000, 1)
    distances = []
    for piece in (1, 2, 4, 16):
        owner = pieces([0], [1], piece, 2).owner(points)
        distances.append(heterogeneity([points[owner == m] for m in range(2)]))
    assert distances == sorted(distances, reverse=True)
    # Halves of a uniform distribution: every point moves by 1/2.
    assert distances[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_heterogeneity_is_the_mean_shift_over_pairs(d: int) -> None:
    points = draw(50, d)
    shift = torch.tensor([0.3, 0.1, -0.2], dtype=torch.float64)[:d]
    shifted = [points, points + shift, points + 2 * shift]
    # Pairs are 1, 1 and 2 shifts apart.
    assert heterogeneity(shifted) == pytest.approx(4 / 3 * float(shift.norm()))
    assert heterogeneity([points]) == 0
    assert heterogeneity([points, points.flip(0)]) == pytest.approx(0, abs=1e-15)


def test_heterogeneity_of_few_points_is_scipy_s_distance_in_many_dimensions() -> None:
    a, b = draw(12, 2), draw(12, 2, 1)
    expected = wasserstein_distance_nd(a.numpy(), b.numpy())
    assert heterogeneity([a, b]) == pytest.approx(expected, rel=1e-9)


def test_heterogeneity_sees_blocks_that_differ_in_no_coordinate_alone() -> None:
    points = draw(4000, 2)
    distances = []
    for piece in (1, 3, 9):
        owner = pieces([0, 0], [1, 1], piece, 2).owner(points)
        distances.append(heterogeneity([points[owner == m] for m in range(2)]))
    assert distances == sorted(distances, reverse=True)
    # Blocks of side 1/2, each between two of the other client's. Measured 0.328; the
    # distance along one axis would be below 0.03, and halves at random are 0.056 apart.
    assert 0.3 < distances[0] < 0.35
    assert heterogeneity([points[::2], points[1::2]]) < 0.07


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heterogeneity([draw(3, 1), draw(0, 1)]), "at least one point"),
        (lambda: heterogeneity([draw(3, 1), draw(3, 2)]), "same d"),
    ],
)
def test_impossible_argument_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
