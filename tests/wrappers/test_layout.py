"""Answers as numbers of a ring, and back."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsciml.methods import Expected, Field, Record
from fedsciml.secure import ring
from fedsciml.wrappers._layout import BELOW, COARSE, Layout

LIKE = torch.zeros(1, dtype=torch.float64)


class Found(Record):
    """Losses and targets at three candidates."""

    losses: torch.Tensor
    targets: torch.Tensor


class Told(Record):
    """A vector and a number."""

    vector: torch.Tensor
    loss: float


CANDIDATES = Expected(
    Found,
    {
        "losses": Field((3,), finite=False, least=0),
        "targets": Field((3, 2), finite=False),
    },
)
TOLD = Expected(Told, {"vector": Field((4,)), "loss": Field(least=0)})


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def total(
    expected: Expected, answers: Sequence[Record], sizes: dict[str, int]
) -> tuple[Any, set[str]]:
    """The sum of answers as the server reads it."""
    layout = Layout.of(expected)
    bits = layout.fractions(sizes, {})
    numbers = [layout.packed(answer, bits, len(answers), {}) for answer in answers]
    assert {len(each) for each in numbers} == {layout.length}
    return layout.unpacked(ring.added(*numbers), bits, LIKE)


def test_a_sum_is_that_of_floats_to_their_rounding() -> None:
    random = torch.Generator().manual_seed(0)
    answers = [
        Told(torch.randn(4, generator=random, dtype=torch.float64), float(m))
        for m in range(5)
    ]
    found, over = total(TOLD, answers, {})
    expected = torch.stack([a.vector for a in answers]).sum(0)
    assert not over
    assert found.loss == 10
    assert torch.allclose(found.vector, expected, rtol=1e-15, atol=1e-16)


def test_what_does_not_fit_leaves_nothing_of_what_the_others_told() -> None:
    """A sum with zeros there, less one in a wider unit, would be that of one site."""
    layout = Layout.of(TOLD)
    bits = layout.fractions({}, {})
    large = Told(tensor(1e30, 1.0, 1.0, 1.0), 1.0)
    others = [Told(tensor(1.0, 2.0, 3.0, float(i)), 1.0) for i in range(2)]
    seen = [
        ring.added(*(layout.packed(a, bits, 3, {}) for a in (large, *others)))
        for _ in range(50)
    ]
    vectors = np.stack([numbers[1:5] for numbers in seen])
    assert len(np.unique(vectors)) == vectors.size  # never the same word twice
    ones = np.unpackbits(vectors.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 5 * 0.5 / (8 * vectors.nbytes) ** 0.5
    loss, _ = Layout.of(TOLD).unpacked(seen[0], bits, LIKE)
    assert loss.loss == 3.0  # of what fits nothing is lost


@pytest.mark.parametrize("bad", [1e30, -1e30, 1e300])
def test_a_number_that_does_not_fit_is_told_and_does_not_wrap(bad: float) -> None:
    good = Told(tensor(1, 2, 3, 4), 1.0)
    spoilt = replace(good, vector=tensor(1, bad, 3, 4))
    found, over = total(TOLD, [good, spoilt, good], {})
    (part, _) = Layout.of(TOLD).parts
    assert over == {part.key}
    assert found.loss == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_site_does_not_tell_what_must_be_finite_and_is_not(bad: float) -> None:
    good = Told(tensor(1, 2, 3, 4), 1.0)
    with pytest.raises(FloatingPointError, match="its vector is not finite"):
        total(TOLD, [good, replace(good, vector=tensor(1, bad, 3, 4)), good], {})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_candidates_that_one_site_cannot_use_are_lost_and_no_others(bad: float) -> None:
    good = Found(tensor(1, 2, 3), tensor([1, 2], [3, 4], [5, 6]))
    spoilt = replace(good, losses=tensor(1, bad, 3))
    found, over = total(CANDIDATES, [good, spoilt, good], {})
    assert not over
    assert found.losses.tolist() == [3, math.inf, 9]
    targets = found.targets
    assert targets[[0, 2]].tolist() == [[3, 6], [15, 18]]
    assert targets[1].isnan().all()


def test_a_loss_is_not_known_where_its_target_did_not_fit() -> None:
    """An honest sum never has a finite loss with targets that are not.

    Targets are tiny near a minimum, whatever the loss is; so their unit is finer.
    """
    layout = Layout.of(CANDIDATES)
    sizes = {part.key: 0 if part.name == "losses" else -60 for part in layout.parts}
    answer = Found(tensor(1, 2, 3), tensor([1e-18, 0], [1, 1], [0, 1e-18]))
    found, over = total(CANDIDATES, [answer] * 3, sizes)
    assert not over
    assert found.losses.tolist() == [3, math.inf, 9]
    assert found.targets[1].isnan().all()
    assert found.targets[0, 0] == pytest.approx(3e-18, rel=1e-3)


def test_losses_of_one_round_may_be_sixty_digits_apart() -> None:
    layout = Layout.of(CANDIDATES)
    sizes = {part.key: -90 for part in layout.parts if part.name == "losses"}
    answer = Found(tensor(1e-27, 1e2, 1e5), tensor(*[[0, 0]] * 3))
    found, _ = total(CANDIDATES, [answer] * 3, sizes)
    assert found.losses.tolist() == pytest.approx([3e-27, 3e2, 3e5], rel=1e-12)
    fine, coarse = (p for p in layout.parts if p.name == "losses")
    bits = dict(zip(layout.parts, layout.fractions(sizes, {}), strict=True))
    assert {bits[fine], bits[coarse]} == {BELOW + 90, BELOW + 90 - COARSE}


def test_an_answer_of_a_client_s_own_size_does_not_add_up() -> None:
    expected = Expected(Found, {**CANDIDATES.fields, "targets": Field((3, "k"))})
    with pytest.raises(ValueError, match="another size at every client"):
        Layout.of(expected)


@pytest.mark.parametrize("fraction", [64, -800])
@pytest.mark.parametrize("parties", [3, 100])
def test_numbers_at_the_bound_of_all_parties_are_added_right(
    parties: int, fraction: int
) -> None:
    most = ring.bound(fraction, parties)
    numbers = ring.encode(np.full(1, -most), fraction)
    (found,) = ring.decode(ring.added(*[numbers] * parties), fraction)
    assert found == pytest.approx(-most * parties)
