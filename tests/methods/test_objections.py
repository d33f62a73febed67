"""Uploads of the right shapes that a server could not use: none of them ends a run."""

import math
from collections.abc import Callable

import pytest
import torch
from faults import Fault, Faulty, everywhere, opening
from test_uploads import METHODS, problem, quick
from torch import Tensor

from fedsciml import methods, run
from fedsciml.federation.loop import Result
from fedsciml.federation.participation import Rules
from fedsciml.methods import Message, Method
from fedsciml.wrappers.balance import Balanced
from fedsciml.wrappers.compress import Compressed
from fedsciml.wrappers.resample import Resampled
from fedsciml.wrappers.warmup import Warmup

FEDPM, GRAMIANS = quick("fedpm"), METHODS["fedpm of gramians"]
RULES = Rules(min_clients=2)


def trained(door: Faulty, rounds: int = 3) -> Result:
    return run(problem(), door.method, rounds, backend=door, rules=RULES)


def changed(key: str, change: Callable[[Tensor], Tensor]) -> Fault:
    """One part of the upload is changed."""
    return lambda upload: {**upload, key: change(upload[key])}


def another_network(upload: Message) -> Message:
    """One layer with as many parameters; factors of any length."""
    widths = torch.tensor([len(upload["delta"]) - 1, 1])
    return {**upload, "widths": widths}


def endless(upload: Message) -> Message:
    """More rows than there are parameters."""
    rows = 1 + upload["factor"].shape[1]
    return {
        **upload,
        "factor": upload["factor"][:1].expand(rows, -1),
        "target": upload["target"][:1].expand(rows),
    }


def doubled(x: Tensor) -> Tensor:
    return torch.cat([x, x])


def indefinite(x: Tensor) -> Tensor:
    return torch.where(torch.arange(len(x)) == 0, -x, x)


def wider(x: Tensor) -> Tensor:
    return torch.cat([x, x[:, :1]], 1)


WIDTHS, NUMBERS = "its widths .* are not those of the network", "numbers, not"
DEFINITE = "its preconditioner is not positive definite"
HALF = changed("preconditioner", indefinite)
FISHER = methods.load("fedfisher", tau=2, server_steps=5)
FEEDBACK = METHODS["compressed with feedback"]


@pytest.mark.parametrize(
    ("method", "fault", "said"),
    [
        (METHODS["fipa"], endless, "a size that the client chooses is at most"),
        (FISHER, changed("widths", lambda x: x + 1), WIDTHS),
        (FISHER, changed("widths", torch.zeros_like), WIDTHS),
        (FISHER, another_network, WIDTHS),
        (FISHER, changed("inputs", doubled), NUMBERS),
        (FISHER, changed("outputs", doubled), NUMBERS),
        (FEDPM, changed("widths", torch.neg), WIDTHS),
        (FEDPM, another_network, WIDTHS),
        (FEDPM, changed("preconditioner", doubled), NUMBERS),
        (FEDPM, HALF, DEFINITE),
        (GRAMIANS, HALF, DEFINITE),
        (FEEDBACK, changed("compress.factor", wider), "change of a 'factor' of "),
        (Balanced(FEDPM, "terms"), HALF, DEFINITE),
        (Compressed(FEDPM), HALF, DEFINITE),
        (Compressed(FEDPM, feedback=True), HALF, DEFINITE),
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
    fault = changed("balance.traces", doubled)
    asked = Faulty(problem(), method, {1: fault}, when=lambda b: "balance.ask" in b)
    found = trained(asked)
    others = trained(Faulty(problem(), method, away={1: [1]}))
    terms = len(problem().terms)
    told = found.history[0].dropped["1"]
    assert f"traces of {2 * terms} terms; there are {terms}" in told
    assert found.theta_sha256() == others.theta_sha256()


def test_with_the_memory_of_another_run_a_client_is_left_out() -> None:
    door, other = Faulty(problem(), FEEDBACK), Faulty(problem(), FEEDBACK)
    trained(other)
    door.memories[1] = other.memories[1]
    for line in trained(door).history:
        assert "Empty it" in line.dropped["1"]


def spoilt(x: Tensor) -> Tensor:
    """One number that is finite."""
    return torch.where(torch.arange(x.numel()).view(x.shape) == 0, x, math.nan)


def largest(x: Tensor) -> Tensor:
    return torch.full_like(x, torch.finfo(x.dtype).max)


@pytest.mark.parametrize("change", [torch.zeros_like, torch.neg, largest, spoilt])
@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.pooled]
)
def test_no_numbers_end_a_run(name: str, change: Callable[[Tensor], Tensor]) -> None:
    floats = everywhere(lambda x: change(x) if x.is_floating_point() else x)
    found = trained(Faulty(problem(), METHODS[name], {1: floats}), 2)
    assert found.theta.isfinite().all()
    for line in found.history:
        assert set(line.dropped) <= {"1"}
