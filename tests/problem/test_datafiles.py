"""Per-client data files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import given

from fedsciml.collocation import explicit
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term
from fedsciml.problem.datafiles import load_points


def csv(path: Path, text: str) -> Path:
    """A file with this text."""
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_npz_files_make_the_terms_of_a_problem(tmp_path: Path) -> None:
    x, t, u = np.array([0.1, 0.2, 1 / 3]), np.arange(3), np.array([1e-300, -2.5, 7])
    np.savez(tmp_path / "b.npz", x=x, t=t, u=u, unused=np.zeros(5))
    files = [
        csv(tmp_path / "a.csv", "u, x, note, t\n5,0.5,7,1e-1\n\n6,0.25,8,-0.2\n"),
        tmp_path / "b.npz",
        csv(tmp_path / "c.csv", "x,t,u\n"),
    ]
    data = load_points(files, ["x", "t"], ["u"])
    assert data.points[0].tolist() == [[0.5, 0.1], [0.25, -0.2]]
    assert data.points[1].tolist() == np.stack([x, t], 1).tolist()
    assert data.target is not None
    assert [v.tolist() for v in data.target] == [[5, 6], u.tolist(), []]
    assert data.points[2].shape == (0, 2)
    rows = [Term("data", given, data.points, target=data.target)]
    with pytest.raises(ValueError, match="client 2 of 3 without any point"):
        Problem("sites", MLP((2, 3, 1)), rows, explicit(3), coordinates="xt")
    rows.append(Term("all", given, [torch.ones(1, 2)] * 3, target=1.0))
    problem = Problem("sites", MLP((2, 3, 1)), rows, explicit(3), coordinates="xt")
    assert [s.points for s in problem.shards()] == [3, 4, 1]


def test_several_targets_are_columns_and_none_are_none(tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "\ufeffx,u,v\n1,2,3\n")
    data = load_points([file], ["x"], ["v", "u"])
    assert data.target is not None
    assert data.target[0].tolist() == [[3, 2]]
    assert load_points([file], ["x"]).target is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,u\n1,2\n3,nan\n", "a.csv, row 2, column 'u': nan is not a finite number"),
        ("x,u\n1,2\n-inf,2\n", "a.csv, row 2, column 'x': -inf is not a finite"),
        ("x,u\n1,two\n", "a.csv, row 1, column 'u': 'two' is not a number"),
        ("x,u\n1,\n", "a.csv, row 1, column 'u': '' is not a number"),
        ("x,u\n1,2\n1,2,3\n", "a.csv, row 2 has 3 columns, but the header has 2"),
        ("x,v\n1,2\n", "a.csv has no column 'u'; its columns are x, v"),
        ("1,2\n3,4\n", "a.csv has no column 'x'.*starts with a line of column names"),
        ("x,u,u\n1,2,3\n", "a.csv has column 'u' twice"),
        ("", "a.csv has no column 'x'; its columns are none"),
    ],
)
def test_bad_csv_is_named_by_file_row_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    good = csv(tmp_path / "good.csv", "x,u\n1,2\n")
    with pytest.raises(ValueError, match=message):
        load_points([good, csv(tmp_path / "a.csv", text)], ["x"], ["u"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0, 2.0], "u": [1.0, np.nan]}, "a.npz, row 2, column 'u': nan"),
        ({"x": [1.0, 2.0], "u": [1.0]}, "column 'u' has 1 rows, but column 'x' has 2"),
        ({"x": [1.0]}, "a.npz has no column 'u'; its columns are x"),
        ({"x": [[1.0]], "u": [1.0]}, r"column 'x' has shape \(1, 1\)"),
        ({"x": ["1"], "u": [1.0]}, "must be one array"),
        ({"x": [1j], "u": [1.0]}, "real numbers"),
        ({"x": np.array([None]), "u": [1.0]}, "pickled objects"),
    ],
)
def test_bad_npz_is_named_by_file_row_and_column(
    tmp_path: Path, columns: dict, message: str
) -> None:
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(ValueError, match=message):
        load_points([tmp_path / "a.npz"], ["x"], ["u"])


def test_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data file .*gone\.csv"):
        load_points([tmp_path / "gone.csv"], ["x"])
    with pytest.raises(ValueError, match=r"a\.txt is neither \.csv nor \.npz"):
        load_points([csv(tmp_path / "a.txt", "x\n1\n")], ["x"])
    with pytest.raises(ValueError, match="is not a NumPy archive"):
        load_points([csv(tmp_path / "a.npz", "x\n1\n")], ["x"])
    (tmp_path / "b.csv").write_bytes(b"x\n\xff\xfe\n")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        load_points([tmp_path / "b.csv"], ["x"])


def test_string_instead_of_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one file per client"):
        load_points("a.csv", ["x"])
    with pytest.raises(ValueError, match="lists of column names"):
        load_points(["a.csv"], "x")
