"""What a method keeps and sends can be stored, and its rounds can be done again."""

from pathlib import Path

import pytest
import torch
from exchanges import Answering, Exchange, begin, connect, play
from faults import same
from test_baselines import BASELINES, load
from test_uploads import EXACT, METHODS, problem

from fedsciml import methods, policies
from fedsciml.federation import Checkpoint, RunDirectory
from fedsciml.federation.participation import Heard, Participation
from fedsciml.methods import Answers, Method, Record, State, unique
from fedsciml.wrappers.balance import Balanced
from fedsciml.wrappers.compress import Compressed
from fedsciml.wrappers.resample import Resampled
from fedsciml.wrappers.warmup import Warmup

EVERY: dict[str, Method] = {
    **METHODS,
    **{f"{name}, remembering": load(name, tau=2) for name in BASELINES},
    **{f"fipa by {p}": methods.load("fipa", policy=p) for p in policies.names()},
    "fipa, remembering": methods.load("fipa", local="adam", tau=2, keep_state=True),
    "fipa_paper, remembering": methods.load("fipa_paper", tau=2, keep_state=True),
    "a wrapper of wrappers": Resampled(
        Balanced(
            Compressed(Warmup(METHODS["scaffold"], 1, EXACT), "bfloat16", True),
            "clients",
        ),
        every=2,
    ),
}
"""Methods, with what gives them the most to remember."""


def through_disk(
    records: list[Record], kinds: tuple[type, ...], out: Path
) -> list[Record | None]:
    """What a checkpoint makes of what clients remember, or is remembered of them."""
    heard = {m: Heard(record, 1) for m, record in enumerate(records)}
    last = Participation([], [], heard, {}, {})
    directory = RunDirectory.create(out, {})
    directory.save(Checkpoint(1, State(torch.zeros(1)), records, participation=last))
    found = directory.load((*kinds, State))
    assert found is not None
    assert found.participation is not None
    return [*found.memories, *(last for last, _ in found.participation.heard.values())]


@pytest.mark.parametrize("name", EVERY)
def test_all_that_a_method_keeps_and_sends_is_the_same_after_a_checkpoint(
    name: str, tmp_path: Path
) -> None:
    method = EVERY[name]
    clients, state = connect(problem(), method), begin(problem(), method)
    every = [state]

    def exchange(ask: Record) -> Answers:
        answers = clients.exchange(ask)
        told = [method.remembered(ask, answer) for answer in answers.values()]
        every.extend([ask, *answers.values(), *clients.memories.values(), *told])
        return answers

    for _ in range(3):
        state, *_ = play(method, state, exchange)
        every += [state, method.renewed(state)]
    records = [record for record in every if record is not None]
    kinds = unique(method.kinds)  # no two of one name
    found = through_disk(records, kinds, tmp_path / "run")
    for after, before in zip(found, 2 * records, strict=True):
        assert type(after) is type(before)
        assert same(after, before)


def repeated(exchanges: list[Exchange]) -> Answering:
    """The same answers again, to the same asks."""
    said = iter(exchanges)

    def answer(ask: Record) -> Answers:
        exchange = next(said)
        assert same(ask, exchange.ask)
        return exchange.answers

    return answer


@pytest.mark.parametrize("name", METHODS)
def test_a_round_that_is_given_up_leaves_no_trace(name: str) -> None:
    method = METHODS[name]
    clients, state = connect(problem(), method), begin(problem(), method)
    for _ in range(2):
        after, info, exchanges = play(method, state, clients.exchange)
        given_up = method.round(state)
        next(given_up)
        for _, answers in exchanges[:-1]:
            given_up.send(answers)
        again, again_info, _ = play(method, state, repeated(exchanges))
        assert same(again, after)
        assert again_info == info
        state = after
