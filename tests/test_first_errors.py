"""What is said of what is written wrongly in the first hour: ``first_errors.py``."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from first_errors import CASES, PRELUDE, Case

from fedsciml import MLP, Problem, Term
from fedsciml.collocation import strips
from fedsciml.network import Jet
from fedsciml.network.stand_in import Misread
from fedsciml.problem import Row, SiteError, outward


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the code of the cases may use."""
    found: dict[str, Any] = {}
    exec(PRELUDE, found)
    return found


def titled(case: Case) -> str:
    return case.title


@pytest.mark.parametrize("case", CASES, ids=titled)
def test_what_came_what_was_needed_and_what_to_write_is_said(
    case: Case, names: dict[str, Any]
) -> None:
    message = ".*".join(re.escape(part) for part in case.says)
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        eval(case.wrong, dict(names))
    assert "\n" not in str(caught.value)
    assert re.search(r"[.?]$", str(caught.value))
    assert ".." not in str(caught.value).replace("...", "")


@pytest.mark.parametrize("case", CASES, ids=titled)
def test_what_is_told_to_write_can_be_written(
    case: Case, names: dict[str, Any]
) -> None:
    eval(case.right, dict(names))


def test_every_case_is_told_once() -> None:
    assert len({case.title for case in CASES}) == len(CASES)
    assert len({case.wrong for case in CASES}) == len(CASES)


def jet(*outputs: str) -> Jet:
    values = torch.ones(3, len(outputs))
    return Jet(lambda channel: values, ("x",), outputs)


row = Row(torch.ones(3, 1), None, ("x",))
OPERATIONS: tuple[Callable[[Any], object], ...] = (
    *(lambda u: u + 1, lambda u: 1 + u, lambda u: u - 1, lambda u: 1 - u),
    *(lambda u: u * 2, lambda u: 2 * u, lambda u: u / 2, lambda u: 2 / u),
    *(lambda u: u // 2, lambda u: 2 // u, lambda u: u % 2, lambda u: 2 % u),
    *(lambda u: u**2, lambda u: 2**u, lambda u: u @ u, lambda u: torch.ones(3) @ u),
    *(lambda u: u < 1, lambda u: u <= 1, lambda u: u > 1, lambda u: u >= 1),
    *(lambda u: u == 1, lambda u: u != 1, lambda u: -u, lambda u: +u, lambda u: ~u),
    *(abs, bool, float, int, len, list, sum, torch.sin, torch.as_tensor),
    *(lambda u: u[0], lambda u: u(1), lambda u: torch.ones(3) * u),
    *(lambda u: torch.ones(3) - u, lambda u: torch.ones(3) ** u, lambda u: u.mean()),
    *(lambda u: torch.cat([torch.ones(3), u]), lambda u: torch.autograd.grad(u, u)),
)


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
@pytest.mark.parametrize("stand_in", [jet("u"), jet("u", "p"), jet("u", "p").p, row])
def test_nothing_computes_with_what_stands_for_tensors(
    stand_in: Any,  # noqa: ANN401
    number: int,
) -> None:
    with pytest.raises(Misread, match=r"Did you mean .*(value|row\.x)"):
        OPERATIONS[number](stand_in)


def test_it_can_be_kept_in_a_set_and_asked_for_attributes() -> None:
    u = jet("u", "p")
    assert len({id(v) for v in {u: 1, row: 2}}) == 2
    assert not hasattr(row, "y")
    assert not hasattr(u, "q")
    assert hasattr(u, "p")


def test_first_errors_of_a_residual_may_leave_a_site() -> None:
    term = Term("pde", lambda u, row: u * u.x, torch.rand(5, 1))
    with pytest.raises(SiteError, match="term 'pde'"):
        Problem("mine", MLP((1, 4, 1)), [term], strips([0, 1]))


def test_of_what_a_residual_itself_raises_the_text_stays_at_the_site() -> None:
    def secret(u: Jet, row: Row) -> None:
        raise RuntimeError(f"the first point is {row.x[0]}")

    term = Term("pde", secret, torch.rand(5, 1))
    with pytest.raises(SiteError, match="raises RuntimeError in test_first") as caught:
        Problem("mine", MLP((1, 4, 1)), [term], strips([0, 1]))
    assert "first point" not in outward(caught.value)
    assert "the first point is" in caught.value.__notes__[0]


@pytest.mark.parametrize("form", ["array", "list", "float32", "integer", "column"])
def test_points_may_be_written_in_any_form(form: str) -> None:
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    forms = {
        "array": points.numpy(),
        "list": points.tolist(),
        "float32": points.float(),
        "integer": points.long(),
        "column": points.numpy()[:, :1].copy(),
    }
    term = Term("data", lambda u, row: u.value - row.target, forms[form], target=points)
    (rows,) = Problem("mine", MLP((1, 4, 1)), [term], strips([0, 1])).pooled().rows
    assert torch.equal(rows.points, points)
    assert rows.points.dtype == torch.float64


def test_points_and_targets_of_each_client_may_be_lists() -> None:
    points, target = [[[0.1], [0.2]], [[0.6]]], [[1.0, 2.0], [3.0]]
    term = Term("data", lambda u, row: u.value - row.target, points, target=target)
    made = Problem("mine", MLP((1, 4, 1)), [term], strips([0, 0.5, 1]))
    shards = [shard.rows[0] for shard in made.shards()]
    assert [rows.points.flatten().tolist() for rows in shards] == [[0.1, 0.2], [0.6]]
    assert [rows.target.tolist() for rows in shards] == target
