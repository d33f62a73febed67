"""What an answer must be to be merged."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsciml.federation.admission import outliers, refusal, usual
from fedsciml.methods import SHARE, Expected, Field, Record

SIZE, RANK = 7, 3
THETA = torch.zeros(SIZE, dtype=torch.float64)


class Answer(Record):
    """What a client sends."""

    factor: Tensor
    target: Tensor
    losses: Tensor
    loss: float
    extra: float | None = None


class Later(Record):
    """What it sends in a later exchange, or to another method."""

    targets: Tensor


class Around(Record):
    """What a wrapper sends: the answer of the method inside, and more."""

    answer: Record
    weights: Mapping[str, Tensor]


EXPECTED = Expected(
    Answer,
    {
        "factor": Field(("k", SIZE), scale=True),
        "target": Field(("k",), scale=True),
        "losses": Field((2,), finite=False, least=0),
        "loss": Field(least=0),
    },
)
WRAPPED = Expected(Around, {"answer": EXPECTED, "weights": {"w": Field(("k", 2))}})


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


def upload(**changed: object) -> Answer:
    """What the method expects, but for what is changed; None leaves a field out."""
    whole: dict[str, Any] = {
        "factor": drawn(RANK, SIZE),
        "target": drawn(RANK),
        "losses": torch.tensor([1.0, math.inf]).double(),
        "loss": 0.5,
        **changed,
    }
    return Answer(**whole)


def wrapped(**changed: object) -> Around:
    """What a wrapper expects, but for what is changed."""
    whole: dict[str, Any] = {"answer": upload(), "weights": {"w": drawn(RANK, 2)}}
    return Around(**{**whole, **changed})


def strange(
    answers: Mapping[int, Answer], norms: Mapping[str, float]
) -> dict[int, ValueError]:
    """Clients whose tensors are more than 1e4 times as large as is usual."""
    return outliers(answers, EXPECTED, norms, 1e4)


def test_what_the_method_expects_is_merged() -> None:
    assert refusal(upload(), EXPECTED, {}, THETA) is None
    for loss in (1, 1e308):
        assert refusal(upload(loss=loss), EXPECTED, {}, THETA) is None
    empty = upload(factor=drawn(0, SIZE), target=drawn(0))
    assert refusal(empty, EXPECTED, {}, THETA) is None
    assert refusal(wrapped(), WRAPPED, {}, THETA) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": None}, "it has no 'target'"),
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
def test_anything_else_is_refused_with_its_reason(
    changed: dict[str, object], said: str
) -> None:
    found = refusal(upload(**changed), EXPECTED, {}, THETA)
    assert found is not None
    with pytest.raises((ValueError, FloatingPointError), match=said):
        raise found


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (
            Later(drawn(2, RANK)),
            EXPECTED,
            r"it is a test_admission\.Later, not a .*\.Answer",
        ),
        (wrapped(), EXPECTED, r"it is a test_admission\.Around, not a .*\.Answer"),
        (upload(), WRAPPED, r"it is a test_admission\.Answer, not a .*\.Around"),
        ({"factor": drawn(RANK, SIZE)}, EXPECTED, r"it is a dict, not a .*\.Answer"),
        (None, EXPECTED, r"it is a NoneType, not a .*\.Answer"),
        (Answer, EXPECTED, r"it is a type, not a .*\.Answer"),
        (wrapped(answer=None), WRAPPED, "it has no 'answer'"),
        (wrapped(answer=0.5), WRAPPED, r"it is a float, not a .*\.Answer"),
        (
            wrapped(answer=wrapped()),
            WRAPPED,
            r"it is a test_admission\.Around, not a .*\.Answer",
        ),
        (wrapped(answer=upload(loss=math.nan)), WRAPPED, "its loss is not finite"),
        (wrapped(weights={}), WRAPPED, "its weights must be of w"),
        (wrapped(weights=drawn(2)), WRAPPED, "its weights must be of w"),
        (wrapped(weights={"w": 1.0}), WRAPPED, r"its weights\.w is a float, not a te"),
        (
            wrapped(weights={"w": drawn(RANK + 1, 2)}),
            WRAPPED,
            r"its weights\.w has shape \[4, 2\], not \[3, 2\]",
        ),
    ],
)
def test_an_answer_of_another_type_is_refused_with_its_reason(
    answer: object, expected: Expected, said: str
) -> None:
    found = refusal(answer, expected, {}, THETA)
    with pytest.raises((ValueError, FloatingPointError), match=f"^{said}"):
        raise found or AssertionError("it was let pass")


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.25, None), (0.5, "holds 0.5 of all rows, not 0.25"), (math.nan, "not finite")],
)
def test_a_share_is_that_which_was_agreed(share: float, said: str | None) -> None:
    expected = Expected(Answer, {**EXPECTED.fields, "extra": SHARE})
    found = refusal(upload(extra=share), expected, {}, THETA, 0.25)
    assert (said or "") in str(found)
    assert (found is None) == (said is None)


def test_a_field_may_say_how_much_the_client_can_choose() -> None:
    long = Later(drawn(2 * SIZE))
    for most, refused in ((None, True), (SIZE, True), (2 * SIZE, False)):
        expected = Expected(Later, {"targets": Field(("n",), most=most)})
        assert bool(refusal(long, expected, {}, THETA)) == refused


def test_a_word_means_the_same_size_in_all_of_a_round() -> None:
    sizes: dict[str, int] = {}
    assert refusal(upload(), EXPECTED, sizes, THETA) is None
    assert sizes == {"k": RANK}
    later = Expected(Later, {"targets": Field((2, "k"))})
    other = Later(drawn(2, RANK + 1))
    assert refusal(other, later, sizes, THETA) is not None
    assert refusal(Later(drawn(2, RANK)), later, sizes, THETA) is None


@pytest.mark.parametrize("clients", [2, 3, 10])
def test_a_sketch_far_larger_than_the_others_is_found(clients: int) -> None:
    uploads = {m: upload() for m in range(clients)}
    assert not strange(uploads, usual(uploads, EXPECTED))
    uploads[1] = upload(factor=1e6 * drawn(RANK, SIZE))
    (client, error), *others = strange(uploads, usual(uploads, EXPECTED)).items()
    assert client == 1
    assert "its factor has norm" in str(error)
    assert not others


def test_what_is_not_compared_may_be_of_any_size() -> None:
    uploads = {m: upload(loss=10.0**m) for m in range(20)}
    assert not strange(uploads, usual(uploads, EXPECTED))


def test_where_most_are_zero_nothing_is_too_large() -> None:
    uploads = {m: upload(target=torch.zeros(RANK).double()) for m in range(3)}
    uploads[2] = upload()
    assert not strange(uploads, usual(uploads, EXPECTED))


def test_a_client_that_is_back_is_measured_by_what_was_usual() -> None:
    solved = {m: upload(target=1e-12 * drawn(RANK)) for m in range(3)}
    back = {**solved, 3: upload(target=1e-3 * drawn(RANK))}
    assert list(strange(back, usual(back, EXPECTED))) == [3]
    first = usual({m: upload() for m in range(3)}, EXPECTED)
    assert not strange(back, usual(back, EXPECTED, first))
    back[3] = upload(target=1e5 * drawn(RANK))
    assert list(strange(back, usual(back, EXPECTED, first))) == [3]
