"""FedLoRA-Optimizer against a naive loop over clients, stage by stage."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import reference
import torch
from cases import low_rank, scalar
from torch import Generator, Tensor

from fedsciml import methods, run
from fedsciml.federation import Result
from fedsciml.network import Lora, lora
from fedsciml.problem import Problem
from fedsciml.wrappers import Personal

STAGES = {"averaged": 2, "directions": 2}
OPTIONS = {"local": "sgd", "tau": 3, "learning_rate": 2e-3, **STAGES}
RATES = {"global_rate": 3e-3, "own_rate": 5e-3}


@cache
def problem() -> Problem:
    return low_rank()


@cache
def ran(rounds: int) -> Result:
    method = methods.load("fedlora", **{**OPTIONS, **RATES})
    return run(problem(), method, rounds=rounds, seed=3)


def small() -> Lora:
    network = problem().network.network
    assert isinstance(network, Lora)
    return network


def naive(rounds: int) -> tuple[Tensor, list[Tensor]]:
    """theta_s and each client's own magnitudes, by torch.optim on all parameters."""
    plain, network = scalar(), small()
    shards = plain.shards()
    named = network.groups
    own = named["magnitudes_B"]
    shared = torch.cat([named[n] for n in ("base", "A", "B", "magnitudes_A")])
    stages = [(shared, 2e-3), (named["A"], 3e-3), (own, 5e-3)]
    # As ``run`` starts: the shared part by the seed, magnitudes at 1.
    start = network.init(Generator().manual_seed(3), torch.float64)
    clients = [start.clone() for _ in shards]
    for k in range(rounds):
        moving, rate = stages[min(k // 2, 2)]
        ends = []
        for shard, theta in zip(shards, clients, strict=True):
            part = theta[moving].clone().requires_grad_()
            optimiser = torch.optim.SGD([part], lr=rate)
            for _ in range(3):
                optimiser.zero_grad()
                phi = theta.index_put((moving,), part)
                r = reference.residual(plain, shard, network.whole(phi))
                (r @ r / 2 / shard.share).backward()
                optimiser.step()
            ends.append(part.detach())
        shares = torch.tensor([shard.share for shard in shards], dtype=torch.float64)
        mean = (shares[:, None] * torch.stack(ends)).sum(0)
        for m, theta in enumerate(clients):
            theta[moving] = ends[m] if moving is own else mean
    return clients[0][shared], [theta[own] for theta in clients]


def test_every_stage_is_a_naive_loop_over_its_parameters() -> None:
    found = ran(6)
    theta, own = naive(6)
    torch.testing.assert_close(found.theta, theta, rtol=1e-11, atol=1e-12)
    for m, values in enumerate(own):
        torch.testing.assert_close(found.personal[m], values, rtol=1e-11, atol=1e-12)


def test_a_stage_moves_its_own_parameters_and_no_others() -> None:
    named = small().groups
    ends = [ran(rounds) for rounds in (2, 4, 6)]
    one = torch.ones_like(ends[0].personal[0])
    for end in ends[:2]:
        assert all(torch.equal(f, one) for f in end.personal.values())
    moved = (ends[1].theta != ends[0].theta).nonzero()[:, 0]
    # The row of the first layer has one number: its direction is its sign.
    assert torch.equal(moved, named["A"][1:])
    assert torch.equal(ends[2].theta, ends[1].theta)
    assert all(not torch.equal(f, one) for f in ends[2].personal.values())
    losses = [line.loss for line in ends[2].history]
    assert losses == sorted(losses, reverse=True)


def test_an_upload_has_what_the_stage_trains() -> None:
    found, network = ran(6), small()
    every = len(found.theta)
    sent = [0, *(line.bytes_up for line in found.history)]
    rounds = [b - a for a, b in pairwise(sent)]
    clients, beside = 3, 2  # loss and share
    sizes = [every, every, *2 * [len(network.groups["A"])], 0, 0]
    evaluated = rounds[4] - clients * 8 * beside  # losses at the model, asked for apart
    assert rounds == [clients * 8 * (n + beside) + evaluated for n in sizes]


def test_a_run_that_is_resumed_goes_on_in_its_stage(tmp_path: Path) -> None:
    method = methods.load("fedlora", **{**OPTIONS, **RATES})
    run(problem(), method, rounds=3, seed=3, out=tmp_path)
    found = run(problem(), method, rounds=6, seed=3, out=tmp_path, resume=True)
    whole = ran(6)
    assert torch.equal(found.theta, whole.theta)
    for m, values in whole.personal.items():
        assert torch.equal(found.personal[m], values)


def test_magnitudes_that_begin_at_zero_are_told() -> None:
    base, method = scalar().network, methods.load("fedlora")
    for form, zero, count in (
        ("split", "magnitudes_A", 0),
        ("split", "magnitudes_B", 1),
        ("diagonal", "B", 0),
        ("diagonal", "magnitudes", 1),
    ):
        own = "magnitudes_B" if form == "split" else "magnitudes"
        network = lora(base, 2, base="trained", form=form, personal=own, zero=zero)
        told = method.advice(replace(scalar(), network=network))
        assert len(told) == count
        assert all(f"personal {own} begin at 0" in line for line in told)


def test_networks_without_its_groups_are_refused() -> None:
    network = lora(scalar().network, 2, base="trained")
    plain = scalar()
    for other in (plain, replace(plain, network=network)):
        with pytest.raises(ValueError, match="'scalar' has no such parts. Write lora"):
            run(other, methods.load("fedlora"), rounds=1)
    ordered = Personal(methods.load("fedlora"), order="alternate")
    with pytest.raises(ValueError, match="says itself when personal"):
        run(problem(), ordered, rounds=1)
    with pytest.raises(ValueError, match=r"0 or more rounds, got \(-1, 20\)"):
        methods.load("fedlora", averaged=-1)
    with pytest.raises(ValueError, match="rate must be positive, got 0"):
        methods.load("fedlora", own_rate=0.0)
