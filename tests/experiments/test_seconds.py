"""Experiments of speed: JAX beside, memory, exponents, rounds on another device."""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CASES
from elsewhere import elsewhere, here
from experiments import _peer, cost, memory, peer, wide
from experiments._pipes import receive, send
from experiments._rounds import PHASES, Rounds
from experiments.speed import laplacian_problem

from fedsciml import methods


def test_a_message_arrives_as_it_was_sent() -> None:
    stream = BytesIO()
    arrays = [np.arange(6.0).reshape(2, 3).T, np.array(0.1), np.zeros((0, 4))]
    send(stream, {"way": "x"}, arrays)
    send(stream, {}, [])
    content = stream.getvalue()
    stream.seek(0)
    head, found = receive(stream)
    assert head == {"way": "x"}
    assert [a.shape for a in found] == [(3, 2), (), (0, 4)]
    assert all(map(np.array_equal, found, arrays))
    assert receive(stream) == ({}, [])
    with pytest.raises(EOFError, match="has ended"):
        receive(stream)
    with pytest.raises(EOFError, match="within a message"):
        receive(BytesIO(content[:60]))


def test_a_program_that_ends_is_told_of(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nraise SystemExit(3)\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match="ended, status 3"):
        _peer.Peer([2, 3, 1], [], python)


@pytest.mark.slow
@pytest.mark.skipif(not _peer.PYTHON.is_file(), reason="needs JAX; make peer")
def test_jax_finds_the_same_rows_and_steps() -> None:
    problem = laplacian_problem(20)
    found = {e["way"]: e for e in peer.jacobians(problem, (1.0,), 0, 1)}
    assert all(e["difference"] < 1e-13 for way, e in found.items() if "JAX" in way)
    theta = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
    widths, parts = problem.network.widths, peer.parts(problem, (1.0,))
    with _peer.one_core(), _peer.Peer(widths, parts) as jax:
        _, differences = peer.damped(problem, jax, theta)
    assert len(differences) == 4


def test_memory_that_was_held_is_counted() -> None:
    peak = memory.Peak()
    held = np.ones(2**23)  # 64 MiB
    assert peak.bytes() >= 0.9 * held.nbytes


def test_the_exponent_is_that_of_the_upper_half() -> None:
    sizes = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert cost.exponent(sizes, [9.0, 9.0, *(s**1.5 for s in sizes[2:])]) == (
        pytest.approx(1.5)
    )


def test_the_tables_show_each_case() -> None:
    timed = {"seconds": 0.5, "median": 0.6, "difference": 0.0}
    found = [
        {"what": what, "start": start, "way": way, **timed}
        for what in peer.CASES
        for start in range(2)
        for way in (peer.OURS, "JAX")
    ]
    assert [len(t.rows) for t in peer.tables(found)] == [2, 2, 2]
    assert [row[-1] for t in peer.tables(found) for row in t.rows] == [2] * 6


def test_wide_networks_are_timed_in_both_precisions() -> None:
    entries = [
        {"device": "cpu", "dtype": dtype, "width": 3, "how": "range"} | entry
        for dtype in wide.DTYPES
        for entry in wide.measure("cpu", dtype, 3, "range")
    ]
    (table,) = wide.tables(entries)
    assert [row[3] for row in table.rows] == ["float32", "float64"]
    with pytest.raises(ValueError, match="no device 'tpu'"):
        wide.check("tpu", "float64", 3, "range")


@pytest.mark.slow
def test_rounds_are_timed_elsewhere() -> None:
    problem, method = CASES["scalar"](), methods.load("fipa", basis="own")
    expected = Rounds(problem, method, torch.device("cpu"))
    expected.one()
    with elsewhere() as device:
        rounds = Rounds(problem, method, device)
        line, _ = rounds.one()
        assert torch.equal(here(rounds.theta), expected.theta)
    assert all(line[phase] > 0 for phase in PHASES)
