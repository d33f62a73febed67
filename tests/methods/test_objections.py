"""Uploads of the right shapes that a server could not use: none of them ends a run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import theta
from exchanges import connect
from faults import Connected, Fault, Faulty, advanced, everywhere, opening
from test_uploads import METHODS, problem, quick
from torch import Tensor

from fedsciml import methods, run
from fedsciml.federation import Federation, Result, Rules
from fedsciml.methods import Method
from fedsciml.methods._fipa import Sketched
from fedsciml.methods.fedfisher import Kronecker
from fedsciml.methods.fedpm import Preconditioned
from fedsciml.wrappers.balance import Balanced, Traces
from fedsciml.wrappers.compress import Compressed
from fedsciml.wrappers.resample import Resampled
from fedsciml.wrappers.warmup import Warmup

FEDPM, GRAMIANS = quick("fedpm"), METHODS["fedpm of gramians"]
RULES = Rules(min_clients=2)


def trained(clients: Faulty, rounds: int = 3) -> Result:
    backend = Connected(clients)
    return run(problem(), clients.method, rounds, backend=backend, rules=RULES)


def changed(path: str, change: Callable[[Tensor], Tensor]) -> Fault:
    """One tensor of the answer, ``field/of/a/field``, is changed."""
    name, _, rest = path.partition("/")
    inner = changed(rest, change) if rest else change

    def fault(part: Any) -> object:  # noqa: ANN401
        if isinstance(part, Mapping):
            return {**part, name: inner(part[name])}
        return replace(part, **{name: inner(getattr(part, name))})

    return fault


def another_network(answer: Kronecker | Preconditioned) -> object:
    """One layer with as many parameters; factors of any length."""
    return replace(answer, shapes=torch.tensor([[len(answer.delta) - 1, 1, 1]]))


def endless(answer: Sketched) -> object:
    """More rows than there are parameters."""
    rows = 1 + answer.factor.shape[1]
    return replace(
        answer,
        factor=answer.factor[:1].expand(rows, -1),
        target=answer.target[:1].expand(rows),
    )


def doubled(x: Tensor) -> Tensor:
    return torch.cat([x, x])


def indefinite(x: Tensor) -> Tensor:
    return torch.where(torch.arange(len(x)) == 0, -x, x)


def wider(x: Tensor) -> Tensor:
    return torch.cat([x, x[:, :1]], 1)


WIDTHS, NUMBERS = "its layers .* are not those of the network", "numbers, not"
DEFINITE = "its preconditioner is not positive definite"
HALF = changed("preconditioner", indefinite)
WITHIN = changed("answer/preconditioner", indefinite)
OWN = methods.load("fipa", basis="own")
FISHER = methods.load("fedfisher", tau=2, server_steps=5)
FEEDBACK = METHODS["compressed with feedback"]


@pytest.mark.parametrize(
    ("method", "fault", "said"),
    [
        (
            methods.load("fipa", basis="own"),
            endless,
            "a size that the client chooses is at most",
        ),
        (FISHER, changed("shapes", lambda x: x + 1), WIDTHS),
        (FISHER, changed("shapes", torch.zeros_like), WIDTHS),
        (FISHER, another_network, WIDTHS),
        (FISHER, changed("inputs", doubled), NUMBERS),
        (FISHER, changed("outputs", doubled), NUMBERS),
        (FEDPM, changed("shapes", torch.neg), WIDTHS),
        (FEDPM, another_network, WIDTHS),
        (FEDPM, changed("preconditioner", doubled), NUMBERS),
        (FEDPM, HALF, DEFINITE),
        (GRAMIANS, HALF, DEFINITE),
        (FEEDBACK, changed("weights/factor", wider), "change of a 'factor' of "),
        (Balanced(FEDPM, "terms"), WITHIN, DEFINITE),
        (Compressed(FEDPM), HALF, DEFINITE),
        (Compressed(FEDPM, feedback=True), WITHIN, DEFINITE),
        (Resampled(FEDPM), HALF, DEFINITE),
        (Warmup(FEDPM, 2, METHODS["fedavg"]), HALF, DEFINITE),
        (Warmup(METHODS["fedavg"], 1, FEDPM), HALF, DEFINITE),
    ],
)
def test_what_the_server_cannot_use_is_dropped(
    method: Method, fault: Fault, said: str
) -> None:
    found = trained(Faulty(problem(), method, {1: fault}, [2], opening))
    told = [line.dropped for line in found.history]
    assert [list(dropped) for dropped in told] == [[], ["1"], []]
    with pytest.raises(ValueError, match=f"client 1 cannot be merged: .*{said}"):
        raise ValueError(told[1]["1"])
    others = trained(Faulty(problem(), method, away={1: [2]}))
    assert found.theta_sha256() == others.theta_sha256()


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_traces_of_other_terms_are_dropped(by: str) -> None:
    method = METHODS[f"balanced {by}"]
    fault = changed("traces", doubled)
    asked = Faulty(
        problem(), method, {1: fault}, when=lambda ask: isinstance(ask, Traces)
    )
    found = trained(asked)
    others = trained(Faulty(problem(), method, away={1: [1]}))
    terms = len(problem().terms)
    told = found.history[0].dropped["1"]
    assert f"traces of {2 * terms} terms; there are {terms}" in told
    assert found.theta_sha256() == others.theta_sha256()


def test_with_the_memory_of_another_run_a_client_is_left_out() -> None:
    federation = Federation(problem(), FEEDBACK, connect(problem(), FEEDBACK), RULES)
    other = advanced(federation, theta(problem()), 3)
    reached = federation.start(theta(problem()), 0)
    reached = reached._replace(memories=[None, other.memories[1], None])
    for _ in range(3):
        reached, _, dropped, *_ = federation.advance(reached)
        assert "Empty it" in dropped["1"]


def spoilt(x: Tensor) -> Tensor:
    """One number that is finite."""
    return torch.where(torch.arange(x.numel()).view(x.shape) == 0, x, math.nan)


def largest(x: Tensor) -> Tensor:
    return torch.full_like(x, torch.finfo(x.dtype).max)


@pytest.mark.parametrize(
    "change",
    [
        *(torch.neg, spoilt),
        *(pytest.param(c, marks=pytest.mark.slow) for c in (torch.zeros_like, largest)),
    ],
)
@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.pooled]
)
def test_no_numbers_end_a_run(name: str, change: Callable[[Tensor], Tensor]) -> None:
    floats = everywhere(lambda x: change(x) if x.is_floating_point() else x)
    found = trained(Faulty(problem(), METHODS[name], {1: floats}), 2)
    assert found.theta.isfinite().all()
    for line in found.history:
        assert set(line.dropped) <= {"1"}
