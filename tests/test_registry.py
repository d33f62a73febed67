"""Entries by name, their options, and the words that ask for them."""

import re
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsciml import methods, policies, problems, wrappers
from fedsciml.linalg import ranks
from fedsciml.registry import (
    REQUIRED,
    UNSTATED,
    Option,
    Word,
    options_of,
    pair,
    pairs,
    suggestion,
)
from fedsciml.wrappers.resample import Resampled

WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)

OPTIONS: dict[str, Mapping[str, Option]] = {
    **{f"method {name}": wrappers.options(name) for name in methods.names()},
    **{f"policy {name}": policies.options(name) for name in policies.names()},
    **{f"problem {name}": problems.options(name) for name in problems.names()},
    **{f"rank {name}": options_of(make) for name, make in ranks.SCHEDULES.items()},
    "resampling": options_of(Resampled),
}
SEVERAL = {
    "count": Option(int),
    "rate": Option(float, 0.5),
    "fast": Option(bool, False),
    "solver": Option(Literal["adam", "sgd"], "adam"),
    "policy": Option(str, "natural"),
    "limit": Option(int | None, None),
}


def values(text: str, positional: int = 0, named: bool = True) -> dict[str, object]:
    """A word read by the types of ``SEVERAL``."""
    word = Word("thing", text, "NAME:COUNT,OPTION=VALUE", named)
    return word.values(SEVERAL, positional)


@pytest.mark.parametrize("entry", OPTIONS)
def test_every_option_is_read_from_its_own_default(entry: str) -> None:
    for option in OPTIONS[entry].values():
        if option.default not in (REQUIRED, UNSTATED):
            found = option.read(option.default_text)
            assert found == option.default
            assert type(found) is type(option.default)
            option.check(found)


@pytest.mark.parametrize("entry", OPTIONS)
def test_a_value_of_another_type_is_refused(entry: str) -> None:
    for option in OPTIONS[entry].values():
        for value in ({}, object(), 1 if bool in option.kinds else True):
            with pytest.raises(ValueError, match="^must be "):
                option.check(value)


@pytest.mark.parametrize("registry", [methods, policies, problems])
def test_a_name_without_its_second_letter_is_found_again(registry: object) -> None:
    for name in registry.names():  # type: ignore[attr-defined]
        misspelt = name[0] + name[2:]
        with pytest.raises(ValueError, match=f"There is no .* '{misspelt}'; ch.*mean"):
            registry.options(misspelt)  # type: ignore[attr-defined]


def test_the_nearest_name_is_suggested_if_one_is_near() -> None:
    assert suggestion("dampin", ["memory", "damping"]) == " Did you mean 'damping'?"
    assert suggestion("qqqq", ["memory", "damping"]) == ""


def test_options_are_the_signature_and_what_the_docstring_says() -> None:
    def make(
        tau: int,
        rate: float = 0.1,
        local: Literal["adam", "sgd"] = "sgd",
        lengths: tuple[float, ...] = (1.0,),
    ) -> None:
        r"""A maker of \mu.

        Args:
            tau: Local epochs: many.
            rate: Of adam, or
                of sgd.
            lengths: For Python alone.

        Raises:
            ValueError: Never.
        """

    assert options_of(make) == {
        "tau": Option(int, REQUIRED, "Local epochs: many."),
        "rate": Option(float, 0.1, "Of adam, or of sgd."),
        "local": Option(Literal["adam", "sgd"], "sgd", ""),
    }


def test_what_only_python_can_give_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(tau: int, where: slice, more=None) -> object:  # noqa: ANN001
        return tau, where, more

    monkeypatch.setattr("fedsciml.methods.adam.make", make)
    assert methods.options("adam") == {"tau": Option(int)}
    found: object = methods.load("adam", tau=2, where=slice(9), more=3)
    assert found == (2, slice(9), 3)
    with pytest.raises(
        ValueError, match="'adam' cannot be made: missing a re.*'where'"
    ):
        methods.load("adam", tau=2)
    with pytest.raises(ValueError, match="no option 'wher'; its options are tau"):
        methods.load("adam", tau=2, wher=slice(9))


@given(st.integers(), st.floats())
def test_numbers_are_read_from_their_texts(whole: int, number: float) -> None:
    assert Option(int).read(str(whole)) == whole
    found = Option(float | None).read(str(number))
    assert found == number or (isnan(number) and isnan(float(str(found))))


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (int, "2.0", "must be a whole number, got '2.0'"),
        (int | None, "", "must be a whole number or none, got ''"),
        (float, "much", "must be a number, got 'much'"),
        (float, "none", "must be a number, got 'none'"),
        (bool, "1", "must be true or false, got '1'"),
        (Literal["adam", "sgd"], "adm", "must be one of adam, sgd; got 'adm'"),
        (Sequence[float], "0,half,1", "must be a list of numbers, got '0,half,1'"),
    ],
)
def test_a_text_of_another_type_is_refused(
    kind: object, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Option(kind).read(text)


@given(
    name=WORDS,
    count=st.integers(),
    rate=st.floats(allow_nan=False),
    fast=st.booleans(),
    first=st.booleans(),
    blank=st.sampled_from(["", " "]),
)
def test_a_word_is_put_together_and_taken_apart(
    name: str, count: int, rate: float, fast: bool, first: bool, blank: str
) -> None:
    items = [f"{count}" if first else f"count={count}", f"rate = {rate}"]
    items += ["fast"] if fast else []
    text = f"{blank}{name}:{blank}{f'{blank},{blank}'.join(items)}"
    expected = {"count": count, "rate": rate} | ({"fast": True} if fast else {})
    assert Word("thing", text, "").name == name
    assert values(text, positional=1) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:3", {"count": 3}),
        ("a:3,rate=1e-3,solver=sgd", {"count": 3, "rate": 1e-3, "solver": "sgd"}),
        ("a:3,fast=False,limit=none", {"count": 3, "fast": False, "limit": None}),
        ("a:3,limit=4", {"count": 3, "limit": 4}),
        ("a:3,rate=1,rate=2", {"count": 3, "rate": 2.0}),
        (
            "a:3,policy=line_search:damping=1,memory=5,rate=2",
            {"count": 3, "policy": "line_search:damping=1,memory=5", "rate": 2.0},
        ),
        ("a:3,policy=b:c=1", {"count": 3, "policy": "b:c=1"}),
    ],
)
def test_words_are_read_by_the_types_of_the_options(
    text: str, expected: dict[str, object]
) -> None:
    found = values(text, positional=1)
    assert found == expected
    assert list(map(type, found.values())) == [type(expected[key]) for key in found]


def test_a_word_without_a_name_is_all_items() -> None:
    assert values("3,rate=2", positional=1, named=False) == {"count": 3, "rate": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "In the thing 'a', count is missing; give NAME:COUNT,OPTION=VALUE."),
        ("a:x", "In the thing 'a:x', count must be a whole number, got 'x'; give NAM"),
        ("a:3,4", "Thing 'a' has no option '4'; its options are count, rate,"),
        ("a:3,rat=4", "Thing 'a' has no option 'rat'; .* Did you mean 'rate'?"),
        ("a:3,rate", "rate must be a number, got ''"),
        ("a:3,", "Thing 'a' has no option ''"),
        ("a:3,solver=adm", "solver must be one of adam, sgd; got 'adm'"),
    ],
)
def test_what_a_word_lacks_or_has_too_much_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        values(text, positional=1)
    assert "\n" not in str(caught.value)


def test_pairs_are_json_or_words() -> None:
    assert pair("edges=[0,0.5,1]") == ("edges", [0, 0.5, 1])
    assert pair("policy=line_search:memory=5") == ("policy", "line_search:memory=5")
    text = "clients=3 partition=pieces:2 data=null"
    assert pairs(text) == {"clients": 3, "partition": "pieces:2", "data": None}
    assert pairs("") == {}
    for wrong in ("three", "=3"):
        with pytest.raises(ValueError, match=f"'{wrong}' is not KEY=VALUE"):
            pairs(f"a=1 {wrong}")


PROBLEM = """
from fedsciml import problems

def make(clients: int = 2):
    return problems.load("sine2", clients=clients, points=POINTS)
"""


def test_files_of_the_same_name_are_entries_of_their_own(tmp_path: Path) -> None:
    found = []
    for points in (0.1, 0.2):
        (tmp_path / str(points)).mkdir()
        path = tmp_path / str(points) / "bratu.py"
        path.write_text(PROBLEM.replace("POINTS", str(points)))
        found.append(len(problems.load(str(path)).terms[0].points))
    assert found == [80, 160]
    assert problems.load("bratu").name == "bratu"
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_file_that_has_changed_is_imported_again(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(PROBLEM.replace("POINTS", "0.1"))
    first = problems.load(str(path), clients=1)
    path.write_text(PROBLEM.replace("POINTS", "0.2"))
    assert len(first.terms[0].points) == 80
    assert len(problems.load(str(path), clients=1).terms[0].points) == 160


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "has no function make(); a problem file needs one that returns"),
        ("import torch_\ndef make(): ...\n", "line 1 cannot be imported: ModuleNotFo"),
        ("def make(: ...\n", "line 1 is not Python: "),
        ("\x00", "is not Python: "),
        ("make = 3\n", "cannot be imported: TypeError: make is not a function"),
        ("def make(): return 3\n", "must return a Problem, got int"),
        ("def make():\n    return 1 / 0\n", "failed, line 2: ZeroDivisionError: "),
        ("raise ValueError('oh')\nmake = 3\n", "line 1 cannot be imported: ValueErr"),
    ],
)
def test_a_file_that_is_no_entry_says_why(
    tmp_path: Path, source: str, message: str
) -> None:
    path = tmp_path / "a.py"
    path.write_text(source)
    with pytest.raises(ValueError, match=re.escape(message)) as told:
        problems.load(str(path))
    assert str(path) in str(told.value)


def test_a_file_that_is_not_there_is_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rod.py").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/rood.py. Did you mean 'rod.py'"):
        problems.load("rood.py")


def test_a_word_is_a_path_where_a_path_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(data: Path, other: Path | str = "") -> object:
        return data, other

    monkeypatch.setattr("fedsciml.methods.adam.make", make)
    found: object = methods.load("adam", data="sites", other="x")
    assert found == (Path("sites"), "x")
    with pytest.raises(ValueError, match="must be a path, got 3"):
        methods.load("adam", data=3)
