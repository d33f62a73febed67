"""The prose of docs/results.md."""

from collections.abc import Iterable
from functools import cache
from statistics import median

from experiments import suite
from experiments._claims.steps import settled
from experiments._numbers import (
    ceiling,
    cell,
    digits,
    duration,
    ends,
    number,
    part,
    power,
    record,
)
from experiments._prose import Claim, Setting
from experiments._record import select
from experiments._runs import ROUNDS, Runs
from experiments._table import plain
from fedsciml.command.suite import LINES


@cache
def runs() -> Runs:
    """Of suite ``fipa``."""
    return Runs(suite.counted(record("suite.json")))


def sent(problem: str, method: str) -> float:
    """Bytes of so many rounds, median over the starts."""
    return median(
        max(b for b, k in zip(e["bytes"], e["round"], strict=True) if k <= ROUNDS)
        for e in runs().of(problem, method)
    )


def swept(problem: str) -> list[str]:
    """The least and the largest error of FIPA over numbers of clients and pieces."""
    found = select(record("clients.json"), problem=problem, method="fipa")
    return [power(e) for e in ends(e["error"] for e in found)]


def shared(problems: Iterable[str], head: str, ways: Iterable[str]) -> list[str]:
    """The least and the most megabytes in the table of the shared basis."""
    found = [number(cell("basis", (p, w), head)) for p in problems for w in ways]
    return [digits(x) for x in ends(found)]


def least(problem: str, clients: int) -> float:
    """Seconds of a round, or of a centralised step."""
    (speed,) = record("speed.json")
    (found,) = select(speed["rounds"], problem=problem, clients=clients)
    return float(found["seconds"])


def way(name: str, field: str = "seconds") -> float:
    """To residual and Jacobian."""
    (speed,) = record("speed.json")
    return min(float(e[field]) for e in speed["jacobians"] if e["way"].startswith(name))


def times(name: str) -> float:
    """A step of JAX in rounds of ours."""
    return float(cell("peer round", f"JAX, Levenberg-Marquardt, {name}", "times ours"))


CLAIMS = [
    Claim(
        "creep: it is at {} after 100 rounds",
        lambda: [
            plain(
                median(
                    e["error_at"]["100"] for e in select(settled(), problem="poisson5d")
                )
            )
        ],
    ),
    Claim(
        "one-dimensional equations {} to {} MB reach 1e-10 ({} to {} MB by own",
        lambda: [
            *shared(LINES, "MB to 1e-10", ("rows", "sums")),
            *shared(LINES, "MB to 1e-10", ("own",)),
        ],
    ),
    Claim(
        "50 rounds cost {} to {} MB, where FedAvg's cost {} MB;",
        lambda: [
            *shared(LINES, "MB", ("rows", "sums")),
            digits(median(sent(p, "fedavg") for p in LINES) / 1e6),
        ],
    ),
    Claim(
        "poisson2d gets to 1e-10 with {} to {} MB instead of {}.",
        lambda: [
            *shared(("poisson2d",), "MB to 1e-10", ("rows", "sums")),
            shared(("poisson2d",), "MB to 1e-10", ("own",))[0],
        ],
    ),
    Claim(
        "FIPA ends at {} to {} on allen_cahn and at {} to {} on sine4",
        lambda: [*swept("allen_cahn"), *swept("sine4")],
    ),
    Claim(
        "a round takes {} on the one-dimensional equations, {} on poisson2d, {} on "
        "poisson3d; a step of centralised Gauss-Newton by full SVD {}, {} and {}.",
        lambda: [
            duration(x)
            for m in (2, 1)
            for x in (
                median([least("poisson1d", m), least("allen_cahn", m)]),
                least("poisson2d", m),
                least("poisson3d", m),
            )
        ],
    ),
    Claim(
        "takes {}, {} times less than the fastest formulation in `torch.func`; nested "
        "autograd, row by row on one graph, takes {}.",
        lambda: [
            duration(way("fedsciml")),
            digits(way("torch.func", "ratio")),
            duration(way("nested autograd, one graph")),
        ],
    ),
    Claim(
        "two clients takes {} of JAX's Levenberg-Marquardt step by Cholesky and {} of "
        "that by QR, {} and {} of what these take at their best.",
        lambda: [
            part(1 / times(name))
            for name in ("Cholesky", "QR", "Cholesky, half of J^T J", "QR, R alone")
        ],
    ),
    Claim(
        "the peak of a round is below {} GiB",
        lambda: [ceiling(max(float(e["peak"]) for e in record("memory.json")) / 2**30)],
    ),
]

SETTINGS: list[Setting] = [
    "2000 iterations of Adam",
    "100 on problems of suite",
    "federated methods have 50 rounds",
    "starts that get to 1e-6",
    "10, 30 or 50 on others",
    "20 seconds, DeepXDE 60 seconds from start 0 and 30 from others",
    "from 2 to 64 clients",
    "64 interleaved pieces",
    "For 900 rows JAX is faster, for 5200 as fast",
    "Jacobian for 900 rows, p = 1185",
    "pieces of 50 points",
    "an exponent of 1",
    "256 MiB of Jacobian at most",
    "for 1e5 parameters and for 1e6 rows",
]
