"""What a site does with a message, and how it remembers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import scalar, theta
from faults import same

from fedsciml import methods
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.site import Content, Files, Memories, Order, Site
from fedsciml.methods import Record

MEMORY: Content = {"left": torch.arange(6.0).reshape(2, 3).mT, "rank": 3, "word": "nan"}


def opening() -> Record:
    """The ask that begins a round of scaffold, whose clients remember."""
    method = methods.load("scaffold", tau=2)
    return next(method.round(method.start(theta(scalar()), 0)))


def site(client: int = 2) -> Site:
    return Site(scalar(), methods.load("scaffold", tau=2), client)


@pytest.mark.parametrize("client", range(3))
def test_a_site_uploads_what_the_client_in_process_does(client: int) -> None:
    problem, method = scalar(), methods.load("scaffold", tau=2)
    clients, memories = LocalClients(problem, method), dict[str, Content]()
    memory: Record | None = None
    totals = [len(term.points) for term in problem.terms]
    for order in (Order("1.1", "", ""), Order("2.1", "1.1", "1.1")):
        answer, known = site(client).exchange(opening(), totals, order, memories)
        reply = clients.ask(opening(), {client: memory}, 1)[client]
        assert known
        assert not isinstance(reply, Exception)
        expected, memory = reply
        assert same(answer, expected)


def test_what_is_older_than_the_round_s_start_is_forgotten() -> None:
    memories: dict[str, Content] = {"8.2": {}, "9.10": {}, "9.9": {}, "10.1": {}}
    site().exchange(opening(), [23, 3], Order("10.2", "9.10", "9.10"), memories)
    assert set(memories) == {"9.10", "10.1", "10.2"}


def test_a_round_can_begin_without_memory_but_not_go_on() -> None:
    fresh, _ = site().exchange(opening(), [23, 3], Order("1.1", "", ""), {})
    order = Order("4.1", "3.1", "3.1")
    answer, known = site().exchange(opening(), [23, 3], order, {})
    assert not known
    assert same(answer, fresh)
    with pytest.raises(LookupError, match="Client 2 does not remember exchange 4.1"):
        site().exchange(opening(), [23, 3], Order("4.2", "4.1", "3.1"), {})


def test_the_memory_of_another_method_is_refused() -> None:
    memories: dict[str, Content] = {}
    site().exchange(opening(), [23, 3], Order("1.1", "", ""), memories)
    memories["1.1"]["kind"] = "fipa.Memory"
    with pytest.raises(ValueError, match=r"it is a 'fipa\.Memory', not one of"):
        site().exchange(opening(), [23, 3], Order("2.1", "1.1", "1.1"), memories)


def test_data_that_changed_within_a_run_are_refused() -> None:
    memories: dict[str, Content] = {}
    site().exchange(opening(), [23, 3], Order("1.1", "", ""), memories)
    equation, ends = scalar().terms
    assert isinstance(equation.points, torch.Tensor)
    moved = replace(equation, points=equation.points + 1e-3)
    changed = replace(scalar(), terms=[moved, ends], domain=None)
    other = Site(changed, methods.load("scaffold", tau=2), 2)
    with pytest.raises(ValueError, match="client 2 are not those of exchange 1.1"):
        other.exchange(opening(), [23, 3], Order("2.1", "1.1", "1.1"), memories)


def test_totals_that_are_fewer_than_the_site_s_points_are_refused() -> None:
    with pytest.raises(ValueError, match="Did its data change"):
        site().system([23, 0])


def test_files_hold_memories_exactly(tmp_path: Path) -> None:
    files: Memories = Files(tmp_path / "new", "abc", 3)
    assert not list(files)
    files["7.2"], files["7.10"] = MEMORY, {}
    again = Files(tmp_path / "new", "abc", 3)
    assert set(again) == {"7.2", "7.10"}
    assert len(again) == 2
    found = again["7.2"]
    left, expected = found.pop("left"), MEMORY["left"]
    assert isinstance(left, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert torch.equal(left, expected)
    assert found == {"rank": 3, "word": "nan"}
    del again["7.2"]
    assert "7.2" not in files
    with pytest.raises(KeyError):
        files["7.2"]


@pytest.mark.parametrize(("run", "client"), [("abd", 3), ("abc", 2), ("ab", 3)])
def test_runs_and_clients_do_not_share_memories(
    tmp_path: Path, run: str, client: int
) -> None:
    Files(tmp_path, "abc", 3)["7.2"] = MEMORY
    assert not list(Files(tmp_path, run, client))


@pytest.mark.parametrize("run", ["", "../up", "a/b", "a*"])
def test_a_run_s_name_leads_nowhere_else(tmp_path: Path, run: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        Files(tmp_path, run, 0)


@pytest.mark.parametrize("stamp", ["/1.1", "1", "1.1.1", "../1.1", "1.1\n"])
def test_a_stamp_leads_nowhere_else(tmp_path: Path, stamp: str) -> None:
    with pytest.raises(ValueError, match=r"ROUND\.EXCHANGE"):
        Files(tmp_path, "abc", 0)[stamp] = MEMORY
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"garbage" * 9])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    files = Files(tmp_path, "abc", 0)
    files["7.2"] = MEMORY
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged") as caught:
        files["7.2"]
    assert path.name in str(caught.value)
    assert str(path.parent) not in str(caught.value)
