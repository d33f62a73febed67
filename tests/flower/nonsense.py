"""Records of Flower's that are no message."""

import io

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict


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
