"""What clients send is what methods expect, and any of them may be missing."""

from collections.abc import Iterator

import pytest
from cases import small, theta
from torch import Tensor

from fedsciml import methods
from fedsciml.balance import Balanced
from fedsciml.method import Fields, Message, Method, State
from fedsciml.problem import Problem
from fedsciml.resample import Resampled
from fedsciml.residual import System
from fedsciml.warmup import Warmup

FIPA, FEDAVG = methods.load("fipa"), methods.load("fedavg", tau=2)

OTHERS: dict[str, Method] = {
    "fipa with local training": methods.load("fipa", local="adam", tau=2),
    "fipa without probes": methods.load("fipa", policy="fixed"),
    "fipa of a budget": methods.load("fipa", rank="bytes:30000"),
    "balanced terms": Balanced(FIPA, "terms"),
    "balanced clients": Balanced(FIPA, "clients"),
    "warm-up": Warmup(FEDAVG, 1, FIPA),
    "resampled": Resampled(FIPA, every=1),
    "fedfisher of diagonals": methods.load("fedfisher", tau=2, fisher="diagonal"),
    "fedpm of gramians": methods.load("fedpm", tau=2, preconditioner="gramian"),
    "fipa_paper of a budget": methods.load("fipa_paper", tau=2, rank="bytes:30000"),
    "fipa_paper, adaptive": methods.load("fipa_paper", tau=2, rank="published"),
}


def quick(name: str) -> Method:
    """A method by name with little local training."""
    tau = methods.options(name).get("tau")
    return methods.load(name, **({"tau": 2} if tau and tau.default else {}))


METHODS = {name: quick(name) for name in methods.names()} | OTHERS
FEDERATED = {name: method for name, method in METHODS.items() if not method.pooled}


def problem() -> Problem:
    return small("allen_cahn", clients=3, points=0.05, width=8)


def exchanges(
    problem: Problem, method: Method, rounds: int = 2
) -> Iterator[tuple[State, Message, list[Message]]]:
    """The server's state, its broadcast and all uploads, exchange by exchange."""
    shards = [problem.pooled()] if method.pooled else problem.shards()
    systems = [System(problem, shard) for shard in shards]
    memories: list[State] = [{} for _ in systems]
    state, broadcast = method.init(theta(problem), 0)
    while rounds:
        uploads = []
        for m, system in enumerate(systems):
            upload, memories[m] = method.client(system, broadcast, memories[m])
            uploads.append(upload)
        yield state, broadcast, uploads
        state, broadcast, info = method.server(state, uploads)
        rounds -= info is not None


def fits(
    upload: Message, expected: Fields, words: dict[str, int], like: Tensor
) -> bool:
    """Whether an upload holds just that; ``words`` learns sizes."""
    if upload.keys() != expected.keys():
        return False
    for key, field in expected.items():
        value = upload[key]
        if field.shape is None:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return False
            continue
        sizes = tuple(
            words.setdefault(n, value.shape[i]) if isinstance(n, str) else n
            for i, n in enumerate(field.shape)
        )
        dtype = field.dtype or like.dtype
        if value.shape != sizes or value.dtype != dtype or not value.isfinite().all():
            return False
    return True


@pytest.mark.parametrize("name", METHODS)
def test_clients_send_what_the_method_expects(name: str) -> None:
    method, made = METHODS[name], problem()
    size = made.network.size
    words: list[dict[str, int]] = [{} for _ in range(made.clients)]
    for state, broadcast, uploads in exchanges(made, method):
        expected = method.expects(broadcast, size)
        for m, upload in enumerate(uploads):
            if "theta" in broadcast:
                words[m] = {}  # a round begins
            assert fits(upload, expected, words[m], state["theta"]), (name, m)
