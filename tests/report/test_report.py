"""What is in a report, and what is not."""

import inspect
import logging
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, small
from docstring_parser.google import parse
from pages import Page, checked, of, sections, told, trained

import fedsciml
from fedsciml import federation, methods, report, training
from fedsciml.command import main
from fedsciml.federation import Result
from fedsciml.federation.traffic import size
from fedsciml.report import Story, panels
from fedsciml.report.markup import Html, tag
from fedsciml.report.story import of_result
from fedsciml.report.words import count, listed, number, seconds

pytestmark = pytest.mark.reported


def test_a_report_has_all_panels_in_order_and_links_to_each(finished: Result) -> None:
    path = report.write(finished)
    assert path == finished.out / "report.html"
    page = checked(path.read_text())
    here = [file.stem for file in Path(panels.__file__).parent.glob("[!_]*.py")]
    without = {"warnings", "unknowns", "privacy", "secure"}  # as this run has none
    without |= {"classes", "coefficients", "personal"}
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
    documented = parse(inspect.getdoc(fedsciml.run) or "").params
    assert {each.arg_name for each in documented} == ours.keys()


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
