"""How a run ended: converged, falling or stalled, and what to try."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, repeat

import pytest
import torch
from cases import linear, scalar

from fedsciml import Problem, methods
from fedsciml.callbacks import Until
from fedsciml.federation import Round, run
from fedsciml.federation.outcome import Outcome, outcome

EPS = torch.finfo(torch.float64).eps


def ended(
    losses: Sequence[float], promised: float | None = None, **more: object
) -> Outcome:
    """Of a run with a loss more than rounds."""
    lines = [Round(k, x, promised=promised) for k, x in enumerate(losses[:-1], 1)]
    return outcome(lines, losses[-1], EPS, **more)  # type: ignore[arg-type]


def flat(first: float, last: float, rounds: int = 12) -> list[float]:
    return [first, *repeat(last, rounds)]


def test_a_loss_that_is_rounding_has_converged() -> None:
    found = ended(flat(1.0, 1e-29), promised=1.0)
    assert found.state == "converged"
    assert "1.0e-29, is rounding, 1e-29 of the first" in found.sentence
    assert ended(flat(1.0, 1e-29), None).state == "converged"
    assert ended(flat(1e9, 1e-20), None).state == "converged"  # in any unit
    assert ended([1.0, 1e-20, 1e-29, 1e-31], 1.0).state == "falling"
    assert ended([1.0, 0.0], 1.0).state == "converged"
    lines = [Round(k, x) for k, x in enumerate(flat(1.0, 1e-11), 1)]
    single = outcome(lines, 1e-11, 1e-7)
    assert single.state == "converged"


def test_a_loss_at_a_floor_of_which_steps_promise_nothing_has_converged() -> None:
    found = ended(flat(1.0, 1e-3), promised=0.03)
    assert found.state == "converged"
    assert "fell by less than 0.01 % in the last 10 rounds" in found.sentence
    assert "promise 3 % more" in found.sentence
    assert ended(flat(1.0, 0.5), promised=1e-20).state == "converged"


def test_a_deviance_at_its_minimum_has_converged_after_few_rounds() -> None:
    losses = [10.7, 3.4, 2.2, 2.061, 2.0604, 2.0604]
    found = ended(losses, promised=2e-30)
    assert found.state == "converged"
    assert "2.0604, is at rest: the last step promised 2e-30" in found.sentence
    assert ended(losses, promised=1e-10).state == "falling"
    assert ended(losses, None).state == "falling"
    assert ended([1.0, 0.95, 0.95], promised=2e-30).state != "converged"  # nowhere
    assert ended([*losses, 6.0], promised=2e-30).state == "stalled"  # it was lower


@pytest.mark.parametrize(
    ("losses", "promised"),
    [
        (flat(1.0, 1e-3), 0.5),  # it could be lower
        (flat(1.0, 1e-3), None),  # nobody knows
        ([1e-3, 1.0, 1e-3, 1e-3], 0.03),  # not for long
        (flat(1.0, 0.5), 0.03),  # it came nowhere: the damping is large
        ([*flat(1.0, 1e-3), 0.97e-3], 0.03),
    ],
)
def test_whatever_may_still_fall_has_not_converged(
    losses: list[float], promised: float | None
) -> None:
    assert ended(losses, promised).state == "stalled"


def test_a_loss_that_falls_does_so_at_a_pace() -> None:
    found = ended([10.0**-k for k in range(13)], promised=1.0)
    assert found.state == "falling"
    assert "by a factor 1e+10 in the last 10 rounds" in found.sentence
    assert "At this late pace 1 more round gives" in found.sentence
    slow = ended([0.97**k for k in range(41)], promised=1.0)
    assert slow.state == "falling"
    assert "76 more rounds give" in slow.sentence  # ln 10 / -ln 0.97 = 75.6
    fell = ended([*(10.0**-k for k in range(6)), *[1e-5] * 5], promised=1.0)
    assert "but hardly in the last 5 of them" in fell.sentence
    assert ended([1.0, 0.95], promised=1.0).state == "falling"
    assert "in the last round." in ended([1.0, 0.95]).sentence


def test_a_rise_for_some_rounds_is_none_of_the_model_s() -> None:
    losses = [10.0**-k for k in range(12)]
    losses[8:11] = [1.0, 2.0, 3.0]
    assert ended(losses, promised=1.0).state == "falling"


def test_a_model_that_is_worse_than_it_was_is_not_falling() -> None:
    losses = [1.0, *(0.9**k for k in range(12)), 0.7]
    found = ended(losses)
    assert found.state == "stalled"
    assert "0.7, was as low as 0.314 before" in found.sentence
    assert ended([*losses[:-1], 0.33]).state == "falling"
    assert ended([*flat(1.0, 1e-3), 2e-3], promised=0.0).state == "stalled"
    assert ended([*flat(1.0, 1e-29), 0.1], promised=0.0).state == "stalled"
    assert ended([*flat(1.0, 1e-29), 9e-29], promised=0.0).state == "converged"


def test_a_run_that_stalls_in_single_precision_is_advised_to_take_double() -> None:
    lines = [Round(k, 1e-9, promised=0.3) for k in range(2, 12)]
    history = [Round(1, 1.0), *lines]
    single = torch.finfo(torch.float32).eps
    assert "Try float64, more rounds" in outcome(history, 1e-9, single).sentence
    assert "float64" not in outcome(history, 1e-9, EPS).sentence


def test_losses_of_other_weights_are_not_compared() -> None:
    came = [Round(1, 1e-9), Round(2, 1.0, joined={"2": [3]}), Round(3, 0.5)]
    assert outcome(came, 0.25, EPS) == outcome(came[1:], 0.25, EPS)
    assert outcome(came, 0.25, EPS).state == "falling"


def test_methods_that_promise_nothing_are_given_time() -> None:
    losses = [*(0.9**k for k in range(30)), *repeat(0.9**29, 20)]
    assert ended(losses).state == "falling"
    assert ended(losses, promised=1.0).state == "stalled"
    assert ended([*losses, *repeat(0.9**29, 30)]).state == "stalled"


def test_who_stands_still_is_told_what_to_try() -> None:
    losses = flat(1.0, 0.5)
    assert "Try more rounds, another seed or policy" in ended(losses, 0.9).sentence
    assert "though steps promise 90 %" in ended(losses, 0.9).sentence
    assert "Try fipa or gauss_newton, another learning rate" in ended(losses).sentence
    assert "no step" not in ended(losses, 0.9).sentence
    lines = [Round(k, 0.5, step=0.0, promised=0.9, epsilon=1.0) for k in range(1, 13)]
    still = outcome(lines, 0.5, EPS).sentence
    assert "in 10 of these rounds no step was taken" in still
    assert "Try a larger epsilon or more points" in still
    rose = ended([1.0, *repeat(5.0, 12)]).sentence
    assert "the loss, 5, has not been lower than at the start" in rose
    terms = {"pde": 0.01, "walls": 0.49}
    assert "98 % of it is of term 'walls'" in ended(losses, terms=terms).sentence
    assert "term" not in ended(losses, terms={"walls": 0.5}).sentence
    assert "term" not in ended(losses, terms={"pde": 0.2, "walls": 0.3}).sentence


def test_losses_of_other_clients_are_not_compared() -> None:
    lines = [Round(k, 10.0**-k) for k in range(1, 13)]
    lines[3] = replace(lines[3], loss=1e-40, dropped={"1": "late"})
    assert outcome(lines, 1e-13, EPS).state == "falling"
    assert outcome(lines, None, EPS).state == "falling"
    late = [replace(line, loss=line.loss * 1e6) for line in lines[4:]]
    late[0] = replace(late[0], joined={"2": [3]})
    assert outcome(lines[:3] + late, None, EPS).state == "falling"
    stale = replace(lines[-1], dropped={"1": "late"}, stale={"1": 1})
    assert outcome([*lines[:-1], stale], 1e-13, EPS) == outcome(lines, 1e-13, EPS)


def test_who_ended_a_run_is_named() -> None:
    def enough(history: object) -> bool:
        return bool(history)

    found = ended([1.0, 0.1], asked=[enough, Until(0.5)]).sentence
    assert found.startswith("Ended after round 1, as asked (enough, loss <= 0.5). The")


def test_steps_promise_what_they_remove_where_the_residual_is_linear() -> None:
    lines = run(linear(), methods.load("gauss_newton"), 5).history
    for line, after in pairwise(lines[:3]):
        removed = 1 - after.loss / line.loss
        assert line.step == 1.0
        assert line.promised == pytest.approx(removed, rel=1e-3)  # of the least damped
    assert run(linear(), methods.load("adam", tau=1), 1).history[0].promised is None


def bent(far: float, slope: float) -> Problem:
    """A straight line through a kink, or another line: a floor, or none."""
    (term,) = linear().terms
    kink = lambda x: far + (x[:, 0] - 0.5).abs()  # noqa: E731
    line = lambda x: far + slope * x[:, 0]  # noqa: E731
    return replace(linear(), terms=[replace(term, target=line if slope else kink)])


@pytest.mark.parametrize(
    ("problem", "method", "rounds", "state"),
    [
        (bent(0.0, 0.0), "fipa", 14, "converged"),
        (bent(5.0, 0.0), "gauss_newton", 14, "converged"),
        (bent(5.0, 2.0), "fipa", 8, "converged"),
        (bent(5.0, 2.0), "adam:tau=3", 12, "stalled"),
        (scalar(), "gauss_newton", 4, "falling"),
        (scalar(), "fedavg:tau=3", 1, "falling"),
    ],
)
def test_runs_end_as_is_known_of_them(
    problem: Problem, method: str, rounds: int, state: str
) -> None:
    name, _, tau = method.partition(":tau=")
    options = {"tau": int(tau)} if tau else {}
    result = run(problem, methods.load(name, **options), rounds)
    assert result.outcome.state == state
    assert result.outcome.sentence in str(result)
