"""FedRCL against its pairs of points, one by one."""

import math
from dataclasses import replace

import pytest
import torch
from cases import CASES, classes, scalar, theta
from exchanges import rounds
from torch import Generator, Tensor

from fedsciml import methods, run
from fedsciml.collocation import explicit
from fedsciml.likelihoods import Categorical
from fedsciml.methods import Local
from fedsciml.methods.fedrcl import FedRCL
from fedsciml.network import MLP, ModuleNetwork
from fedsciml.problem import Problem, Term

SGD = Local("sgd", 2, 0.1)


def naive(method: FedRCL, features: Tensor, labels: list[int]) -> float:
    """Contrast and penalty of a layer, point by point."""

    def cosine(i: int, j: int) -> float:
        a, b = features[i], features[j]
        return float(a @ b / (a.norm() * b.norm()))

    n, tau, total = len(labels), method.temperature, 0.0
    for i in range(n):
        kin = [cosine(i, j) for j in range(n) if j != i and labels[j] == labels[i]]
        strange = [cosine(i, j) for j in range(n) if labels[j] != labels[i]]
        least = min([1.0, *kin])
        hardest = sorted(strange)[-method.negatives :]
        total += math.log1p(sum(math.exp((s - least) / tau) for s in hardest))
        if kin and least > method.threshold:
            total += math.log1p(math.exp((least - 1) / tau))
    return total / n


@pytest.mark.parametrize("labels", [[0, 1, 1, 2, 1, 0, 0], [0, 0, 0, 0], [0, 1], [2]])
@pytest.mark.parametrize("spread", [2.0, 0.2])
def test_the_loss_of_a_layer_is_that_of_its_pairs(
    labels: list[int], spread: float
) -> None:
    random = Generator().manual_seed(1)
    draw = torch.randn(len(labels), 4, generator=random, dtype=torch.float64)
    features = (1 + spread * draw).requires_grad_()
    method = FedRCL(SGD)
    found = method.contrast(features, torch.tensor(labels, dtype=torch.float64))
    assert found.item() == pytest.approx(naive(method, features.detach(), labels))
    (slope,) = torch.autograd.grad(found, features)
    assert slope.isfinite().all()


def test_a_client_descends_cross_entropy_and_the_mean_over_its_levels() -> None:
    problem, start = classes(prior=0.1), theta(classes())
    method = FedRCL(Local("sgd", 1, 0.1), weight=0.5)
    end = rounds(problem, method, 1)[0].theta
    expected = torch.zeros_like(start)
    for shard in problem.shards():
        (rows,) = shard.rows
        x = start.clone().requires_grad_()
        h = rows.points
        hidden = []
        for weight, bias in problem.network.layers(x)[:-1]:  # type: ignore[attr-defined]
            h = torch.tanh(h @ weight.mT + bias)
            hidden.append(method.contrast(h, rows.target))
        logits = problem.network(x, rows.points)
        loss = torch.nn.functional.cross_entropy(logits, rows.target.long())
        loss = loss + 0.05 * x @ x + 0.5 * (hidden[0] + hidden[1]) / 2
        (slope,) = torch.autograd.grad(loss, x)
        expected -= 0.1 * shard.share * slope
    torch.testing.assert_close(end - start, expected, rtol=1e-10, atol=1e-12)


def test_without_weight_it_is_fedavg() -> None:
    options = {"tau": 2, "local": "sgd", "batch": 5, "learning_rate": 0.1, "decay": 0.9}
    ends = [
        rounds(classes(), methods.load(name, **options, **more), 2)[0].theta
        for name, more in (("fedavg", {}), ("fedrcl", {"weight": 0.0}))
    ]
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


def test_the_paper_s_options_learn_classes() -> None:
    result = run(classes(prior=1e-3), methods.load("fedrcl"), 4)
    assert result.loss < result.history[0].loss


def test_a_client_without_points_of_a_term_contrasts_those_of_the_others() -> None:
    points = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]
    terms = [
        Term(
            f"classes {k}",
            lambda u, row: u.values,
            own,
            [(x[:, 0] > 0.2).double() for x in own],
            likelihood=Categorical(),
        )
        for k, own in enumerate((points.split(6), [points[:0], points]))
    ]
    problem = Problem("two", MLP((1, 3, 2)), terms, explicit(2), "x", ("a", "b"))
    method = FedRCL(SGD)
    one = next(shard for shard in problem.shards() if not shard.client)
    x = theta(problem)
    expected = method._slope(problem, one.rows[:1], x)
    torch.testing.assert_close(method._slope(problem, one.rows, x), expected)


def test_what_has_no_classes_or_tells_no_levels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes, but term 'pde'.*Gaussian"):
        run(scalar(), methods.load("fedrcl"), 1)
    with torch.random.fork_rng():
        network = ModuleNetwork(torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match="compares hidden layers, which ModuleNetwork"):
        run(replace(classes(), network=network), methods.load("fedrcl"), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"negatives": 0}, "needs 1 or more negatives"),
        ({"weight": -1.0}, "weight must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        methods.load("fedrcl", **options)
    with pytest.raises(ValueError, match="trains by adam or sgd, not lbfgs"):
        FedRCL(Local("lbfgs"))


@pytest.mark.parametrize("name", CASES)
def test_the_last_level_of_an_mlp_is_what_its_output_layer_takes(name: str) -> None:
    problem, x = CASES[name](), theta(CASES[name]())
    points = problem.pooled().rows[0].points
    levels = problem.network.levels(x, points)
    if not problem.network.widths:
        assert levels == []
        return
    assert [level.shape for level in levels] == [
        (len(points), width) for width in problem.network.widths[1:-1]
    ]
