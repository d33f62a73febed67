"""What an upload must be to be merged."""

import math

import pytest
import torch
from torch import Tensor

from fedsciml.federation.admission import outliers, refusal, usual
from fedsciml.methods import Field, Message

SIZE, RANK = 7, 3
THETA = torch.zeros(SIZE, dtype=torch.float64)

EXPECTED = {
    "factor": Field(("k", SIZE), scale=True),
    "target": Field(("k",), scale=True),
    "losses": Field((2,), finite=False, least=0),
    "loss": Field(least=0),
}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


def upload(**changed: object) -> Message:
    """What the method expects, but for what is changed; None leaves a key out."""
    whole = {
        "factor": drawn(RANK, SIZE),
        "target": drawn(RANK),
        "losses": torch.tensor([1.0, math.inf]).double(),
        "loss": 0.5,
        **changed,
    }
    return {key: value for key, value in whole.items() if value is not None}


def test_what_the_method_expects_is_merged() -> None:
    assert refusal(upload(), EXPECTED, {}, THETA) is None
    for loss in (1, 1e308):
        assert refusal(upload(loss=loss), EXPECTED, {}, THETA) is None
    empty = upload(factor=drawn(0, SIZE), target=drawn(0))
    assert refusal(empty, EXPECTED, {}, THETA) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": None}, "no 'target'; it holds factor, losses, loss"),
        ({"extra": 1.0}, "holds 'extra'"),
        ({"factor": drawn(RANK, SIZE + 1)}, r"shape \[3, 8\], not \[3, 7\]"),
        ({"target": drawn(RANK + 1)}, r"shape \[4\], not \[3\]"),
        (
            {"factor": drawn(SIZE + 1, SIZE), "target": drawn(SIZE + 1)},
            r"factor has shape \[8, 7\]; a size that the client chooses is at most 7",
        ),
        ({"target": drawn(RANK, 1)}, r"shape \[3, 1\]"),
        ({"factor": drawn(RANK, SIZE).float()}, "float32, not torch.float64"),
        ({"factor": "words"}, "is a str, not a tensor"),
        ({"loss": drawn(1)}, "is a Tensor, not a number"),
        ({"loss": True}, "is a bool, not a number"),
        ({"loss": math.nan}, "loss is not finite"),
        ({"loss": -1e-300}, "loss is below 0"),
        ({"losses": torch.tensor([math.nan, -1e-30]).double()}, "losses is below 0"),
        ({"losses": torch.tensor([1.0, -math.inf]).double()}, "losses is below 0"),
        ({"target": torch.full((RANK,), math.inf).double()}, "target is not finite"),
        ({"losses": torch.full((2,), math.nan).double()}, "losses is not finite"),
    ],
)
def test_anything_else_is_refused_with_its_reason(changed: Message, said: str) -> None:
    found = refusal(upload(**changed), EXPECTED, {}, THETA)
    assert found is not None
    with pytest.raises((ValueError, FloatingPointError), match=said):
        raise found


def test_a_field_may_say_how_much_the_client_can_choose() -> None:
    long = {"numbers": drawn(2 * SIZE)}
    for most, refused in ((None, True), (SIZE, True), (2 * SIZE, False)):
        expected = {"numbers": Field(("n",), most=most)}
        assert bool(refusal(long, expected, {}, THETA)) == refused


def test_a_word_means_the_same_size_in_all_of_a_round() -> None:
    sizes: dict[str, int] = {}
    assert refusal(upload(), EXPECTED, sizes, THETA) is None
    assert sizes == {"k": RANK}
    later = {"targets": Field((2, "k"))}
    other = {"targets": drawn(2, RANK + 1)}
    assert refusal(other, later, sizes, THETA) is not None
    assert refusal({"targets": drawn(2, RANK)}, later, sizes, THETA) is None


@pytest.mark.parametrize("clients", [2, 3, 10])
def test_a_sketch_far_larger_than_the_others_is_found(clients: int) -> None:
    uploads = {m: upload() for m in range(clients)}
    assert not outliers(uploads, usual(uploads, EXPECTED), 1e4)
    uploads[1] = upload(factor=1e6 * drawn(RANK, SIZE))
    (client, error), *others = outliers(uploads, usual(uploads, EXPECTED), 1e4).items()
    assert client == 1
    assert "its factor has norm" in str(error)
    assert not others


def test_what_is_not_compared_may_be_of_any_size() -> None:
    uploads = {m: upload(loss=10.0**m) for m in range(20)}
    assert not outliers(uploads, usual(uploads, EXPECTED), 1e4)


def test_where_most_are_zero_nothing_is_too_large() -> None:
    uploads = {m: upload(target=torch.zeros(RANK).double()) for m in range(3)}
    uploads[2] = upload()
    assert not outliers(uploads, usual(uploads, EXPECTED), 1e4)


def test_a_client_that_is_back_is_measured_by_what_was_usual() -> None:
    solved = {m: upload(target=1e-12 * drawn(RANK)) for m in range(3)}
    back = {**solved, 3: upload(target=1e-3 * drawn(RANK))}
    assert list(outliers(back, usual(back, EXPECTED), 1e4)) == [3]
    first = usual({m: upload() for m in range(3)}, EXPECTED)
    assert not outliers(back, usual(back, EXPECTED, first), 1e4)
    back[3] = upload(target=1e5 * drawn(RANK))
    assert list(outliers(back, usual(back, EXPECTED, first), 1e4)) == [3]
