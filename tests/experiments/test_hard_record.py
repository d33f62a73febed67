"""The experiment on hard problems: its record, its page, what is kept of a run."""

import json

import pytest
from experiments import _hard, hard
from experiments._hard_tables import error
from experiments._record import select

from fedsciml.federation.history import Round


def test_every_entry_is_a_run_that_is_planned() -> None:
    entries = json.loads(hard.EXPERIMENT.path.read_text())
    found = [tuple(e[name] for name in hard.KEY) for e in entries]
    assert len(set(found)) == len(found)
    assert set(found) <= set(_hard.cases())
    easy = set(_hard.every(_hard.EASY, range(5)))
    assert easy <= set(found)


def test_a_run_is_told_by_when_it_gets_to_1e_6_and_its_error_every_ten_rounds() -> None:
    errors = [1e-1] * 11 + [9e-7, 1e-5, 1e-10]
    history = [
        Round(k, x, relative_l2=x, ranks=(3, 5), messages=4 * k, bytes_up=100 * k)
        for k, x in enumerate(errors, 1)
    ]
    found = hard.told(history, 100, 1e-9)
    assert found["reached"]["round"] == 12
    assert found["reached"]["messages"] == 48
    assert found["reached"]["sent"] == 1200
    assert found["round"] == [10, 14]
    assert (found["rank"], found["largest"], found["cut"]) == (4, 5, False)
    assert [error(found, k) for k in (10, 13, 100)] == [1e-1, 1e-1, 1e-10]
    assert hard.told(history[:13], 100, 1e-9)["cut"]
    assert not hard.told(history[:11], 11, 1e-9)["reached"]


def test_a_run_ends_at_its_error_and_keeps_what_the_start_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = ("sine2:points=0.1,width=6,first=auto", "basis=own", 0)
    entry = hard.measure(*case, 2, 1e-9)
    assert entry["round"] == [2]
    assert entry["first"] in [f for f, _ in entry["tried"]]
    assert hard.measure(*case, 9, 10.0)["round"] == [1]
    monkeypatch.setattr(hard, "LIMIT", 0.0)
    assert hard.measure(*case, 9, 0.0)["cut"]
    assert json.loads(json.dumps(entry)) == entry


def test_a_problem_s_word_takes_more_options() -> None:
    assert _hard.word("heat", "", "first=auto") == "heat:first=auto"
    assert _hard.word("heat:points=2", "seed=1") == "heat:points=2,seed=1"
    assert _hard.word("heat") == "heat"
    bends, straight = _hard.bent("gramacy_lee:first=5")
    assert select([straight._asdict()], problem=bends.problem)
    assert straight.method == "basis=own policy=natural:curves=false"
