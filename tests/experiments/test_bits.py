"""Experiment ``characters``: what it counts, and which settings it takes."""

import math
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from experiments import characters
from experiments._record import Entry
from torch import Generator
from torch.nn.functional import cross_entropy

from fedsciml import problems
from fedsciml.problem import Problem
from fedsciml.residual import System

LINES = ("the old boat pulled at her ropes. ", "cut two onions, and stir the soup. ")


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    """Two short texts, of one personal magnitude each."""
    if find_spec("textgenrnn") is None and "CI" not in os.environ:
        pytest.skip("pip install --no-deps textgenrnn==2.0.0 brings the weights")
    for m, line in enumerate(LINES):
        (tmp_path / f"{m}.txt").write_text(line * (3 + m))
    return problems.load(str(characters.EXAMPLE), texts=tmp_path, rank=1)


def test_bits_are_those_of_each_site_s_own_network(problem: Problem) -> None:
    generator, view = Generator().manual_seed(0), problem.personal
    assert view is not None
    theta = problem.network.init(generator, torch.float64)
    theta += torch.randn(len(theta), generator=generator, dtype=theta.dtype)
    own = {m: theta.new_tensor([1.0 - 3 * m]) for m in range(2)}
    found = characters.bits(problem, theta, own)
    (test,) = problem.tests
    for m, value in enumerate(found):
        x, y = test.points[m], test.target[m]  # type: ignore[index]
        z = view.at(own[m])(theta, x)
        expected = float(cross_entropy(z, y.long())) / math.log(2)
        assert value == pytest.approx(expected, rel=1e-3)  # four digits are kept


def test_a_site_alone_minimises_a_share_of_the_sum_of_all(problem: Problem) -> None:
    each = [characters.mine(problem, m) for m in range(problem.clients)]
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    theta += 0.1
    parts = [System(p, p.pooled()).loss(theta) + p.penalty(theta) for p in each]
    whole = System(problem, problem.pooled()).loss(theta) + problem.penalty(theta)
    assert sum(parts) == pytest.approx(whole)
    assert [len(p.tests) for p in each] == [1, 1]


def test_the_best_setting_of_a_start_runs_from_the_others() -> None:
    names = characters.KEY
    every = characters.cases([])
    entries: list[Entry] = []
    for number, case in enumerate(every):
        entries.append({**dict(zip(names, case, strict=True)), "bits": [5.0 - number]})
    again = [case for case in characters.cases(entries) if case[-1] > 0]
    labels = {case[0] for case in again}
    assert len(again) == 2 * len(labels)
    for case in again:
        mine = [e for e in entries if e["label"] == case[0]]
        assert case[:-1] == tuple(mine[-1][name] for name in names[:-1])
