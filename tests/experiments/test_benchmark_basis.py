"""The experiment on the shared basis: what it measures and how it counts."""

import json

import pytest
import torch
from experiments import basis
from experiments._basis_tables import ahead
from experiments._turns import Apart, Disturbed, Party, Turns, in_turns, parties

from fedsciml import methods, problems, run


def test_rounds_in_turns_are_those_of_a_run() -> None:
    word = "allen_cahn:points=0.1,width=8"
    entries = basis.measure(word, "in turns", 1, 2)
    assert json.loads(json.dumps(entries)) == entries
    assert [e["way"] for e in entries] == ["own", "rows", "sums"]
    for entry, options in zip(entries, basis.WAYS.values(), strict=True):
        method = methods.load("fipa", **options)
        history = run(problems.parse(word), method, 2, 1).history
        found = [line.relative_l2 for line in history]
        assert entry["error"] == pytest.approx(found, rel=5e-4)
        assert entry["bytes"] == pytest.approx([line.sent for line in history], 5e-4)
        assert entry["basis"] == [line.basis for line in history]


@pytest.mark.parametrize("upload", ["rows", "sums"])
def test_sites_without_noise_that_share_nothing_find_the_same(upload: str) -> None:
    problem = problems.load("allen_cahn", points=0.1, width=8)
    method = methods.load("fipa", basis="shared", upload=upload)
    apart = Apart([Party(), Party(threads=2)]), Apart([Party(noise=1e-3)] * 2)
    runs = {
        "one": Turns(problem, method, 0),
        "apart": Turns(problem, method, 0, apart[0]),
    }
    one, other = in_turns(runs, 2).values()
    assert other[-1].relative_l2 == pytest.approx(one[-1].relative_l2, rel=1e-6)
    # A site whose anchors are others' is found by its check numbers.
    with pytest.raises(ValueError, match="its basis is not that of the server"):
        in_turns({"wrong": Turns(problem, method, 0, apart[1])}, 1)


def test_a_site_makes_its_own_error_and_the_same_one_again() -> None:
    problem = problems.load("allen_cahn", points=0.1, width=8)
    theta = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
    first, again, other = (
        Disturbed(problem, noise=1e-10, site=m).rows(theta, (40, 4))[0]
        for m in (0, 0, 1)
    )
    exact = Disturbed(problem).rows(theta, (40, 4))[0]
    assert torch.equal(first, again)
    some = exact != 0
    for wrong in (first - exact, other - exact, (first - other) / 2**0.5):
        relative = (wrong[some] / exact[some]).std()
        assert relative == pytest.approx(1e-10, rel=0.05)


def test_sites_differ_by_noise_or_threads_alone() -> None:
    assert [site.threads for site in parties("threads", 3)] == [1, 2, 1]
    assert parties("noise 1e-15", 2) == [Party(1e-15)] * 2
    with pytest.raises(ValueError, match="by luck"):
        parties("by luck", 2)


def test_a_rival_is_ahead_where_its_lowest_error_so_far_is_below_ours() -> None:
    ours = {"method": "fipa", "bytes": [10, 20, 30], "error": [0.5, 0.9, 0.1]}
    rival = {"method": "fedavg", "bytes": [5, 15, 25], "error": [0.8, 0.6, 0.7]}
    ours["seed"] = rival["seed"] = 0
    (found,) = ahead([[rival]], [ours, {**ours, "seed": 1, "error": [0.0] * 3}])
    assert found == ("fedavg", 20, 30, 0.6, 0.9)
    assert ahead([[{**rival, "bytes": [40, 50, 60]}]], [ours]) == []
