"""Rows that are linearised again, piece by piece, instead of being held."""

from pathlib import Path

import pytest
import torch
from cases import CASES, hold_nothing, theta
from matrices import decaying, gramian, random, seeded, spectral
from reference import relative
from torch import Tensor

from fedsciml import problems, run
from fedsciml.federation.inprocess import LocalClients
from fedsciml.linalg import from_jacobian
from fedsciml.linalg.randomised import ranged
from fedsciml.linalg.rows import Rows, Whole, normal
from fedsciml.methods import flatten
from fedsciml.residual import System
from fedsciml.residual.pieces import Memory, borrowed, rows
from fedsciml.wrappers import load


def made(name: str, chunk: int = 8) -> tuple[System, Tensor]:
    problem = CASES[name]()
    return System(problem, problem.pooled(), chunk=chunk), theta(problem)


@pytest.mark.parametrize("name", ["scalar", "mixed", "system", "module"])
def test_a_sketch_of_pieces_is_that_of_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing(monkeypatch)
    system, start = made(name)
    linear = system.linearise(start)
    jacobian, residual = linear.jacobian(), linear.residual
    found, loss = rows(system, start, 0, Memory())
    assert not found.whole
    assert len(list(found.pieces())) > 2
    assert loss == pytest.approx(linear.loss, rel=1e-14)
    assert torch.equal(found.residual, residual)
    assert found.norm() == pytest.approx(float(jacobian.norm()), rel=1e-14)
    sketch, again = ranged(found, 1e-10 * found.norm(), 3, seeded(1))
    assert sketch.left is None
    assert again is not None
    # Measured at most 3e-14.
    assert relative(gramian(sketch), jacobian.mT @ jacobian) < 1e-12
    assert relative(sketch.gradient, linear.gradient) < 1e-12
    others = torch.stack([residual, random(len(residual), seed=3)])
    targets = again.targets(found, seeded(1), others)
    assert relative(targets[0], sketch.target) < 1e-12
    # U^T r' is what is left of r' in the range of J: of the same length.
    full = from_jacobian(jacobian, residual)
    assert full.left is not None
    inside = full.left[:, full.singular_values > 1e-9 * found.norm()]
    ours = targets[1, sketch.singular_values > 1e-9 * found.norm()]
    assert float(ours.norm()) == pytest.approx(
        float((inside.mT @ others[1]).norm()), rel=1e-6
    )


@pytest.mark.parametrize("basis", ["own", "shared"])
def test_clients_of_pieces_are_believed_to_the_last_digits(
    basis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing(monkeypatch)
    problem = problems.load("allen_cahn", clients=2, points=0.25)
    result = run(problem, load("fipa", basis=basis), rounds=24, seed=0)
    assert not any(line.dropped for line in result.history)
    assert result.errors()[0] < 1e-10


@pytest.mark.parametrize("basis", ["own", "rows", "sums"])
def test_a_run_of_pieces_goes_the_same_way(
    basis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problems.load("allen_cahn", clients=2, points=0.25)
    how = {"own": {"basis": "own"}, "rows": {}, "sums": {"upload": "sums"}}[basis]
    how = {"basis": "shared", **how}
    known = run(problem, load("fipa", **how), rounds=4, seed=0)
    hold_nothing(monkeypatch)
    found = run(problem, load("fipa", **how), rounds=4, seed=0)
    for a, b in zip(found.history, known.history, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-9)
        assert (a.ranks, a.sent) == (b.ranks, b.sent)


@pytest.mark.parametrize(
    ("basis", "field"), [("own", "basis/anew/triangle"), ("shared", "known/fold")]
)
def test_what_makes_a_range_again_has_the_same_bits_from_a_file(
    basis: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a matrix that lies otherwise in memory products may have others."""
    hold_nothing(monkeypatch)
    problem = problems.load("allen_cahn", clients=2, points=0.25)
    method = load("fipa", basis=basis).bound(problem)
    clients = LocalClients(problem, method)
    clients.exchange(next(method.round(method.start(theta(problem), 0))))
    for memory in clients.memories.values():
        assert memory is not None
        kept = flatten(memory)
        assert isinstance(kept[field], Tensor)
        assert all(v.is_contiguous() for v in kept.values() if isinstance(v, Tensor))


def test_a_run_of_lazy_sketches_in_pieces_goes_on_at_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing(monkeypatch)
    problem = problems.load("allen_cahn", clients=2)
    method = load("fipa", every=4, rank="cutoff")
    whole = run(problem, method, rounds=4)
    run(problem, method, rounds=2, out=tmp_path)
    found = run(problem, method, rounds=4, out=tmp_path, resume=True)
    assert found.theta_sha256() == whole.theta_sha256()


def halves(j: Tensor, r: Tensor) -> Rows:
    n, p = j.shape
    parts = [slice(0, n // 2), slice(n // 2, n)]
    return Rows(
        r,
        p,
        lambda: [Whole(j[part], r[part]) for part in parts],
        lambda k, g: normal(p, k, g, r),
    )


@pytest.mark.parametrize("unit", [1.0, 2.0**43, 2.0**-43])
def test_columns_that_rounding_hides_are_left_out_of_pieces(
    unit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J has 12 rows that differ: more columns tell nothing but rounding."""
    hold_nothing(monkeypatch)
    j, r = unit * random(40, 60), random(40, seed=1)
    j[12:] = j[:1]
    sketch, _ = ranged(halves(j, r), 0.0, 20, seeded(1))
    assert relative(gramian(sketch), j.mT @ j) < 1e-13
    assert relative(sketch.gradient, j.mT @ r) < 1e-13
    assert sketch.rank < 30 or unit < 1  # of short columns rounding hides less


def test_a_range_that_is_too_large_only_when_it_has_grown_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    j, r = decaying(80, 120, 0.5), random(80, seed=1)
    monkeypatch.setattr("fedsciml.linalg.randomised.HELD", 80 * 8 * 12)
    sketch, again = ranged(halves(j, r), 1e-6, 6, seeded(2))
    assert again is not None
    assert len(again.drawn) > 1
    assert spectral(j.mT @ j - gramian(sketch)) < 1e-12
    targets = again.targets(halves(j, r), seeded(2), r[None])
    assert relative(targets[0], sketch.target) < 1e-13


@pytest.mark.parametrize("residual", [0.0, 1.0])
@pytest.mark.parametrize("held", [0, 2**20])
def test_pieces_without_a_slope_have_a_sketch(
    residual: float, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsciml.linalg.randomised.HELD", held)
    j, r = torch.zeros(40, 60).double(), residual * random(40, seed=1)
    sketch, _ = ranged(halves(j, r), 0.0, 20, seeded(1))
    assert not sketch.factor.any()
    assert float(sketch.target.norm()) == pytest.approx(float(r.norm()), rel=1e-14)


def test_nobody_else_writes_into_memory_that_is_borrowed() -> None:
    system, start = made("scalar", chunk=1024)
    linear = system.linearise(start)
    with borrowed() as one:
        first = one.of(linear)
        known = first.clone()
        with borrowed() as other:
            assert other.of(system.linearise(2 * start)).data_ptr() != first.data_ptr()
        assert torch.equal(first, known)
        place = first.data_ptr()
    with borrowed() as one:
        assert one.of(linear).data_ptr() == place
