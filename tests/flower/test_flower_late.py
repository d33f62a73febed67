"""Sites that were not there when the run began, and come later."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from cases import draw, scalar, theta
from faults import Connected, Faulty, Late, advanced, same
from grids import GONE, NODE, FaultyGrid

from fedsciml import Problem, methods, run
from fedsciml.federation import Result
from fedsciml.federation.exchange import Federation
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules
from fedsciml.flower.apps import _began
from fedsciml.methods import Method
from fedsciml.problem import SiteError

OTHERS = Rules(min_clients=2)
ROUNDS, COMES = 5, 3
"""Of a run, and the one from which on the site is there."""

METHODS: list[tuple[str, dict[str, object]]] = [
    ("fipa", {}),
    ("fipa", {"local": "adam", "tau": 2}),
    ("fedavg", {"tau": 3, "keep_state": True}),
    ("scaffold", {"tau": 3}),
    ("feddyn", {"tau": 3}),
]


def elsewhere(problem: Problem) -> Problem:
    """The same, where the server cannot know what sites have."""
    return replace(problem, partial=True)


def late(
    problem: Problem,
    method: Method,
    grid: FaultyGrid | None = None,
    **options: Any,  # noqa: ANN401
) -> Result:
    """A run over Flower whose site ``GONE`` comes in round ``COMES``."""
    grid = grid or FaultyGrid(problem, method)
    grid.faults.away.add(NODE)

    def watch(line: Round) -> None:
        if line.round == COMES - 1:
            grid.faults.away.clear()

    backend = grid.backend(need=2)
    given = {"backend": backend, "rules": OTHERS, "progress": watch, **options}
    return run(problem, method, ROUNDS, **given)


def assert_same(one: Result, other: Result) -> None:
    """The same bytes of theta, and the same history."""
    assert one.theta_sha256() == other.theta_sha256()
    assert one.loss == other.loss
    assert one.warnings == other.warnings
    for mine, theirs in zip(one.history, other.history, strict=True):
        # As text, in which one NaN is like another.
        assert str(replace(mine, seconds=0)) == str(replace(theirs, seconds=0))


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_a_late_site_of_known_points_is_like_one_that_was_away(
    name: str, options: dict[str, object]
) -> None:
    problem, method = scalar(), methods.load(name, **options)
    away = Faulty(problem, method, away={GONE: range(1, COMES)})
    expected = run(problem, method, ROUNDS, backend=Connected(away), rules=OTHERS)
    found = late(problem, method)
    assert_same(found, expected)
    assert [bool(line.dropped) for line in found.history] == [1, 1, 0, 0, 0]
    assert not any(line.joined for line in found.history)


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_a_late_site_of_unknown_points_is_counted_in_as_in_one_process(
    name: str, options: dict[str, object]
) -> None:
    problem, method = elsewhere(scalar()), methods.load(name, **options)
    clients = Late(problem, method, {GONE: COMES})
    expected = run(problem, method, ROUNDS, backend=Connected(clients), rules=OTHERS)
    found = late(problem, method)
    assert_same(found, expected)
    counts = [line.joined for line in found.history]
    assert counts == [{}, {}, {str(GONE): problem.counts(GONE)}, {}, {}]
    assert "has not come" in found.history[0].dropped[str(GONE)]
    assert sum("came in round 3" in told for told in found.warnings) == 1


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_with_a_site_that_is_counted_in_the_run_starts_again_from_its_model(
    name: str, options: dict[str, object]
) -> None:
    problem, method = scalar(), methods.load(name, **options).bound(scalar())
    clients = Late(problem, method, {GONE: COMES})
    federation = Federation(problem, method, clients, OTHERS)
    before = advanced(federation, theta(problem), COMES - 1)
    found = advanced(federation, before, 2)
    whole = Federation(problem, method, LocalClients(problem, method))
    expected = advanced(whole, before.state.theta, 2)
    assert same(found.state, expected.state)
    for mine, theirs in zip(found.memories, expected.memories, strict=True):
        assert same(mine, theirs)
    assert found.round == COMES + 1
    assert found.traffic.sent == before.traffic.sent + expected.traffic.sent


@pytest.mark.parametrize("ended", [COMES - 1, COMES, COMES + 1])
def test_a_run_that_a_site_joined_is_resumed_to_the_same_bytes(
    tmp_path: Path, ended: int
) -> None:
    problem, method = elsewhere(scalar()), methods.load("fipa")
    expected = late(problem, method)
    grid = FaultyGrid(problem, method)
    stop = {"stop": lambda lines: len(lines) == ended, "out": tmp_path}
    late(problem, method, grid, **stop)
    backend = grid.backend(need=2, **_began(tmp_path))
    again = {"out": tmp_path, "resume": True, "rules": OTHERS, "backend": backend}
    assert_same(run(problem, method, ROUNDS, **again), expected)


def test_a_site_comes_in_an_attempt_for_which_the_others_are_too_few() -> None:
    problem, method = elsewhere(scalar()), methods.load("fipa")
    grid = FaultyGrid(problem, method)
    grid.faults.away.add(NODE)

    def sleep(seconds: float) -> None:
        grid.faults.away = {1}

    nodes = grid.connected(need=2)
    rules = Rules(min_clients=2, patience=60.0)
    federation = Federation(problem, method, nodes, rules, sleep=sleep)
    before = advanced(federation, theta(problem))
    grid.faults.away.add(1)
    outcome = federation.advance(before)
    assert outcome.joined == {GONE: problem.counts(GONE)}
    members = outcome.checkpoint.participation
    assert members is not None
    assert members.members == [1, 2]
    totals = [sum(own) for own in zip(*map(problem.counts, range(3)), strict=True)]
    assert nodes.totals == totals


def test_a_late_site_that_cannot_take_part_is_named_and_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problem, method = elsewhere(scalar()), methods.load("fipa")
    problems: dict[int, Problem | Exception] = {NODE: SiteError("disk full")}
    grid = FaultyGrid(problem, method, problems)
    grid.faults.away.add(NODE)
    nodes = grid.connected(need=2)
    grid.faults.away.clear()
    assert not nodes.joined(1)
    assert "Client 1 (node 2) cannot take part: disk full" in caplog.text
    assert list(nodes.uncounted) == [GONE]
    problems.clear()
    grid.faults.away.add(NODE)
    assert nodes.here(2) == [0, 2]
    grid.faults.away.clear()
    assert nodes.joined(3) == {GONE: problem.counts(GONE)}
    assert not nodes.joined(4)
    assert nodes.here(4) == [0, 1, 2]


def test_a_site_that_goes_before_it_is_counted_in_changes_nothing() -> None:
    problem, method = elsewhere(scalar()), methods.load("fipa")
    grid = FaultyGrid(problem, method)
    grid.faults.away.add(NODE)
    nodes = grid.connected(need=2)
    shares = nodes.shares
    grid.faults.away.clear()
    assert nodes.here(1) == [0, 2]  # it has said hello, and waits for a round
    grid.faults.away.add(NODE)
    assert not nodes.joined(2)
    assert nodes.shares == shares


def test_one_hello_is_enough_for_a_site_that_waits() -> None:
    problem, method = elsewhere(scalar()), methods.load("fipa")
    grid = FaultyGrid(problem, method)
    grid.faults.away.add(NODE)
    nodes = grid.connected(need=2)
    grid.faults.away.clear()
    for number in (1, 2, 3):
        nodes.here(number)
    assert grid.sent.count(("query.hello", NODE)) == 1


def test_a_late_site_without_rows_changes_no_weights() -> None:
    problem, method = elsewhere(scalar()), methods.load("fipa")
    terms = [replace(term, points=draw(23, 1)[:0]) for term in problem.terms]
    nothing = replace(problem, terms=terms)
    grid = FaultyGrid(problem, method, {NODE: nothing})
    grid.faults.away.add(NODE)
    nodes = grid.connected(need=2)
    grid.faults.away.clear()
    assert not nodes.joined(1)
    assert not nodes.uncounted
    assert nodes.here(1) == [0, 1, 2]
