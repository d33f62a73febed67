"""A basis that parties compute alike: against dense references."""

import pytest
import torch
from matrices import decaying, random, seeded, spectral
from reference import relative, stacked
from torch import Tensor

from fedsciml.linalg import Sketch, from_jacobian
from fedsciml.linalg.basis import (
    Basis,
    basis,
    extended,
    gramian,
    packed,
    pivots,
    summed,
    symmetric,
    trapezoid,
    unpacked,
)
from fedsciml.linalg.solve import spectrum
from fedsciml.methods._agree import AGREE

FLAT = torch.float32

EPS = torch.finfo(torch.float64).eps


def clustered(n: int, p: int) -> Tensor:
    """J whose singular values come five alike: 1, 1, 1, 1, 1, 0.1, ..."""
    k = min(n, p)
    u, v = (torch.linalg.qr(random(m, k, seed=m))[0] for m in (n, p))
    return u * 0.1 ** torch.arange(k).div(5, rounding_mode="floor").double() @ v.mT


def wave(x: Tensor, p: int, factor: float, phase: float = 0.0) -> Tensor:
    """Rows at points x [n] of a smooth function of x: sum_k factor^k cos(k x) v_k^T."""
    k = torch.arange(p, dtype=torch.float64)
    v, _ = torch.linalg.qr(random(p, p, seed=p))
    rows = torch.cos(torch.pi * k * x[:, None] + phase) * factor**k @ v.mT
    return rows / len(x) ** 0.5


JACOBIANS = {
    "flat": decaying(60, 40, 1.0),
    "graded": decaying(60, 40, 0.5),
    "steep": decaying(150, 90, 0.1),
    "wide": decaying(30, 200, 0.6),
    "tall": decaying(300, 20, 0.6),
    "clustered": clustered(80, 60),
    "clustered and wide": clustered(50, 400),
    "rough": random(40, 70) * torch.logspace(0, -9, 40).double()[:, None],
    "large": 1e8 * decaying(60, 40, 0.5),
    "smooth": wave(torch.linspace(0, 1, 200).double(), 120, 0.7),
    "one row": random(1, 30),
    "one column": random(30, 1),
}


def points(n: int, seed: int) -> Tensor:
    return torch.rand(n, generator=seeded(seed), dtype=torch.float64)


def greedy(jacobian: Tensor, cutoff: float) -> list[int]:
    """Pivots by projecting out one row after the other, twice."""
    left, found = jacobian.clone(), list[int]()
    lengths = left.norm(dim=1)
    while len(found) < min(jacobian.shape) and float(lengths.max()) > cutoff:
        found.append(int(lengths.argmax()))
        q, _ = torch.linalg.qr(jacobian[found].mT)
        left = jacobian - (jacobian @ q) @ q.mT
        left = left - (left @ q) @ q.mT
        lengths = left.norm(dim=1)
        lengths[found] = 0
    return found


def left_over(jacobian: Tensor, found: Basis) -> Tensor:
    q = found.directions
    return jacobian - (jacobian @ q) @ q.mT


def spanned(jacobian: Tensor, cutoff: float, rank: int = 24) -> Basis:
    return basis(jacobian, pivots(jacobian, cutoff, seeded(0), rank))


def differ(a: Basis, b: Basis) -> float:
    """As the server compares check numbers."""
    size = float(a.triangle.norm()) * a.size**0.5
    return float((a.check(seeded(7)) - b.check(seeded(7))).abs().max()) / size


@pytest.mark.parametrize("rank", [1, 24])
@pytest.mark.parametrize("relative_cutoff", [0.1, 1e-4, 1e-9])
@pytest.mark.parametrize("name", JACOBIANS)
def test_the_span_of_pivots_misses_what_singular_vectors_miss_but_for_a_factor(
    name: str, relative_cutoff: float, rank: int
) -> None:
    j = JACOBIANS[name]
    s = torch.linalg.svdvals(j)
    cutoff = relative_cutoff * float(s[0])
    found = spanned(j, cutoff, rank)
    missed, k = left_over(j, found), found.size
    # Rows that are left are not longer than the cut-off, but for a factor where it was
    # sketched. Measured at most 1.7.
    rounding = 1e-14 * float(s[0])
    assert float(missed.norm(dim=1).max()) < 3 * cutoff + rounding
    # Measured at most 3.1 times the first singular value that k vectors leave out.
    best = float(s[k]) if k < len(s) else 0.0
    assert spectral(missed) < 8 * best + rounding
    assert k <= int((s > cutoff / 10).sum())


@pytest.mark.parametrize("cutoff", [0.1, 1e-4])
@pytest.mark.parametrize("name", ["graded", "wide", "tall", "clustered", "rough"])
def test_pivots_in_single_precision_miss_no_more(name: str, cutoff: float) -> None:
    j = JACOBIANS[name]
    found = spanned(j.to(FLAT), cutoff * spectral(j))
    assert found.directions.dtype == FLAT
    q, k = found.directions.double(), found.size
    missed = j - (j @ q) @ q.mT
    s = torch.linalg.svdvals(j)
    best = float(s[k]) if k < len(s) else 0.0
    # Rounding of Q, 1e-6. Measured at most 2.2 times.
    assert spectral(missed) < 8 * best + 1e-5 * float(s[0])


@pytest.mark.parametrize("name", ["graded", "wide", "tall", "rough", "large"])
def test_pivots_are_those_of_a_greedy_choice_where_nothing_is_random(name: str) -> None:
    j = JACOBIANS[name]
    cutoff = 1e-5 * spectral(j)
    found = pivots(j, cutoff, seeded(0), rank=len(j))
    assert found.tolist() == greedy(j, cutoff)


@pytest.mark.parametrize("rank", [2, 12, 90])
def test_a_sketched_pivot_is_among_the_longest_rows_that_are_left(rank: int) -> None:
    j = wave(torch.linspace(0, 1, 400).double(), 300, 0.6)
    found = pivots(j, 1e-5 * spectral(j), seeded(0), rank)
    assert 10 < len(found) < 80
    for i in range(len(found)):
        left = left_over(j, basis(j, found[:i], whiten=False))
        lengths = left.norm(dim=1)
        # Lengths from at least 8 random products. Measured 0.56.
        assert float(lengths[found[i]]) > 0.3 * float(lengths.max())


def test_where_there_are_many_pivots_nothing_longer_than_the_cut_off_is_left() -> None:
    generator = seeded(1)
    u, v = (torch.randn(m, 400, generator=generator).double() for m in (900, 500))
    j = (u * 10.0 ** -torch.linspace(0, 9, 400).double()) @ v.mT
    cutoff = 1e-5 * spectral(j)
    found = pivots(j, cutoff, seeded(0), 200)
    assert 150 < len(found) < 250
    rest = left_over(j, basis(j, found, whiten=False)).norm(dim=1)
    # Lengths from at least 8 random products. Measured 1.4.
    assert float(rest.max()) < 3 * cutoff


def test_the_longest_rows_come_first() -> None:
    for name, j in JACOBIANS.items():
        r = spanned(j, 1e-9 * spectral(j)).triangle
        scale = r.diagonal()
        assert bool((scale > 0).all()), name
        # In the order of a sketch at times a longer one comes later: measured 1.5.
        largest = scale.flip(0).cummax(0).values.flip(0)
        assert bool((largest < 3 * scale).all()), name
        assert float(scale[0]) == pytest.approx(float(j.norm(dim=1).max()), rel=0.5)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (0, 7), (3, 0)])
def test_a_zero_matrix_has_no_pivots(shape: tuple[int, int]) -> None:
    j = torch.zeros(shape, dtype=torch.float64)
    found = pivots(j, 1e-9, seeded(0))
    assert found.tolist() == []
    empty = basis(j, found)
    assert empty.directions.shape == (shape[1], 0)
    assert empty.whitened(empty.restricted(j)).shape == (shape[0], 0)
    assert empty.outside(torch.ones(shape[1]).double()).tolist() == [1.0] * shape[1]


def test_a_matrix_that_is_not_zero_has_a_pivot() -> None:
    j = decaying(300, 20, 0.6)  # the longest row has a third of the norm
    assert len(pivots(j, 0.5, seeded(0))) >= 1


def test_a_jacobian_that_is_not_finite_is_refused() -> None:
    j = random(4, 6)
    j[2, 3] = torch.nan
    with pytest.raises(FloatingPointError, match="at the anchors is not finite"):
        pivots(j, 1e-9, seeded(0))


@pytest.mark.parametrize("dtype", [torch.float64, FLAT])
@pytest.mark.parametrize("name", JACOBIANS)
def test_whitened_anchors_are_orthonormal(name: str, dtype: torch.dtype) -> None:
    j, eps = JACOBIANS[name].to(dtype), torch.finfo(dtype).eps
    found = spanned(j, 1e3 * eps * spectral(j))
    q, a = found.directions, found.whitened(found.restricted(j))
    eye = torch.eye(found.size, dtype=dtype)
    assert spectral(q.mT @ q - eye) < 40 * eps
    # However small the directions are: rows are whitened one by one. Measured 15 eps.
    assert spectral(a.mT @ a - eye) < 100 * eps
    for triangle in (found.triangle, found.whitening):
        assert bool((triangle.diagonal() > 0).all())
        assert torch.equal(triangle, triangle.triu())


def test_without_whitening_the_directions_are_the_same() -> None:
    j = JACOBIANS["graded"]
    chosen = pivots(j, 1e-6, seeded(0))
    with_, without = basis(j, chosen), basis(j, chosen, whiten=False)
    assert torch.equal(with_.directions, without.directions)
    assert without.whitening is None


def test_what_lies_outside_has_no_coordinates() -> None:
    j = JACOBIANS["smooth"]
    found = spanned(j, 1e-6 * spectral(j))
    inside, vector = found.steps(random(5, found.size)), random(j.shape[1], seed=2)
    assert relative(found.steps(found.coordinates(inside)), inside) < 1e-14
    rest = found.outside(vector)
    assert float(found.coordinates(rest).norm()) < 1e-14 * float(vector.norm())
    assert relative(rest + found.steps(found.coordinates(vector)), vector) < 1e-14
    # Also of a vector that lies inside but for little.
    little = found.outside(found.steps(random(found.size)) + 1e-10 * rest)
    assert relative(1e10 * little, rest) < 1e-4


PARTS = {
    "alike": [points(300, 1), points(200, 2), points(70, 3)],
    "split": [0.5 * points(60, 1), 0.5 + 0.5 * points(90, 2)],
    "few": [points(4, 1), points(3, 2)],  # fewer than directions
    "one": [points(150, 1)],
}
"""Where clients have their points."""


def clients(name: str, p: int, factor: float) -> list[tuple[Tensor, Tensor]]:
    """Their J_m and r_m, weighted as parts of a whole."""
    total = sum(map(len, PARTS[name]))
    return [
        (wave(x, p, factor) * (len(x) / total) ** 0.5, random(len(x), seed=len(x)))
        for x in PARTS[name]
    ]


def anchored(p: int, factor: float, cutoff: float) -> Basis:
    j = wave((torch.arange(256) + 0.5).double() / 256, p, factor)
    return spanned(j, cutoff * spectral(j))


def merged(found: Basis, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What clients send of their sums, added up: G and t."""
    whitened = [(found.whitened(found.restricted(j)), r) for j, r in parts]
    triangle = sum(gramian(a) for a, _ in whitened)
    return symmetric(triangle, found.size), sum(-(r @ a) for a, r in whitened)


@pytest.mark.parametrize("damping", [1.0, 1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize("name", PARTS)
def test_sums_have_the_dense_damped_step_in_the_span(name: str, damping: float) -> None:
    parts = clients(name, 40, 0.5)
    found = anchored(40, 0.5, 1e-7)
    j, r = torch.cat([j for j, _ in parts]), torch.cat([r for _, r in parts])
    gram, target = merged(found, parts)
    problem = found.lifted(summed(found, gram, target))
    expected = found.steps(stacked(j @ found.directions, r, damping))
    # G is known to 1e-16, its condition is at most 18 but where clients have few rows.
    # Measured 2e-13.
    assert relative(problem.step(damping), expected) < 1e-11


@pytest.mark.parametrize("name", PARTS)
def test_rows_and_sums_are_the_same_problem(name: str) -> None:
    parts = clients(name, 40, 0.5)
    found = anchored(40, 0.5, 1e-7)
    gram, target = merged(found, parts)
    sums = found.lifted(summed(found, gram, target))
    rows = [from_jacobian(found.restricted(j), r) for j, r in parts]
    packed_rows = [trapezoid(sketch) for sketch in rows]
    stack = Sketch(
        torch.cat([b.factor for b in packed_rows]),
        torch.cat([b.target for b in packed_rows]),
    )
    one = found.lifted(spectrum(stack))
    for damping in (1e-2, 1e-6):
        assert relative(sums.step(damping), one.step(damping)) < 1e-11
    # Singular values down to 1e-7 of the largest, or what few rows leave of them.
    k = len(sums.s)
    torch.testing.assert_close(sums.s, one.s[:k], rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("damping", [1.0, 1e-4, 1e-6])
def test_a_span_of_everything_gives_the_centralised_damped_step(damping: float) -> None:
    parts = clients("alike", 12, 0.6)
    found = anchored(12, 0.6, 1e-9)
    assert found.size == 12
    j, r = torch.cat([j for j, _ in parts]), torch.cat([r for _, r in parts])
    problem = found.lifted(summed(found, *merged(found, parts)))
    assert relative(problem.step(damping), stacked(j, r, damping)) < 1e-10


def test_sums_keep_the_digits_of_the_weakest_directions() -> None:
    parts = clients("alike", 40, 0.3)
    found = anchored(40, 0.3, 1e-11)
    damping = 1e-18
    j, r = torch.cat([j for j, _ in parts]), torch.cat([r for _, r in parts])
    reduced = found.restricted(j)
    expected = stacked(reduced, r, damping)
    step = summed(found, *merged(found, parts)).step(damping)
    # The condition is 1e9, that of the gramian that is not whitened 1e18. Measured
    # 3e-14 and, in what J makes of the step, 1e-13.
    assert relative(step, expected) < 1e-11
    assert relative(reduced @ step, reduced @ expected) < 1e-11


@pytest.mark.parametrize("name", PARTS)
def test_left_maps_sums_of_targets_to_the_targets_of_the_problem(name: str) -> None:
    parts = clients(name, 40, 0.5)
    found = anchored(40, 0.5, 1e-7)
    gram, target = merged(found, parts)
    problem = summed(found, gram, target)
    assert problem.left.shape == (found.size, len(problem.s))
    assert relative(target @ problem.left, problem.c) < 1e-10
    # Where the residual is linear, another point has the target c - B D.
    z = random(found.size, seed=4)
    moved = [(j, r + found.restricted(j) @ z) for j, r in parts]
    _, there = merged(found, moved)
    expected = problem.c - problem.s * (problem.basis @ z)
    assert relative(there @ problem.left, expected) < 1e-13  # measured 1e-15
    # B^T c is the gradient in the coordinates z.
    j, r = torch.cat([j for j, _ in parts]), torch.cat([r for _, r in parts])
    gradient = -(problem.c * problem.s) @ problem.basis
    assert relative(gradient, found.restricted(j).mT @ r) < 1e-13


def test_sums_without_any_rows_leave_no_step() -> None:
    found = anchored(40, 0.5, 1e-7)
    k = found.size
    nothing = torch.zeros(k, dtype=torch.float64)
    problem = found.lifted(summed(found, torch.zeros(k, k).double(), nothing))
    assert len(problem.s) == 0
    assert problem.step(1e-3).tolist() == [0.0] * 40


def test_the_sum_does_not_depend_on_the_order_of_the_clients_but_by_rounding() -> None:
    parts = clients("alike", 40, 0.5)
    found = anchored(40, 0.5, 1e-7)
    there, back = (
        found.lifted(summed(found, *merged(found, order)))
        for order in (parts, parts[::-1])
    )
    for damping in (1.0, 1e-6):
        assert relative(back.step(damping), there.step(damping)) < 1e-12
    # Nor on how rows are dealt to them.
    j, r = torch.cat([j for j, _ in parts]), torch.cat([r for _, r in parts])
    dealt = [(j[i::5], r[i::5]) for i in range(5)]
    other = found.lifted(summed(found, *merged(found, dealt)))
    assert relative(other.step(1e-6), there.step(1e-6)) < 1e-12


@pytest.mark.parametrize("shape", [(0, 6), (6, 6), (3, 6), (1, 6), (0, 0), (1, 1)])
def test_packed_trapezoids_come_back(shape: tuple[int, int]) -> None:
    factor = random(*shape).triu()
    r, k = shape
    numbers = packed(factor)
    assert len(numbers) == r * k - r * (r - 1) // 2
    assert torch.equal(unpacked(numbers, r, k), factor)


@pytest.mark.parametrize("n", [0, 1, 4, 9, 30])
def test_a_trapezoid_is_the_same_problem(n: int) -> None:
    j, r = random(n, 9), random(n, seed=2)
    sketch = from_jacobian(j, r)
    found = trapezoid(sketch)
    assert torch.equal(found.factor, found.factor.triu())
    assert found.factor.shape == (min(n, 9), 9)
    torch.testing.assert_close(found.factor.mT @ found.factor, j.mT @ j)
    torch.testing.assert_close(found.gradient, j.mT @ r)
    assert found.left is not None
    torch.testing.assert_close(found.left.mT @ j, found.factor)
    torch.testing.assert_close(-(found.left.mT @ r), found.target)
    again = unpacked(packed(found.factor), *found.factor.shape)
    assert torch.equal(again, found.factor)


@pytest.mark.parametrize("k", [0, 1, 7])
def test_a_gramian_comes_back_from_its_triangle(k: int) -> None:
    a = random(11, k)
    triangle = gramian(a)
    assert len(triangle) == k * (k + 1) // 2
    found = symmetric(triangle, k)
    assert torch.equal(found, found.mT)
    torch.testing.assert_close(found, a.mT @ a)


@pytest.mark.parametrize("whiten", [True, False])
def test_an_extension_adds_the_outside_direction_alone(whiten: bool) -> None:
    j = JACOBIANS["smooth"]
    before = basis(j, pivots(j, 1e-3 * spectral(j), seeded(0)), whiten)
    direction = random(j.shape[1], seed=5)
    found, k = extended(before, direction, 0.25), before.size
    q = found.directions
    assert torch.equal(q[:, :k], before.directions)
    assert spectral(q.mT @ q - torch.eye(k + 1).double()) < 1e-14
    assert relative(found.steps(found.coordinates(direction)), direction) < 1e-14
    # Dense reference: the last column of [Q, d] after a QR, up to its sign.
    last = torch.linalg.qr(torch.cat([before.directions, direction[:, None]], 1))[0]
    assert abs(float(last[:, -1] @ q[:, -1])) == pytest.approx(1, abs=1e-14)
    assert torch.equal(found.triangle[:k, :k], before.triangle)
    assert found.triangle[k].tolist() == [0.0] * k + [0.25]
    if not whiten:
        assert found.whitening is None
        return
    assert torch.equal(found.whitening[:k, :k], before.whitening)
    # A row along the direction, as long as it was said to be, is whitened to one.
    row = 0.25 * q[:, -1:].mT
    expected = torch.zeros(1, k + 1).double()
    expected[0, k] = 1
    whitened = found.whitened(found.restricted(row))
    torch.testing.assert_close(whitened, expected, rtol=1e-13, atol=1e-13)


def test_a_basis_of_no_directions_can_be_extended_and_whitened() -> None:
    j = random(6, 9)
    empty = basis(j, torch.zeros(0, dtype=torch.int64))
    found = extended(empty, random(9), 2.0)
    torch.testing.assert_close(
        found.whitened(found.restricted(j)), found.restricted(j) / 2
    )


CANONICAL = ["graded", "wide", "tall", "clustered", "clustered and wide", "smooth"]


@pytest.mark.parametrize("noise", [1e-16, 1e-15, 1e-14])
@pytest.mark.parametrize("cutoff", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("name", CANONICAL)
def test_bases_from_jacobians_with_noise_agree_column_by_column(
    name: str, cutoff: float, noise: float
) -> None:
    j = JACOBIANS[name]
    top = spectral(j)
    chosen = pivots(j, cutoff * top, seeded(0))
    error = random(*j.shape, seed=9)
    error *= noise * top / spectral(error)
    one, other = basis(j, chosen), basis(j + error, chosen)
    unit = (noise + EPS) * top  # of noise, and of the factorisation itself
    turned = (one.directions - other.directions).norm(dim=0)
    # Column j turns by about e / R_jj, and J hardly sees it. Measured 2.9 and 3.1.
    assert bool((turned < 10 * unit / one.triangle.diagonal()).all())
    assert spectral(j @ (one.directions - other.directions)) < 10 * unit
    assert differ(one, other) < 10 * (noise + EPS)  # measured 1.3


@pytest.mark.parametrize("noise", [1e-16, 1e-14])
def test_another_party_sees_the_same_rows_in_a_basis_with_noise(noise: float) -> None:
    j = wave((torch.arange(256) + 0.5).double() / 256, 40, 0.4)
    chosen = pivots(j, 1e-10 * spectral(j), seeded(0))
    error = random(*j.shape, seed=9)
    error *= noise * spectral(j) / spectral(error)
    one, other = basis(j, chosen), basis(j + error, chosen)
    for x in PARTS["alike"]:
        own = wave(x, 40, 0.4)
        seen = own @ (one.directions - other.directions)
        assert spectral(seen) < 10 * (noise + EPS) * spectral(j)


def test_pivots_and_bases_do_not_depend_on_the_threads_but_by_rounding() -> None:
    j = wave(torch.linspace(0, 1, 500).double(), 400, 0.7)
    top, threads = spectral(j), torch.get_num_threads()
    found = {}
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found[number] = basis(j, pivots(j, 1e-8 * top, seeded(0)))
        torch.set_num_threads(2)
        chosen = pivots(j, 1e-8 * top, seeded(0))
        other = basis(j, chosen)
        torch.set_num_threads(1)
        one = basis(j, chosen)
    finally:
        torch.set_num_threads(threads)
    # Each choice is as good, whichever the rows; and of the same rows comes the same.
    assert abs(found[1].size - found[2].size) <= 1
    seen = j @ (one.directions - other.directions)
    assert spectral(seen) < 100 * EPS * top
    assert differ(one, other) < 100 * EPS


@pytest.mark.parametrize("name", CANONICAL)
def test_single_and_double_precision_agree_to_single(name: str) -> None:
    j, eps = JACOBIANS[name], torch.finfo(FLAT).eps
    top = spectral(j)
    chosen = pivots(j, 1e-4 * top, seeded(0))
    double, single = basis(j, chosen), basis(j.to(FLAT), chosen)
    q = single.directions.double()
    turned = (q - double.directions).norm(dim=0)
    # As with noise of that size. Measured 1.5 and 3.6, and 0.6 for the check numbers.
    assert bool((turned < 10 * eps * top / double.triangle.diagonal()).all())
    assert spectral(j @ (q - double.directions)) < 10 * eps * top
    assert differ(double, Basis(*(x.double() for x in single))) < 10 * eps


CHANGES = ["pivot", "last pivot", "another row", "scale of a term", "theta"]


@pytest.mark.parametrize("change", CHANGES)
def test_check_numbers_tell_another_jacobian(change: str) -> None:
    x = (torch.arange(256) + 0.5).double() / 256
    j = wave(x, 40, 0.4)
    chosen = pivots(j, 1e-8 * spectral(j), seeded(0))
    other = j.clone()
    if change == "pivot":
        other[chosen[0]] *= 1 + 1e-6
    elif change == "last pivot":
        other[chosen[-1]] *= 1 + 1e-6
    elif change == "another row":
        rest = [i for i in range(len(j)) if i not in chosen.tolist()]
        other[rest[100]] *= 1 + 1e-6
    elif change == "scale of a term":
        other[:40] *= 1 + 1e-8
    else:
        other = wave(x, 40, 0.4, phase=1e-8)
    a, b = basis(j, chosen), basis(other, chosen)
    # Measured 4e-8 to 5e-10.
    assert differ(a, b) > AGREE[torch.float64]


def test_check_numbers_depend_on_the_seed_and_tell_a_basis_only_by_the_same() -> None:
    found = spanned(JACOBIANS["smooth"], 1e-6)
    first, again, other = (found.check(seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert relative(other, first) > 0.1
