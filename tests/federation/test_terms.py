"""Losses by term: they add up to the loss, cost little, and tell of no client alone."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, draw, given, scalar, small, theta
from faults import Connected, Faulty
from torch import Tensor

from fedsciml import MLP, Balanced, Problem, Resampled, Rules, Term, methods
from fedsciml import wrappers as around
from fedsciml.collocation import strips
from fedsciml.federation import Federation, InProcess, run
from fedsciml.federation.exchange import Traffic
from fedsciml.methods import Method, Opening, addressed, payload
from fedsciml.problem import SiteError
from fedsciml.residual import System
from fedsciml.residual.held_out import Breakdown, Fresh
from fedsciml.wrappers._masked import Between, Part

FIPA = methods.load("fipa")


def whole(clients: int = 3) -> Problem:
    """Every client has rows of each of two terms."""

    def slope(u: object, row: object) -> Tensor:
        return u.x - row.target  # type: ignore[attr-defined]

    points = [draw(6, 1, m) for m in range(clients)]
    both = (given, lambda x: x[:, 0].sin()), (slope, lambda x: x[:, 0].cos())
    terms = [Term(n, r, points, t) for n, (r, t) in zip("uv", both, strict=True)]
    return Problem("whole", MLP((1, 4, 1)), terms, strips([0, 0.3, 0.6, 1]))


@pytest.mark.parametrize("name", ["scalar", "system", "periodic", "module"])
def test_losses_of_terms_add_up_to_the_loss_over_terms_and_clients(name: str) -> None:
    problem = CASES[name]()
    at = theta(problem)
    parts = [
        Fresh(System(problem, shard)).breakdown(at).terms for shard in problem.shards()
    ]
    pooled = System(problem, problem.pooled())
    assert sum(map(sum, parts)) == pytest.approx(pooled.loss(at), rel=1e-14)
    for t, of in enumerate(zip(*parts, strict=True)):
        alone = pooled.on([rows for rows in pooled.shard.rows if rows.term == t])
        assert sum(of) == pytest.approx(alone.loss(at), rel=1e-14)


@pytest.mark.parametrize(
    "method",
    [FIPA, methods.load("adam", tau=2), Balanced(FIPA, "terms")],
    ids=["fipa", "pooled", "balanced"],
)
def test_a_run_tells_losses_of_terms_every_tenth_round_and_at_the_end(
    method: Method,
) -> None:
    result = run(scalar(), method, 12)
    assert [line.round for line in result.history if line.terms] == [10]
    line, after = result.history[9], result.history[10]
    assert list(line.terms) == ["pde", "boundary"]
    if method is not FIPA:  # whose next round begins at the model, too, if it is lowest
        assert sum(line.terms.values()) == pytest.approx(after.loss, rel=1e-14)
    assert sum(result.terms.values()) == pytest.approx(result.loss, rel=1e-14)


def test_what_the_question_costs_is_counted_and_little() -> None:
    problem, rounds = small("allen_cahn", points=0.3), 11
    asked = run(problem, methods.load("fedavg", tau=1), rounds)
    there = [line for line in asked.history if line.terms]
    federation = Federation(problem, FIPA, InProcess().connect(problem, FIPA))
    told, traffic = federation.breakdown(federation.start(asked.theta, 0))
    assert told is not None
    theta_bytes = payload(Opening(asked.theta))
    assert traffic == Traffic(2 * 8 * (3 + 2), 2 * theta_bytes, 4)
    # FedAvg sends theta both ways in each round: a hundredth is one in fifty.
    assert not there


def test_of_terms_of_one_name_the_losses_are_added() -> None:
    first, second = scalar().terms
    problem = replace(scalar(), terms=[first, replace(second, name=first.name)])
    result = run(problem, FIPA, 1)
    assert list(result.terms) == ["pde"]
    assert result.terms["pde"] == pytest.approx(result.loss, rel=1e-14)


def test_resampled_points_do_not_change_of_which_points_terms_tell() -> None:
    problem = small("allen_cahn", points=0.2)
    result = run(problem, Resampled(FIPA, 3), 5)
    assert sum(result.terms.values()) == pytest.approx(result.loss, rel=1e-14)


@pytest.mark.parametrize(
    "wrong",
    [
        Breakdown((0.0, 0.0, 0.0), (1.0,)),  # of one term
        Breakdown((0.0, 0.0, 0.0), (1.0, -1.0)),
        Breakdown((0.0, 0.0, 0.0), (1.0, float("nan"))),
        "nonsense",
        RuntimeError("gone"),
    ],
)
def test_what_cannot_be_is_not_believed_and_ends_no_run(wrong: object) -> None:
    class Lying(Faulty):
        def breakdown(self, *arguments: object) -> dict[int, object]:  # type: ignore[override]
            return {**super().breakdown(*arguments), 1: wrong}  # type: ignore[arg-type]

    result = run(scalar(), FIPA, 1, backend=Connected(Lying(scalar(), FIPA)))
    assert result.terms == {}
    assert result.held_out is None
    two = Rules(min_clients=2)
    others = Connected(Lying(scalar(), FIPA))
    result = run(scalar(), FIPA, 1, backend=others, rules=two)
    assert result.terms == {}  # they would not add up to the loss
    assert result.held_out is not None


def test_losses_of_terms_add_up_also_without_a_client_that_is_gone() -> None:
    problem, rules = scalar(), Rules(min_clients=2)
    gone = Connected(Faulty(problem, FIPA, away={1: range(10**6)}))
    result = run(problem, FIPA, 10, backend=gone, rules=rules)
    assert result.absent.keys() == {"1"}
    assert sum(result.terms.values()) == pytest.approx(result.loss, rel=1e-14)
    assert result.history[9].terms == result.terms


def secure(problem: Problem) -> Method:
    return around.load("fedavg", secure=True, tau=2).bound(problem)


def test_secure_sums_tell_terms_as_sums_where_everybody_has_rows_of_each() -> None:
    problem = whole()
    result = run(problem, around.load("fedavg", secure=True, tau=2), 1)
    plain = run(problem, methods.load("fedavg", tau=2), 1)
    assert result.terms == pytest.approx(plain.terms, rel=1e-9)  # fixed-point
    assert sum(result.terms.values()) == pytest.approx(result.loss, rel=1e-12)


def test_secure_sums_do_not_tell_a_term_of_a_few() -> None:
    problem = scalar()  # whose middle client has no boundary
    method = secure(problem)
    result = run(problem, method, 1)
    assert result.terms == {}
    assert result.held_out is not None
    # Whatever a server asks: the client that has no rows of a term refuses.
    clients, like = InProcess().connect(problem, method), theta(problem)
    evaluation = method.evaluation(method.start(like, 0), True, 2)
    everybody = dict.fromkeys(range(3))
    adverts = clients.ask(next(evaluation), everybody, 0)
    ask = evaluation.send({m: reply.answer for m, reply in adverts.items()})
    part = addressed(ask, 1)
    assert isinstance(part, Part)
    assert isinstance(part.ask, Between)
    replies = clients.ask(ask, everybody, 0)
    assert [isinstance(replies[m], SiteError) for m in range(3)] == [False, True, False]
    assert "loss of each term" in str(replies[1])
    with pytest.raises(StopIteration) as end:
        evaluation.send({m: replies[m].answer for m in (0, 2)})
    assert end.value.value is None


def test_terms_change_no_byte_of_theta(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for often in (1, 10**6):
        monkeypatch.setattr("fedsciml.federation.loop.HELD_OUT", often)
        monkeypatch.setattr("fedsciml.federation.loop.LITTLE", torch.inf)
        results.append(run(whole(), around.load("fedavg", secure=True, tau=2), 3))
    asked, silent = results
    assert asked.theta_sha256() == silent.theta_sha256()
    assert all(line.terms for line in asked.history)
    assert not any(line.terms for line in silent.history)
    assert asked.history[-1].sent > silent.history[-1].sent
