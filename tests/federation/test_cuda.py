"""Every path of a round on another device: a GPU where there is one.

And a device that is not there (``elsewhere``), on which a tensor or a generator of the
CPU fails as it does on a GPU.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from cases import CASES, classes, hold_nothing, low_rank, owned, sampled, small
from elsewhere import elsewhere, here
from torch import Generator, Tensor

from fedsciml import methods, run, wrappers
from fedsciml.problem import Problem


def shared() -> Problem:
    return sampled(CASES["scalar"]())


def many() -> Problem:
    """More rows and parameters than directions that are looked for at first."""
    return small("allen_cahn", points=0.3, width=8)


OPTIONS: dict[str, tuple[Callable[[], Problem], str, dict[str, Any]]] = {
    "range finder": (many, "fipa", {"basis": "own"}),
    "full SVD": (CASES["scalar"], "fipa", {"sketch": "svd"}),
    "subspace iteration": (many, "fipa", {"sketch": "subspace"}),
    "shared rows of many": (many, "fipa", {}),
    "shared rows": (shared, "fipa", {"basis": "shared"}),
    "shared sums": (shared, "fipa", {"basis": "shared", "upload": "sums"}),
    "secure sums": (shared, "fipa", {"secure": True}),
    "differential privacy": (shared, "fipa", {"dp": "epsilon=3,delta=1e-5"}),
    "gradients beside sketches": (CASES["scalar"], "fipa", {"gradient": True}),
    "lazy sketches": (CASES["scalar"], "fipa", {"every": 2}),
    "lazy sketches of all": (many, "fipa", {"every": 2, "rank": "cutoff"}),
    "byte budget": (CASES["scalar"], "fipa", {"rank": "bytes:20000", "basis": "own"}),
    "predictive rank": (many, "fipa", {"rank": "predictive:0.1"}),
    "local training": (CASES["scalar"], "fipa", {"local": "adam", "tau": 2}),
    "local L-BFGS": (CASES["scalar"], "fipa", {"local": "lbfgs", "tau": 2}),
    "local Gauss-Newton": (CASES["scalar"], "fipa", {"local": "gauss_newton"}),
    "balanced": (CASES["scalar"], "fipa", {"balance": "clients"}),
    "compressed": (CASES["scalar"], "fipa", {"compress": "bfloat16,feedback"}),
    "drawn again": (shared, "fipa", {"resample": "2,power=1"}),
    "warm-up": (CASES["scalar"], "fipa", {"warmup": "fedavg:2,tau=2"}),
    "own parameters": (owned, "fipa", {}),
    "own parameters trained": (owned, "fedavg", {"personal": "alternate", "tau": 2}),
    "classes": (classes, "fipa", {}),
    "classes with a prior": (lambda: classes(0.1), "fipa", {"basis": "own"}),
    "counts": (lambda: small("randhie"), "fipa", {}),
    "outliers": (lambda: small("outliers"), "fipa", {}),
    "images": (lambda: small("digits"), "fipa", {}),
    "unknown numbers": (lambda: small("heat_inverse"), "fipa", {}),
    "low rank": (low_rank, "fedlora", {"tau": 2}),
    "low rank by FIPA": (low_rank, "fipa", {}),
}
"""Problem, method and options of each path."""

OPTIONS |= {f"jets of {name}": (CASES[name], "fipa", {}) for name in CASES}
OPTIONS |= {
    name: (CASES["scalar"], name, {"tau": 2} if "tau" in methods.options(name) else {})
    for name in methods.names()
    if name not in ("fipa", "fedlora", "fedrcl")
}
OPTIONS["fedrcl"] = classes, "fedrcl", {"tau": 2}

QUICK = ("range finder", "shared sums", "lazy sketches", "classes")
"""The others are slow: an operation takes ten times as long elsewhere."""

PIECES = ("range finder", "lazy sketches of all", "shared rows", "shared sums")
"""Those where rows may be made again piece by piece."""

NOISY = "differential privacy"
"""Its noise is another in every run; it needs float64."""

NARROW = {path for path in OPTIONS if path != NOISY and "lbfgs" not in path.lower()}
NARROW -= {"local L-BFGS"}
"""Those that run in float32; L-BFGS on this problem does not, on the CPU either."""

ROUNDS = 3


def ended(path: str, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """theta after some rounds, on the CPU, in float64."""
    make, name, options = OPTIONS[path]
    method = wrappers.load(name, **options)
    result = run(make(), method, rounds=ROUNDS, device=device, dtype=dtype)
    return here(result.theta).double()


def away(found: Tensor, expected: Tensor, path: str) -> float:
    """Relative difference of what a path ends with."""
    assert found.isfinite().all()
    return 0.0 if path == NOISY else float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p not in QUICK)) for p in OPTIONS],
)
def test_no_path_mixes_devices(path: str) -> None:
    expected = ended(path, "cpu", torch.float64)
    with elsewhere() as device:
        found = ended(path, device, torch.float64)
    # Bytes are the same but where memory of a Jacobian begins elsewhere: 1e-13.
    assert away(found, expected, path) <= 1e-10


@pytest.mark.parametrize("path", PIECES)
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("elsewhere", marks=pytest.mark.slow),
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
        ),
    ],
)
def test_no_path_mixes_devices_where_rows_come_in_pieces(
    path: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Khatri-Rao products, too, as of wide layers."""
    hold_nothing(monkeypatch)
    monkeypatch.setattr("fedsciml.residual.pieces.pays", lambda _: True)
    expected = ended(path, "cpu", torch.float64)
    with elsewhere() if where == "elsewhere" else nullcontext(where) as device:
        found = ended(path, device, torch.float64)
    assert away(found, expected, path) <= (1e-10 if where == "elsewhere" else 1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("path", OPTIONS)
def test_every_path_runs_on_a_gpu(path: str) -> None:
    # In float32 the paths differ by 1e-7 to 9e-2: steps magnify rounding up to 1e6.
    expected = ended(path, "cpu", torch.float64)
    assert away(ended(path, "cuda", torch.float64), expected, path) <= 1e-6
    if path in NARROW:
        assert away(ended(path, "cuda", torch.float32), expected, path) <= 0.5


def test_what_fails_on_a_gpu_fails_elsewhere() -> None:
    random = Generator().manual_seed(0)
    with elsewhere() as device:
        there = torch.ones(3, device=device)
        assert there.device == device
        assert there.tolist() == [1, 1, 1]
        assert torch.equal(here(2 * there[[0, 2]] + 1), torch.full((2,), 3.0))
        with pytest.raises(RuntimeError, match=r"takes \[3\] from the CPU too"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="generator of the CPU"):
            torch.randn(3, generator=random, device=device)
        with pytest.raises(TypeError, match="NumPy does not see"):
            there.numpy()
