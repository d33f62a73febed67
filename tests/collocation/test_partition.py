"""Partitions: every point has one owner, and the right one."""

import math

import pytest
import torch
from cases import draw
from hypothesis import given
from hypothesis import strategies as st

from fedsciml.collocation import Partition, boxes, explicit, pieces, sectors, strips
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term

inner = st.lists(
    st.floats(0.01, 0.99, allow_subnormal=False), max_size=5, unique=True
).map(lambda edges: [0.0, *sorted(edges), 1.0])

partitions = st.one_of(
    inner.map(strips),
    st.builds(strips, inner, st.just(1)),
    st.tuples(inner, inner).map(boxes),
    st.builds(
        pieces, st.just([0, 0]), st.just([1, 1]), st.integers(2, 6), st.integers(1, 5)
    ),
    st.builds(
        pieces,
        st.just([0, 0]),
        st.just([1, 1]),
        st.integers(1, 4),
        st.integers(1, 5),
        st.integers(0, 1),
    ),
)


@given(partitions, st.integers(0, 99))
def test_every_point_has_exactly_one_owner(partition: Partition, seed: int) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 2)
    points = torch.cat([draw(40, 2, seed), corners])
    owner = partition.owner(points)
    assert owner.dtype == torch.long
    assert owner.shape == (44,)
    assert 0 <= int(owner.min()) <= int(owner.max()) < partition.clients


@given(partitions, st.integers(0, 99))
def test_shards_hold_all_points_once(partition: Partition, seed: int) -> None:
    points = draw(200, 2, seed)
    term = Term("t", lambda u, row: u.value, points)
    if len(partition.owner(points).unique()) < partition.clients:
        with pytest.raises(ValueError, match="without any point"):
            Problem("p", MLP((2, 3, 1)), [term], partition, coordinates="xy")
        return
    problem = Problem("p", MLP((2, 3, 1)), [term], partition, coordinates="xy")
    shards = problem.shards()
    held = torch.cat([s.rows[0].points for s in shards])
    assert sorted(held.tolist()) == sorted(points.tolist())
    assert sum(s.share for s in shards) == pytest.approx(1)


@given(inner)
def test_point_on_an_inner_edge_belongs_to_the_strip_above(edges: list[float]) -> None:
    partition = strips(edges)
    owner = partition.owner(torch.tensor(edges, dtype=torch.float64).unsqueeze(1))
    assert owner.tolist() == [*range(partition.clients), partition.clients - 1]


def test_boxes_count_the_last_axis_fastest() -> None:
    partition = boxes([[0, 0.5, 1], [0, 0.3, 0.6, 1]])
    points = torch.tensor([[0.2, 0.1], [0.2, 0.7], [0.5, 0.1], [0.9, 0.6]]).double()
    assert partition.clients == 6
    assert partition.owner(points).tolist() == [0, 2, 3, 5]


def test_sectors_are_where_the_polar_angle_says() -> None:
    centre, edges = (0.3, -0.2), [-1.0, 0.5, 3.0, 5.0]
    angles = torch.linspace(-0.999, 4.999, 200).double()  # beyond the jump of atan2
    radii = 0.01 + draw(200, 1)[:, 0]
    x, y = radii * torch.cos(angles), radii * torch.sin(angles)
    points = torch.stack([x + centre[0], y + centre[1]], 1)
    expected = [sum(edge <= angle for edge in edges[1:-1]) for angle in angles.tolist()]
    assert sectors(edges, centre).owner(points).tolist() == expected


def test_three_sectors_of_an_l_shape_are_its_squares() -> None:
    partition = sectors([k * math.pi / 2 for k in range(4)])
    points = 2 * draw(400, 2) - 1
    x, y = points.unbind(1)
    cut = (x > 0) & (y < 0)
    squares = torch.where(x > 0, 0, torch.where(y > 0, 1, 2))
    assert torch.equal(partition.owner(points[~cut]), squares[~cut])
    with pytest.raises(ValueError, match="outside the partition"):
        partition.owner(points[cut])
    # Rounding moves points on the outermost sides by a little, not to the other end.
    sides = torch.tensor([[0.5, -1e-9], [1e-9, -0.5]], dtype=torch.float64)
    assert partition.owner(sides).tolist() == [0, 2]


def test_sectors_of_the_full_angle_own_every_point() -> None:
    points = torch.cat([2 * draw(400, 2) - 1, torch.zeros(1, 2).double()])
    x, y = points.unbind(1)
    quarter = torch.where(y < 0, torch.where(x < 0, 2, 3), torch.where(x < 0, 1, 0))
    owner = sectors([k * math.pi / 2 for k in range(5)]).owner(points)
    assert torch.equal(owner, quarter)


def test_one_dimensional_pieces_are_dealt_round_robin() -> None:
    middles = ((torch.arange(6) + 0.5) / 6).double().unsqueeze(1)
    owner = pieces([0], [1], piece=2, clients=3).owner(middles)
    assert owner.tolist() == [0, 1, 2, 0, 1, 2]


def test_two_dimensional_pieces_are_dealt_along_diagonals() -> None:
    middles = ((torch.arange(3) + 0.5) / 3).double()
    owner = pieces([0, 0], [1, 1], 2, 2).owner(torch.cartesian_prod(middles, middles))
    assert owner.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: strips([0]), "strictly increasing"),
        (lambda: strips([0, 1, 1]), "strictly increasing"),
        (lambda: strips([1, 0]), r"got \[1.0, 0.0\]"),
        (lambda: strips([0, float("inf")]), "finite"),
        (lambda: strips([0, 1], axis=-1), "count from 0"),
        (lambda: boxes([]), "at least one axis"),
        (lambda: boxes([[0, 1], [1, 0]]), "axis 1"),
        (lambda: sectors([0, 3, 6.4]), "at most the full angle"),
        (lambda: sectors([3, 0]), "strictly increasing"),
        (lambda: pieces([0], [1], 0, 2), "piece >= 1"),
        (lambda: pieces([0], [1], 1, 0), "clients >= 1"),
        (lambda: pieces([0, 0], [1, 1], 1, 4), "nothing for client 3"),
        (lambda: pieces([0], [0], 1, 2), "lower < upper"),
        (lambda: pieces([0], [1], 1, 2, axis=1), "Axis 1"),
        (lambda: explicit(0), "at least 1 client"),
    ],
)
def test_impossible_argument_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "partition",
    [strips([0, 0.5, 1]), boxes([[0, 1], [0, 1]]), pieces([0, 0], [1, 1], 1, 2)],
)
def test_point_outside_is_named(partition: Partition) -> None:
    points = torch.tensor([[0.5, 0.5], [1.5, 0.5]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"Point 1, \[1.5, 0.5\], lies outside"):
        partition.owner(points)
    rounded = torch.tensor([[1 + 1e-8, 0.5]], dtype=torch.float64)
    assert partition.owner(rounded).shape == (1,)


def test_partition_of_more_axes_than_the_points_have_is_refused() -> None:
    with pytest.raises(ValueError, match="cuts axis 1, but points have 1"):
        strips([0, 1], axis=1).owner(draw(2, 1))


def test_explicit_partition_asks_for_one_tensor_per_client() -> None:
    term = Term("t", lambda u, row: u.value, [draw(3, 1), draw(2, 1, 1)])
    problem = Problem("p", MLP((1, 3, 1)), [term], explicit(2))
    assert [s.points for s in problem.shards()] == [3, 2]
    term = Term("t", lambda u, row: u.value, draw(3, 1))
    with pytest.raises(ValueError, match="list of 2 tensors"):
        Problem("p", MLP((1, 3, 1)), [term], explicit(2))
