"""Local training of all sites at once is that of the library."""

import pytest
import torch
from experiments._personal import bare, family
from experiments._personal_rivals import Batch, train

from fedsciml import methods, run
from fedsciml.wrappers.personal import Personal

STAGED = {"averaged": 1, "directions": 1, "global_rate": 1e-2, "own_rate": 3e-3}


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of jvp
@pytest.mark.parametrize(
    ("network", "method", "equation", "more"),
    [
        pytest.param("waves, head", "fedavg", True, {}, marks=pytest.mark.slow),
        ("head", "alternate", False, {}),
        ("split", "fedlora", False, STAGED),
    ],
)
def test_training_all_sites_at_once_is_training_one_after_the_other(
    network: str, method: str, equation: bool, more: dict[str, float]
) -> None:
    options = {"learning_rate": 3e-3, "tau": 2, **more}
    options |= {"prior": 1e-4, "personal_prior": 1e-4}
    setting = {"network": network, "noise": 0.01, "equation": equation, "clients": 3}
    problem = family(0, setting, options)
    averaging = "fedavg" if method == "alternate" else method
    made = methods.load(averaging, **bare(options))
    if method == "alternate":
        made = Personal(made, "alternate")
    result = run(problem, made, rounds=3, seed=0)

    found = train(Batch.of([problem], [0]), method, [options], rounds=3)

    view = problem.personal
    assert view is not None
    each = [view.joined(result.theta, result.personal[m]) for m in range(3)]
    assert torch.allclose(found.theta[0, 0], torch.stack(each), rtol=0, atol=1e-12)
    errors = [line.relative_l2 for line in result.history]
    assert found.errors[:, 0, 0].mean(-1).tolist() == pytest.approx(errors, rel=1e-9)
