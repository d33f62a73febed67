"""The table that README begins with: all problems, enough starts, fair cells."""

import pytest
from experiments import _standing, standing
from experiments._record import Entry
from experiments._standing import DENSE, PROBLEMS, cell, rooted, row

from fedsciml import problems
from fedsciml.command.suite import FAMILIES
from fedsciml.likelihoods import Gaussian


def entry(method: str, seed: int, errors: list[float], **more: object) -> Entry:
    """A run that sends 1e6 bytes and takes half a second a round."""
    rounds = list(range(1, len(errors) + 1))
    return {
        "problem": "heat",
        "method": method,
        "seed": seed,
        "quantity": "relative_l2",
        "round": rounds,
        "error": errors,
        "bytes": [10**6 * k for k in rounds],
        "seconds": [k / 2 for k in rounds],
        **more,
    }


def test_a_cell_tells_starts_error_and_price_of_the_goal() -> None:
    runs = [
        entry("fipa", 0, [1e-2, 1e-7, 1e-9]),
        entry("fipa", 1, [1e-2, 1e-3, 1e-8]),
        entry("fipa", 2, [1e-2, 1e-3, 1e-4]),
    ]
    assert cell(runs) == "2/3, 1.0e-8; 2 / 2.5 / 1.2"
    assert cell(runs[2:], named=True, bold=True) == "0/1, **1.0e-4** (fipa)"
    central = [e | {"bytes": [0, 0, 0]} for e in runs[:1]]
    assert cell(central) == "1/1, 1.0e-9; 2 / - / 1"
    assert cell([]) is None


def test_of_ours_the_error_at_the_end_counts_and_medians_are_those_of_all_tables() -> (
    None
):
    runs = [entry("fipa", 0, [1e-2, 1e-7, 1e-5]), entry("fipa", 1, [1e-2, 1e-7, 1e-9])]
    assert cell(runs) == "1/2, 1.0e-7; 2 / 2 / 1"
    rivals = [e | {"method": "fedavg"} for e in runs]
    assert cell(rivals) == "2/2, 1.0e-8; 2 / 2 / 1"


def test_the_best_of_averaging_is_the_method_of_the_lowest_median() -> None:
    runs = [
        *(entry("fedavg", k, [e, 1.0]) for k, e in enumerate((0.1, 0.2, 0.3))),
        *(entry("scaffold", k, [e, 1.0]) for k, e in enumerate((0.01, 0.4, 0.5))),
        entry("adam", 0, [1e-2]),
        entry("fipa", 0, [1e-3]),
    ]
    ours, _, _, averaging, deepxde = row(runs)
    assert ours == "0/1, **1.0e-3**"
    assert averaging == "0/3, 2.0e-1 (fedavg)"
    assert deepxde is None


def test_errors_as_good_as_the_lowest_are_bold_whoever_has_them() -> None:
    runs = [
        entry("fipa", 0, [5e-4]),
        entry("fedavg", 0, [3e-4]),
        entry("adam", 0, [0.0]),
    ]
    ours, _, _, averaging, _ = row(runs)
    assert (ours, averaging) == ("0/1, **5.0e-4**", "0/1, **3.0e-4** (fedavg)")
    ours, *_ = row([entry("fipa", 0, [7e-4]), *runs[1:]])
    assert ours == "0/1, 7.0e-4"
    rounded = [entry("fipa", 0, [9e-12]), entry("gauss_newton", 0, [1e-15])]
    assert all("**" in str(found) for found in row(rounded)[:2])


def test_mean_squares_count_by_their_root() -> None:
    assert rooted(entry("fipa", 0, [1e-4], quantity="mse"))["error"] == [1e-2]
    assert rooted(entry("fipa", 0, [1e-4]))["error"] == [1e-4]


def test_every_problem_with_a_known_solution_is_in_the_table() -> None:
    named = {name.partition(":")[0] for name in PROBLEMS}
    for name in {*problems.names()} - {*FAMILIES}:
        made = problems.load(name)
        squares = all(isinstance(term.likelihood, Gaussian) for term in made.terms)
        assert (name in named) == (made.reference is not None and squares), name


@pytest.mark.parametrize("way", ["FIPA", "centralised Gauss-Newton"])
def test_every_problem_has_three_starts_and_five_in_one_dimension(way: str) -> None:
    entries = standing.recorded()
    (method,) = _standing.WAYS[way]
    for problem in PROBLEMS:
        line = problems.parse(problem).test_points.shape[1] == 1
        seeds = {
            e["seed"]
            for e in entries
            if (e["problem"], e["method"]) == (problem, method)
        }
        assert len(seeds) >= (5 if line else 3), problem
    assert set(DENSE) <= set(PROBLEMS)
