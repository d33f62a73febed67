"""The experiment on secure sums: its clients, its readers, its record."""

import json

import pytest
import torch
from experiments import _reading, _secure_seen, observer, secure
from experiments._reading import guessed
from experiments._secure_clients import Counted, Death, Killed
from experiments._secure_tables import read_words, reading
from experiments._turns import Turns

from fedsciml import problems, run
from fedsciml.federation.participation import Rules
from fedsciml.wrappers.secure import Secure

SMALL = {"points": 0.1, "width": 6}


def test_every_byte_is_a_number_a_letter_a_key_or_an_ask() -> None:
    problem = problems.load("allen_cahn", clients=3, **SMALL)
    clients = Counted(problem, Secure(secure.sums()).bound(problem))
    turns = Turns(problem, clients.method, 0, clients)
    assert turns.one()
    assert turns.one()
    for number, before, after in ((1, 0, 1), (2, 1, 2)):
        sent = [0, *(line.sent for line in turns.history)]
        parts = clients.bytes[number]
        assert sum(parts.values()) == sent[after] - sent[before]
        assert set(+parts) == {"numbers", "letters", "asks"} | (
            {"keys"} if number == 1 else set()
        )
        assert clients.up[number] + clients.down[number] == sum(parts.values())


def test_who_dies_after_masking_is_in_the_sum() -> None:
    problem = problems.load("allen_cahn", clients=5, **SMALL)
    method = Secure(secure.sums())
    usual = run(problem, method, 2, 0)
    death = Death((1, 3), 2, 3, 0)  # in the last sum of the last round
    clients = Killed(problem, method, death)
    history = clients.run(2, 0, Rules(min_clients=3))
    assert sorted(history[1].dropped) == ["1", "3"]
    assert history[1].relative_l2 == usual.history[1].relative_l2


def test_the_sum_is_that_of_all_and_a_masked_message_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_secure_seen, "ROUND", 2)
    monkeypatch.setattr(_reading, "GRID", 40)
    monkeypatch.setattr(_reading, "STEPS", 25)
    problem = observer.federation(5, 0, 5)
    wire = _secure_seen.wire(problem, 0, 40)
    whole, factor = wire.plain.gramians.sum(0), wire.opened.sketch.factor
    torch.testing.assert_close(factor.mT @ factor, whole, rtol=0, atol=1e-12)
    assert 0.2 < wire.right < 0.8  # chance of less: 1e-4
    points = problem.shards()[0].rows[0].points
    assert torch.cdist(points, guessed(wire.masked)[0]).min() > 1e-6
    assert torch.cdist(points, guessed(wire.opened)[0]).min(1)[0].median() < 1e-6


def test_sums_elsewhere_foretell_those_at_theta(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("ROUND", 2), ("SIDE", 20), ("PRODUCTS", 400)):
        monkeypatch.setattr(_secure_seen, name, value)
    problem = observer.federation(5, 0, 20, 4)
    same = _secure_seen.differences(problem, 0, 0.0, 1)
    assert same["subtracted"].error < 1e-9
    apart = _secure_seen.differences(problem, 0, 0.02, 1)
    assert apart["predicted"].error < 0.1 * apart["subtracted"].error


def test_a_setting_is_read_as_it_is_written() -> None:
    assert read_words(reading(20, 100, 5)) == (20, 100, 5)


def test_the_record_is_complete() -> None:
    entries = json.loads(secure.EXPERIMENT.path.read_text())
    found = {tuple(e[key] for key in secure.KEY) for e in entries}
    assert found == set(secure.EXPERIMENT.wanted([]))
