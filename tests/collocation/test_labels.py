"""Dirichlet partitions by label."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsciml.collocation import dirichlet, split, unevenness

LABELS = torch.arange(600) % 10


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("clients", [1, 3, 7])
def test_every_point_has_one_owner_and_no_client_is_empty(
    clients: int, alpha: float, balanced: bool
) -> None:
    owners = dirichlet(LABELS, clients, alpha, 3, balanced, least=2)
    counts = torch.bincount(owners)
    assert len(counts) == clients
    assert int(counts.min()) >= 2
    if balanced:
        assert int(counts.max() - counts.min()) <= 1
    points = torch.arange(600.0)
    parts = split(points, owners)
    assert sorted(torch.cat(parts).tolist()) == points.tolist()
    for client, part in enumerate(parts):
        assert torch.equal(part, points[owners == client])
        assert torch.equal(part, part.sort().values)


@pytest.mark.parametrize("balanced", [False, True])
def test_owners_follow_the_seed_alone(balanced: bool) -> None:
    first, same, other = (dirichlet(LABELS, 5, 0.1, s, balanced) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    # Names of classes and the kind of their list do not matter.
    renamed = (10 * LABELS - 7).numpy().astype(np.float64)
    assert torch.equal(first, dirichlet(renamed, 5, 0.1, 0, balanced))
    assert torch.equal(first, dirichlet(LABELS.tolist(), 5, 0.1, 0, balanced))


def variance(counts: Tensor, of: int) -> float:
    """Mean square of the clients' shares of a class about their mean."""
    shares = counts / of
    return float((shares - shares.mean(1, keepdim=True)).square().mean())


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_shares_by_class_have_the_variance_of_the_dirichlet_distribution(
    alpha: float,
) -> None:
    # Var = (1/M) (1 - 1/M) / (M alpha + 1) of a share, M = 4; 400 classes of 50.
    labels = torch.arange(400).repeat(50)
    owners = dirichlet(labels, 4, alpha)
    counts = torch.zeros(400, 4).double()
    counts.index_put_((labels, owners), torch.ones(()).double(), accumulate=True)
    expected = 0.25 * 0.75 / (4 * alpha + 1)
    assert variance(counts, 50) == pytest.approx(expected, rel=0.1)  # measured 0.06


def test_labels_of_balanced_clients_have_the_variance_of_the_distribution() -> None:
    # 400 clients draw 100 points each of 4 classes, which run out for the last ones.
    labels = torch.arange(4).repeat(10_000)
    owners = dirichlet(labels, 400, 0.5, balanced=True)
    counts = torch.zeros(4, 400).double()
    counts.index_put_((labels, owners), torch.ones(()).double(), accumulate=True)
    expected = 0.25 * 0.75 / (4 * 0.5 + 1)
    assert variance(counts, 100) == pytest.approx(expected, rel=0.15)  # measured -0.11


def test_unevenness_is_the_total_variation_of_the_labels() -> None:
    labels = torch.tensor([0, 0, 1, 1, 5, 5])
    alike = torch.tensor([0, 1, 0, 1, 0, 1])
    assert unevenness(labels, alike) == 0
    assert unevenness(labels, labels.clamp(max=2)) == pytest.approx(2 / 3)
    # Of client 0, (1/2, 1/2, 0) against (1/3, 1/3, 1/3); of client 1 as well.
    assert unevenness(labels, torch.tensor([0, 1, 0, 1, 2, 2])) == pytest.approx(
        (1 / 3 + 1 / 3 + 2 / 3) / 3
    )
    found = [
        [unevenness(LABELS, dirichlet(LABELS, 5, a, 0, b)) for a in (0.01, 0.3, 100.0)]
        for b in (False, True)
    ]
    for few in found:
        assert few == sorted(few, reverse=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clients": 0}, "at least 1 client"),
        ({"clients": 601}, "600 labelled points cannot give each of 601 clients 1"),
        ({"clients": 7, "least": 100}, "cannot give each of 7 clients 100"),
        ({"alpha": 0.0}, "needs alpha > 0.* got alpha 0.0"),
        ({"alpha": float("nan")}, "got alpha nan"),
        ({"seed": -1}, "seed -1"),
        ({"labels": torch.rand(600)}, "whole numbers"),
        ({"labels": LABELS[:, None]}, r"shape \[600, 1\]"),
        ({"labels": []}, r"shape \[0\]"),
        ({"labels": LABELS % 2, "alpha": 1e-3, "clients": 50}, "None of 1000"),
    ],
)
def test_impossible_division_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dirichlet(**{"labels": LABELS, "clients": 5, "alpha": 0.1, **changed})


def test_values_without_owners_are_not_split() -> None:
    with pytest.raises(ValueError, match=r"shape \[3, 2\] and owners of shape \[2\]"):
        split(torch.zeros(3, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="Client 1 owns none of 3"):
        split(torch.zeros(3), torch.tensor([0, 2, 2]))
    with pytest.raises(ValueError, match="Client 0 owns none of 0"):
        split(torch.zeros(0), torch.zeros(0, dtype=torch.long))
