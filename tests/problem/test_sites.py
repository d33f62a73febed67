"""A problem made where only one party's rows are is the whole as far as it goes."""

from dataclasses import replace
from pathlib import Path

import pytest
import sensors
import torch
from cases import CASES
from torch import Tensor

from fedsciml import problems
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row
from fedsciml.problem.datafiles import load_points
from fedsciml.residual.fingerprint import agreement, fingerprint

SITES = 3


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> list[Path]:
    """The sites' files of made sensors' data."""
    out = tmp_path / "sites"
    sensors.main(["heat_inverse", "--clients", str(SITES), "--out", str(out)])
    return sorted(out.iterdir())


def at(files: list[Path], site: int | None) -> Problem:
    """The problem as a site makes it, or for None the server, which has no file."""
    data = [str(path) if m == site else None for m, path in enumerate(files)]
    return problems.load("heat_inverse", clients=SITES, data=data)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a, b)


def test_a_site_holds_what_it_holds_in_the_whole(files: list[Path]) -> None:
    whole = problems.load("heat_inverse", clients=SITES, data=str(files[0].parent))
    counts = [at(files, m).counts(m) for m in range(SITES)]
    totals = [sum(n) for n in zip(*counts, strict=True)]
    for m, shard in enumerate(whole.shards()):
        own = at(files, m).shard(m, totals)
        assert (own.client, own.share) == (m, shard.share)
        for mine, rows in zip(own.rows, shard.rows, strict=True):
            assert (mine.term, mine.weight) == (rows.term, rows.weight)
            assert same(mine.points, rows.points)
            assert same(mine.target, rows.target)


def test_a_site_has_no_measurement_of_another(files: list[Path]) -> None:
    assert [at(files, 1).counts(m)[1] > 0 for m in range(SITES)] == [False, True, False]
    assert all(at(files, None).counts(m)[1] == 0 for m in range(SITES))


def test_all_parties_agree_whatever_their_data(files: list[Path]) -> None:
    made = [at(files, m) for m in (None, *range(SITES))]
    assert len({agreement(problem) for problem in made}) == 1
    assert len({fingerprint(problem) for problem in made}) == SITES + 1


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"clients": 2}, {"weight": 2.0}, {"points": 399}]
)
def test_parties_that_were_told_otherwise_do_not_agree(changed: dict[str, int]) -> None:
    found = agreement(problems.load("heat_inverse", **{"clients": 3, **changed}))
    assert found != agreement(problems.load("heat_inverse", clients=3))


@pytest.mark.parametrize("name", sorted(CASES))
def test_another_equation_is_another_agreement(name: str) -> None:
    problem = CASES[name]()
    assert agreement(problem) == agreement(CASES[name]())
    first = problem.terms[0]

    def doubled(u: Jet, row: Row) -> Tensor | tuple[Tensor, ...]:
        r = first.residual(u, row)
        return 2 * r if isinstance(r, Tensor) else tuple(2 * part for part in r)

    terms = [replace(first, residual=doubled), *problem.terms[1:]]
    assert agreement(replace(problem, terms=terms)) != agreement(problem)


def test_a_file_that_is_elsewhere_has_no_rows_here(files: list[Path]) -> None:
    points, target = load_points([None, files[0]], ["x", "t"], ["u"])
    assert target is not None
    assert (points[0].shape, target[0].shape) == ((0, 2), (0,))
    assert len(points[1]) == len(target[1]) > 0


def test_a_whole_problem_still_needs_points_of_every_client(files: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"leaves client|has no points"):
        replace(at(files, None), partial=False)
