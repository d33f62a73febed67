"""Per-client data files."""

import re
import traceback
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import given

from fedsciml.collocation import explicit
from fedsciml.network import MLP
from fedsciml.problem import DataFile, Points, Problem, SiteError, Term, outward
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
        None,
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
        ("x,u\n1,two\n", "a.csv, row 1, column 'u': the text is not a number"),
        ("x,u\n1,1_000\n", "a.csv, row 1, column 'u': the text is not a number"),
        ("x,u\n1,\n", "a.csv, row 1, column 'u': the cell is empty, not a number"),
        ('x,u\n1,"2,5"\n', "a.csv, row 1, column 'u': .* decimal comma. Give decimal="),
        ("x,u\n1,5,2,5\n", "a.csv, row 1 has 4 columns.*decimal signs commas"),
        ("x,u\n1,2\n1,2,3\n", "a.csv, row 2 has 3 columns, but the header has 2"),
        ("x,v\n1,2\n", "a.csv has no column 'u' among its 2. A CSV file starts"),
        ("x,U\n1,2\n", "a.csv has no column 'u' among its 2. It has 'U', which is"),
        ("1,2\n3,4\n", "a.csv has no header.* must start with .*'x,u'"),
        ("1.5;2\n3;4\n", "a.csv has no header.* must start with .*'x,u'"),
        ("x,u,u\n1,2,3\n", "a.csv has column 'u' twice"),
        ("x;u\n1;2\n", "a.csv looks as if .* separated by ';': give delimiter=';'"),
        ("note\tx\tu\n1\t2\t3\n", r"separated by '\\t': give delimiter='\\t'"),
        ('"x";"u"\n"1";"2"\n', "a.csv looks as if .* give delimiter=';'"),
        (
            'x,u\n1,"2\n',
            "a.csv cannot be read as CSV at line 2: unexpected end of data",
        ),
        ("x,u\n\n", "a.csv has column names, but no rows: a header only"),
        ("", "a.csv is empty; it needs a line of column names, 'x,u'"),
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
        ({"x": [1.0]}, "a.npz has no column 'u' among its 1"),
        ({"x": [], "u": []}, "a.npz has column names, but no rows"),
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


SECRET = "0.5076383783267356"
"""What must not leave the site."""


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET},0.3\n1,2\n",
        f"{SECRET};0.3\n1;2\n",
        f"name,{SECRET}\n1,2\n",
        f"x,{SECRET}\n1,2\n",
        f"x,u\n1,{SECRET}x\n",
        f'x,u\n1,"{SECRET.replace(".", ",")}"\n',
        f"x,u\n1,2,{SECRET}\n",
        f"x,u\n1,'{SECRET}'\n",
        f'x,u\n1,"{SECRET}"2\n',
        f'x,u\n1,"{SECRET}\n',
        f"x,u\n{SECRET},nan\n",
        f"x,u\n{SECRET},1\x00\n",
        "x" * 200_000 + SECRET,
    ],
)
def test_no_error_of_a_file_holds_what_is_in_it(tmp_path: Path, text: str) -> None:
    folder = tmp_path / SECRET
    folder.mkdir()
    with pytest.raises(SiteError) as caught:
        load_points([csv(folder / "a.csv", text)], ["x"], ["u"])
    for said in (str(caught.value), outward(caught.value)):
        assert "a.csv" in said
        assert not {SECRET, SECRET[2:]} & set(re.findall(r"[\d.]+", said))
        assert len(said) < 250
    assert str(folder) in "".join(traceback.format_exception(caught.value))


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = "x;note;u\n1,5;a;-2,5e-1\n;;\n2;b;NA\n3;c;-999,0\n 4 ;d; 7\n"
    german = csv(tmp_path / "a.csv", text)
    form: dict[str, Any] = {"delimiter": ";", "decimal": ","}
    form["missing"] = ["NA", "-999"]
    data = load_points([german], ["x"], ["u"], **form)
    other = csv(tmp_path / "b.csv", "x,u\n1,2\n")
    both = load_points([other, DataFile(str(german), **form)], ["x"], ["u"])
    assert both.points[0].tolist() == [[1.0]]
    for found in (data.points[0], both.points[1]):
        assert found.tolist() == [[1.5], [4.0]]
    assert data.target is not None
    assert data.target[0].tolist() == [-0.25, 7.0]


@pytest.mark.parametrize("delimiter", [" ", "\t", "|"])
def test_spaces_around_cells_count_for_nothing(tmp_path: Path, delimiter: str) -> None:
    text = 'x;  u\n 1;   2\n"3"; "4"\n'.replace(";", delimiter)
    found = load_points(
        [csv(tmp_path / "a.csv", text)], ["x", "u"], delimiter=delimiter
    )
    assert found.points[0].tolist() == [[1, 2], [3, 4]]


def test_missing_values_of_an_archive_are_left_out_if_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "a.npz", x=[1, 2, 3, -9], u=[np.nan, 5, 6, 7])
    found = load_points([tmp_path / "a.npz"], ["x"], ["u"], missing=["NaN", "-9.0"])
    assert found.points[0].tolist() == [[2], [3]]
    assert "2 of 4 rows have a missing value" in caplog.text
    with pytest.raises(ValueError, match="missing value in each of its 4 rows"):
        load_points([tmp_path / "a.npz"], ["x"], missing=["1", "2", "3", "-9"])


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"delimiter": ";;"}, "delimiter is one letter"),
        ({"delimiter": "1"}, "delimiter is one letter"),
        ({"decimal": ","}, "not the delimiter"),
        ({"decimal": ";"}, "decimal sign is"),
        ({"missing": "NA"}, "list of words"),
        ({"most_rows": 0}, "at least 1"),
    ],
)
def test_a_form_without_sense_is_refused(
    tmp_path: Path, form: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_points([csv(tmp_path / "a.csv", "x\n1\n")], ["x"], **form)


def test_too_many_rows_are_refused_before_they_are_read(tmp_path: Path) -> None:
    rows = 2_000_000
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(rows))
    tracemalloc.start()
    with pytest.raises(ValueError, match="a.npz has more than 1000000 rows. Thin"):
        load_points([tmp_path / "a.npz"], ["x"], most_rows=10**6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows  # of 8 bytes each
    with pytest.raises(ValueError, match="a.csv has more than 2 rows"):
        load_points([csv(tmp_path / "a.csv", "x\n1\n2\n3\n")], ["x"], most_rows=2)


def member(header: str, data: bytes) -> bytes:
    """A file in NumPy's format whose header may lie."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def of(shape: str, kind: str = "<f8") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "content",
    [
        member(of("(3,)"), bytes(16)),
        member(of("(1,)"), bytes(16)),
        member(of("(-2,)"), bytes(16)),
        member(of("('2',)"), bytes(16)),
        member("{" * 999, bytes(16)),
        member("'''", b""),
        member("0.5076383783267356", b""),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUM",
        b"",
    ],
)
def test_a_member_that_lies_is_damaged(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", content)
    with pytest.raises(SiteError, match="a.npz, column 'x' is damaged") as caught:
        load_points([tmp_path / "a.npz"], ["x"])
    assert "0.50" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_archive_is_named_wherever_it_is_damaged(
    tmp_path: Path, compressed: bool
) -> None:
    path = tmp_path / "a.npz"
    x = np.random.default_rng(0).standard_normal(20)
    (np.savez_compressed if compressed else np.savez)(path, x=x)
    whole = path.read_bytes()
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with suppress(SiteError):
            assert np.array_equal(load_points([path], ["x"]).points[0][:, 0], x)
        path.write_bytes(whole[:at])
        with pytest.raises(SiteError, match=r"a\.npz"):
            load_points([path], ["x"])


def test_points_show_no_numbers() -> None:
    assert str(Points([torch.full((2, 1), 0.25)], None)) == "Points of [2] rows"


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


def test_a_folder_is_the_list_of_its_files_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        csv(tmp_path / f"site{number}.csv", f"x\n{number}\n")
    (tmp_path / ".DS_Store").write_bytes(b"\x00")
    found = load_points(str(tmp_path), ["x"]).points
    assert [float(points) for points in found] == [1, 9, 10]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no data files; put in one .csv or .npz file per client"),
        (("a.csv", "b.xlsx"), r"holds b\.xlsx\. Is that a client's\?"),
        (("a.csv", "old.csv/b.csv"), r"holds old\.csv\. Is that"),
        (("1.txt", "2.txt", "3.txt", "4.txt", "5.txt", "6.txt"), r"5\.txt, \.\.\."),
    ],
)
def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        csv(tmp_path / name, "x\n1\n")
    with pytest.raises(SiteError, match=message):
        load_points(tmp_path, ["x"])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no folder gone with") as told:
        load_points(tmp_path / "gone", ["x"])
    assert str(tmp_path) not in str(told.value)
