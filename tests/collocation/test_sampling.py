"""Points drawn in boxes and in geometries."""

import numpy as np
import pytest
import torch
from torch import Generator

from fedsciml.collocation import boundary, face, interior, uniform


def test_face_points_lie_on_the_face() -> None:
    points = face(50, [0, 1, 2], [1, 3, 5], 1, 1, Generator().manual_seed(0))
    assert bool((points[:, 1] == 3).all())
    assert 2 <= float(points[:, 2].min()) <= float(points[:, 2].max()) <= 5
    assert face(3, [0], [1], 0, 1, Generator()).tolist() == [[1.0]] * 3


class Rod:
    """Like a DeepXDE geometry: float32 points from numpy's global generator."""

    def random_points(self, n: int) -> np.ndarray:
        """Inside (0, 0.1)."""
        return (0.1 * np.random.random((n, 1))).astype(np.float32)

    def random_boundary_points(self, n: int) -> np.ndarray:
        """Either end."""
        return np.random.choice([0, 0.1], n)[:, None].astype(np.float32)


def test_geometry_points_depend_on_the_seed_alone_and_leave_numpy_alone() -> None:
    before = np.random.get_state()[1].copy()
    first = interior(Rod(), 20, seed=3)
    assert np.array_equal(before, np.random.get_state()[1])
    assert first.dtype == torch.float64
    assert torch.equal(first, interior(Rod(), 20, seed=3))
    assert not torch.equal(first, interior(Rod(), 20, seed=4))


def test_single_precision_boundary_points_land_on_the_boundary() -> None:
    ends = boundary(Rod(), 20, seed=0)
    assert set(ends.flatten().tolist()) == {0.0, 0.1}


def test_geometry_that_returns_another_number_of_points_is_refused() -> None:
    class Short(Rod):
        def random_points(self, n: int) -> np.ndarray:
            """One too few."""
            return super().random_points(n - 1)

    with pytest.raises(ValueError, match=r"shape \(4, 1\) when asked for 5"):
        interior(Short(), 5, seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(-1, [0], [1], Generator()), "Cannot draw -1"),
        (lambda: uniform(2, [0, 1], [1], Generator()), "lower < upper"),
        (lambda: face(2, [0], [1], 1, 0, Generator()), "has faces"),
        (lambda: face(2, [0], [1], 0, 2, Generator()), "side 2"),
    ],
)
def test_impossible_argument_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
