"""Low-rank factors in weights: what they stand for, their derivatives, their groups."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from cases import draw, scalar, system, theta
from reference import relative
from torch import Generator, Tensor, nn

from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.network import (
    MLP,
    ConvNet,
    Convolution,
    Dense,
    GroupNorm,
    Jet,
    Lora,
    ModuleNetwork,
    Network,
    Parallel,
    Partial,
    groups,
    lora,
)
from fedsciml.network.personal import AtSite
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import AutogradBlock, JetBlock, System

MODULE = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 3)).double()
NETWORKS: dict[str, Network] = {
    "mlp": MLP((2, 5, 4, 3)),
    "images": ConvNet(
        (2, 1, 1), [Convolution(3), GroupNorm(), "tanh", Dense(5), "tanh", Dense(3)]
    ),
    "module": ModuleNetwork(MODULE),
}
FORMS = ("plain", "diagonal", "split")


def moved(network: Lora, seed: int = 0) -> Tensor:
    """Parameters away from the start: no group is zero."""
    generator = Generator().manual_seed(seed)
    start = network.init(generator)
    return start + 0.3 * torch.randn(len(start), generator=generator, dtype=start.dtype)


def dense(sizes: Sequence[int], theta: Tensor, changes: Sequence[Tensor]) -> Tensor:
    """theta of an MLP, layer by layer, with changes added to its weights."""
    parts, start = list[Tensor](), 0
    for (into, out), change in zip(pairwise(sizes), changes, strict=True):
        stop = start + into * out
        parts.append(theta[start:stop] + change.reshape(-1))
        parts.append(theta[stop : stop + out])
        start = stop + out
    return torch.cat(parts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", ["fixed", "trained"])
@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_of_the_map_are_those_of_autograd(
    name: str, base: str, form: str
) -> None:
    network = NETWORKS[name]
    start = network.init(Generator().manual_seed(2), torch.float64)
    small = lora(network, 2, base=base, form=form, theta=start)
    assert relative(small.whole(small.init(Generator())), start) < 1e-15
    phi = moved(small)
    jacobian = torch.func.jacrev(small.whole)(phi)
    several, rows = draw(3, small.size), draw(6, network.size).view(2, 3, -1)
    assert relative(small.tangent(phi, several), several @ jacobian.mT) < 1e-14
    assert relative(small.cotangent(phi, rows), rows @ jacobian) < 1e-14
    together = torch.stack([small.whole(one) for one in several])
    assert relative(small.whole(several), together) < 1e-14
    x = draw(4, 2)
    assert relative(small(phi, x), network(small.whole(phi), x)) == 0


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_those_of_a_dense_network_with_b_m_a_added(form: str) -> None:
    widths = (2, 5, 4, 1)
    network = MLP(widths)
    start = draw(1, network.size)[0]  # not zero in the biases
    small = lora(network, 2, form=form, theta=start)
    phi = moved(small)
    named = {k: phi[v] for k, v in small.groups.items()}
    ranks = [min(2, a, b) for a, b in pairwise(widths)]
    assert ranks == [2, 2, 1]
    changes = []
    at_a = at_b = at_m = 0
    for (into, out), r in zip(pairwise(widths), ranks, strict=True):
        a = named["A"][at_a : at_a + r * into].view(r, into)
        b = named["B"][at_b : at_b + r * out].view(out, r)
        total = torch.zeros(out, into, dtype=torch.float64)
        for j in range(r):
            size, row, column = 1.0, a[j], b[:, j]
            if form == "diagonal":
                size = float(named["magnitudes"][at_m + j])
            if form == "split":
                size = float(named["magnitudes_A"][at_m + j])
                size *= float(named["magnitudes_B"][at_m + j])
                row = row / math.sqrt(float(row @ row))
                column = column / math.sqrt(float(column @ column))
            total += size * torch.outer(column, row)
        changes.append(total)
        at_a, at_b, at_m = at_a + r * into, at_b + r * out, at_m + r
    x = draw(7, 2)
    assert relative(small(phi, x), network(dense(widths, start, changes), x)) < 1e-14
    products = [b @ a for a, b in small.factors(phi)]
    for found, expected in zip(products, changes, strict=True):
        assert relative(found, expected) < 1e-14


def test_of_a_module_the_linear_layers_that_are_named_are_changed() -> None:
    network = ModuleNetwork(MODULE)
    small = lora(network, 2, ["2"])
    phi = moved(small)
    tensors = network.tensors(small.whole(phi))
    ((a, b),) = small.factors(phi)
    assert relative(tensors["2.weight"], MODULE[2].weight.detach() + b @ a) < 1e-15
    for name in ("0.weight", "0.bias", "2.bias"):
        assert torch.equal(tensors[name], MODULE.state_dict()[name])
    assert small.size == 2 * (6 + 3 + 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", ["fixed", "trained"])
def test_rows_of_a_module_are_those_of_autograd(base: str, form: str) -> None:
    small = lora(NETWORKS["module"], 2, base=base, form=form)
    phi, x = moved(small), draw(5, 2)

    def residual(u: Jet, row: Row) -> Tensor:
        return u.p.value * u.q.value - u.r.value

    problem = Problem(
        "module",
        small,
        [Term("data", residual, x)],
        strips([0, 1]),
        coordinates="xy",
        outputs=("p", "q", "r"),
    )

    def naive(t: Tensor) -> Tensor:
        p, q, r = NETWORKS["module"](small.whole(t), x).unbind(1)
        return (p * q - r) / math.sqrt(5)

    linear = System(problem, problem.pooled()).linearise(phi)
    assert relative(linear.residual, naive(phi)) < 1e-14
    assert relative(linear.jacobian(), torch.func.jacrev(naive)(phi)) < 1e-13


def test_of_images_the_dense_layers_are_changed() -> None:
    network = NETWORKS["images"]
    start = network.init(Generator().manual_seed(0), torch.float64)
    small = lora(network, 2, "classifier", theta=start)
    phi = moved(small)
    assert isinstance(network, ConvNet)
    ((a, b),) = small.factors(phi)
    whole = small.whole(phi)
    (*before, (weight, bias)), (*_, (first, last)) = (
        [parts for parts in network.split(t) if parts] for t in (whole, start)
    )
    assert relative(weight, first + b @ a) < 1e-15
    assert torch.equal(bias, last)
    count = network.size - weight.numel() - bias.numel()
    assert torch.equal(whole[:count], start[:count])
    assert before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", ["trained", "fixed"])
@pytest.mark.parametrize("problem", [scalar, system])
def test_rows_by_jets_are_those_of_autograd(
    problem: object, form: str, base: str
) -> None:
    whole: Problem = problem()  # type: ignore[operator]
    small = lora(whole.network, 2, form=form, base=base, theta=theta(whole))
    own = replace(whole, network=small)
    shard, phi = own.pooled(), moved(small)
    v, w = draw(1, small.size)[0], None
    for rows in shard.rows:
        jets, plain = JetBlock(own, rows), AutogradBlock(own, rows)
        found, expected = (block.linearise(phi) for block in (jets, plain))
        n = len(expected.residual)
        a, b = (torch.empty(n, small.size, dtype=torch.float64) for _ in range(2))
        found.jacobian(a)
        expected.jacobian(b)
        w = draw(1, n)[0]
        assert relative(found.residual, expected.residual) < 1e-12
        assert relative(a, b) < 1e-12
        assert relative(found.jvp(v), b @ v) < 1e-12
        assert relative(found.vjp(w), w @ b) < 1e-12
        thetas = torch.stack([phi, phi + 0.1, phi - 0.2])
        several = torch.cat([plain.residuals(t[None]) for t in thetas])
        assert relative(jets.residuals(thetas), several) < 1e-12


def test_jets_of_networks_side_by_side_pass_through_factors() -> None:
    def pde(u: Jet, row: Row) -> Tensor:
        return u.p.xx - u.nu * u.q.value - row.x

    parts = [lora(MLP((1, 4, 1)), 1, base="trained", personal="magnitudes")]
    network = Parallel([*parts, MLP((1, 3, 1))], unknowns={"nu": 0.5})
    problem = Problem(
        "side",
        network,
        [Term("pde", pde, draw(9, 1))],
        strips([0, 1]),
        outputs=("p", "q"),
    )
    assert all(
        isinstance(b, JetBlock) for b in System(problem, problem.pooled()).blocks
    )
    (rows,) = problem.pooled().rows
    point = theta(problem)
    found, expected = (
        kind(problem, rows).linearise(point) for kind in (JetBlock, AutogradBlock)
    )
    a, b = (torch.empty(9, len(point), dtype=torch.float64) for _ in range(2))
    found.jacobian(a)
    expected.jacobian(b)
    assert relative(a, b) < 1e-12


@pytest.mark.parametrize("base", ["fixed", "trained"])
@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_is_in_one_group(form: str, base: str) -> None:
    network = MLP((2, 5, 4, 1))
    start = network.init(Generator().manual_seed(0))
    small = lora(network, 2, form=form, base=base, theta=start)
    every = torch.cat(list(small.groups.values()))
    assert torch.equal(every.sort().values, torch.arange(small.size))
    assert ("base" in small.groups) == (base == "trained")
    names = {"plain": 0, "diagonal": 1, "split": 2}
    assert len(small.groups) == 2 + names[form] + (base == "trained")


def test_groups_of_what_is_shared_leave_out_what_is_personal() -> None:
    small = lora(MLP((2, 5, 1)), 2, base="trained", personal="magnitudes")
    both = Parallel([MLP((2, 3, 1)), small, small])
    site, first = AtSite(both), MLP((2, 3, 1)).size
    known = groups(both)
    ends = [small.groups["A"] + start for start in (first, first + small.size)]
    assert torch.equal(known["A"], torch.cat(ends))
    shared = groups(site)
    assert set(shared) == {"base", "A", "B"}
    for name, numbers in shared.items():
        assert torch.equal(site.shared[numbers], known[name])
    assert torch.equal(known["magnitudes"], site.mine)
    assert groups(MLP((2, 3, 1))) == {}


@pytest.mark.parametrize(
    ("form", "zero", "dead"),
    [
        ("plain", "B", "A"),
        ("diagonal", "B", "magnitudes"),
        ("diagonal", "magnitudes", "B"),
        ("split", "magnitudes_A", "magnitudes_B"),
        ("split", "magnitudes_B", "A"),
    ],
)
def test_the_start_is_the_base_and_the_zero_group_alone_is_felt(
    form: str, zero: str, dead: str
) -> None:
    network = MLP((2, 5, 4, 1))
    start = network.init(Generator().manual_seed(0))
    small = lora(network, 2, form=form, theta=start, zero=zero)
    phi = small.init(Generator().manual_seed(1))
    assert torch.equal(small.whole(phi), start)
    jacobian = torch.func.jacrev(lambda t: small(t, draw(9, 2))[:, 0])(phi)
    assert float(jacobian[:, small.groups[zero]].abs().amax(0).min()) > 1e-6
    assert float(jacobian[:, small.groups[dead]].abs().max()) == 0
    free = lora(network, 2, form=form, theta=start, zero="nothing")
    other = free.init(Generator().manual_seed(1))
    assert float((free.whole(other) - start).norm()) > 0.5
    keep = torch.ones(small.size, dtype=torch.bool)
    keep[small.groups[zero]] = False
    assert torch.equal(phi[keep], other[keep])


def test_a_run_trains_the_factors_alone() -> None:
    problem = scalar()
    start = theta(problem)
    small = lora(problem.network, 2, theta=start)
    tuned = run(replace(problem, network=small), methods.load("fipa"), rounds=4)
    assert len(tuned.theta) == small.size
    whole = small.whole(tuned.theta)
    losses = System(problem, problem.pooled()).losses(torch.stack([start, whole]))
    assert float(losses[1]) < float(losses[0])
    assert float(losses[1]) == pytest.approx(tuned.loss, rel=1e-9)


def test_networks_that_differ_are_described_otherwise() -> None:
    network = MLP((2, 5, 4, 1))
    start = network.init(Generator().manual_seed(0))
    options: list[dict[str, object]] = [
        {},
        {"form": "plain"},
        {"rank": 1},
        {"layers": [1]},
        {"base": "trained"},
        {"personal": "magnitudes"},
        {"theta": start + 1},
        {"zero": "magnitudes"},
    ]
    told = [
        str(lora(network, **{"rank": 2, "theta": start, **chosen}).description())
        for chosen in options
    ]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "at least 1, got 0"),
        ({"form": "diagnal"}, "no form 'diagnal'.*Did you mean 'diagonal'"),
        ({"base": "frozen"}, "'fixed' or 'trained'; got 'frozen'"),
        ({"layers": [3]}, r"layers 0, 1, 2; name.*Got \[3\]"),
        ({"layers": "last"}, "Got 'last'"),
        ({"layers": []}, r"Got \[\]"),
        ({"personal": "C"}, "A, B, magnitudes, base may be personal; got 'C'"),
        ({"zero": "C"}, "magnitudes, nothing, A, B can be zero.*got 'C'"),
        ({"zero": "A", "form": "split"}, "got 'A'"),
        ({"theta": torch.zeros(3)}, r"44 parameters, but theta has shape \[3\]"),
        ({"base": "fixed"}, "starts elsewhere for every seed. Give theta"),
        ({"network": Partial(MLP((1, 2, 1)), torch.ones(7))}, "got a Partial"),
        ({"network": ModuleNetwork(nn.Tanh())}, "No torch.nn.Linear"),
        ({"network": nn.Linear(1, 1)}, "write ModuleNetwork"),
    ],
)
def test_what_cannot_have_factors_is_refused(
    options: dict[str, object], message: str
) -> None:
    plain: dict[str, object] = {"network": MLP((2, 5, 4, 1)), "base": "trained"}
    with pytest.raises(ValueError, match=message):
        lora(**{**plain, "rank": 2, **options})  # type: ignore[arg-type]
