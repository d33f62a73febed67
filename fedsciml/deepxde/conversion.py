"""A DeepXDE model as a problem that a federation can train."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import Partition, decimals, strips
from fedsciml.deepxde.checks import check_net, check_rows
from fedsciml.deepxde.conditions import Known
from fedsciml.deepxde.general import listening
from fedsciml.deepxde.package import deepxde, double_precision
from fedsciml.deepxde.samples import Data, everywhere
from fedsciml.deepxde.terms import equations, residual
from fedsciml.deepxde.weights import Net, Variables, named, network
from fedsciml.problem import Problem, Term
from fedsciml.problem.numbers import Untrained

Solution = Callable[[np.ndarray], np.ndarray]
"""Maps points [n, d] to values [n, c], as ``dde.data.PDE(solution=...)`` takes it."""


@contextmanager
def _one_precision() -> Iterator[None]:
    """Explain torch's error where a model mixes float64 and float32."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        # Problem says of a network's error which problem it is.
        cause = error if isinstance(error, RuntimeError) else error.__cause__
        words = set(re.findall("[a-z]+", str(cause).lower()))
        if not (isinstance(cause, RuntimeError) and {"double", "float"} <= words):
            raise
        raise ValueError(
            "The model computes with float32 tensors, but is trained in float64; call "
            "dde.config.set_default_float('float64') before building them, the net "
            f"and constant tensors that it or the pde reads. Torch says: {cause}"
        ) from error


@_one_precision()
def problem(
    data: Data,
    net: Net,
    loss_weights: Sequence[float] | None = None,
    *,
    external_trainable_variables: Variables = (),
    scales: Mapping[str, float] | None = None,
    clients: int = 2,
    partition: Partition | None = None,
    solution: Solution | None = None,
    test_points: Tensor | np.ndarray | None = None,
    name: str = "deepxde",
) -> Problem:
    """The problem of a DeepXDE model, its points divided among clients.

    Points are those of DeepXDE, float32 ones converted by ``collocation.decimals``;
    values of conditions are evaluated again in float64 (those of a ``PointSetBC`` are
    data, and converted as the points). Training starts from the present weights of the
    net. The loss is half of DeepXDE's with ``loss="MSE"``.

    Coordinates are x, y, z and t, or x1, x2, ...; outputs u, or u0, u1, ...

    Args:
        data: ``dde.data.PDE``, ``TimePDE``, ``Function`` or ``DataSet``.
        net: ``dde.nn.FNN``, ``PFNN``, or any torch module.
        loss_weights: As for ``dde.Model.compile``.
        external_trainable_variables: As for ``dde.Model.compile``, or a dictionary of
            them by name; the default names are c0, c1, ...
        scales: Of some of these, by name, the size of a change that matters; else that
            of its present value, and 1 where that is 0.
        clients: Number of strips along the first axis; they have equally many points,
            of which those with the same coordinate count once.
        partition: Another partition, see ``fedsciml.collocation``; replaces
            ``clients``.
        solution: Exact solution; that of the data by default.
        test_points: Where it is compared, shape [n, d]; those of the data by default.
        name: Name in records and messages.

    Returns:
        A problem with one client for each part.

    Raises:
        ValueError: If a part of the model is not supported, the message says which; a
            residual depends on the points of other rows, or on the net by another way
            than its values at its own points; a parameter of the net is read by
            nothing; or the model has constants of another precision than float64 where
            torch does not convert them.
        ModuleNotFoundError: If DeepXDE is not installed.
    """
    deepxde()
    variables = named(external_trainable_variables)
    with listening(net) as heard:
        terms = _terms(data, loss_weights, variables)
    if heard:
        raise ValueError(
            "A condition's values are computed by the net itself; they are evaluated "
            "once and would keep those of its present weights. Write the condition as "
            "an OperatorBC, whose function takes the values y of the net."
        )
    _check_values(terms, lambda: _terms(data, loss_weights, variables), variables)
    points = torch.cat([_points(term) for term in terms])
    solution = solution or getattr(data, "soln", None) or getattr(data, "func", None)
    reference = None
    if test_points is None and solution is None and len(data.test()) == 2:
        test_points, reference = (decimals(np.asarray(part)) for part in data.test())
    if test_points is None and solution is not None:
        test_points = np.asarray(data.test()[0])
    if isinstance(test_points, np.ndarray):
        test_points = decimals(test_points)
    outputs, unread = check_net(net, points, variables)
    partition = partition or _strips(points, clients)
    try:
        made = Problem(
            name,
            network(net, variables, scales),
            terms,
            partition,
            _coordinates(data, points.shape[1]),
            ("u",) if outputs == 1 else tuple(f"u{k}" for k in range(outputs)),
            exact=None if solution is None else _exact(solution),
            test_points=test_points,
            reference=reference,
            parameters={"clients": partition.clients},
        )
    except Untrained as error:
        raise ValueError(
            f"{error} In a DeepXDE script that is the dde.Variable itself, in the pde "
            "or in the function of an OperatorBC."
        ) from error
    check_rows(made, net)
    if unread:
        raise ValueError(
            f"Parameters of the net would not be trained: {', '.join(unread)}. The "
            "net's outputs do not depend on them; use them in the net or its "
            "transforms, or fix them by requires_grad_(False)."
        )
    return made


def _terms(
    data: Data, weights: Sequence[float] | None, variables: dict[str, Tensor]
) -> list[Term]:
    dde = deepxde()
    if dde.config.autodiff != "reverse":
        raise ValueError(
            "DeepXDE differentiates forward; call dde.config.set_default_autodiff"
            "('reverse') first."
        )
    if type(data) in (dde.data.PDE, dde.data.TimePDE):
        return equations(data, weights, variables)
    if type(data) in (dde.data.Function, dde.data.DataSet):
        if getattr(data, "online", False):
            raise ValueError(
                "The data draw new points in every step; build them with online=False."
            )
        x, y = data.train_next_batch()
        points = decimals(np.asarray(x))
        values = decimals(np.asarray(y))
        if type(data) is dde.data.Function:
            with double_precision():
                values = torch.as_tensor(data.func(points.numpy()))
        values = values.reshape(len(points), -1)
        columns = values.shape[1]
        known = Known(
            lambda u, row: u.values - row.target.view(-1, columns), values, False
        )
        rows = residual("data", known, weights, {})
        sample = everywhere(data) if type(data) is dde.data.Function else None
        return [Term("data", rows, points, values, sample=sample)]
    raise ValueError(
        f"Data of the kind {type(data).__name__} are not supported; there are PDE, "
        "TimePDE, Function and DataSet."
    )


@torch.no_grad()
def _check_values(
    terms: Sequence[Term], again: Callable[[], Sequence[Term]], variables: Variables
) -> None:
    """Raise ValueError if values that are computed once depend on a variable."""
    for name, variable in named(variables).items():
        value = variable.clone()
        variable.add_(value.abs().clamp(min=1e-3))
        try:
            moved = again()
        finally:
            variable.copy_(value)
        for term, other in zip(terms, moved, strict=True):
            before, after = term.target, other.target
            if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
                continue
            if not torch.equal(before, after):
                raise ValueError(
                    f"The values of {term.name} depend on the external trainable "
                    f"variable '{name}', but are computed once, with {value.item():g}: "
                    "it would not be trained. Write the condition as an OperatorBC, "
                    "whose function may read it: for example OperatorBC(geometry, "
                    "lambda x, y, _: dde.grad.jacobian(y, x) - C, on_boundary) for "
                    "dy/dx = C."
                )


def _points(term: Term) -> Tensor:
    assert isinstance(term.points, Tensor)
    return term.points


def _coordinates(data: Data, d: int) -> tuple[str, ...]:
    geometry = deepxde().geometry
    domain = getattr(data, "geom", None)
    timed = isinstance(domain, (geometry.TimeDomain, geometry.GeometryXTime))
    space = d - timed
    if space > 3:
        return (*(f"x{k + 1}" for k in range(space)), *"t"[:timed])
    return (*"xyz"[:space], *"t"[:timed])


def _strips(points: Tensor, clients: int) -> Partition:
    """Strips along the first axis with equally many different coordinates each."""
    if clients < 1:
        raise ValueError(f"A federation needs at least 1 client, got {clients}.")
    along = points[:, 0].unique()
    if clients >= len(along):
        raise ValueError(
            f"The points have {len(along)} different coordinates along the first axis, "
            f"which do not make {clients} strips; use other clients, or a partition."
        )
    inner = [along[len(along) * k // clients] for k in range(1, clients)]
    return strips(torch.stack([along[0], *inner, along[-1]]))


def _exact(solution: Solution) -> Callable[[Tensor], Tensor]:
    def exact(points: Tensor) -> Tensor:
        with double_precision():
            values = solution(points.detach().cpu().numpy())
        return torch.as_tensor(np.asarray(values), dtype=torch.float64, device="cpu")

    return exact
