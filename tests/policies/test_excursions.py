"""A method that lets the loss rise for a while: its model, record and resumption."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from cases import CASES, once, theta
from experiments.steps import POLICIES
from torch import Tensor

from fedsciml import methods, problems, run
from fedsciml.federation import loop as rounds
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import InProcess
from fedsciml.linalg.ranks import Fixed as Rank
from fedsciml.linalg.solve import Spectrum
from fedsciml.methods import Info, Method, conclude, flatten
from fedsciml.methods._fipa import Fipa, State
from fedsciml.policies import Candidates, Choice, LossFree, Probed
from fedsciml.policies._one_step import OneStep
from fedsciml.problem import Problem
from fedsciml.residual import System

SCRIPT = "dduudnuddd"
"""What ``Scripted`` does: steps down, steps up, and no step."""


@dataclass(frozen=True)
class Done:
    """How many rounds are over."""

    rounds: int


@dataclass(frozen=True)
class Scripted(OneStep, LossFree[Done]):
    """A damped half step or, where the script says so, one the other way."""

    damping: float = 1e-1
    cutoff: float = 1e-10
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (Done,)

    def start(self, eps: float) -> Done:
        return Done(0)

    def propose(self, spectrum: Spectrum, state: Done) -> Candidates:
        return self._at((0.5, -0.5), spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Done,
    ) -> tuple[Choice | None, Done]:
        word = SCRIPT[state.rounds]
        choice = None if word == "n" else Choice(0, "du".index(word))
        return choice, Done(state.rounds + 1)


@cache
def scalar() -> Problem:
    """Three unequal shards, one without boundary points."""
    return CASES["scalar"]()


@cache
def square() -> Problem:
    """A federation whose line search soon wanders off."""
    return problems.load("poisson_square", points=0.3)


WANDERING = "line_search:damping=1e-6,cutoff=0,memory=5"


def trail(
    problem: Problem, method: Method, count: int, start: Tensor | None = None
) -> list[tuple[Info, State]]:
    """What every round reports, and the state after it."""
    clients, found = InProcess().connect(problem, method), []
    if start is None:
        generator = torch.Generator().manual_seed(0)
        start = problem.network.init(generator, torch.float64)
    state = method.start(start, 0)
    for _ in range(count):
        state, info = conclude(method.round(state), clients.exchange)
        found.append((info, state))
        assert torch.equal(next(method.round(state)).theta, state.at)
    return found


def test_the_model_stays_at_the_lowest_loss_while_the_method_moves() -> None:
    problem, start = scalar(), theta(scalar())
    whole = System(problem, problem.pooled())
    best, lowest, at = start, whole.loss(start), start
    found = trail(problem, Fipa(Scripted(), sketch="svd"), len(SCRIPT), start)
    for word, (info, state) in zip(SCRIPT, found, strict=True):
        loss = whole.loss(at)
        assert info.loss == pytest.approx(loss, rel=1e-12)
        assert torch.equal(state.at, at) == (word == "n")
        at = state.at
        there = whole.loss(at)
        assert (there > loss) == (word == "u")
        if there < lowest:
            best, lowest = at, there
        assert torch.equal(state.theta, best)
        assert state.lowest == pytest.approx(lowest, rel=1e-12)
    apart = [not torch.equal(state.theta, state.at) for _, state in found]
    assert apart[2:4] == [True, True]
    assert not any(apart[:2])
    assert not apart[-1]  # what came down in the end is lower than all before


@pytest.mark.parametrize(
    "policy", once([p for p in POLICIES if "acceleration" not in p])
)
@pytest.mark.parametrize("load", [scalar, pytest.param(square, marks=pytest.mark.slow)])
def test_the_loss_of_the_model_never_rises(
    load: Callable[[], Problem], policy: str
) -> None:
    problem = load()
    whole = System(problem, problem.pooled())
    found = trail(problem, methods.load("fipa", policy=policy, basis="own"), 20)
    losses = [whole.loss(state.theta) for _, state in found]
    before = [found[0][0].loss, *losses]
    for old, new in zip(before, losses, strict=False):
        # A loss is the half square of a residual, which has a rounding error.
        assert new**0.5 <= old**0.5 * (1 + 1e-12) + 1e-13
    if "memory" in policy:
        assert any(not torch.equal(s.theta, s.at) for _, s in found)


@pytest.mark.parametrize("policy", once(POLICIES))
def test_every_policy_trains_in_single_precision(policy: str) -> None:
    method = methods.load("fipa", policy=policy, basis="own")
    result = run(scalar(), method, rounds=6, dtype=torch.float32)
    assert result.theta.dtype == torch.float32
    assert all(value == value for value in result.errors())
    # A cut-off or damping given below the rounding unit makes steps of noise.
    noise = policy.startswith("spring") or policy.startswith("line_search:cutoff")
    bound = 1 + 1e-5 if noise else 0.5
    assert result.loss <= bound * result.history[0].loss


def test_where_the_point_taken_was_not_probed_it_is_the_model() -> None:
    policies = ("levenberg_marquardt:acceleration=true", "fixed:damping=1")
    for policy in policies:
        method = methods.load("fipa", policy=policy, basis="own")
        for _, state in trail(scalar(), method, 8):
            assert torch.equal(state.theta, state.at)


def essence(history: list[Round]) -> list[Round]:
    """A history without its seconds."""
    return [replace(line, seconds=0.0) for line in history]


def stopped(problem: Problem, method: Method, when: int, count: int, out: Path) -> None:
    """Interrupt a recorded run after a round."""

    def trouble(line: Round) -> None:
        if line.round == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(problem, method, count, out=out, progress=trouble)


def resumed_equals_whole(
    problem: Problem, method: Method, when: int, count: int, out: Path
) -> State:
    """Hold a resumed run to an uninterrupted one; the state where it went on."""
    whole = run(problem, method, count)
    stopped(problem, method, when, count, out)
    kept = RunDirectory.resume(out).load(method.kinds)
    assert kept is not None
    assert kept.round == when
    again = run(problem, method, count, out=out, resume=True)
    assert again.theta_sha256() == whole.theta_sha256()
    assert again.loss == whole.loss
    assert essence(again.history) == essence(whole.history)
    return kept.state


def test_a_run_resumed_in_an_excursion_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    problem, method = scalar(), Fipa(Scripted())
    for when in (3, 4, 6):
        out = tmp_path / str(when)
        state = resumed_equals_whole(problem, method, when, len(SCRIPT), out)
        assert not torch.equal(state.theta, state.at)
    method = methods.load("fipa", policy=WANDERING, basis="own")
    found = trail(square(), method, 12)
    apart = [not torch.equal(state.theta, state.at) for _, state in found]
    when = apart.index(True) + 1
    state = resumed_equals_whole(square(), method, when, 12, tmp_path / "wandering")
    assert not torch.equal(state.theta, state.at)
    assert torch.equal(state.theta, found[when - 1][1].theta)


@pytest.mark.parametrize("policy", once(POLICIES))
def test_every_policy_resumes_bit_for_bit(tmp_path: Path, policy: str) -> None:
    method = methods.load("fipa", policy=policy, basis="own")
    state = resumed_equals_whole(scalar(), method, 5, 9, tmp_path / "run")
    tensors = {k for k, v in flatten(state).items() if isinstance(v, Tensor)}
    expected = {"theta", "at"}
    if policy.startswith("spring"):
        expected.add("policy/phi")
    if policy.startswith("line_search"):
        expected.add("policy/losses")
        assert len(state.policy.losses) == (5 if "memory" in policy else 0)
    assert tensors == expected


@pytest.mark.slow
def test_a_look_for_a_hop_resumes_bit_for_bit(tmp_path: Path) -> None:
    # Near the rounding level: in which rounds depends on the machine.
    problem, method = scalar(), methods.load("fipa")
    found = trail(problem, method, 60)
    apart = [not torch.equal(state.theta, state.at) for _, state in found]
    assert any(apart)
    looks = [state.policy.slow == -6 for _, state in found]
    when = looks.index(True) + 1
    resumed_equals_whole(problem, method, when, when + 5, tmp_path / "run")


def test_the_gap_to_gauss_newton_is_that_of_the_steps_really_taken() -> None:
    method = Fipa(Scripted(), Rank(999), "svd")
    history = run(scalar(), method, len(SCRIPT), gn_gap=True).history
    for word, line in zip(SCRIPT, history, strict=True):
        # No step has no part of the ideal one. Measured at most 1.4e-14.
        assert line.gn_gap == pytest.approx(1.0 if word == "n" else 0.0, abs=1e-9)
    assert [line.step for line in history] == [
        {"d": 0.5, "u": -0.5, "n": 0.0}[word] for word in SCRIPT
    ]


def test_messages_of_an_excursion_start_where_the_method_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", 0.0)
    method = Fipa(Scripted())
    stopped(scalar(), method, 4, len(SCRIPT), tmp_path / "run")
    kept = RunDirectory.resume(tmp_path / "run").load(method.kinds)
    assert kept is not None
    assert torch.equal(next(method.round(kept.state)).theta, kept.state.at)
    assert not torch.equal(kept.state.at, kept.state.theta)
    # What the run reports is its model.
    result = run(scalar(), method, 10, out=tmp_path / "run", resume=True, stop=after4)
    assert torch.equal(result.theta, kept.state.theta)
    assert result.history[-1].relative_l2 == result.errors()[0]


def after4(history: list[Round]) -> bool:
    return len(history) >= 4
