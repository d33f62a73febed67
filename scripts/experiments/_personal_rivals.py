r"""Local training of all sites, families and settings at once, by Adam.

Runs of the library train site after site; here one step is that of all of them, ten
times as fast or more, so that rivals can be searched and trained for long. A record
entry says how far a run is from that of ``fedsciml.run``. A site minimises

    F_m = (L_m + lambda_f/2 |f - f_0|^2) / share + lambda/2 |theta|^2

by Adam, begun afresh in every round, and what is shared is averaged after it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.func import jvp, vmap

from experiments._personal import Options, curve, family, newcomer
from experiments._record import Entry, short
from fedsciml.analysis import variation
from fedsciml.network import Lora, Network, groups
from fedsciml.problem import Problem
from fedsciml.problems.oscillations import SLOW

BETAS = 0.9, 0.999
EPS = 1e-8
"""Of Adam."""


class Batch(NamedTuple):
    """Families alike but for their seed, F, with M sites each.

    Attributes:
        network: Of all parameters [p].
        shared: 1 for the entries that are averaged, else 0; shape [p].
        directions: 1 for what FedLoRA-Optimizer's second stage trains.
        start: Where each family starts, [F, p].
        times: Of each site, [F, M, n, 1], and what is measured, ``values`` [F, M, n].
        inside: Where the equation is asked for, [F, M, c, 1]; none without it.
        grid: Where errors are measured, [g, 1], and the solutions, ``exact`` [F, M, g].
    """

    network: Network
    shared: Tensor
    directions: Tensor
    start: Tensor
    times: Tensor
    values: Tensor
    inside: Tensor | None
    grid: Tensor
    exact: Tensor

    @classmethod
    def of(cls, families: Sequence[Problem], seeds: Sequence[int]) -> "Batch":
        """Of problems alike but for their seed, each from the start of its seed."""
        first, clients = families[0], families[0].clients
        view = first.personal
        network = first.network if view is None else view.joint
        starts, shared = [], torch.ones(first.network.size, dtype=torch.float64)
        if view is not None:
            shared = view.joined(shared, torch.zeros(len(view.mine)))
        directions = torch.zeros(len(shared), dtype=torch.float64)
        directions[groups(network).get("A", torch.arange(0))] = 1.0
        for problem, seed in zip(families, seeds, strict=True):
            theta = problem.network.init(Generator().manual_seed(seed), torch.float64)
            starts.append(theta if view is None else view.joined(theta, view.values))

        def stack(read: Callable[[Any], Tensor], term: int) -> Tensor:
            return torch.stack(
                [
                    torch.stack([read(shard.rows[term]) for shard in each.shards()])
                    for each in families
                ]
            )

        points, solutions = first.test_points, [each.reference for each in families]
        assert isinstance(points, Tensor)
        known = bool(first.parameters["equation"])
        return cls(
            network,
            shared,
            directions,
            torch.stack(starts),
            stack(lambda rows: rows.points, 0),
            stack(lambda rows: rows.target, 0),
            stack(lambda rows: rows.points, 1) if known else None,
            points[: len(points) // clients],
            torch.stack([u.view(clients, -1) for u in solutions]),
        )

    def squares(self, x: Tensor) -> Tensor:
        """2 L_m / share of all sites, shape [S, F, M], at x [S, F, M, p]."""

        def site(theta: Tensor, t: Tensor, y: Tensor, inside: Tensor | None) -> Tensor:
            def u(at: Tensor) -> Tensor:
                return self.network(theta, at)[:, 0]

            found = (u(t) - y).square().mean()
            if inside is None:
                return found
            pair = self.network.numbers(theta)
            gamma, omega = pair[0], pair[1]
            first = torch.zeros_like(inside[:1])

            def slope(at: Tensor) -> Tensor:
                return jvp(u, (at,), (torch.ones_like(at),))[1]

            v = u(inside)
            both = jvp(slope, (inside,), (torch.ones_like(inside),))
            v_t, v_tt = both[0], both[1]
            r = SLOW * (v_tt + 2 * gamma * v_t + (gamma**2 + omega**2) * v)
            begin = (u(first) - 1).square() + SLOW * (slope(first) + gamma).square()
            return found + r.square().mean() + begin.sum()

        every = (0, 0, 0, None if self.inside is None else 0)
        families = vmap(vmap(site, every), every)
        settings = vmap(families, (0, None, None, None))
        return settings(x, self.times, self.values, self.inside)

    @torch.no_grad()
    def errors(self, x: Tensor) -> Tensor:
        """|u - v| / |v| of each site, [S, F, M], at x [S, F, M, p]."""
        over = vmap(vmap(vmap(self.network, (0, None)), (0, None)), (0, None))
        off = over(x, self.grid)[..., 0] - self.exact
        return off.norm(dim=-1) / self.exact.norm(dim=-1)


Moves = list[tuple[Tensor, str]]
"""What is trained one after the other in a round, and the option of its rate."""


def stages(
    batch: Batch, method: str, options: Options, rounds: int
) -> Iterator[tuple[int, Moves, bool]]:
    """Rounds, what is trained in each, and whether it is averaged.

    Methods are fedavg; ``alternate``, f before theta; ``alone``, each site for itself;
    ``tuned``, that after some rounds of fedavg; and fedlora.
    """
    every, rate = torch.ones_like(batch.shared), "learning_rate"
    own = 1 - batch.shared
    first = int(options.get("averaged", 0))
    match method:
        case "fedavg":
            yield rounds, [(every, rate)], True
        case "alternate":
            yield rounds, [(own, rate), (batch.shared, rate)], True
        case "alone":
            yield rounds, [(every, rate)], False
        case "tuned":
            yield first, [(every, rate)], True
            yield rounds - first, [(every, "own_rate")], False
        case "fedlora":
            second = int(options["directions"])
            yield first, [(batch.shared, rate)], True
            yield second, [(batch.directions, "global_rate")], True
            yield rounds - first - second, [(own, "own_rate")], False
        case _:
            raise ValueError(f"There is no rival '{method}'.")


def column(grid: Sequence[Options], name: str, usual: float = 0.0) -> Tensor:
    """An option of all settings, [S, 1, 1, 1]."""
    found = torch.tensor([o.get(name, usual) for o in grid], dtype=torch.float64)
    return found[:, None, None, None]


class Found(NamedTuple):
    """What rivals came to.

    Attributes:
        errors: After each round, of each site, [K, S, F, M].
        theta: At the end, [S, F, M, p].
    """

    errors: Tensor
    theta: Tensor


def train(
    batch: Batch,
    method: str,
    grid: Sequence[Options],
    rounds: int,
    begin: Tensor | None = None,
) -> Found:
    """All settings of a grid on all families.

    Args:
        batch: The families.
        method: As of ``stages``.
        grid: Options, alike but for rates and priors.
        rounds: With ``tau`` steps of each site.
        begin: Where all sites start, [S, F, M, p], if not at the families' start.
    """
    sites = batch.times.shape[1]
    start = batch.start[None, :, None].expand(len(grid), -1, sites, -1)
    x = (start if begin is None else begin).clone()
    prior = column(grid, "prior") * batch.shared
    rows = sites * column(grid, "personal_prior") * (1 - batch.shared)
    own, found = start.clone(), []
    for length, moves, averaged in stages(batch, method, grid[0], rounds):
        for _ in range(length):
            for moving, name in moves:
                rate = column(grid, name) * moving
                m = torch.zeros_like(x)
                v = torch.zeros_like(x)
                for step in range(1, int(grid[0]["tau"]) + 1):
                    at = x.detach().requires_grad_()
                    (g,) = torch.autograd.grad(batch.squares(at).sum() / 2, at)
                    g = (g + prior * x + rows * (x - own)) * moving
                    m = BETAS[0] * m + (1 - BETAS[0]) * g
                    v = BETAS[1] * v + (1 - BETAS[1]) * g * g
                    size = v.sqrt() / (1 - BETAS[1] ** step) ** 0.5 + EPS
                    x = x - rate / (1 - BETAS[0] ** step) * m / size
            if averaged:
                middle = x.mean(2, keepdim=True)
                x = torch.where(batch.shared > 0, middle, x)
            found.append(batch.errors(x))
    return Found(torch.stack(found), x)


def entries(
    seeds: Sequence[int],
    setting: Options,
    method: str,
    grid: Sequence[Options],
    rounds: int,
) -> list[Entry]:
    """An entry for each setting and family, with the error by round."""
    begin = time.process_time()
    batch = Batch.of([family(seed, setting, {}) for seed in seeds], seeds)
    errors = train(batch, method, grid, rounds).errors.nan_to_num(1e9)
    seconds = (time.process_time() - begin) / (len(grid) * len(seeds))
    return [
        {
            "options": options,
            "seed": seed,
            **curve(errors[:, s, f].mean(-1).tolist()),
            **ends(errors[:, s, f].mean(-1), batch, method, options),
            "up": 8 * sent(batch, method, options, rounds),
            "parameters": int(batch.shared.sum()),
            "own": int((1 - batch.shared).sum()),
            "seconds": short(seconds),
        }
        for s, options in enumerate(grid)
        for f, seed in enumerate(seeds)
    ]


def sent(batch: Batch, method: str, options: Options, rounds: int) -> int:
    """Numbers that a site sends in all rounds: the parameters that are averaged."""
    total = 0
    for length, moves, averaged in stages(batch, method, options, rounds):
        every = torch.stack([moving for moving, _ in moves]).amax(0) * batch.shared
        total += averaged * length * int(every.sum())
    return total


def ends(errors: Tensor, batch: Batch, method: str, options: Options) -> Entry:
    """The error at the end of each stage, where there are several."""
    last, found = 0, []
    for length, _, _ in stages(batch, method, options, len(errors)):
        last += length
        found.append(short(float(errors[last - 1])))
    return {"stages": found} if len(found) > 1 else {}


def beginners(
    seeds: Sequence[int],
    setting: Options,
    method: str,
    grid: Sequence[Options],
    rounds: int,
) -> list[Entry]:
    """New sites: alone, or tuned from what FedAvg made of the others."""
    begin = time.process_time()
    sites = [newcomer(seed, setting, {}) for seed in seeds]
    batch, start = Batch.of(sites, seeds), None
    first = int(grid[0].get("averaged", 0))
    if method == "tuned":
        others = Batch.of([family(seed, setting, {}) for seed in seeds], seeds)
        start = train(others, "fedavg", grid[:1], first).theta[:, :, :1]
        start = start.expand(len(grid), -1, -1, -1)
        grid = [{**options, "learning_rate": options["own_rate"]} for options in grid]
    errors = train(batch, "alone", grid, rounds - first, start).errors.nan_to_num(1e9)
    seconds = (time.process_time() - begin) / (len(grid) * len(seeds))
    return [
        {
            "options": options,
            "seed": seed,
            **curve(errors[:, s, f, 0].tolist()),
            "seconds": short(seconds),
        }
        for s, options in enumerate(grid)
        for f, seed in enumerate(seeds)
    ]


def varied(
    seeds: Sequence[int], setting: Options, options: Options, rounds: int
) -> list[Entry]:
    """How far factors of LoRA go in a round of local training after some of FedAvg."""
    batch = Batch.of([family(seed, setting, {}) for seed in seeds], seeds)
    model = train(batch, "fedavg", [options], rounds).theta
    moved = train(batch, "alone", [options], 1, model).theta
    found = []
    for f, seed in enumerate(seeds):
        assert isinstance(batch.network, Lora)
        told = variation(batch.network, moved[0, f], model[0, f, 0])
        found.append({"options": options, "seed": seed, **told._asdict()})
    return found
