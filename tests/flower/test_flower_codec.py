"""Messages as Flower's records: what arrives, and what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from faults import same
from nonsense import BROKEN, LIES, with_array
from torch import Generator, Tensor

from fedsciml.flower import decode, encode
from fedsciml.flower.codec import packed, unpacked
from fedsciml.methods import Record, flatten


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(0), dtype=torch.float64)


VALUES = {
    "matrix": drawn(3, 4),
    "turned": drawn(3, 4).mT,
    "part": drawn(3, 4)[:, :2],
    "number": torch.tensor(1e-300, dtype=torch.float64),
    "nothing": torch.zeros(0, 5),
    "extremes": torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0, 5e-324]),
    "single": drawn(5).float(),
    "rounded": drawn(2, 3).bfloat16(),
    "whole": torch.tensor([-(2**63), 2**63 - 1]),
    "mask": torch.tensor([True, False]),
}


@pytest.mark.parametrize("key", VALUES)
def test_a_tensor_arrives_bit_for_bit(key: str) -> None:
    sent = VALUES[key]
    (found,) = unpacked(packed({key: sent})).values()
    assert (found.dtype, found.shape) == (sent.dtype, sent.shape)
    bits = sent.contiguous().view(torch.uint8) if sent.ndim else sent.reshape(1)
    other = found.contiguous().view(torch.uint8) if sent.ndim else found.reshape(1)
    assert torch.equal(bits, other)
    assert found.data_ptr() % 64 == 0


def test_numbers_and_words_arrive_as_they_are() -> None:
    sent = {"a": 2**63 - 1, "b": -(2**63), "c": 0.1, "d": "word", "e": True, "f": -0.0}
    found = unpacked(packed(sent))
    assert found == sent
    assert list(map(type, found.values())) == list(map(type, sent.values()))


@dataclass(frozen=True)
class Part:
    """A part that is no record of its own."""

    on: bool
    rate: float


class Inner(Record):
    """A record in another one."""

    factor: Tensor
    left: Tensor | None = None


class Outer(Record):
    """A record with all that records may hold."""

    inner: Record
    part: Part
    weights: Mapping[str, Tensor]
    word: str
    count: int
    loss: float
    limit: float | None = None


class Trap(Record):
    """What must not be made."""

    x: Tensor

    def __post_init__(self) -> None:
        raise AssertionError("A Trap was made.")


KINDS = (Inner, Outer, Part)
OUTER = Outer(
    Inner(drawn(2, 3).mT, drawn(0, 5)),
    Part(on=True, rate=-0.0),
    {"factor": drawn(3).float(), "answer.delta": drawn(2, 2).bfloat16()},
    "nan",
    2**63 - 1,
    torch.inf,
)


@pytest.mark.parametrize(
    "record", [OUTER, OUTER.inner, Outer(OUTER, *[*vars(OUTER).values()][1:])]
)
def test_a_record_arrives_as_it_was(record: Record) -> None:
    found = decode(encode(record), KINDS)
    assert type(found) is type(record)
    assert same(found, record)


X = {"x": drawn(3)}


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "test_flower_codec.Trap", **X},
        {"kind": "Trap", **X},
        {**flatten(OUTER), "inner/kind": "test_flower_codec.Trap"},
        {**flatten(OUTER), "inner/left/kind": "test_flower_codec.Trap"},
        {**flatten(OUTER), "weights/kind": "test_flower_codec.Trap"},
        {"kind": "builtins.exec", "x": "raise AssertionError"},
        {"kind": "participation.Rules", "min_clients": 1},
        {"kind": 3, **X},
        {"kind": True},
        X,
        {},
        {"/": 1.0},
        {"kind/kind": "test_flower_codec.Inner", "factor": X["x"]},
    ],
)
def test_nothing_is_made_that_is_not_of_the_kinds_given(
    content: Mapping[str, Tensor | float | str],
) -> None:
    said = r"it is a .*, not one of test_flower_codec\.Inner, test_flower_codec\.Outer"
    with pytest.raises(ValueError, match=said):
        decode(packed(content), KINDS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"word": None}, "it has no 'word'; it holds"),
        ({"inner/factor": None}, "it has no 'factor'; it holds left"),
        ({"extra": 1.0}, "it holds 'extra', which nobody asked for"),
        ({"inner/extra": 1.0}, "it holds 'extra', which nobody asked for"),
        ({"extra/kind": "test_flower_codec.Inner"}, "it has no 'factor'; it holds not"),
        ({"__class__": "x"}, "it holds '__class__', which nobody asked for"),
    ],
)
def test_a_record_with_other_fields_is_refused(
    change: dict[str, float | str | None], said: str
) -> None:
    content = {k: v for k, v in {**flatten(OUTER), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=said):
        decode(packed(content), KINDS)


def test_a_record_in_a_record_without_end_is_refused() -> None:
    word = "test_flower_codec.Inner"
    content = {f"{'factor/' * n}kind": word for n in range(1000)}
    with pytest.raises(
        ValueError, match="it holds records within records, 16 and more"
    ):
        decode(packed(content), KINDS)


@pytest.mark.parametrize("lie", LIES)
def test_an_array_that_is_not_what_it_says_is_refused(lie: str) -> None:
    with pytest.raises(ValueError, match="array 'delta'"):
        decode(with_array(LIES[lie]), KINDS)


@pytest.mark.parametrize("what", BROKEN)
def test_records_that_are_no_message_are_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"a message needs|not a number|there twice"):
        decode(BROKEN[what], KINDS)
