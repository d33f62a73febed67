"""The last layers alone: as a problem of their network, where the others stay."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import scalar, small, theta
from exchanges import connect, play
from faults import Connected, Faulty
from torch import Tensor

from fedsciml import methods, run, wrappers
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method, payload
from fedsciml.network import MLP, ModuleNetwork, Partial
from fedsciml.problem import Problem
from fedsciml.wrappers import LastLayers, Warmup, compressed


@cache
def digits() -> Problem:
    return replace(small("digits", clients=3), prior=1e-3)


def played(
    problem: Problem, method: Method, start: Tensor, rounds: int
) -> tuple[Tensor, list[float], int]:
    """theta, the losses, and the longest row of an answer after some rounds."""
    clients, losses, longest = connect(problem, method), list[float](), 0
    state = method.start(start, 3)
    for _ in range(rounds):
        state, info, exchanges = play(method, state, clients.exchange)
        losses.append(info.loss)
        longest = max(
            longest, *(payload(a) for e in exchanges for a in e.answers.values())
        )
    return state.theta, losses, longest


RUNS: dict[str, tuple[str, dict[str, object]]] = {
    "fipa": ("fipa", {}),
    "lazy": ("fipa", {"gradient": True, "every": 2, "rank": "3"}),
    "fedavg": ("fedavg", {"tau": 3, "keep_state": True}),
    "fedfisher": ("fedfisher", {"fisher": "kfac", "tau": 1}),
    "balanced": ("fipa", {"basis": "own", "balance": "terms"}),
    "gauss_newton": ("gauss_newton", {}),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("of", [digits, scalar], ids=["classes", "equation"])
def test_a_method_does_what_it_does_on_the_network_of_these_layers(
    of: object, name: str
) -> None:
    problem: Problem = of()  # type: ignore[operator]
    start, (word, options) = theta(problem), RUNS[name]
    network = Partial(problem.network, start)
    # Without anchors, whose rows would be those of other fixed layers.
    terms = [replace(term, sample=None) for term in problem.terms]
    own = replace(problem, network=network, terms=terms)
    method = wrappers.load(word, **options)
    alone = played(own, method.bound(own), start[-network.size :], 2)
    found = played(problem, LastLayers(method).bound(problem), start, 2)
    assert torch.equal(found[0], network.whole(alone[0]))
    assert not torch.equal(found[0], start)
    assert found[1:] == alone[1:]


def test_after_a_warm_up_what_is_sent_is_as_long_as_the_classifier() -> None:
    problem, fedavg = digits(), methods.load("fedavg", tau=2)
    warm = run(problem, fedavg, 2)
    method = wrappers.load("fipa", warmup="fedavg:2,tau=2", train="classifier")
    found = run(problem, method, 4)
    size = Partial(problem.network, warm.theta).size
    assert torch.equal(found.theta[:-size], warm.theta[:-size])
    assert not torch.equal(found.theta[-size:], warm.theta[-size:])
    assert found.loss < 0.8 * warm.loss  # measured 0.51
    before, *_, last = found.history[1:]
    p, ranks = len(warm.theta), sum(sum(r.ranks) for r in found.history[2:])
    # Down goes all of theta in every round.
    assert last.bytes_down - before.bytes_down > 2 * 2 * 8 * p
    assert ranks * size * 8 < last.bytes_up - before.bytes_up < 8 * ranks * (size + 700)


def essence(history: list[Round]) -> list[Round]:
    """A history without its seconds."""
    return [replace(line, seconds=0.0) for line in history]


def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    method = wrappers.load("fipa", warmup="fedavg:1,tau=2", train="1")
    whole, out = run(digits(), method, 3), tmp_path / "run"
    run(digits(), method, 3, out=out, stop=lambda lines: len(lines) == 2)
    resumed = run(digits(), method, 3, out=out, resume=True)
    assert torch.equal(resumed.theta, whole.theta)
    assert essence(resumed.history) == essence(whole.history)


@pytest.mark.parametrize("word", ["bfloat16", "bfloat16,feedback"])
def test_compression_does_the_same_inside_and_outside(word: str) -> None:
    fipa = methods.load("fipa")
    inside, outside = (
        run(digits(), method, 3)
        for method in (
            LastLayers(compressed(fipa, word)),
            compressed(LastLayers(fipa), word),
        )
    )
    assert torch.equal(inside.theta, outside.theta)
    assert essence(inside.history) == essence(outside.history)


def test_a_client_that_was_away_lacks_nothing() -> None:
    method = Warmup(methods.load("fedavg", tau=2), 2, LastLayers(methods.load("fipa")))
    clients = Faulty(digits(), method, away={0: (2, 3), 1: (5,)})
    found = run(digits(), method, 6, backend=Connected(clients), rules=Rules(1))
    assert [list(line.dropped) for line in found.history] == [
        *([], ["0"], ["0"], [], ["1"], [])
    ]
    assert found.loss < found.history[1].loss


def test_what_fixed_layers_make_of_points_is_computed_once() -> None:
    calls = 0

    class Counted(MLP):
        def tail(self, theta: Tensor, layers: int) -> MLP:
            tail = super().tail(theta, layers)
            features = tail.features

            def counted(x: Tensor) -> Tensor:
                nonlocal calls
                calls += 1
                assert features is not None
                return features(x)

            return replace(tail, features=counted)

    network = digits().network
    assert isinstance(network, MLP)
    problem = replace(digits(), network=Counted(network.widths))
    found = []
    for rounds in (1, 3):
        calls = 0
        run(problem, LastLayers(methods.load("fipa")), rounds)
        found.append(calls)
    assert found[0] == found[1] > 0


def test_what_does_not_fit_is_refused() -> None:
    fipa, shared = methods.load("fipa"), methods.load("fipa", basis="shared")
    with pytest.raises(ValueError, match="basis that all parties share.*basis own"):
        LastLayers(shared)
    for train in (0, "last"):
        with pytest.raises(ValueError, match="classifier or dense; got"):
            LastLayers(fipa, train)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alone already"):
        LastLayers(LastLayers(fipa))
    with pytest.raises(ValueError, match="cannot be had with train"):
        wrappers.load("fipa", dp="epsilon=3,delta=1e-5", train="1")
    module = replace(scalar(), network=ModuleNetwork(torch.nn.Linear(1, 1)))
    with pytest.raises(ValueError, match="MLP or a ConvNet"):
        run(module, LastLayers(fipa), 1)
    with pytest.raises(ValueError, match="layers with weights 1 to"):
        run(scalar(), LastLayers(fipa, 9), 1)
    with pytest.raises(ValueError, match="the last alone are trained"):
        wrappers.load("fedavg", train="1", secure=True)
