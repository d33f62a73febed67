"""Families of oscillations: their networks, and runs of the library on them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import torch

from experiments._record import Entry, short
from experiments._runs import thinned
from fedsciml import Result, methods, personalise, problems, run
from fedsciml.federation.history import Round
from fedsciml.network import MLP, Network, Personal, lora
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem
from fedsciml.problems import oscillations
from fedsciml.problems._families import middle

Options = dict[str, Any]

SITES = 12
RANK = 2
PRIORS = ("prior", "personal_prior")


def mlp() -> MLP:
    """The network that the others are made of."""
    return MLP((1, *oscillations.WIDTHS), inputs=oscillations.BOX)


def factors(**options: Any) -> Network:  # noqa: ANN401
    """With factors of low rank in every layer; they and the base are trained."""
    return lora(mlp(), RANK, base="trained", **options)


NETWORKS: Mapping[str, Callable[[], Network]] = {
    "mlp": mlp,
    "waves": lambda: MLP(
        (2, oscillations.WAVES, 1), activation="sin", features=oscillations.scaled
    ),
    "head": lambda: Personal(mlp(), "classifier"),
    "waves, head": lambda: oscillations.network("layer"),
    "factors": lambda: factors(form="plain", personal="B"),
    "split": lambda: factors(
        form="split", personal="magnitudes_B", zero="magnitudes_A"
    ),
    "magnitudes": lambda: oscillations.network("magnitudes"),
    "inputs": lambda: oscillations.network("inputs"),
    "lora": lambda: factors(form="plain"),
}
"""In ``mlp``, ``waves`` and ``lora`` nothing is personal. In the others it is the last
layer; B of LoRA as in FedSA-LoRA; magnitudes of B as in FedLoRA-Optimizer; magnitudes
between B and A in both hidden layers, and in the first one alone."""


def family(seed: int, setting: Options, options: Options) -> Problem:
    """A family of oscillations with one of these networks.

    Args:
        seed: Its number.
        setting: ``network``, and options of the problem.
        options: A run's, of which the priors are taken.
    """
    given = {k: v for k, v in setting.items() if k != "network"}
    made = problems.load("oscillations", seed=seed, **given)
    trained = NETWORKS[setting["network"]]()
    if made.parameters["equation"]:
        trained = Parallel([trained], personal=middle(oscillations.RANGES))
    priors = {name: options.get(name, 0.0) for name in PRIORS}
    if not trained.own:
        priors["personal_prior"] = 0.0
    return replace(made, network=trained, **priors)


def bare(options: Options) -> Options:
    """Those of the method."""
    return {k: v for k, v in options.items() if k not in PRIORS}


def costs(problem: Problem, history: Sequence[Round], begin: float) -> Entry:
    """What a run took: bytes that a site sent, and seconds since ``begin``."""
    return {
        "up": history[-1].bytes_up // problem.clients,
        "parameters": problem.network.size,
        "own": len(problem.personal.mine) if problem.personal else 0,
        "seconds": short(time.process_time() - begin),
    }


def curve(errors: Sequence[float]) -> Entry:
    """Errors by round, thinned; the lowest of all, and its round."""
    kept = thinned(len(errors))
    best = min(range(len(errors)), key=lambda k: errors[k])
    return {
        "round": [k + 1 for k in kept],
        "error": [short(errors[k]) for k in kept],
        "best": short(errors[best]),
        "at": best + 1,
    }


def federated(
    seed: int, setting: Options, method: str, options: Options, rounds: int
) -> Entry:
    """A run of the library, with the error of the worst site at its end.

    Of several ``starts`` that of the lowest loss.
    """
    problem, begin = family(seed, setting, options), time.process_time()
    own = bare(options)
    starts = own.pop("starts", 1)
    several = [
        run(problem, methods.load(method, **own), rounds, seed + 1000 * k)
        for k in range(starts)
    ]
    result = min(several, key=lambda found: found.history[-1].loss)
    found = costs(problem, result.history, begin)
    found["up"] *= starts
    last = result.history[-1]
    if problem.personal and method == "fipa":
        found["new"] = short(welcomed(seed, setting, problem, result))
    return {
        "options": options,
        "seed": seed,
        **curve([line.relative_l2 for line in result.history]),
        "worst": short(max(sites(problem, result.theta, result.personal))),
        "loss": short(last.loss),
        **found,
    }


@torch.no_grad()
def sites(
    problem: Problem, theta: torch.Tensor, personal: Mapping[int, torch.Tensor]
) -> list[float]:
    """The error of each site."""
    points, owners, told = problem.test_points, problem.test_owners, problem.reference
    assert isinstance(points, torch.Tensor)
    assert owners is not None
    assert isinstance(told, torch.Tensor)
    found = []
    for m in range(problem.clients):
        network = problem.at(personal.get(m)) if problem.personal else problem.network
        mine = owners == m
        u, v = network(theta, points[mine])[:, 0], told.flatten()[mine]
        found.append(float((u - v).norm() / v.norm()))
    return found


def local(seed: int, setting: Options, options: Options, rounds: int) -> Entry:
    """Gauss-Newton of each site alone; a prior weighs as much against its rows."""
    whole, begin = family(seed, setting, options), time.process_time()
    several, method = [], methods.load("gauss_newton", **bare(options))
    for m in range(whole.clients):
        alone = replace(whole.alone(m), prior=whole.prior * whole.shard(m).share)
        history = run(alone, method, rounds, seed).history
        errors = [line.relative_l2 for line in history]
        several.append(errors + errors[-1:] * (rounds - len(errors)))
    return {
        "options": options,
        "seed": seed,
        **curve([mean(column) for column in zip(*several, strict=True)]),
        "worst": short(max(errors[-1] for errors in several)),
        "up": 0,
        "parameters": 0,
        "own": whole.network.size,
        "seconds": short(time.process_time() - begin),
    }


FEW = 6
"""Points of a new site."""


def newcomer(seed: int, setting: Options, options: Options) -> Problem:
    """The problem of one more site of a family, alone, with a few points."""
    more = family(seed, {**setting, "clients": SITES + 1}, options)
    alone = more.alone(SITES)
    data, *others = alone.terms
    (points,), target = data.points, data.target
    assert isinstance(target, torch.Tensor)
    few = replace(data, points=[points[:FEW]], target=target[:FEW])
    return replace(alone, terms=[few, *others])


def welcomed(seed: int, setting: Options, problem: Problem, result: Result) -> float:
    """The error at a new site that fits its own parameters alone."""
    alone, data = newcomer(seed, setting, {}), {}
    for term in alone.terms:
        (points,) = term.points
        target = alone.target_of(alone.terms.index(term))
        data[term.name] = points if target is None else (points, target)
    mine = personalise(problem, result, data, starts=8)
    told, points = alone.reference, alone.test_points
    assert isinstance(told, torch.Tensor)
    assert isinstance(points, torch.Tensor)
    off = mine.solution(points).value.flatten() - told.flatten()
    return float(off.norm() / told.norm())


def beginner(seed: int, setting: Options, options: Options, rounds: int) -> Entry:
    """Gauss-Newton of a new site alone."""
    alone, begin = newcomer(seed, setting, options), time.process_time()
    alone = replace(alone, prior=options.get("prior", 0.0) / (SITES + 1))
    history = run(
        alone, methods.load("gauss_newton", **bare(options)), rounds, seed
    ).history
    errors = [line.relative_l2 for line in history]
    return {
        "options": options,
        "seed": seed,
        **curve(errors),
        "seconds": short(time.process_time() - begin),
    }
