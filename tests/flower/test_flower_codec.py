"""Messages as Flower's records: what arrives, and what is refused."""

import io

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import Generator, Tensor

from fedsciml.flower import decode, encode


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
    (found,) = decode(encode({key: sent})).values()
    assert (found.dtype, found.shape) == (sent.dtype, sent.shape)
    bits = sent.contiguous().view(torch.uint8) if sent.ndim else sent.reshape(1)
    other = found.contiguous().view(torch.uint8) if sent.ndim else found.reshape(1)
    assert torch.equal(bits, other)
    assert found.data_ptr() % 64 == 0


def test_numbers_and_words_arrive_as_they_are() -> None:
    sent = {"a": 2**63 - 1, "b": -(2**63), "c": 0.1, "d": "word", "e": True, "f": -0.0}
    found = decode(encode(sent))
    assert found == sent
    assert list(map(type, found.values())) == list(map(type, sent.values()))


def saved(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, delta=np.zeros(3))
    return buffer.getvalue()


GOOD = saved(np.zeros((2, 3)))
HUGE = b"(1000000000000,)}"
KIND = "numpy.ndarray"
LIES = {
    "garbage": Array("float64", (2, 3), KIND, b"garbage" * 30),
    "nothing": Array("float64", (2, 3), KIND, b""),
    "half": Array("float64", (2, 3), KIND, GOOD[:-20]),
    "shape": Array("float64", (3, 2), KIND, GOOD),
    "dtype": Array("float32", (2, 3), KIND, GOOD),
    "bfloat16": Array("bfloat16", (2, 3), KIND, GOOD),
    "other order": Array("float64", (2, 3), KIND, saved(np.zeros((2, 3), ">f8"))),
    "complex": Array("complex128", (2, 3), KIND, saved(np.zeros((2, 3), complex))),
    "objects": Array(
        "object", (1,), KIND, saved(np.array([{}], dtype=object), pickled=True)
    ),
    "archive": Array("float64", (3,), KIND, archive()),
    "storage": Array("float64", (2, 3), "pickle", GOOD),
    "huge": Array("float64", (10**12,), KIND, GOOD.replace(b"(2, 3), }       ", HUGE)),
}


def with_array(array: Array) -> RecordDict:
    return RecordDict(
        {"arrays": ArrayRecord({"delta": array}), "config": ConfigRecord()}
    )


@pytest.mark.parametrize("lie", LIES)
def test_an_array_that_is_not_what_it_says_is_refused(lie: str) -> None:
    with pytest.raises(ValueError, match="array 'delta'"):
        decode(with_array(LIES[lie]))


BROKEN = {
    "empty": RecordDict(),
    "other records": RecordDict({"metrics": MetricRecord({"a": 1})}),
    "swapped": RecordDict({"arrays": ConfigRecord(), "config": ArrayRecord()}),
    "a list": RecordDict(
        {"arrays": ArrayRecord(), "config": ConfigRecord({"loss": [1.0]})}
    ),
    "bytes": RecordDict(
        {"arrays": ArrayRecord(), "config": ConfigRecord({"loss": b"1"})}
    ),
    "twice": RecordDict(
        {
            "arrays": ArrayRecord({"loss": Array(np.zeros(1))}),
            "config": ConfigRecord({"loss": 1.0}),
        }
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_records_that_are_no_message_are_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"a message needs|not a number|there twice"):
        decode(BROKEN[what])
