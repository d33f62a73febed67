"""What an error at a site tells those outside."""

import traceback

import pytest
import torch
from cases import given

from fedsciml.collocation import explicit
from fedsciml.network import MLP
from fedsciml.problem import Problem, SiteError, Term, outward

SECRET = "0.507638378326"


def raised(error: Exception) -> Exception:
    """The error, as it is caught."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        KeyError(SECRET),
        OSError(2, SECRET, SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
        ExceptionGroup(SECRET, [SiteError(SECRET)]),
        SiteError("row 7", SECRET),
    ],
)
def test_an_error_tells_no_value_outside(error: Exception) -> None:
    caught = raised(error)
    assert SECRET not in outward(caught)
    assert SECRET in "".join(traceback.format_exception(caught))


def test_an_error_tells_kind_and_line_or_what_a_site_may_tell() -> None:
    assert "ValueError in test_outward.py, line " in outward(raised(ValueError("a")))
    assert outward(ValueError("a")).startswith("ValueError. Its text can hold data")
    assert outward(raised(SiteError("row 7", "0.5"))) == "row 7"


def test_what_is_told_is_one_line_of_bounded_length() -> None:
    said = outward(SiteError("a\nINFO: b\x1b[2J\u2028" + "x" * 10**6))
    assert said.startswith("a INFO: b [2J xxx")
    assert said.isprintable()
    assert len(said) == 300


@pytest.mark.parametrize(
    ("points", "target"),
    [([[0.25], [7.507638]], None), ([[0.25], [0.5]], [7.507638, float("nan")])],
)
def test_a_problem_refuses_data_without_telling_them(
    points: list[list[float]], target: list[float] | None
) -> None:
    x = torch.tensor(points, dtype=torch.float64)
    known = None if target is None else torch.tensor(target, dtype=torch.float64)
    with pytest.raises(
        SiteError, match=r"Point 1 of term 'data' lies|index \[1\]"
    ) as e:
        Problem(
            "sensors",
            MLP((1, 3, 1)),
            [Term("data", given, [x], None if known is None else [known])],
            explicit(1),
            domain=([0.0], [1.0]),
        )
    assert "7.507" not in str(e.value)


def test_terms_and_rows_show_no_numbers() -> None:
    x = torch.full((2, 1), 0.507638)
    term = Term("data", given, [x], [x[:, 0]])
    problem = Problem("sensors", MLP((1, 3, 1)), [term], explicit(1))
    for shown in (term, problem.terms, problem.shards()):
        assert "0.50" not in repr(shown)
