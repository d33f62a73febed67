"""FIPA as a method: exchanges, messages, memory, options, and where it gets to."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import hypothesis
import pytest
import torch
from cases import CASES, theta
from exchanges import (
    answering,
    begin,
    connect,
    first_round,
    opened,
    play,
    rounds,
    second,
)
from faults import same
from hypothesis import strategies as st
from reference import relative
from torch import Tensor

from fedsciml import methods, problems, run
from fedsciml.federation import Federation, Traffic
from fedsciml.linalg.ranks import AboveCutoff
from fedsciml.linalg.sketch import BATCH
from fedsciml.linalg.solve import Spectrum
from fedsciml.methods import (
    Answers,
    Local,
    Method,
    Record,
    Solver,
    flatten,
    payload,
    train,
)
from fedsciml.methods._fipa import Fipa
from fedsciml.methods._sketching import generator
from fedsciml.network import Jet
from fedsciml.policies import Candidates, Choice, Probed
from fedsciml.policies.line_search import LineSearch
from fedsciml.policies.line_search import State as Losses
from fedsciml.problem import Problem, Row, Shard, Term
from fedsciml.residual import System


@cache
def scalar() -> Problem:
    """Three unequal shards, one without boundary points."""
    return CASES["scalar"]()


@cache
def allen_cahn(points: float = 0.25) -> Problem:
    return problems.load("allen_cahn", points=points)


@cache
def crowd() -> Problem:
    """More clients than are stacked at once."""
    return problems.load("allen_cahn", clients=BATCH + 10, width=6)


def linear(problem: Problem, client: int) -> tuple[Tensor, Tensor]:
    """J and r of a client at theta."""
    found = System(problem, problem.shards()[client]).linearise(theta(problem))
    return found.jacobian(), found.residual


def traffic(problem: Problem, method: Method) -> Traffic:
    """Of a first round."""
    federation = Federation(problem, method, connect(problem, method))
    return federation.advance(federation.start(theta(problem), 0)).checkpoint.traffic


def test_a_round_is_a_sketch_and_a_probe() -> None:
    method = methods.load("fipa", policy="natural:curves=false")
    _, info, ((_, sketches), (_, probes)) = first_round(scalar(), method)
    assert list(sketches) == list(probes) == [0, 1, 2]
    for m, sketch in sketches.items():
        jacobian, residual = linear(scalar(), m)
        assert flatten(sketch).keys() == {"kind", "factor", "target", "loss"}
        assert sketch.loss == pytest.approx(float(residual @ residual) / 2)
        assert info.ranks[m] == len(sketch.factor) <= min(jacobian.shape)
        assert flatten(probes[m]).keys() == {"kind", "losses", "targets"}
        assert probes[m].targets.shape == (*probes[m].losses.shape, info.ranks[m])
    assert info.loss == pytest.approx(sum(s.loss for s in sketches.values()))
    assert info.step > 0


def test_the_probe_returns_losses_and_targets_at_the_candidates() -> None:
    method, start = methods.load("fipa"), theta(scalar())
    clients = connect(scalar(), method)
    exchanges = method.round(begin(scalar(), method))
    sketches = clients.exchange(next(exchanges))
    kept = [memory.basis.left for memory in clients.memories.values()]
    probe = exchanges.send(sketches)
    answers = clients.exchange(probe).values()
    moves = [length * step for step in probe.steps for length in probe.lengths]
    moves.append(probe.near * probe.steps[probe.checked])
    for system, left, found in zip(clients.systems, kept, answers, strict=True):
        found = zip(moves, found.losses, found.targets, strict=True)
        for move, loss, target in found:
            r = system.residual(start + move)
            assert float(loss) == pytest.approx(system.loss(start + move), rel=1e-12)
            torch.testing.assert_close(target, -(left.mT @ r))


@dataclass(frozen=True)
class Standing(LineSearch):
    """Probes a step of length zero and keeps what it sees."""

    seen: list[tuple[Spectrum, Probed]] = field(default_factory=list)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Losses,
    ) -> tuple[Choice | None, Losses]:
        assert probed is not None
        self.seen.append((spectrum, probed))
        return None, state


@pytest.mark.parametrize(
    ("problem", "rank"),
    [(scalar, "cutoff"), (scalar, "3"), (crowd, "cutoff")],
    ids=["cutoff", "3", "many clients"],
)
def test_a_policy_sees_the_clients_targets_in_the_basis_of_the_spectrum(
    problem: Callable[[], Problem], rank: str
) -> None:
    policy = Standing(lengths=(0.0, 1e-9))
    method = replace(methods.load("fipa", rank=rank, sketch="svd"), policy=policy)
    state, info, _ = first_round(problem(), method)
    ((found, probed),) = policy.seen
    here, near = probed.targets[0]
    torch.testing.assert_close(here, found.c, rtol=1e-12, atol=1e-13)
    assert float(probed.losses[0, 0]) == pytest.approx(info.loss, rel=1e-14)
    # A small step t D changes the targets by -t S (coordinates of D).
    step = found.inverse(0.0, 1e-10) * found.c
    change = (near - here) / 1e-9
    torch.testing.assert_close(change, -found.s * step, rtol=1e-3, atol=1e-3)
    assert torch.equal(state.theta, theta(problem()))
    assert info.step == 0


@pytest.mark.parametrize("policy", ["natural:curves=false", "line_search:damping=1e-3"])
def test_the_step_taken_is_the_candidate_that_the_info_names(policy: str) -> None:
    method = methods.load("fipa", policy=policy, sketch="svd")
    start = theta(scalar())
    after, info, (_, (probe, _)) = first_round(scalar(), method)
    moved = after.theta - start
    assert any(relative(moved, info.step * step) < 1e-10 for step in probe.steps)
    assert info.step in probe.lengths.tolist()
    pooled = System(scalar(), scalar().pooled())
    assert pooled.loss(after.theta) < pooled.loss(start) == pytest.approx(info.loss)


def test_a_fixed_step_needs_no_second_exchange() -> None:
    method = methods.load("fipa", policy="fixed:length=0.25,damping=1e-2,cutoff=0")
    state, info, exchanges = first_round(scalar(), method)
    assert len(exchanges) == 1
    assert traffic(scalar(), method).messages == 2 * 3
    assert (info.step, info.damping, info.cutoff) == (0.25, 1e-2, 0.0)
    assert info.probes == 0
    probed = methods.load("fipa", policy="line_search:damping=1e-2,cutoff=0")
    answers = opened(scalar(), probed).answers
    (step,) = second(probed, begin(scalar(), probed), answers).steps
    assert relative(state.theta - theta(scalar()), 0.25 * step) < 1e-10


@pytest.mark.parametrize("rank", ["cutoff", "3"])
def test_messages_and_bytes_are_those_of_the_theory(rank: str) -> None:
    method = methods.load("fipa", rank=rank, policy="natural:curves=false")
    _, info, ((_, sketches), (_, probes)) = first_round(scalar(), method)
    found, p = traffic(scalar(), method), scalar().network.size
    for k, sketch in zip(info.ranks, sketches.values(), strict=True):
        assert payload(sketch) == 8 * (k * (p + 1) + 1)
    assert info.probes == 20
    count = info.probes + 1  # and the one next to theta
    assert probes[0].losses.shape == (count,)
    up = sum(k * (p + 1) + 1 + count * (1 + k) for k in info.ranks)
    assert found.bytes_up == 8 * up
    # theta, seed, round, top, gradient, reach; steps, lengths, and the step checked.
    down = (p + 5) + (5 * p + 4 + 2)
    assert found.bytes_down == 3 * 8 * down
    assert found.messages == 2 * 2 * 3


@pytest.mark.parametrize(
    "policy", ["natural", "line_search:damping=1e-2", "fixed:damping=1e-2"]
)
def test_after_a_round_clients_remember_a_rank_and_nothing_large(policy: str) -> None:
    method = methods.load("fipa", policy=policy)
    state, memories = rounds(scalar(), method, 1)
    assert [flatten(memory).keys() for memory in memories] == [
        {"kind", "rank", "cutoff", "decay"}
    ] * 3
    kept = flatten(state).items()
    large = [k for k, v in kept if isinstance(v, Tensor) and v.numel() > 1]
    assert large == ["theta", "at"]


def test_the_functions_leave_what_they_are_given_alone() -> None:
    method = methods.load("fipa", local="adam", tau=2)
    clients, state = connect(scalar(), method), begin(scalar(), method)
    given: list[tuple[Record, Record]] = []

    def keep(*records: Record | None) -> None:
        given.extend((r, copy.deepcopy(r)) for r in records if r is not None)

    def exchange(ask: Record) -> Answers:
        keep(ask, *clients.memories.values())
        answers = clients.exchange(ask)
        keep(*answers.values())
        return answers

    for _ in range(2):
        keep(state)
        state, *_ = play(method, state, exchange)
    for record, before in given:
        assert same(record, before)


def test_clients_remember_how_many_singular_values_were_above_the_cutoff() -> None:
    method = methods.load("fipa", policy="line_search:cutoff=1e-6")
    clients = connect(allen_cahn(), method)
    opening = next(method.round(begin(allen_cahn(), method)))
    for _ in range(2):
        for m, answer in clients.exchange(opening).items():
            assert clients.memories[m].rank == len(answer.factor)


def test_the_same_seed_gives_the_same_run_and_another_only_other_rounding() -> None:
    options = {"policy": "line_search:damping=1e-3"}
    ends = []
    for seed in (0, 0, 1):
        method = methods.load("fipa", **options)
        state = method.start(theta(allen_cahn()), seed)
        answers = connect(allen_cahn(), method).exchange(next(method.round(state)))
        ends.append(second(method, state, answers).steps[0])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert relative(ends[0], ends[2]) < 1e-8  # measured 7e-14


def test_a_client_without_rows_changes_nothing() -> None:
    problem, start = scalar(), theta(scalar())
    rows = tuple(
        replace(r, points=r.points[:0], target=r.target[:0])
        for r in problem.shards()[0].rows
    )
    nothing = System(problem, Shard(3, rows, 0.0))
    for sketch in ("range", "svd", "subspace"):
        method = methods.load("fipa", sketch=sketch)
        ends = []
        for more in ([], [nothing]):
            systems = [System(problem, s) for s in problem.shards()] + more
            answer = answering(method, dict(enumerate(systems)))
            state, info, _ = play(method, method.start(start, 0), answer)
            ends.append(state.theta)
        assert info.ranks[3] == 0
        assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("rank", "low", "high"),
    [
        ("cutoff", 2, 15),
        ("3", 3, 3),
        ("energy:0.9", 1, 4),
        ("published:1.0", 1, 15),
        ("bytes:6000", 2, 9),
        ("predictive:0.1", 2, 15),
    ],
)
@pytest.mark.parametrize("sketch", ["range", "svd", "subspace"])
def test_every_rank_schedule_runs(rank: str, low: int, high: int, sketch: str) -> None:
    result = run(scalar(), methods.load("fipa", rank=rank, sketch=sketch), rounds=4)
    for line in result.history:
        assert all(low <= k <= high for k in line.ranks)
    # A step is only taken if it lowers the loss, in the end.
    assert result.loss < result.history[0].loss


def test_schedules_hear_of_the_round_and_the_gradients() -> None:
    seen = []

    def schedule(values: Tensor, targets: Tensor, context: object) -> int:
        seen.append(context)
        return AboveCutoff()(values, targets, context)

    problem = scalar()
    method = Fipa(LineSearch(1e-3, 1e-10), schedule, "svd")
    run(problem, method, rounds=2)
    first, second = seen[:3], seen[3:]
    assert [c.round for c in seen] == [1, 1, 1, 2, 2, 2]
    assert all(c.total_gradient_norm == 0 for c in first)
    start = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
    whole = System(problem, problem.pooled()).linearise(start)
    top = float(torch.linalg.matrix_norm(whole.jacobian(), 2))
    for shard, now, later in zip(problem.shards(), first, second, strict=True):
        own = System(problem, shard).linearise(start).gradient
        assert now.gradient_norm == pytest.approx(float(own.norm()))
        assert later.total_gradient_norm == pytest.approx(float(whole.gradient.norm()))
        assert later.cutoff == pytest.approx(1e-10 * top)


LOCALS = [
    Local("adam", 5, 1e-2),
    Local("sgd", 3, 1e-3),
    Local("lbfgs", 3),
    Local("gauss_newton", 1, damping=1e-3),
    Local("gauss_newton", 2, damping=1e2),
]


@pytest.mark.parametrize("local", LOCALS, ids=lambda v: f"{v.solver}-{v.epochs}")
def test_a_target_is_the_factor_times_the_local_step(local: Local) -> None:
    problem = scalar()
    method = Fipa(LineSearch(1e-3, 0.0), sketch="svd", local=local)
    _, info, ((_, sketches), _) = first_round(problem, method)
    assert info.epochs == local.epochs
    for shard, sketch in zip(problem.shards(), sketches.values(), strict=True):
        delta, loss, _ = train(System(problem, shard), theta(problem), local, None)
        assert sketch.loss == pytest.approx(loss)
        expected = sketch.factor @ delta
        torch.testing.assert_close(sketch.desired, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mu", [1e-6, 1.0, 1e6])
def test_the_target_of_a_damped_local_step_is_the_filtered_exact_one(mu: float) -> None:
    exact = Fipa(LineSearch(), sketch="svd")
    damped = replace(exact, local=Local("gauss_newton", 1, damping=mu))
    sent = [opened(scalar(), m).answers.values() for m in (exact, damped)]
    for a, b in zip(*sent, strict=True):
        s = a.factor.norm(dim=1)
        # B delta = S V^T V S / (S^2 + mu) U^T (-r).
        expected = s**2 / (s**2 + mu) * a.target
        torch.testing.assert_close(b.desired, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("local", ["adam", "sgd", "lbfgs", "gauss_newton"])
def test_every_local_solver_trains(local: Solver) -> None:
    method = methods.load("fipa", local=local, tau=3, learning_rate=1e-3)
    result = run(scalar(), method, rounds=4)
    assert result.loss < result.history[0].loss
    assert all(line.epochs == 3 for line in result.history)


SINGLE = [
    "natural",
    *(f"{p}:damping=1e-2,cutoff=1e-5" for p in ("line_search", "fixed")),
]
"""Policies, and for some of them what single precision can resolve."""


@pytest.mark.parametrize("sketch", ["range", "svd", "subspace"])
@pytest.mark.parametrize("policy", SINGLE)
def test_single_precision_runs(policy: str, sketch: str) -> None:
    method = methods.load("fipa", policy=policy, sketch=sketch)
    result = run(scalar(), method, rounds=4, dtype=torch.float32)
    assert result.theta.dtype == torch.float32
    assert result.loss < result.history[0].loss
    double = run(scalar(), method, rounds=1)
    single = run(scalar(), method, rounds=1, dtype=torch.float32)
    assert single.loss == pytest.approx(double.loss, rel=0.05)


@pytest.mark.parametrize(
    "sketch", [pytest.param("svd", marks=pytest.mark.slow), "range"]
)
def test_ten_damped_rounds_follow_centralised_gauss_newton(sketch: str) -> None:
    options = {"policy": "line_search:damping=1e-4"}
    fipa = methods.load("fipa", sketch=sketch, **options)
    central = methods.load("gauss_newton", **options)
    a, b = (run(allen_cahn(), method, rounds=10) for method in (fipa, central))
    for one, other in zip(a.history, b.history, strict=True):
        assert one.step == other.step
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert relative(a.theta, b.theta) < 1e-6  # measured 1e-13
    assert b.history[-1].bytes_up == b.history[-1].messages == 0
    assert a.history[-1].bytes_up > 0


def test_allen_cahn_reaches_eight_digits_in_forty_rounds() -> None:
    result = run(allen_cahn(), methods.load("fipa"), rounds=40)
    error, _ = result.errors()
    assert error < 1e-8  # measured 2e-13
    ranks = [k for line in result.history for k in line.ranks]
    assert sum(ranks) / len(ranks) <= 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": "0"}, "at least 1"),
        ({"rank": "many"}, "no rank schedule"),
        ({"policy": "fixed:length=0"}, "length of a step must be positive"),
        ({"policy": "line_search:damping=-1"}, "damping must be at least 0"),
        ({"policy": "fixed:cutoff=1"}, "cut-off must be in"),
        ({"local": "adam", "tau": 0}, "tau >= 1"),
        ({"local": "adam", "learning_rate": -1.0}, "learning rate must be positive"),
        ({"sketch": "svb"}, "must be one of range, svd, subspace"),
        (
            {"policy": "newton"},
            "There is no policy 'newton'; choose one of continuation,",
        ),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        methods.load("fipa", **options)


@hypothesis.given(st.integers(0, 2**62), st.integers(1, 10**6), st.integers(0, 10**4))
def test_clients_and_rounds_draw_different_numbers(
    seed: int, round_: int, client: int
) -> None:
    numbers = {
        generator(*key).initial_seed()
        for key in (
            (seed, round_, client),
            (seed + 1, round_, client),
            (seed, round_ + 1, client),
            (seed, round_, client + 1),
        )
    }
    assert len(numbers) == 4
    assert generator(seed, round_, client).initial_seed() in numbers


def test_single_precision_sends_no_noise() -> None:
    problem = allen_cahn()
    result = run(problem, methods.load("fipa"), rounds=30, dtype=torch.float32)
    assert max(max(line.ranks) for line in result.history) <= 25
    assert result.errors()[0] < 1e-5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"policy": "natural:damping=1e-3"}, "'natural' has no option 'damping'"),
        (
            {"policy": "line_search:length=0.5"},
            "no option 'length'; its options are damping, cutoff",
        ),
        ({"tau": 7, "keep_state": True}, "tau, keep_state cannot be given with local"),
    ],
)
def test_an_option_without_use_is_refused(
    options: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        methods.load("fipa", **options)


def test_a_jacobian_that_is_not_finite_is_named() -> None:
    def root(u: Jet, row: Row) -> Tensor:
        return u.x + torch.sqrt(torch.abs(u.value * 0))

    points = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
    problem = replace(scalar(), terms=(Term("root", root, points),))
    with pytest.raises(FloatingPointError, match="Jacobian of client 0 is not finite"):
        run(problem, methods.load("fipa"), 1)
