"""Differential privacy of sums: what a point moves, what it costs, when it ends."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import sampled, small, system
from exchanges import connect, play
from experiments._noise import Trusted, noisy
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from torch import Generator, Tensor

from fedsciml import methods, run, wrappers
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.result import Result
from fedsciml.linalg.basis import gramian, symmetric
from fedsciml.methods import Method, Record
from fedsciml.methods._privacy import Bounds, Privacy, Scales, clipped, scales
from fedsciml.methods._private import Bare, Bounded, Private, bounded, private
from fedsciml.methods._shared import Shared
from fedsciml.methods._summed import Sums
from fedsciml.policies.hindsight import Hindsight
from fedsciml.problem import Problem
from fedsciml.residual import System

BUDGET = Privacy(3.0, 1e-5, releases=4, gramian=0.3)


def made(privacy: Privacy = BUDGET) -> Private:
    return Private(policy=Hindsight(), upload="sums", privacy=privacy)


@cache
def sine() -> Problem:
    return small("sine4", width=6)


def released(rows: Tensor, residual: Tensor, by: Scales) -> Tensor:
    """What is told of some rows, isometrically, in units of its sensitivity."""
    k = rows.shape[1]
    i, j = torch.triu_indices(k, k)
    off = rows.new_tensor([2**0.5, 1.0])[(i == j).long()]
    parts = gramian(rows) * off / by.gramian, -(residual @ rows) / by.target
    return torch.cat([*parts, residual.square().sum()[None] / 2 / by.loss])


def points(random: Generator, q: int, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random points of q rows, from short ones to much too long ones; two worst."""
    for _ in range(200):
        size = 10 ** float(4 * torch.rand((), generator=random) - 2)
        rows = size * torch.randn(q, k, generator=random, dtype=torch.float64)
        yield rows, size * torch.randn(q, generator=random, dtype=torch.float64)
    worst = torch.zeros(q, k, dtype=torch.float64)
    worst[0, 0] = 1e3
    for sign in (1.0, -1.0):
        yield worst, sign * worst[:, 0]


@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("part", [0.0, 0.3])
def test_a_point_more_moves_a_release_by_its_sensitivity_at_most_and_may_by_that(
    q: int, part: float
) -> None:
    random, k, bounds = Generator().manual_seed(0), 5, Bounds(0.3, 0.02)
    by = scales(Privacy(1, 1e-5, gramian=part), bounds)
    others = torch.randn(40, k, generator=random, dtype=torch.float64)
    rest = torch.randn(40, generator=random, dtype=torch.float64)
    without = released(*clipped(others, rest, torch.arange(40), bounds), by)
    moves = []
    for rows, residual in points(random, q, k):
        everything = torch.cat([others, rows]), torch.cat([rest, residual])
        owner = torch.cat([torch.arange(40), torch.full((q,), 40)])
        told = released(*clipped(*everything, owner, bounds), by)
        moves.append(float((told - without).norm()))
    assert max(moves[:-2]) <= max(moves[-2:]) + 1e-12
    assert max(moves) == pytest.approx(1, rel=1e-10)
    assert max(moves) <= 1 + 1e-12  # the bounds are kept to rounding


def test_rows_within_the_bounds_are_told_as_they_are_and_longer_ones_as_a_whole() -> (
    None
):
    rows = torch.tensor([[0.3, 0.0], [3.0, 4.0]], dtype=torch.float64)
    residual = torch.tensor([0.1, 2.0], dtype=torch.float64)
    a, r = clipped(rows, residual, torch.arange(2), Bounds(1.0, 10.0))
    assert torch.allclose(a[0], rows[0], rtol=1e-14)
    assert torch.allclose(a[1], rows[1] / 5, rtol=1e-13)
    assert torch.allclose(r, residual / torch.tensor([1.0, 5.0]), rtol=1e-13)
    # One that is not finite counts nothing, with all rows of its point.
    residual[1] = math.inf
    a, r = clipped(rows, residual, torch.zeros(2, dtype=torch.long), Bounds(1, 1))
    assert not a.any()
    assert not r.any()


def test_a_point_of_the_problem_owns_all_its_residuals() -> None:
    problem = sampled(system())  # terms with two residuals a point
    method = made().bound(problem).noised()
    assert isinstance(method, Private)
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    ask = next(method.round(method.start(theta, 0)))
    assert isinstance(ask, Bounded)
    shard = problem.shards()[0]
    basis = method._anchors.basis(theta, ask.span)
    bounds = Bounds(ask.row / 3, ask.residual / 100)
    rows, residual = bounded(System(problem, shard), theta, basis, bounds)
    alone = [
        bounded(System(problem, replace(shard, rows=(own,))), theta, basis, bounds)
        for mine in shard.rows
        for i in range(len(mine.points))
        if (own := mine.part(slice(i, i + 1)))
    ]
    lengths = torch.tensor([float(a.norm()) for a, _ in alone])
    assert (lengths <= bounds.row).all()
    assert any(len(r) == 2 for _, r in alone)
    whole = sum(a.mT @ a for a, _ in alone)
    assert torch.allclose(rows.mT @ rows, whole, rtol=1e-10, atol=1e-14)
    target = sum(r @ a for a, r in alone)
    assert torch.allclose(residual @ rows, target, rtol=1e-10, atol=1e-14)


def balle_wang(sigma: float, delta: float) -> float:
    """Epsilon of a Gaussian of sensitivity 1, from the formula of theorem 8."""

    def over(epsilon: float) -> float:
        first = norm.cdf(0.5 / sigma - epsilon * sigma)
        second = norm.logcdf(-0.5 / sigma - epsilon * sigma)
        return float(first - math.exp(epsilon + second) - delta)

    return 0.0 if over(0) < 0 else float(brentq(over, 0, 200, xtol=1e-10))


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 10.0])
def test_what_is_spent_is_the_analytic_gaussian_mechanism_of_all_releases(
    epsilon: float,
) -> None:
    privacy = Privacy(epsilon, 1e-6, releases=7)
    assert privacy.spent(0) == 0
    for k in range(1, 8):
        sigma = privacy.multiplier / k**0.5
        assert privacy.spent(k) == pytest.approx(balle_wang(sigma, 1e-6), rel=1e-6)
    assert privacy.spent(7) == pytest.approx(epsilon, rel=1e-6)


def test_what_is_spent_is_what_a_numerical_accountant_composes() -> None:
    import dp_accounting

    accountant = dp_accounting.pld.PLDAccountant()
    event = dp_accounting.GaussianDpEvent(BUDGET.multiplier)
    accountant.compose(event, BUDGET.releases)
    # Its discretisation, 1e-4, is pessimistic.
    spent = accountant.get_epsilon(BUDGET.delta)
    assert spent == pytest.approx(BUDGET.epsilon, rel=1e-3)


def test_noise_has_the_deviations_of_one_gaussian_mechanism() -> None:
    method = made().bound(sine()).noised()
    theta = sine().network.init(Generator().manual_seed(0), torch.float64)
    ask = next(method.round(method.start(theta, 0)))
    assert isinstance(ask, Bounded)
    k, noise = ask.span.size, method.noise(ask, len(theta))
    # The worst point, divided entry by entry by the noise: its length is 1 / z.
    row = ask.row * torch.randn(k, dtype=torch.float64, generator=Generator())
    row *= ask.row / row.norm()
    i, j = torch.triu_indices(k, k)
    off = noise["gramian"].new_tensor([2**0.5, 1.0])[(i == j).long()]
    assert torch.allclose(noise["gramian"] * off, noise["gramian"][0])
    parts = [gramian(row[None]), ask.residual * row, ask.residual**2 / 2]
    told = zip(parts, ("gramian", "target", "loss"), strict=True)
    moved = [float(torch.as_tensor(x / noise[name]).norm()) for x, name in told]
    assert math.hypot(*moved) == pytest.approx(1 / BUDGET.multiplier, rel=1e-12)


def trained(rounds: int, method: Method, **given: object) -> Result:
    return run(sine(), method, rounds=rounds, **given)  # type: ignore[arg-type]


def test_without_noise_and_with_wide_bounds_it_is_the_step_of_the_sums() -> None:
    wide = Privacy(1, 1e-5, clip=1e3, residual=1e3, gramian=0.3)
    bound, plain = made(wide).bound(sine()).noised(), Shared(Hindsight(), upload="sums")
    theta = sine().network.init(Generator().manual_seed(0), torch.float64)
    clients = connect(sine(), bound)

    def answer(ask: Record) -> dict[int, Record]:
        told = clients.exchange(ask)
        total = noisy(told, bound.noise(ask, 1), Generator(), 0)
        return {0: bound.summed(ask, total, len(told))}

    played = play(bound, bound.start(theta, 0), answer)
    known = plain.bound(sine())
    other = play(known, known.start(theta, 0), connect(sine(), known).exchange)
    a, b = played.exchanges[0].answers[0], other.exchanges[0].answers
    assert isinstance(a, Sums)
    for name in ("gramian", "target"):
        whole = sum(getattr(m, name) for m in b.values())
        assert torch.allclose(getattr(a, name), whole, rtol=1e-10, atol=1e-16)
    loss = sum(m.loss for m in b.values())
    assert a.loss == pytest.approx(loss, rel=1e-12)
    assert played.info.epsilon == pytest.approx(wide.spent(1))


def test_a_gramian_counts_above_its_noise_alone() -> None:
    method = made().bound(sine()).noised()
    assert isinstance(method, Private)
    theta = sine().network.init(Generator().manual_seed(0), torch.float64)
    ask = next(method.round(method.start(theta, 0)))
    assert isinstance(ask, Bounded)
    basis = method._anchors.basis(theta, ask.span)
    k, noise = basis.size, method.noise(ask, len(theta))
    level = (2 * k) ** 0.5 * float(noise["gramian"].max())
    # Of noise alone nothing is above, but for the tail (Tracy, Widom); of what is well
    # above all is.
    drawn = noise["gramian"] * torch.randn(
        len(noise["gramian"]), generator=Generator().manual_seed(0), dtype=theta.dtype
    )
    assert torch.linalg.eigvalsh(symmetric(drawn, k)).abs().max() < 1.1 * level
    target = torch.ones(k, dtype=theta.dtype)
    for size in (0.0, 100 * level):
        gram = gramian((max(size, 1e-300) ** 0.5) * torch.eye(k, dtype=theta.dtype))
        told = Sums(gram, target, 1.0, target, target)
        whole = method._form.whole(method, basis, {0: told}).problem
        step = basis.scales @ ((whole.inverse() * whole.c) @ whole.basis)
        assert torch.allclose(step, target / max(size, level), rtol=1e-8)


def test_a_run_ends_where_its_budget_is_spent_and_says_so(tmp_path: Path) -> None:
    found = trained(9, Trusted(made()), out=tmp_path)
    assert len(found.history) == BUDGET.releases
    assert [line.epsilon for line in found.history] == pytest.approx(
        [BUDGET.spent(k + 1) for k in range(BUDGET.releases)]
    )
    assert found.history[-1].epsilon == pytest.approx(BUDGET.epsilon, rel=1e-6)
    assert {line.delta for line in found.history} == {BUDGET.delta}
    assert "budget of epsilon 3 at delta 1e-05 is spent" in "".join(found.warnings)
    again = trained(9, Trusted(made()), out=tmp_path, resume=True)
    assert torch.equal(again.theta, found.theta)
    # Of the clients nothing is told but the noisy sums.
    for line in found.history:
        assert not line.losses
        assert line.held_out is None
        assert line.outside is None
    assert found.held_out is None
    assert found.loss == found.history[-1].loss


def test_a_resumed_run_goes_on_with_its_budget(tmp_path: Path) -> None:
    whole = trained(4, Trusted(made()))
    trained(2, Trusted(made()), out=tmp_path)
    rest = trained(4, Trusted(made()), out=tmp_path, resume=True)
    assert torch.equal(rest.theta, whole.theta)
    assert rest.history[-1].epsilon == whole.history[-1].epsilon


def test_a_round_that_was_cut_short_is_paid_for(tmp_path: Path) -> None:
    def cut(line: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(4, Trusted(made()), out=tmp_path, progress=cut)
    rest = trained(9, Trusted(made()), out=tmp_path, resume=True)
    assert len(rest.history) == BUDGET.releases - 1
    assert rest.history[1].epsilon == pytest.approx(BUDGET.spent(3))


def test_behind_masks_every_round_is_one_sum_with_the_noise_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[Bounded, Bare, int]]()
    summed = Private.summed

    def kept(self: Private, ask: Bounded, total: Bare, clients: int) -> object:
        asked.append((ask, total, clients))
        return summed(self, ask, total, clients)

    monkeypatch.setattr(Private, "summed", kept)
    word = "epsilon=3,delta=1e-5,releases=3,gramian=0.3"
    found = trained(9, wrappers.load("fipa", dp=word), out=tmp_path)
    assert len(found.history) == len(asked) == 3
    assert found.history[-1].epsilon == pytest.approx(3, rel=1e-6)
    assert "is spent after 3 releases" in "".join(found.warnings)
    options = json.loads((tmp_path / "run.json").read_text())["method_options"]
    assert '"epsilon": 3' in json.dumps(options)
    method = made(Privacy(3, 1e-5, releases=3, gramian=0.3)).bound(sine()).noised()
    systems = [System(sine(), shard) for shard in sine().shards()]
    square, count = 0.0, 0
    for ask, total, clients in asked:
        assert clients == len(systems)
        told = [method.part(ask)(system, ask, None)[0] for system in systems]
        for name, deviation in method.noise(ask, len(ask.theta)).items():
            plain = sum(torch.as_tensor(getattr(one, name)) for one in told)
            parts = (getattr(total, name) - plain) / deviation
            square, count = square + float(parts.square().sum()), count + parts.numel()
    # Fresh noise every time: wrong in one run of 1e9.
    assert chi2.ppf(1e-9, count) < square < chi2.ppf(1 - 1e-9, count)


def test_too_few_points_for_the_budget_are_told_of() -> None:
    (told,) = made().advice(sine())
    points = sum(len(rows.points) for rows in sine().pooled().rows)
    assert f"Of {points} points the noise drowns" in told
    many = replace(BUDGET, points=math.ceil(BUDGET.needed))
    assert not made(many).advice(sine())
    # At this number the loss of the bounds that follow it is its noise.
    bounds = Bounds(1.0, BUDGET.follow * (2 * 0.1 / BUDGET.needed) ** 0.5)
    noise = BUDGET.multiplier * scales(BUDGET, bounds).loss
    assert noise == pytest.approx(0.1)


def test_clients_answer_nobody_who_adds_no_noise() -> None:
    with pytest.raises(ValueError, match="nobody adds their noise"):
        trained(2, made())


@pytest.mark.parametrize("tiny", [1e-30, 1e-58])
def test_bounds_hold_where_squares_underflow(tiny: float) -> None:
    rows, residual = torch.tensor([[1e-160], [2.0]]), torch.tensor([3e-163, 1.0])
    points, bounds = torch.arange(2), Bounds(tiny, tiny)
    a, r = clipped(rows.double(), residual.double(), points, bounds)
    assert (a.abs() <= tiny).all()
    assert (r.abs() <= tiny).all()


def test_a_site_says_nothing_of_points_at_which_it_is_not_finite() -> None:
    """The server chooses theta: an error would tell on which side a point lies."""
    told = dict[bool, str]()
    for private_ in (True, False):
        method = made().noised() if private_ else methods.load("fedavg")
        clients = LocalClients(sine(), method.bound(sine()))
        theta = sine().network.init(Generator().manual_seed(0), torch.float64)
        ask = next(clients.method.round(clients.method.start(theta, 0)))
        far = replace(ask, theta=torch.full_like(theta, 1.7e308))  # type: ignore[type-var]
        told[private_] = str(clients.ask(far, {0: None}, 1)[0])
    assert "row" in told[False]  # what others say
    assert "row" not in told[True]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"delta": 1.0}, "delta must be in"),
        ({"clip": math.inf}, "clip must be positive"),
        ({"releases": 0}, "releases and points must be at least 1"),
        ({"follow": 1.0}, "follow must be above 1"),
        ({"gramian": 0.5, "told": 0.5}, "must leave something for the target"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, float], match: str) -> None:
    plain = {f.name: getattr(BUDGET, f.name) for f in fields(BUDGET)}
    with pytest.raises(ValueError, match=match):
        Privacy(**{**plain, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "given", "match"),
    [
        ("fipa", {"policy": "natural"}, "take one that does not probe|Take one that"),
        ("fipa", {"upload": "rows"}, "is for sums; got upload rows"),
        ("fipa", {"local": "adam"}, "exact local steps"),
        ("fipa", {"balance": "terms"}, "cannot be had with balance"),
        ("fipa", {"compress": "float32"}, "cannot be had with compress"),
        ("fedavg", {}, "there for fipa with upload sums, not for fedavg"),
        ("fipa", {"dp": "epsilon=3"}, "delta is missing"),
        ("fipa", {"dp": "epsilon=3,delta=1e-5,clop=1"}, "no option 'clop'.*'clip'"),
    ],
)
def test_what_would_tell_more_than_is_paid_for_is_refused(
    name: str, given: dict[str, str], match: str
) -> None:
    asked = {"dp": "epsilon=3,delta=1e-5", **given}
    with pytest.raises(ValueError, match=match):
        wrappers.load(name, **asked)  # type: ignore[arg-type]


def test_a_problem_without_anchors_and_balanced_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no anchors"):
        made().bound(system())
    with pytest.raises(ValueError, match="leave out balance"):
        made().bound(sine()).scaled((2.0,))
    with pytest.raises(ValueError, match="gn_gap tells"):
        trained(1, Trusted(made()), gn_gap=True)
    assert private(methods.load("fipa", **wrappers.PRIVATE), BUDGET) == made()
