"""Records: taken apart and made again, weighed, and sent through a round."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest
import torch
from exchanges import begin
from faults import same
from test_uploads import EXACT, problem
from torch import Tensor

from fedsciml.methods import (
    Answers,
    Exchanges,
    Info,
    Opening,
    Record,
    State,
    conclude,
    flatten,
    kind,
    mapped,
    payload,
    placed,
    rebuild,
    unique,
)


class Part(Record):
    """A tensor, and a word about it."""

    x: Tensor
    word: str = "plain"


class Whole(Record):
    """All that a record may hold."""

    part: Any
    number: float
    count: int = 0
    named: Mapping[str, Tensor] = field(default_factory=dict)
    more: Part | None = None


KINDS = (Part, Whole)
ONE, TWO = torch.ones(3), torch.arange(2.0, dtype=torch.float64)


def whole() -> Whole:
    """Records in records, and tensors by name."""
    return Whole(Whole(Part(ONE), 0.5), 2.0, 7, {"a.1": TWO, "b": ONE}, Part(TWO, "w"))


def test_a_record_does_not_change_and_equals_itself_alone() -> None:
    record = Part(ONE)
    with pytest.raises(FrozenInstanceError):
        record.word = "other"
    assert record == record
    assert record != Part(ONE)


def test_flatten_names_what_a_record_holds_by_its_path() -> None:
    assert flatten(whole()) == {
        "kind": "test_records.Whole",
        "part/kind": "test_records.Whole",
        "part/part/kind": "test_records.Part",
        "part/part/x": ONE,
        "part/part/word": "plain",
        "part/number": 0.5,
        "part/count": 0,
        "number": 2.0,
        "count": 7,
        "named/a.1": TWO,
        "named/b": ONE,
        "more/kind": "test_records.Part",
        "more/x": TWO,
        "more/word": "w",
    }


def test_rebuild_makes_the_record_that_flatten_took_apart() -> None:
    found = rebuild(flatten(whole()), KINDS)
    assert [type(each) for each in (found, found.part, found.more)] == [
        Whole,
        Whole,
        Part,
    ]
    assert (found.part.more, found.part.named) == (None, {})
    assert (found.number, found.count) == (2.0, 7)
    assert found.named == {"a.1": TWO, "b": ONE}
    assert found.part.part.x is ONE
    assert same(found, whole())


def test_what_is_none_is_left_out_and_made_again_by_default() -> None:
    content = flatten(Whole(Part(ONE), 1.0, more=None))
    assert not any(path.startswith("more") for path in content)
    assert rebuild(content, KINDS).more is None


@pytest.mark.parametrize("absent", [{"x": None}, {"x": ONE, "word": None}])
def test_none_where_another_would_be_made_again_is_refused(
    absent: dict[str, Any],
) -> None:
    name = list(absent)[-1]
    with pytest.raises(TypeError, match=f"Part.{name} is None, which is not its def"):
        flatten(Part(**absent))


@pytest.mark.parametrize("value", [[ONE], b"x", {"a": [1]}, (1, 2)])
def test_a_record_of_anything_else_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="holds tensors, numbers, words and records"):
        flatten(Whole(value, 1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "fipa.Probe"}, "it is a 'fipa.Probe', not one of test_records.Part"),
        ({"kind": None}, "it is a None, not one of"),
        ({"kind": 3}, "it is a 3, not one of"),
        ({"part/kind": "x.Y"}, "it is a 'x.Y', not one of"),
        ({"extra": 1.0}, "it holds 'extra', which nobody asked for"),
        ({"extra/x": ONE}, "it holds 'extra', which nobody asked for"),
        ({"part/extra": ONE}, "it holds 'extra', which nobody asked for"),
        ({"number": None}, "it has no 'number'; it holds "),
        ({"part/part/x": None}, "it has no 'x'; it holds word"),
    ],
)
def test_content_of_another_kind_or_with_other_fields_is_refused(
    changes: dict[str, object], message: str
) -> None:
    content = {**flatten(whole()), **changes}
    content = {path: value for path, value in content.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        rebuild(content, KINDS)


def test_a_kind_that_is_not_given_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of test_records.Whole"):
        rebuild(flatten(whole()), [Whole])
    with pytest.raises(ValueError, match="not one of nothing"):
        rebuild(flatten(whole()), [])


def test_a_payload_is_tensors_and_numbers_without_words() -> None:
    assert payload(Part(ONE, "a long word")) == 3 * 4
    assert payload(Part(ONE.bfloat16())) == 3 * 2
    assert payload(Whole(Part(ONE), 0.5)) == 3 * 4 + 2 * 8
    tensors = 3 * 4 + 2 * 8 + 3 * 4 + 2 * 8
    assert payload(whole()) == tensors + 4 * 8


def test_mapped_changes_every_tensor_and_nothing_else() -> None:
    doubled = mapped(whole(), lambda x: 2 * x)
    for path, value in flatten(whole()).items():
        found = flatten(doubled)[path]
        if isinstance(value, Tensor):
            assert torch.equal(found, 2 * value)
        else:
            assert found == value
    assert torch.equal(ONE, torch.ones(3))


def test_a_placed_record_has_all_its_tensors_on_the_device() -> None:
    content = flatten(placed(whole(), "meta"))
    devices = [v.device.type for v in content.values() if isinstance(v, Tensor)]
    assert devices == ["meta"] * 4


def test_two_kinds_of_one_name_are_refused() -> None:
    assert unique([Part, Whole, Part]) == (Part, Whole)
    twin = type("Part", (), {})
    with pytest.raises(ValueError, match=r"are called 'test_records.Part'; rename"):
        unique([Part, Whole, twin])


def test_conclude_sends_the_answers_to_each_ask_and_returns_the_end() -> None:
    def exchanges() -> Exchanges[State]:
        first = yield Opening(TWO)
        second = yield Part(first[0] + first[3])
        return State(second[0] - second[3]), Info(loss=4.0)

    asked = []

    def answer(ask: Any) -> dict[int, Tensor]:  # noqa: ANN401
        asked.append(type(ask))
        return {0: ask.theta, 3: ONE[:2]} if len(asked) < 2 else {0: ask.x, 3: TWO}

    state, info = conclude(exchanges(), answer)
    assert asked == [Opening, Part]
    assert torch.equal(state.theta, ONE[:2].double())
    assert info == Info(loss=4.0)


def test_what_ends_an_exchange_ends_the_round() -> None:
    def answer(ask: Record) -> Answers:
        raise ConnectionError(kind(type(ask)))

    with pytest.raises(ConnectionError, match="fipa.Opening"):
        conclude(EXACT.round(begin(problem(), EXACT)), answer)
