"""Networks with kinks, where a residual reads derivatives that kinks do not have.

The second derivative of a relu network is zero wherever autograd looks, and infinite at
the kinks, where it never looks: a residual with u_xx does not see the network, and its
loss says nothing.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from fedsciml.network import MLP, Mapped, Network
from fedsciml.network.jet import Nested
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Rows
from fedsciml.problem.checks import joined
from fedsciml.problem.probes import probes
from fedsciml.residual.block import by_autograd
from fedsciml.residual.taylor import DRAWS, Read, dependence, field

KINKED = {
    **{name: name for name in ("relu", "hardsigmoid", "hardswish", "threshold")},
    **{
        name: name
        for name in ("softshrink", "hardshrink", "abs", "where", "elu", "celu")
    },
    **{name: name for name in ("clamp", "maximum", "minimum", "max", "min", "sign")},
    "clampmin": "clamp",
    "clampmax": "clamp",
    "hardtanh": "hardtanh or relu6",
    "leakyrelu": "leaky_relu",
    "prelukernel": "prelu",
    "rreluwithnoise": "rrelu",
}
"""Torch's functions that can have kinks, by the names of their backward nodes."""

STEPS, DEPTH = 256, 9
"""Intervals of a line on which a jump is looked for; times the one with the largest
change is divided by 8: until a width of 3e-11."""

JUMP = 1e-5
"""Change over that width, relative to the largest value, that is a jump. A smooth
function that changes so fast bends within 3e-6 of the line."""


def check_smooth(problem: Problem) -> None:
    """Refuse a network with kinks whose second or higher derivatives are read.

    Raises:
        ValueError: If there is one, by the name of its activation.
    """
    network = problem.network
    if _known_smooth(network):
        return
    for rows in probes(problem, Generator().manual_seed(0), DRAWS):
        for column, order in enumerate(orders(problem, rows)):
            if order < 2:
                continue
            kink = _kink(problem, network, column, order)
            if kink is not None:
                raise ValueError(
                    f"Term '{problem.terms[rows.term].name}' of problem "
                    f"'{problem.name}' reads a derivative of order {order} of "
                    f"{problem.outputs[column]}, but its network is made with {kink}, "
                    "whose slope jumps: autograd finds no such derivative, the loss "
                    "can be small and the answer wrong. Take a smooth activation, such "
                    "as tanh, sin, sigmoid or swish."
                )


def has_kinks(problem: Problem) -> bool:
    """Whether the network is made with functions that can have kinks."""
    if _known_smooth(problem.network):
        return False
    network, (lower, _) = problem.network, _corners(problem)
    theta = network.init(Generator().manual_seed(1), torch.float64)
    columns = range(len(problem.outputs))
    return any(_names(network, theta, lower[None], k) for k in columns)


def _known_smooth(network: Network) -> bool:
    """Whether that is plain without looking at its graph."""
    if isinstance(network, Mapped):
        return _known_smooth(network.network)
    if isinstance(network, Parallel):
        return all(map(_known_smooth, network.networks))
    return isinstance(network, MLP) and network.activation != "relu"


def orders(problem: Problem, rows: Rows) -> list[int]:
    """Highest order of a derivative of each output that the residual depends on.

    Empty where it cannot be told, as of a residual that is known at its points alone.
    """
    c = len(problem.outputs) + len(problem.unknowns)

    def evaluate(read: Read) -> Tensor:
        with torch.enable_grad():
            return by_autograd(problem, rows, lambda x: field(read, x))

    try:
        found = dependence(evaluate, rows.points, c)
    except Exception:
        return []
    return [
        max((len(ch[0]) for ch, which in found.items() if which[k]), default=0)
        for k in range(len(problem.outputs))
    ]


def _kink(problem: Problem, network: Network, column: int, order: int) -> str | None:
    """The functions that make the output's derivative of order - 1 jump, if it does."""
    generator = Generator().manual_seed(1)
    start = network.init(generator, torch.float64)
    lower, upper = _corners(problem)
    names = _names(network, start, lower[None], column)
    # Wide apart, as a network may have all its kinks outside of the domain.
    for spread in (0.5, 1.0, 2.0, 4.0):
        draw = torch.randn(
            len(start), generator=generator, dtype=torch.float64, device="cpu"
        )
        theta = start + spread * start.square().mean().sqrt() * draw

        def along(s: Tensor, theta: Tensor = theta) -> Tensor:
            return network(theta, lower + s[:, None] * (upper - lower))[:, column]

        if names and any(_jumps(along, k) for k in range(1, order)):
            return " and ".join(names)
        if not names and _piecewise(along):
            return "a piecewise linear activation"
    return None


def _corners(problem: Problem) -> tuple[Tensor, Tensor]:
    """Of the domain, or of a box that holds the points, or of the unit box."""
    if problem.domain is not None:
        lower, upper = (
            torch.as_tensor(c, dtype=torch.float64, device="cpu")
            for c in problem.domain
        )
        return lower, upper
    points = torch.cat([joined(term.points) for term in problem.terms])
    if len(points) == 0:
        points = torch.eye(2, len(problem.coordinates), dtype=torch.float64)
    return points.amin(0), points.amax(0)


def _names(network: Network, theta: Tensor, x: Tensor, column: int) -> list[str]:
    """Functions with kinks between theta and an output, from the autograd graph."""
    leaf = theta.clone().requires_grad_()
    with torch.enable_grad():
        todo = [network(leaf, x)[:, column].sum().grad_fn]
    seen, names = set(todo), set[str]()
    while todo:
        node = todo.pop()
        if node is None:
            continue
        name = node.name().partition("Backward")[0].lower()
        if name in KINKED:
            names.add(KINKED[name])
        new = {parent for parent, _ in node.next_functions} - seen
        seen |= new
        todo += new
    return sorted(names)


def _piecewise(function: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function of s in [0, 1] has several slopes and no bend."""
    s = torch.linspace(0, 1, 99, dtype=torch.float64, device="cpu")
    slopes, bends = (_derivative(function, s, k) for k in (1, 2))
    return not bends.any() and bool((slopes - slopes[0]).abs().max() > JUMP)


def _jumps(function: Callable[[Tensor], Tensor], order: int) -> bool:
    """Whether a derivative of a function of s in [0, 1] jumps."""
    s = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64, device="cpu")
    inner = torch.linspace(0, 1, 9, dtype=torch.float64, device="cpu")
    try:
        values = _derivative(function, s, order)
        largest = float(values.abs().max())
        for _ in range(DEPTH):
            k = int(values.diff().abs().argmax())
            s = torch.lerp(s[k], s[k + 1], inner)
            values = _derivative(function, s, order)
    except RuntimeError:  # torch knows no such derivative, and says so when it is used
        return False
    return float(values.diff().abs().max()) > JUMP * largest


def _derivative(function: Callable[[Tensor], Tensor], s: Tensor, order: int) -> Tensor:
    """The derivative of a function of numbers s [n], shape [n]."""
    x = s.unsqueeze(1).clone().requires_grad_()
    with torch.enable_grad():
        nested = Nested(function(x[:, 0]).unsqueeze(1), x)
        return nested(((0,) * order,))[:, 0].detach()
