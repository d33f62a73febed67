"""Clients that lie, and honest ones: what they send, how a run is judged, records."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from experiments import attacks, honest
from experiments._absent import Patchy, away
from experiments._lies import ATTACKS, LIAR, Attack, Lying
from experiments._record import Entry
from experiments._setups import SETUPS
from torch import Generator, Tensor

from fedsciml import methods, policies, problems
from fedsciml.federation.history import Round
from fedsciml.methods import Opening, Record
from fedsciml.methods._fipa import Found, Probe, Sketched
from fedsciml.problem import Problem
from fedsciml.residual import System

SEND = dict.fromkeys(range(5))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problems.load("allen_cahn", clients=5, points=0.1, width=6)


@pytest.fixture
def exchange(problem: Problem) -> Callable[..., tuple[Sketched, Found, Probe]]:
    """What the liar sends in a round, by the attack."""

    def exchanged(
        attack: Attack, round_: int = 1, clients: Lying | None = None, move: float = 0.0
    ) -> tuple[Sketched, Found, Probe]:
        method = methods.load("fipa", basis="own")
        clients = clients or Lying(problem, method, attack)
        theta = problem.network.init(Generator().manual_seed(0), torch.float64) + move
        exchanges = method.round(method.start(theta, 0))
        opening = next(exchanges)
        assert isinstance(opening, Opening)
        replies: dict[int, Any] = clients.ask(opening, SEND, round_)
        probe = exchanges.send({m: reply.answer for m, reply in replies.items()})
        assert isinstance(probe, Probe)
        memories = {m: reply.memory for m, reply in replies.items()}
        found: dict[int, Any] = clients.ask(probe, memories, round_)
        return replies[LIAR].answer, found[LIAR].answer, probe

    return exchanged


HONEST = Attack()


def excess(sketch: Sketched, found: Found) -> float:
    """The largest |c|^2 / (2 loss) of the sketch and the candidates."""
    squares = found.targets.square().sum(-1) / 2 / found.losses
    return max(
        float(squares.max()), float(sketch.target.square().sum()) / 2 / sketch.loss
    )


@pytest.mark.parametrize(
    "name",
    [
        "rank-3 garbage",
        "informed: losses for the boldest",
        "informed: losses for the shyest",
        "all consistent, times 20",
        "data shifted by 0.05, times 200",
        "-c, also at the candidates",
        "another client's answers",
    ],
)
def test_lies_that_keep_the_law_of_the_loss_do(
    name: str, exchange: Callable[..., tuple[Sketched, Found, Probe]]
) -> None:
    sketch, found, _ = exchange(ATTACKS[name])
    assert excess(sketch, found) <= 1 + 1e-8
    honest_sketch, honest_found, _ = exchange(HONEST)
    assert excess(honest_sketch, honest_found) <= 1 + 1e-12
    changed = [
        not torch.equal(told, true)
        for told, true in (
            (sketch.target, honest_sketch.target),
            (found.losses, honest_found.losses),
        )
    ]
    assert any(changed)


def test_a_client_that_is_all_consistent_and_larger_has_scaled_rows(
    exchange: Callable[..., tuple[Sketched, Found, Probe]], problem: Problem
) -> None:
    sketch, _, probe = exchange(ATTACKS["all consistent, times 20"])
    system = System(problem, problem.shards()[LIAR]).scaled([400.0, 400.0])
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    linear = system.linearise(theta)
    assert sketch.loss == pytest.approx(linear.loss, rel=1e-12)
    gramian = sketch.factor.mT @ sketch.factor
    expected = linear.jacobian().mT @ linear.jacobian()
    torch.testing.assert_close(gramian, expected, rtol=0, atol=1e-9 * expected.norm())
    assert probe.steps.shape[1] == problem.network.size


def test_a_shifted_client_has_other_data_and_tells_of_it_honestly(
    exchange: Callable[..., tuple[Sketched, Found, Probe]], problem: Problem
) -> None:
    sketch, _, _ = exchange(ATTACKS["data shifted by 0.05"])
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    rows = problem.shards()[LIAR].rows
    residual = System(problem, problem.shards()[LIAR]).residual(theta)
    moved = torch.cat([torch.full([len(r.points)], 0.05 * r.weight) for r in rows])
    assert sketch.loss == pytest.approx(float((residual - moved).square().sum()) / 2)


def test_a_stale_client_answers_in_the_basis_of_its_first_sketch(
    exchange: Callable[..., tuple[Sketched, Found, Probe]], problem: Problem
) -> None:
    clients = Lying(
        problem, methods.load("fipa", basis="own"), ATTACKS["its first sketch, always"]
    )
    first, _, _ = exchange(HONEST, clients=clients)
    again, found, probe = exchange(HONEST, 2, clients, move=0.05)
    assert torch.equal(again.factor, first.factor)
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    system = System(problem, problem.shards()[LIAR])
    squares = first.factor.square().sum(1)  # B = S V^T, J V = U S
    left = system.linearise(theta).jacobian() @ first.factor.mT / squares
    at = theta + 0.05 + probe.lengths[1] * probe.steps[0]
    strong = squares > 1e-12 * squares[0]
    expected = -(system.residual(at) @ left)
    torch.testing.assert_close(
        found.targets[1][strong], expected[strong], atol=1e-6, rtol=0
    )


def test_liars_begin_when_the_attack_does(
    exchange: Callable[..., tuple[Sketched, Found, Probe]],
) -> None:
    name = "losses NaN but one, from round 10"
    finite = [exchange(ATTACKS[name], k)[1].losses.isfinite().sum() for k in (9, 10)]
    assert finite == [exchange(HONEST)[1].losses.numel(), 1]


def test_the_boldest_is_the_longest_step(
    exchange: Callable[..., tuple[Sketched, Found, Probe]],
) -> None:
    for word, extreme in (("boldest", Tensor.argmax), ("shyest", Tensor.argmin)):
        _, found, probe = exchange(ATTACKS[f"losses for the {word}"])
        lengths = (probe.lengths * probe.steps.norm(dim=1)[:, None]).flatten()
        assert found.losses[extreme(lengths)] == found.losses.min() == 0


def entry(**of: object) -> Entry:
    usual = {"attack": "-c", "named": None, "honest": 0, "ended": "", "error": 1e-3}
    return usual | of


@pytest.mark.parametrize(
    ("of", "word"),
    [
        ({"named": 3}, "named"),
        ({"named": 4}, "named late"),
        ({"attack": "losses NaN but one, from round 10", "named": 12}, "named"),
        ({}, "not named"),
        ({"error": 9e-13}, "harmless"),
        ({"named": 4, "error": 9e-13}, "harmless"),
        ({"named": 1, "honest": 1}, "honest clients dropped"),
        ({"named": 1, "ended": "Round 3 needs 3"}, "ends the run"),
    ],
)
def test_a_run_is_judged_by_who_is_named_then_by_its_error(
    of: dict[str, object], word: str
) -> None:
    assert attacks.verdict(entry(**of), 1e-13) == word


def test_an_attack_is_an_entry_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    small = problems.load("allen_cahn", clients=5, points=0.1, width=6)
    monkeypatch.setattr(problems, "load", lambda name, clients: small)
    monkeypatch.setattr(attacks, "ROUNDS", 2)
    names = ("nobody", "client 2 is absent", "losses inf at the candidates")
    entries = [
        found
        for name in names
        for found in attacks.EXPERIMENT.entries("allen_cahn", name, 0)
    ]
    assert json.loads(json.dumps(entries)) == entries
    assert [e["honest"] for e in entries] == [0, 0, 0]
    assert entries[-1]["named"] == 1
    assert entries[-1]["error"] == entries[1]["error"]  # bit for bit the others' run
    (table,) = attacks.tables(entries)
    assert [row[0] for row in table.rows] == ["nobody", names[-1]]
    assert table.rows[1][-1] == "named"


def test_a_round_names_who_is_dropped_suspected_or_alone_against_a_step() -> None:
    lines = [
        Round(1, 1.0, dropped={"1": "late"}, suspects={"2": 1e4}, against=(3,)),
        Round(2, 1.0, against=(1, 3)),
    ]
    assert attacks.told(lines) == [{"1", "2", "3"}, set()]


def test_every_method_and_every_policy_is_among_the_honest() -> None:
    federated = {name for name in methods.names() if not methods.load(name).pooled}
    assert federated - {"fedrcl", "fedlora"} <= set(honest.WAYS)  # not on any problem
    assert {f"fipa, policy {p}" for p in policies.names()} - set(honest.WAYS) == {
        "fipa, policy natural"
    }
    setups = {case.setup for case in honest.CASES}
    assert setups >= {*problems.names(), *SETUPS}


def test_clients_that_are_missing_are_not_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = problems.load("allen_cahn", clients=5, points=0.05, width=6)
    monkeypatch.setattr(problems, "load", lambda name, clients: small)
    way = "fipa, two missing for ten rounds"
    (found,) = honest.EXPERIMENT.entries("allen_cahn", 5, way, 0, 7)
    assert (found["dropped"], found["ended"]) == (0, "")
    gone = sum(
        k in of for of in away("two for ten rounds", 0).values() for k in range(8)
    )
    assert found["answers"] == 5 * 7 - gone


def test_a_client_that_is_dropped_is_counted_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = problems.load("allen_cahn", clients=4, points=0.05, width=6)
    monkeypatch.setattr(problems, "load", lambda name, clients: small)

    class Broken(Patchy):
        def ask(self, ask: Record, *of: Any) -> dict[int, Any]:  # noqa: ANN401
            return {**super().ask(ask, *of), 1: RuntimeError("broken")}

    monkeypatch.setattr(honest, "Patchy", Broken)
    (found,) = honest.EXPERIMENT.entries("allen_cahn", 4, "fipa", 0, 2)
    assert (found["dropped"], found["who"]) == (2, [1])
    assert honest.tables([found])[0].rows[0][:6] == ["problems", 1, 2, 8, 2, 0]


@pytest.mark.parametrize("experiment", [attacks.EXPERIMENT])
def test_the_record_is_complete(experiment: Any) -> None:  # noqa: ANN401
    entries = json.loads(experiment.path.read_text())
    found = [tuple(e[key] for key in experiment.key) for e in entries]
    assert sorted(found) == sorted(map(tuple, experiment.cases))
