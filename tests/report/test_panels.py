"""What the panels of a report tell of a run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, classes, draw, owned
from pages import checked, of, rounds, sections, told, trained

from fedsciml import (
    MLP,
    Personal,
    Problem,
    Term,
    federation,
    methods,
    plot,
    problems,
    report,
)
from fedsciml.analysis import deviations, predicted, standard_errors
from fedsciml.analysis.laplace import laplace
from fedsciml.analysis.personal import unknowns
from fedsciml.collocation import strips
from fedsciml.federation import Result, Round
from fedsciml.federation.traffic import size
from fedsciml.report.story import of_result
from fedsciml.report.words import number


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_a_report_are_those_of_the_history(finished: Result) -> None:
    text, last = told(finished), finished.history[-1]
    relative_l2, _ = finished.errors()
    assert number(relative_l2) in text["solution"]
    assert size(last.sent) in text["outcome"]
    for line in finished.history:
        row = f"{line.round}{number(line.loss)}{number(line.relative_l2)}"
        assert row in text["convergence"]
    for m, loss in last.losses.items():
        assert f"client {m}{number(loss)}" in text["losses"]
        assert f"client {m}{finished.problem.counts(int(m))[0]}" in text["partition"]


@pytest.mark.parametrize(("n", "clients"), [(1, 2), (1000, 64)])
def test_any_history_has_a_report(n: int, clients: int, finished: Result) -> None:
    story = of_result(finished)
    configuration = {**story.configuration, "clients": clients}
    found = told(finished, history=rounds(n, clients), configuration=configuration)
    assert "client 1 in" in found["participation"]
    assert ("joined late: client 2 in 1" in found["participation"]) == (n > 6)
    assert "it is <late> & gone" in found["participation"]
    assert {"ranks", "losses", "held_out"} <= set(found)


@pytest.mark.usefixtures("undrawn")
def test_a_history_alone_has_a_report(finished: Result) -> None:
    found = told(finished, problem=None, result=None)
    assert "not finished" in found["outcome"]
    assert {"convergence", "losses", "ranks", "setup", "again"} <= set(found)
    empty = told(finished, problem=None, result=None, history=[])
    assert "0 of 3 rounds" in empty["outcome"]


@pytest.mark.usefixtures("undrawn")
def test_what_is_known_of_unknown_numbers_is_told(finished: Result) -> None:
    problem = problems.load("heat_inverse", measurements=60, points=40, noise=0.05)
    result = of(problem, finished)
    found = told(result)["unknowns"]
    known = laplace(problem, result.theta)
    assert number(known.deviation["nu"]) in found
    assert number(known.mean["nu"], 6) in found
    assert number(known.sigma) in found


@pytest.mark.usefixtures("undrawn")
def test_what_is_each_clients_own_is_told(finished: Result) -> None:
    problem = owned()
    assert problem.personal is not None
    begin = problem.personal.values
    own = {m: begin + 0.1 * m for m in range(problem.clients)}
    result = of(problem, finished)
    found = told(replace(result, personal=own))
    sure = deviations(problem, result.theta, own, "data")
    for m, f in own.items():
        known = unknowns(problem, result.theta, f)
        row = f"client {m}{number(known['shift'], 4)}"
        row += number(sure.numbers[m]["shift"]).replace("infinite", "not determined")
        assert f"{row}{number(0.3 * m - 0.2, 4)}" in found["personal"]
    assert "v of client 3" in found["solution"]
    assert "u of all clients" in found["solution"]
    assert "k" in found["unknowns"]
    assert "shift" not in found["unknowns"]
    assert "client=0" in told(replace(result, personal=own))["again"]
    elsewhere = told(result)
    assert "not known here" in elsewhere["personal"]
    assert "none is known here" in elsewhere["solution"]


@pytest.mark.usefixtures("undrawn")
def test_a_private_run_tells_nothing_of_points(
    finished: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    problem = problems.load("heat_inverse", measurements=60, points=40, noise=0.05)
    monkeypatch.setattr("fedsciml.report.panels.unknowns.laplace", never)
    monkeypatch.setattr("fedsciml.report.panels.partition._drawn", never)
    monkeypatch.setattr(plot, "parts", never)
    history = [
        Round(k, 1.0 / k, epsilon=0.5 * k, delta=1e-5, ranks=(3,)) for k in (1, 2)
    ]
    private = replace(finished, terms={}, held_out=None)
    for result in (of(problem, private), private):
        found = told(result, history=history)
        assert "(1, 1e-05)-differential privacy" in found["privacy"]
        assert "not drawn" in found["partition"]
        assert "losses" not in found
    assert (
        "the run was private"
        in told(of(problem, finished), history=history)["unknowns"]
    )


@pytest.mark.usefixtures("undrawn")
def test_secure_sums_are_told(finished: Result) -> None:
    story = of_result(finished)
    configuration = {**story.configuration, "command": {"problem": "a", "secure": True}}
    found = told(finished, configuration=configuration)
    assert "sums over the 3 clients" in found["secure"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["hard", "scalar"])
def test_rows_that_are_elsewhere_are_not_needed(name: str, finished: Result) -> None:
    whole = CASES[name]()
    d = len(whole.coordinates)
    server = replace(
        whole,
        terms=[replace(t, points=draw(0, d), target=None) for t in whole.terms],
        partial=True,
        exact=None,
        test_points=None,
        reference=None,
        domain=None,
    )
    story = of_result(finished)
    flower = {
        **story.configuration,
        "flower": {"counts": [[70 + t for t in range(len(server.terms))]] * 3},
    }
    found = told(of(server, finished), configuration=flower)
    assert "at the sites" in found["partition"]
    assert "client 270" in found["partition"]
    assert "solution" not in found  # nobody here knows where
    history = [replace(finished.history[0], joined={"2": [90] * len(server.terms)})]
    found = told(of(server, finished), configuration=flower, history=history)
    assert "client 290" in found["partition"]
    placed = replace(server, domain=([0.0] * d, [1.0] * d))
    found = told(of(placed, finished), configuration=flower)
    assert "no reference" in found["solution"]


@pytest.mark.usefixtures("undrawn")
def test_of_many_outputs_and_points_some_are_drawn(finished: Result) -> None:
    names = [f"u{k}" for k in range(9)]
    problem = Problem(
        "large",
        MLP((2, 4, 9)),
        [Term("data", lambda u, row: u.u0.value, draw(40_000, 2))],
        strips([0, 0.5, 1]),
        "xy",
        names,
    )
    found = told(of(problem, finished))
    assert "3 more are not" in found["solution"]
    assert "Some 1,500 of the points" in found["partition"]


@pytest.mark.usefixtures("undrawn")
def test_a_centralised_run_sends_nothing(tmp_path: Path) -> None:
    method = methods.load("gauss_newton")
    result = federation.run(CASES["scalar"](), method, 2, out=tmp_path / "run")
    page = checked(report.page(of_result(result)))
    assert "nothing was sent" in sections(page)["convergence"]
    assert "participation" not in sections(page)
    assert "Against what was sent" not in [e.text for e in page.all("figcaption")]


@pytest.mark.usefixtures("undrawn")
def test_theta_in_float32_has_a_report(finished: Result) -> None:
    result = replace(finished, theta=finished.theta.float())
    assert "solution" in told(result)


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_is_not_finite_has_a_report(finished: Result) -> None:
    for size_ in (math.nan, 1e308):  # finite, but its values are not
        result = replace(finished, theta=torch.full_like(finished.theta, size_))
        assert "convergence" in told(result)


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A small run on points of three classes."""
    return trained(classes(), tmp_path_factory.mktemp("run") / "classes")


@pytest.mark.usefixtures("undrawn")
def test_what_is_taken_for_what_is_told(classified: Result) -> None:
    found = told(classified)
    ((z, y),) = predicted(classified.problem, classified.theta)
    assert y is not None
    choices = list(zip(y.long().tolist(), z.argmax(0).tolist(), strict=True))
    right = sum(i == j for i, j in choices)
    assert f"Of {len(y)} test rows {right} are right" in found["classes"]
    for i in range(3):
        row = "".join(str(choices.count((i, j))) for j in range(3))
        assert f"{i}{row}" in found["classes"]
    accuracy = f"{right / len(y):.1%}"
    assert f"Accuracy{accuracy}" in found["outcome"]
    assert f"the accuracy to {accuracy}" in found["convergence"]
    assert "likelihoodweight" in found["setup"]
    assert "Categorical" in found["setup"]


@pytest.mark.usefixtures("undrawn")
def test_clients_choose_classes_by_parameters_of_their_own(tmp_path: Path) -> None:
    network = Personal(MLP((2, 6, 5, 3)), "classifier")
    result = trained(replace(classes(), network=network), tmp_path / "run")
    problem, theta, personal = result.problem, result.theta, result.personal
    assert problem.testing is not None
    ((points, y),) = [
        (rows.points, rows.target) for rows in problem.testing.pooled().rows
    ]
    assert y is not None
    owners = problem.partition.owner(points)
    right = sum(
        int(problem.at(f)(theta, x[None]).argmax()) == int(label)
        for x, label, m in zip(points, y, owners.tolist(), strict=True)
        if (f := personal.get(m)) is not None
    )
    assert f"Of {len(y)} test rows {right} are right" in told(result)["classes"]
    begun = problem.network(theta, points).argmax(1)
    assert right != int((begun == y).sum())


@pytest.mark.usefixtures("undrawn")
def test_labels_of_images_are_counted_instead_of_drawing_a_plane(
    classified: Result,
) -> None:
    problem = problems.load("digits", size=60, width=4, alpha=1.0)
    result = of(problem, classified)
    found = told(result)
    assert "solution" not in found
    for m, shard in enumerate(problem.shards()):
        (rows,) = shard.rows
        assert rows.target is not None
        counts = torch.bincount(rows.target.long(), minlength=10).tolist()
        assert f"client {m}{''.join(map(str, counts))}" in found["partition"]


@pytest.mark.usefixtures("undrawn")
def test_coefficients_of_counts_have_standard_errors(finished: Result) -> None:
    problem = problems.load("randhie")
    theta = torch.full((10,), 0.1, dtype=torch.float64)
    found = told(replace(finished, problem=problem, theta=theta))["coefficients"]
    errors = standard_errors(problem, theta)
    for name, error in zip((*problem.coordinates, "intercept"), errors, strict=True):
        assert f"{name}0.1{number(float(error))}" in found
    assert "coefficients" not in told(finished)
