"""What is in a report, and what is not."""

import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, draw, small, theta
from pages import Page

import fedsciml
from fedsciml import (
    MLP,
    Problem,
    Term,
    federation,
    methods,
    plot,
    problems,
    report,
    training,
    wrappers,
)
from fedsciml.analysis.laplace import laplace
from fedsciml.collocation import strips
from fedsciml.command import main
from fedsciml.federation import Result, Round
from fedsciml.report import Story, panels
from fedsciml.report.markup import Html, tag
from fedsciml.report.story import of_result
from fedsciml.report.words import count, listed, number, seconds, size

MOST = 2_000_000
"""Bytes of a report."""

Panels = Mapping[str, str]
"""Text of each panel, by name."""


def checked(text: str) -> Page:
    """A page that is complete in itself, all of whose panels could be made."""
    assert len(text.encode()) < MOST
    page = Page(text)
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    for attribute in ("href", "src", "xlink:href", "action", "data", "srcset"):
        for link in page.having(attribute):
            assert link.startswith("data:image/png;base64,") or link[1:] in ids, link
    for link in re.findall(r"url\(([^)]*)\)", text):
        assert link[:1] == "#", link
        assert link[1:] in ids, link
    assert not re.search(r"https?:|@import", text)
    for name in ("script", "link", "iframe", "object", "embed", "base", "form", "img"):
        assert not page.all(name)
    assert not [k for e in page.elements for k in e.attributes if re.match("on", k)]
    for drawing in page.all("svg"):
        assert drawing.attributes["role"] == "img"
        assert drawing.attributes["aria-label"]
    assert "could not be made" not in page.text
    return page


def sections(page: Page) -> Panels:
    return {str(e.attributes["id"]): e.text for e in page.all("section")}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a drawing says is tested elsewhere, and takes a while."""
    empty = '<svg class="chart" viewBox="0 0 1 1" role="img"></svg>'
    for name in ("chart", "coloured"):
        monkeypatch.setattr(plot, name, lambda *_: empty)


def told(result: Result, /, **changes: object) -> Panels:
    """What the report of a result says."""
    return sections(checked(report.page(replace(of_result(result), **changes))))


def trained(problem: Problem, out: Path, rounds: int = 3, **options: str) -> Result:
    method = wrappers.load("fipa", **options)
    return federation.run(problem, method, rounds, out=out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A small run of three clients."""
    return trained(CASES["scalar"](), tmp_path_factory.mktemp("run") / "scalar")


def of(problem: Problem, finished: Result) -> Result:
    """The result as if it were of another problem."""
    return replace(finished, problem=problem, theta=theta(problem))


def test_a_report_has_all_panels_in_order_and_links_to_each(finished: Result) -> None:
    path = report.write(finished)
    assert path == finished.out / "report.html"
    page = checked(path.read_text())
    here = [file.stem for file in Path(panels.__file__).parent.glob("[!_]*.py")]
    without = {"warnings", "unknowns", "privacy", "secure"}  # as this run has none
    assert set(sections(page)) == set(here) - without
    links = [e.attributes["href"] for e in page.all("a")]
    assert links == ["#report", *(f"#{name}" for name in sections(page))]
    assert page.all("main")[0].attributes["id"] == "report"
    assert page.all("html")[0].attributes["lang"] == "en"
    titles = [e.text for e in page.all("h2")]
    assert titles[:3] == ["In short", "Solution and error", "Convergence"]
    (policy,) = (
        e.attributes["content"]
        for e in page.all("meta")
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_maps_have_a_report_that_needs_nothing_else(finished: Result) -> None:
    page = checked(report.page(of_result(of(CASES["system"](), finished))))
    captions = [e.text for e in page.all("figcaption")]
    assert {"p, trained", "q, reference"} - set(captions) == {"q, reference"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_case_has_a_report_that_needs_nothing_else(
    name: str, tmp_path: Path
) -> None:
    found = told(trained(CASES[name](), tmp_path / "run", 1))
    assert {"outcome", "solution", "convergence", "partition", "setup"} <= set(found)


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


@pytest.mark.usefixtures("undrawn")
def test_names_with_signs_of_html_stay_text(finished: Result) -> None:
    name, bad = "<b>&\"'</script>", '<img src="x" onerror="alert(1)">'
    problem = finished.problem
    terms = [replace(term, name=f"{bad}{k}") for k, term in enumerate(problem.terms)]
    result = replace(
        finished,
        problem=replace(problem, name=name, terms=terms),
        warnings=[bad],
        absent={"1": bad},
    )
    story = of_result(result)
    configuration = {**story.configuration, "problem": name, "method": bad}
    page = checked(report.page(replace(story, configuration=configuration)))
    assert not page.all("b")
    assert page.all("h1")[0].text == f"{name} by {bad}"
    assert page.all("title")[0].text.startswith(name)
    assert bad in sections(page)["warnings"]
    assert f"{bad}0" in sections(page)["partition"]


def test_text_is_escaped_unless_it_is_html() -> None:
    made = tag("p", "<&", tag("b", "x"), Html("<i></i>"), title='"', hidden=True)
    assert made == '<p title="&quot;" hidden>&lt;&amp;<b>x</b><i></i></p>'


def rounds(n: int, clients: int) -> list[Round]:
    """A history in which everything happens."""
    return [
        Round(
            k,
            loss=math.nan if k == 2 else 10.0 ** -(k % 300),
            step=0.0 if k % 3 else 1.0,
            ranks=(k,) * clients,
            losses={str(m): math.inf if m == k else 1.0 / k for m in range(clients)},
            relative_l2=math.nan if k % 7 == 0 else 0.0 if k == 5 else 1 / k,
            mse=1 / k,
            bytes_up=10 ** min(k, 12),
            bytes_down=k,
            seconds=0.1 * k,
            dropped={"1": "it is <late> & gone"} if k % 2 else {},
            stale={"1": 2} if k % 4 == 1 else {},
            suspects={"0": 3.0} if k == 4 else {},
            against=(0,) if k == 3 else (),
            basis=k,
            outside=0.1 / k,
            condition=math.nan if k == 2 else 3.0,
            held_out=1.0 / k if k % 10 == 0 or k == 1 else None,
            gn_gap=1e-3,
        )
        for k in range(1, n + 1)
    ]


@pytest.mark.parametrize(("n", "clients"), [(1, 2), (1000, 64)])
def test_any_history_has_a_report(n: int, clients: int, finished: Result) -> None:
    story = of_result(finished)
    configuration = {**story.configuration, "clients": clients}
    found = told(finished, history=rounds(n, clients), configuration=configuration)
    assert "client 1 in" in found["participation"]
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
def test_a_run_that_fails_has_a_report_that_says_why(tmp_path: Path) -> None:
    problem, out = CASES["scalar"](), tmp_path / "run"
    method = methods.load("fedavg", learning_rate=1e200)
    with pytest.raises(FloatingPointError) as error:
        training.run(problem, method, 3, out=out)
    found = sections(checked((out / "report.html").read_text()))
    assert str(error.value) in found["outcome"]
    assert "partition" in found


def test_a_run_that_is_refused_leaves_no_report(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    with pytest.raises(FileExistsError):
        training.run(CASES["scalar"](), methods.load("fipa"), 1, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def broken(story: Story) -> None:
    raise RuntimeError("no <ink>")


def test_a_report_that_fails_is_told_and_the_run_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    problem, method = CASES["scalar"](), methods.load("fipa")
    plain = federation.run(problem, method, 1)
    monkeypatch.setattr("fedsciml.report.layout.page", broken)
    result = training.run(problem, method, 1, out=tmp_path / "run")
    assert ("no <ink>" in caplog.text, caplog.records[-1].levelno) == (
        True,
        logging.WARNING,
    )
    assert torch.equal(result.theta, plain.theta)


@pytest.mark.usefixtures("undrawn")
def test_a_panel_that_fails_leaves_the_others(
    finished: Result, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fedsciml.report.panels.ranks.panel", broken)
    found = sections(Page(report.page(of_result(finished))))
    assert "could not be made: RuntimeError: no <ink>" in found["ranks"]
    assert "convergence" in found
    assert "'ranks'" in caplog.text


@pytest.mark.usefixtures("undrawn")
def test_a_recorded_run_has_a_report_unless_it_is_not_wanted(tmp_path: Path) -> None:
    problem, method = CASES["scalar"](), methods.load("fipa")
    fedsciml.run(problem, method, 1, out=tmp_path / "with")
    fedsciml.run(problem, method, 1, out=tmp_path / "without", report=False)
    assert (tmp_path / "with" / "report.html").exists()
    assert not (tmp_path / "without" / "report.html").exists()


def test_run_takes_what_the_federation_s_takes_and_a_report() -> None:
    ours = inspect.signature(fedsciml.run).parameters
    theirs = inspect.signature(federation.run).parameters
    assert {k: v for k, v in ours.items() if k != "report"} == dict(theirs)
    assert "report" in ours
    about = inspect.getdoc(federation.run)
    assert about is not None
    missing = set(about.splitlines()) - set(
        str(inspect.getdoc(fedsciml.run)).splitlines()
    )
    assert not missing
    assert "    report: Write" in str(inspect.getdoc(fedsciml.run))


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


def test_a_run_without_a_record_has_no_place_for_a_report(finished: Result) -> None:
    with pytest.raises(ValueError, match=re.escape("run(..., out=DIRECTORY)")):
        report.write(replace(finished, out=None))


def test_quantities_are_told_in_words() -> None:
    quantities: list[tuple[Callable[..., str], object, str]] = [
        (number, 0.125, "0.125"),
        (number, 1.5e-26, "1.50e-26"),
        (number, math.nan, "not known"),
        (number, None, "not known"),
        (number, -math.inf, "infinite"),
        (number, 0.0, "0"),
        (number, 12345.6, "12,346"),
        (size, 12, "12 B"),
        (size, 2.5e6, "2.5 MB"),
        (size, 3e9, "3 GB"),
        (seconds, 0.31, "0.31 s"),
        (seconds, 185, "3 min 5 s"),
        (seconds, 7500, "2 h 5 min"),
        (listed, ["a"], "a"),
        (listed, ["a", "b", "c"], "a, b and c"),
    ]
    for words, value, expected in quantities:
        assert words(value) == expected
    assert (count(1, "client"), count(2, "client")) == ("1 client", "2 clients")


@pytest.mark.usefixtures("undrawn")
def test_the_command_writes_the_report_of_any_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = small("allen_cahn", clients=2, width=6)
    federation.run(problem, methods.load("fipa"), 2, out=tmp_path / "good")
    wild = methods.load("fedavg", learning_rate=1e200)
    with pytest.raises(FloatingPointError):
        federation.run(problem, wild, 2, out=tmp_path / "bad")
    for name, parts in {"good": {"solution"}, "bad": {"setup"}}.items():
        path = tmp_path / name / "report.html"
        assert main(["report", str(path.parent)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        assert parts <= set(sections(checked(path.read_text())))
    assert main(["report", str(tmp_path)]) == 2
    assert "no run.json" in capsys.readouterr().err
