"""What the residual and Jacobian of a DeepXDE model cost, by every path to them.

Burgers' equation as a DeepXDE script has it, 900 rows, a 2-32-32-1 network (p = 1185):

* the residual written on jets, and the script's own pde on jets;
* the script's pde and network by the general path, which knows neither;
* vmap(jacrev) of the residual at a point in torch.func;
* a vector-Jacobian product for each row of one graph of nested autograd, many at once
  (what jacrev does with that graph) or one after the other.

All are checked to give the same numbers. Seconds are the processor's, with one thread,
the least of several repeats, taken in turn. Two minutes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Generator, Tensor
from torch.func import jacrev, vmap

from experiments._experiment import Experiment
from experiments._record import Entry
from experiments._table import Table, time_of
from fedsciml.deepxde import deepxde, problem
from fedsciml.network import MLP, ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row
from fedsciml.residual import AutogradBlock, AutogradLinear, System

ROWS = 900
NU = 0.01

Way = Callable[[Tensor], Tensor]
"""Maps theta [p] to the Jacobian of the first rows, [n, p] or fewer."""


def burgers() -> tuple[Problem, torch.nn.Module]:
    """u_t + u u_x = nu u_xx without conditions, as a DeepXDE script has it."""
    dde = deepxde()

    def pde(x: Tensor, y: Tensor) -> Tensor:
        y_x = dde.grad.jacobian(y, x, i=0, j=0)
        y_t = dde.grad.jacobian(y, x, i=0, j=1)
        return y_t + y * y_x - NU * dde.grad.hessian(y, x, i=0, j=0)

    domain = dde.geometry.GeometryXTime(
        dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1)
    )
    data = dde.data.TimePDE(domain, pde, [], num_domain=ROWS)
    net = dde.nn.FNN([2, 32, 32, 1], "tanh", "Glorot normal")
    # This weight of the term makes that of a row 1.
    return problem(data, net, [ROWS], clients=1), net


def on_jets(u: Jet, row: Row) -> Tensor:
    """The same, written on jets."""
    del row
    return u.t + u.value * u.x - NU * u.xx


def pointwise(network: MLP, x: Tensor) -> Way:
    """vmap(jacrev) of the residual at a point."""

    def residual(theta: Tensor, point: Tensor) -> Tensor:
        def u(y: Tensor) -> Tensor:
            return network(theta, y.unsqueeze(0))[0, 0]

        u_x, u_t = jacrev(u)(point)
        u_xx = jacrev(lambda y: jacrev(u)(y)[0])(point)[0]
        return u_t + u(point) * u_x - NU * u_xx

    return lambda theta: vmap(jacrev(residual), in_dims=(None, 0))(theta, x)


def batched(linear: AutogradLinear, rows: int) -> Tensor:
    """The first rows of the Jacobian by vector-Jacobian products, many at once."""
    out = linear.theta.new_empty(rows, linear.theta.numel())
    linear.products(out)
    return out


def one_by_one(linear: AutogradLinear, rows: int) -> Tensor:
    """The same, one product after the other."""
    units = torch.eye(rows, len(linear.graph), dtype=linear.graph.dtype)
    return torch.stack([linear.vjp(unit) for unit in units])


def ways(rows: int) -> tuple[dict[str, Way], dict[str, int], Tensor]:
    """The paths by name, those that give ``rows`` rows alone, and a theta."""
    script, net = burgers()
    network = script.network
    assert isinstance(network, MLP)
    (term,) = script.terms
    native = replace(script, terms=[replace(term, residual=on_jets, autograd=False)])
    general = replace(script, network=ModuleNetwork(net))
    (held,) = script.pooled().rows
    block = AutogradBlock(script, held)

    def system(made: Problem) -> Way:
        bound = System(made, made.pooled())
        return lambda theta: bound.linearise(theta).jacobian()

    found = {
        "residual written on jets": system(native),
        "DeepXDE's pde on jets": system(script),
        "DeepXDE's pde and net, general path": system(general),
        "vmap(jacrev) of a point": pointwise(network, held.points),
        "nested autograd, batched products": lambda theta: batched(
            block.linearise(theta), rows
        ),
        "nested autograd, row by row": lambda theta: one_by_one(
            block.linearise(theta), rows
        ),
    }
    few = {name: rows for name in found if name.startswith("nested")}
    return found, few, network.init(Generator(), torch.float64)


def lines(repeats: int, rows: int) -> list[Entry]:
    """A line for each path, slow ones by so many rows.

    Raises:
        RuntimeError: If two of them disagree.
    """
    found, few, theta = ways(rows)
    first = next(iter(found))
    expected = found[first](theta)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    differences: dict[str, float] = {}
    for repeat in range(repeats):
        for name, way in found.items():
            if name in few and repeat >= 2:
                continue
            begin = time.process_time()
            jacobian = way(theta)
            taken = time.process_time() - begin
            seconds[name].append(ROWS / len(jacobian) * taken)
            wanted = expected[: len(jacobian)]
            off = float((jacobian - wanted).norm() / wanted.norm())
            differences[name] = off
            if not off < 1e-12:
                raise RuntimeError(f"'{name}' differs from '{first}' by {off:.1e}.")
    best = min(seconds[first])
    return [
        {
            "way": name,
            "seconds": min(times),
            "median": median(times),
            "ratio": min(times) / best,
            "difference": differences[name],
            "rows_timed": few.get(name, ROWS),
        }
        for name, times in seconds.items()
    ]


def measure() -> Entry:
    """All paths."""
    return {"paths": lines(20, 192)}


def table(entries: Sequence[Entry]) -> Table:
    """A row for each path."""
    rows = [
        [e["way"], time_of(e["seconds"]), f"{e['ratio']:.3g}", f"{e['difference']:.0e}"]
        for e in entries[-1]["paths"]
    ]
    heads = ["path", "time", "times the first", "difference"]
    return Table("paths", "Jacobian of Burgers' equation, 900 rows:", heads, rows)


EXPERIMENTS = (
    Experiment(
        "paths",
        __doc__,
        (),
        [()],
        measure,
        lambda entries: [table(entries)],
        page="README.md",
    ),
)
