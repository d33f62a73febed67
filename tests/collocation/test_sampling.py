"""Points drawn in boxes and in geometries."""

import numpy as np
import pytest
import torch
from torch import Generator

from fedsciml.collocation import (
    boundary,
    face,
    in_box,
    interior,
    on_faces,
    on_polygon,
    uniform,
)


def test_face_points_lie_on_the_face() -> None:
    points = face(50, [0, 1, 2], [1, 3, 5], 1, 1, Generator().manual_seed(0))
    assert bool((points[:, 1] == 3).all())
    assert 2 <= float(points[:, 2].min()) <= float(points[:, 2].max()) <= 5
    assert face(3, [0], [1], 0, 1, Generator()).tolist() == [[1.0]] * 3


def test_a_shape_in_a_box_has_as_many_points_as_asked() -> None:
    sample = in_box([-1, -1], [1, 1], lambda points: points.norm(dim=1) < 0.1)
    for n in (1, 7, 1000):
        points = sample(n, Generator().manual_seed(n))
        assert points.shape == (n, 2)
        assert float(points.norm(dim=1).max()) < 0.1
    # The mean of |x|^2 over a disk is r^2 / 2; its standard deviation r^2 / sqrt(12 n).
    assert float((points**2).sum(1).mean()) == pytest.approx(0.005, abs=0.0005)


def test_faces_share_points_evenly_and_each_is_covered() -> None:
    lower, upper = [0.0, 1.0, 2.0], [1.0, 3.0, 5.0]
    points = on_faces(lower, upper)(601, Generator().manual_seed(0))
    counts = []
    for axis in range(3):
        for bound in (lower[axis], upper[axis]):
            on = points[points[:, axis] == bound]
            counts.append(len(on))
            for other in {0, 1, 2} - {axis}:
                unit = (on[:, other] - lower[other]) / (upper[other] - lower[other])
                # Standard deviation 0.029.
                assert float(unit.mean()) == pytest.approx(0.5, abs=0.1)
    assert sorted(counts) == [100] * 5 + [101]


def test_a_face_named_twice_has_twice_as_many_points() -> None:
    sample = on_faces([0], [1], [(0, 0), (0, 1), (0, 1)])
    assert sample(30, Generator()).sum() == 20
    firsts = {
        float(sample(1, Generator().manual_seed(seed))) for seed in range(20)
    }  # a single point is on any of them
    assert firsts == {0.0, 1.0}


def test_points_on_a_polygon_are_spread_by_length() -> None:
    sides = on_polygon([(0, 0), (3, 0), (3, 4)])(12_000, Generator().manual_seed(0))
    x, y = sides.T
    on = {3: y == 0, 4: x == 3, 5: (y - 4 * x / 3).abs() < 1e-14}
    assert bool(torch.stack([*on.values()]).any(0).all())
    for length, those in on.items():  # standard deviation at most 55
        assert int(those.sum()) == pytest.approx(1000 * length, abs=220)
    assert float(y[on[4]].mean()) == pytest.approx(2, abs=0.1)


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
        (lambda: in_box([0], [0]), "lower < upper"),
        (
            lambda: in_box([0], [1], lambda x: x[:, 0] > 2)(1, Generator()),
            "only 0 are inside; 1 are needed",
        ),
        (lambda: on_faces([0], [1], [(1, 0)]), r"got \[\(1, 0\)\]"),
        (lambda: on_faces([0], [1], []), "Name at least one"),
        (lambda: on_polygon([(0, 0), (1, 1)]), "at least three vertices"),
        (lambda: on_polygon([(0, 0), (0, 0), (1, 1)]), "must differ"),
    ],
)
def test_impossible_argument_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
