"""What a DeepXDE model must not do: read what is not trained, or other points."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from fedsciml.deepxde.general import leaves, listening
from fedsciml.deepxde.weights import Net
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Residual, Row, Term
from fedsciml.residual import AutogradBlock

_APPEND = (
    "For a part k of the net at the same points: net.apply_output_transform(lambda x, "
    "y: torch.cat([y, net.k(x)], 1)), and the pde reads the last columns of y."
)


def check_net(
    net: Net, points: Tensor, variables: Mapping[str, Tensor]
) -> tuple[int, list[str]]:
    """Number of outputs of the net, and the trained parameters that they do not read.

    Raises:
        ValueError: If the net or its transforms read what is trained elsewhere or not.
    """
    parameter = next(net.parameters(), None)
    fixed = not any(p.requires_grad for p in net.parameters())
    if parameter is None or (fixed and not variables):
        raise ValueError(
            "There is nothing to train: no parameter of the net has requires_grad, and "
            "no external_trainable_variables are given."
        )
    with torch.enable_grad():
        values = net(points[:2].to(parameter))
    read = leaves(values)
    if any(id(variable) in read for variable in variables.values()):
        raise ValueError(
            "The net's transforms read an external trainable variable; move it into "
            "the pde or a condition, or make it a parameter of the net, net.NAME = "
            "torch.nn.Parameter(...), instead of an external trainable variable."
        )
    trained = {id(p): name for name, p in net.named_parameters() if p.requires_grad}
    strange = [leaf for key, leaf in read.items() if key not in trained]
    if strange:
        raise ValueError(
            "The net or its transforms read a trainable tensor, now "
            f"{_shown(strange)}, that is not among net.parameters() and would not be "
            "trained; register it, net.NAME = torch.nn.Parameter(...), or call its "
            "requires_grad_(False)."
        )
    return int(values.shape[1]), [n for key, n in trained.items() if key not in read]


def _shown(tensors: Sequence[Tensor]) -> str:
    """The first tensor's number, or its shape if it has several."""
    first = tensors[0]
    return (
        str(first.tolist()) if first.numel() == 1 else f"of shape {list(first.shape)}"
    )


@torch.enable_grad()
def check_rows(made: Problem, net: Net) -> None:
    """Raise ValueError if a residual depends on what it must not, or would not train.

    That is on other rows, on undeclared variables, or on the net by another way than
    its values and derivatives.
    """
    theta = made.network.init(Generator().manual_seed(0), torch.float64)
    trained = {id(p): name for name, p in net.named_parameters()}
    terms = [replace(term, residual=_alone(term, net)) for term in made.terms]
    heard = replace(made, terms=terms)
    for rows in made.pooled().rows:
        name = made.terms[rows.term].name
        whole = AutogradBlock(heard, rows).evaluate(theta)
        for half in (slice(None, None, 2), slice(1, None, 2)):
            if not len(rows.points[half]):
                continue
            some = AutogradBlock(made, rows.part(half)).evaluate(theta)
            if not torch.allclose(whole[:, half], some, 1e-6, 1e-9, equal_nan=True):
                raise ValueError(
                    f"The residual of {name} at a point changes with the other points, "
                    "which other clients may hold; write it point by point."
                )
            # What stands in for declared variables is new in each evaluation.
            known = leaves(whole)
            strange = [leaf for key, leaf in leaves(some).items() if key in known]
            for leaf in strange:
                if id(leaf) in trained:
                    raise ValueError(
                        f"The residual of {name} reads the net's parameter "
                        f"'{trained[id(leaf)]}' itself, and would read its present "
                        "value for ever. If it is a number, make it a dde.Variable "
                        "outside of the net and give it to problem(..., "
                        "external_trainable_variables=[...]); else append what depends "
                        f"on it to the outputs. {_APPEND}"
                    )
            if strange:
                raise ValueError(
                    f"The residual of {name} reads a trainable variable, now "
                    f"{_shown(strange)}, that would not be trained; give it to "
                    "problem(..., external_trainable_variables=[...])."
                )


def _alone(term: Term, net: Net) -> Residual:
    """The residual of a term, which raises ValueError if it calls the net itself."""

    def residual(u: Jet, row: Row) -> Tensor | Sequence[Tensor]:
        with listening(net) as heard:
            found = term.residual(u, row)
        if "" in heard:
            raise ValueError(
                f"The residual of {term.name} evaluates the net itself, at points of "
                "its own, as delay and integral terms do. It may read the values y and "
                "their derivatives at its own points x alone: the net that it calls "
                "would keep its present weights. For an integral, let the net have a "
                "further output v with dv/dx = the integrand as one more equation. For "
                "a delay, write the problem with fedsciml.Problem and Term(..., "
                "partner=points - delay), whose residual reads u.partner."
            )
        if heard:
            raise ValueError(
                f"The residual of {term.name} calls the part '{heard[0]}' of the net "
                f"itself, which would keep its present weights. {_APPEND}"
            )
        return found

    return residual
