"""torch's default device does not matter: DeepXDE makes an accelerator the default.

Tensors on "meta" hold no numbers: one that is made there by mistake is found.
"""

import pytest
import torch
from cases import CASES, classes, low_rank

from fedsciml import methods, run
from fedsciml.residual.fingerprint import agreement, fingerprint


@pytest.mark.parametrize("name", methods.names())
def test_a_method_ends_at_the_same_bytes(name: str) -> None:
    epochs = methods.options(name).get("tau")
    few = {"tau": 2} if epochs and epochs.default else {}
    needed = {"fedrcl": classes, "fedlora": low_rank}
    problem = needed.get(name, CASES["scalar"])()
    method = methods.load(name, **few)
    expected = run(problem, method, rounds=2).theta
    with torch.device("meta"):
        found = run(problem, method, rounds=2).theta
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", CASES)
def test_a_problem_has_the_same_hashes(name: str) -> None:
    problem = CASES[name]()
    expected = fingerprint(problem), agreement(problem)
    with torch.device("meta"):
        assert (fingerprint(problem), agreement(problem)) == expected
