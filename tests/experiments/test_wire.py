"""The studies of what crosses the wire: their records and what they claim."""

import json

import pytest
from experiments import backends, compression

from fedsciml import methods, problems, run
from fedsciml.wrappers.compress import compressed


def test_an_entry_of_a_compression_is_what_the_run_reports() -> None:
    word = "bfloat16,feedback"
    entry = compression.measure("allen_cahn", "fipa", word, 1, 3)
    assert json.loads(json.dumps(entry)) == entry
    method = compressed(methods.load("fipa"), word)
    history = run(problems.load("allen_cahn"), method, 3, 1).history
    assert entry["error"] == pytest.approx(
        [line.relative_l2 for line in history], rel=5e-4
    )
    assert entry["up"] == pytest.approx([line.bytes_up for line in history], 5e-4)
    assert entry["round"] == [1, 2, 3]


def test_the_table_has_medians_over_the_starts_that_get_there() -> None:
    entries = [
        {
            **{"problem": "allen_cahn", "method": "fipa", "compression": "float32"},
            **{"seed": seed, "rounds": 3, "round": [1, 2, 3], "mean_rank": 5.0},
            **{"error": [1.0, 1e-7, 10.0**-seed], "up": [10**6, 2 * 10**6, 3 * 10**6]},
            **{"down": [1, 2, 3]},
        }
        for seed in (8, 9, 11)
    ]
    row = compression.table(entries).markdown().splitlines()[2]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == [
        *("allen_cahn", "fipa", "float32", "3", "1.0e-09", "1.0e-08"),
        *("2", "3 (1 of 3)", "2", "3 (1 of 3)", "3", "3e-06", "5.0"),
    ]


def test_a_client_has_so_many_rows_however_many_clients_there_are() -> None:
    entry = backends.scaling("inprocess", 3)
    # Of the published 800 + 40 points as many for every 50 clients.
    assert entry["rows"] == pytest.approx(3 * backends.ROWS * 1.05, abs=1)
    assert 0 < entry["sum_rank"] <= entry["rows"]
    assert entry["peak_MB"] >= 0
    entry |= {"kind": "scaling", "backend": "inprocess", "clients": 3}
    _, table = backends.tables([entry])
    assert (
        table.markdown()
        .splitlines()[2]
        .startswith(f"| inprocess | 3 | {entry['rows']} |")
    )


def test_both_doors_carry_the_same_uploads() -> None:
    pytest.importorskip("flwr")
    # ``exchanges`` asserts it.
    entry = backends.overhead(2, rounds=2)
    assert entry["parameters"] == 2209
    rank, loss = divmod(entry["bytes"], (2209 + 1) * 8)
    assert 0 < rank <= 20
    assert loss == 8
