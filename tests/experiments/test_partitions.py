"""The record of the partitions."""

import json

import numpy as np
import pytest
from experiments.partitions import CASES, EXPERIMENT, KEY

from fedsciml import problems
from fedsciml.collocation import heterogeneity


def test_the_record_of_partitions_is_that_of_the_problems() -> None:
    entries = json.loads(EXPERIMENT.path.read_text())
    found = {tuple(e[name] for name in KEY): e for e in entries}
    assert set(found) == set(CASES)
    case = ("sine8", 8, "pieces:4")
    problem = problems.load(case[0], clients=8, partition=case[2])
    held = [shard.rows[0].points for shard in problem.shards()]
    entry = found[case]
    assert entry["heterogeneity"] == pytest.approx(heterogeneity(held), rel=1e-3)
    for m, points in enumerate(held):
        place = np.searchsorted(entry["edges"], points[:, 0].numpy()) - 1
        owners = np.array(entry["owner"])[place.clip(0, 31)]
        assert np.mean(owners == m) > 0.98  # edges have four decimals
