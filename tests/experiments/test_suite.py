"""The benchmark: what is kept of a run, and the tables drawn from it."""

import json
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest
from experiments import _runs, _suites, _table, suite
from experiments._command import main
from experiments._record import Entry
from experiments._runs import Runs
from experiments._suite_tables import against, reached
from experiments._table import AtMost, Spread, Table

from fedsciml import problems
from fedsciml.federation.history import Round


def entry(method: str, errors: list[float], sent: int, **changed: object) -> Entry:
    """A run that sends so many bytes and takes a second and two epochs a round."""
    rounds = list(range(1, len(errors) + 1))
    return {
        "problem": "sine2",
        "method": method,
        "seed": 0,
        "rounds": len(errors),
        "budget": 0.0,
        "quantity": "mse",
        "round": rounds,
        "error": errors,
        "bytes": [sent * k for k in rounds],
        "seconds": [float(k) for k in rounds],
        "epochs": [2 * k for k in rounds],
        "rank": [float(k) for k in rounds],
        **changed,
    }


def test_the_first_rounds_and_the_last_are_kept() -> None:
    assert _runs.thinned(60) == list(range(60))
    assert _runs.thinned(1) == [0]
    long = _runs.thinned(5000)
    assert long[:60] == list(range(60))
    assert long[-1] == 4999
    assert all(b - a <= 1 + a / 50 for a, b in pairwise(long))


def test_a_run_tells_errors_bytes_seconds_and_epochs_of_its_rounds() -> None:
    found = suite.measure("sine2", "fedavg", 0, 1, 0.0)
    fedavg = _suites.options_of("sine2", "fedavg")
    assert (found["round"], found["epochs"]) == ([1], [fedavg["tau"]])
    p, clients = 901, 2
    down, up = 8 * p, 8 * (p + 2)  # theta; the update, the loss and the share
    assert found["bytes"] == [clients * (up + down)]
    assert 0 < found["error"][0] < 1
    assert found["seconds"][0] > 0
    assert json.loads(json.dumps(found)) == found


def test_a_run_goes_on_until_it_has_used_its_budget() -> None:
    found = suite.measure("sine2", "fipa", 0, 2, 0.3)
    assert found["seconds"][-1] >= 0.3
    assert found["seconds"][-2] < 0.3
    assert len(found["round"]) > 2


def test_every_method_has_the_same_seconds_on_other_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = _suites.EXTRA["heat"]._replace(seconds=0.4)
    monkeypatch.setitem(_suites.EXTRA, "heat", short)
    cases = {method: case for _, method, *case in _suites.cases(["heat"], suite.BESIDE)}
    assert {"fipa", "gauss_newton", "deepxde", "fedavg"} <= set(cases)
    for method, (_, rounds, budget) in cases.items():
        seconds = suite.measure("heat", method, 0, rounds, budget)["seconds"]
        assert seconds[-1] >= 0.4, method
        assert [s for s in seconds if s >= 0.4] == seconds[-1:], method


def test_parties_alone_are_averaged() -> None:
    one, two = (
        Round(1, 1.0, relative_l2=e, mse=e**2, ranks=(r,), seconds=1.0, errors={"u": u})
        for e, r, u in ((0.2, 3, 1.0), (0.4, 5, 2.0))
    )
    (mean,) = suite.averaged([[one, one], [two]])
    assert mean.relative_l2 == pytest.approx(0.3)
    assert mean.mse == pytest.approx(0.1)
    assert (mean.ranks, mean.seconds) == ((3, 5), 2.0)
    assert mean.errors == {"u": 1.5}


def test_the_longest_run_from_a_start_counts() -> None:
    short, long = entry("fedavg", [1.0], 8), entry("fedavg", [1.0, 0.5], 8, budget=9.0)
    assert suite.counted([long, short]) == [long]
    older = entry("fedavg", [1.0, 0.5, 0.2], 8)
    assert suite.counted([long, older]) == [long]
    bounded, older = entry("fipa", [1.0], 8, rounds=100), entry("fipa", [1.0, 0.5], 8)
    assert suite.counted([bounded, older]) == [bounded]


def test_only_rivals_count_as_if_stopped_at_their_lowest() -> None:
    run = entry("fedavg", [0.5, 0.1, 0.3], 10)
    assert _runs.error({**run, "method": "fipa"}, "bytes", 35) == 0.3
    assert _runs.error(run, "bytes", 9) == inf
    assert _runs.error(run, "bytes", 10) == 0.5
    assert _runs.error(run, "bytes", 35) == 0.1
    assert _runs.first(run, "seconds", 0.2) == 2.0
    assert _runs.first(run, "seconds", 0.01) == inf


def test_ahead_is_from_where_on_the_error_stays_below() -> None:
    ours = entry("fipa", [0.9, 0.2, 1e-3, 1e-6], 100)
    theirs = entry("fedavg", [0.5, 0.4, 0.3, 0.25] + [0.1] * 30, 20)
    # 100: .9 > .1;  200: .2 > .1;  300: 1e-3 < .1
    assert _runs.ahead(ours, theirs, "bytes") == 300
    assert _runs.ahead(theirs, ours, "bytes") == inf


def test_equal_costs_compare_what_both_have_spent() -> None:
    ours = entry("fipa", [0.9, 0.2, 1e-3, 1e-6], 100)
    theirs = entry("fedavg", [0.5, 0.4, 0.3], 20)
    (row,) = against(Runs([ours, theirs])).rows
    named = dict(zip(against(Runs([])).heads, row, strict=True))
    assert named["factor"] == pytest.approx(0.3 / 1e-6)
    # FedAvg stopped at 60 bytes; at FIPA's 400 it would have had no more than .3.
    assert named["fedavg at FIPA's bytes"] == AtMost(0.3)
    # FIPA had sent nothing complete at FedAvg's 60 bytes.
    assert named["FIPA at fedavg's bytes"] is None
    assert named["FIPA at fedavg's seconds"] == 1e-3
    assert named["FIPA ahead from MB"] is None


def test_medians_and_quartiles_are_those_of_the_starts() -> None:
    errors = [4e-3, 1e-3, 2e-3, 8e-3, 3e-3]
    runs = Runs([entry("fipa", [e], 8, seed=k) for k, e in enumerate(errors)])
    found = _runs.spread(runs.errors("sine2", "fipa"))
    assert found == Spread(3e-3, 2e-3, 4e-3, 5)
    assert runs.median("sine2", "fedavg") is None
    assert _runs.spread([1e-4, 1.0]) == Spread(
        *(pytest.approx(x) for x in (1e-2, 1e-3, 1e-1)), 2
    )
    assert _runs.middle([1.0, inf, inf]) is None
    assert _runs.middle([1.0, 2.0, inf]) == 2.0


def test_tables_read_the_same_in_markdown_and_latex() -> None:
    table = Table(
        "t",
        "What it shows.",
        ["a_b", "c"],
        [["x", 1.23e-5], ["y", AtMost(0.5)], ["z", Spread(1e-2, 1e-3, 1e-1, 3)]],
    )
    assert table.markdown().splitlines() == [
        "| a_b | c |",
        "| --- | --- |",
        "| x | 1.2e-5 |",
        "| y | ≤ 5.0e-1 |",
        "| z | 1.0e-2 [1.0e-3, 1.0e-1] |",
    ]
    body = table.latex()
    assert body.startswith("% What it shows.\n\\begin{tabular}{lr}\n\\toprule\n")
    assert r"a\_b & c \\" in body
    assert r"x & $1.2\cdot10^{-5}$ \\" in body
    assert body.endswith("\\bottomrule\n\\end{tabular}\n")


def test_a_table_replaces_only_what_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\n<!-- t -->\nold\n<!-- end of t -->\ntwo\n")
    _table.paste(page, "t", r"new \1")
    assert page.read_text() == "one\n<!-- t -->\nnew \\1\n<!-- end of t -->\ntwo\n"
    with pytest.raises(ValueError, match="has no lines '<!-- other -->'"):
        _table.paste(page, "other", "new")


def test_a_suite_is_told_beside_gauss_newton_deepxde_and_fedavg() -> None:
    shared = {"problem": "heat", "clients": 2, "parameters": 501, "quantity": ""}
    runs = [
        entry("fipa", [0.5, 1e-8], 10**6, **shared, each={"u": 1e-8, "nu": 0.25}),
        entry("fipa", [0.5, 1e-6], 10**6, **shared, seed=1),
        entry("gauss_newton", [0.5, 1e-9], 0, **shared),
        entry("fedavg", [0.5, 0.1, 0.3], 1, **shared),
        entry("deepxde", [0.5, 0.2, 0.3], 0, **shared),
    ]
    table = reached("extra", ["heat"], runs, {"heat": 1e-8}, rounds=2)
    (row,) = table.rows
    named = dict(zip(table.heads, row, strict=True))
    assert named["FIPA"] == pytest.approx(1e-7)  # the logarithm is interpolated
    assert (named["asked"], named["centralised Gauss-Newton"]) == (1e-8, 1e-9)
    assert named["FIPA / it"] == "1e+02"
    assert named["of each output"] == "u 1.0e-8, nu 2.5e-1"
    assert (named["FedAvg"], named["its rounds x epochs"]) == (0.1, "3 x 2")
    assert (named["DeepXDE"], named["FIPA: starts x rounds"]) == (0.2, "2 x 2")
    assert (named["MB"], named["s / round"]) == ("2", "1")


def test_a_problem_of_a_suite_is_named_with_its_arguments() -> None:
    problem = problems.parse("euler_beam:points=0.5,activation=sin")
    assert problem.parameters["points"] == 0.5
    assert problem.parameters["activation"] == "sin"
    assert _suites.options_of("euler_beam:points=0.5", "fedavg")["keep_state"]
    with pytest.raises(ValueError, match="Nothing is published of FIPA on.*'digits'"):
        _suites.options_of("digits", "fipa_paper")


def test_finished_runs_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "suite.json"
    done = entry("fipa", [0.25], 8)
    record.write_text(json.dumps([done]))
    words = ["problem=sine2", "method=fipa", "seed=0", "rounds=1"]
    assert main(["fipa", "--only", *words, "--out", str(record)]) == 0
    assert json.loads(record.read_text()) == [done]
    assert "| sine2 | MSE | 2.5e-1 (1 start)" in capsys.readouterr().out
    record.write_text(json.dumps([{**done, "method": "fedavg"}]))  # a method alone
    words[1] = "method=fedavg"
    assert main(["fipa", "--only", *words, "--out", str(record)]) == 0
    assert "| fedavg | 2.5e-1 (1 start)" in capsys.readouterr().out
