"""Networks of DeepXDE as networks of the library, and trained weights put back."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module, ModuleList

from fedsciml.deepxde.general import General
from fedsciml.deepxde.package import deepxde
from fedsciml.federation.result import Result
from fedsciml.network import MLP, Network
from fedsciml.network.activation import ACTIVATIONS
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem

Model = Any
"""A ``deepxde.Model``: DeepXDE is not typed."""

Net = Any
"""A ``deepxde.nn.NN``, or any ``torch.nn.Module``."""

Variables = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""External trainable variables, as ``dde.Model.compile`` takes them, or by name."""


def network(
    net: Net, variables: Mapping[str, Tensor], scales: Mapping[str, float] | None = None
) -> Network:
    """A network of DeepXDE with its transforms, starting from its present weights.

    A ``FNN``, or a ``PFNN`` without shared layers, of one activation that the library
    knows and with no further parameters carries jets; any other module is
    differentiated by torch.autograd. Parameters without ``requires_grad`` stay fixed.

    Args:
        net: A network of DeepXDE, or any module from points to values.
        variables: External trainable variables by name.
        scales: Of some of them, see ``Parallel``.

    Raises:
        ValueError: If the net has a regularizer or dropout, or as ``Parallel``.
    """
    _check(net)
    scales = scales or {}
    unknowns = {name: variable.item() for name, variable in variables.items()}
    activation, chains = _activation(net), _chains(net)
    if not chains or activation is None:
        general = General(net)
        if not (unknowns or scales):
            return general
        return Parallel([general], unknowns, scales=scales)
    mlps = [
        MLP(
            (chain[0].in_features, *(layer.out_features for layer in chain)),
            activation,
            features=net._input_transform,
            start=torch.cat([p.detach().cpu().double().flatten() for p in _of(chain)]),
        )
        for chain in chains
    ]
    alone = len(mlps) == 1 and not (unknowns or scales)
    if alone and net._output_transform is None:
        return mlps[0]
    return Parallel(mlps, unknowns, net._output_transform, scales)


def restore(
    model: Model | Net,
    trained: Result | Tensor,
    external_trainable_variables: Variables = (),
    *,
    problem: Problem | None = None,
) -> None:
    """Put trained weights into a DeepXDE network, and unknowns into their variables.

    Args:
        model: The ``net`` that the problem was made of, or the ``dde.Model`` with it.
        trained: A finished run, or its theta [p].
        external_trainable_variables: As given to ``problem``; a dictionary may have
            another order, its names are those of the run. A compiled model knows its
            own, but not their names.
        problem: What theta is of: where there are variables and no run, as a bare theta
            has neither their names nor their scales.

    Raises:
        ValueError: If theta does not fit, or it cannot be told which number is which
            variable's.
    """
    theta = trained if isinstance(trained, Tensor) else trained.theta
    problem = problem if isinstance(trained, Tensor) else trained.problem
    net = model if isinstance(model, Module) else model.net
    given = external_trainable_variables
    if not named(given) and not isinstance(model, Module):
        given = model.external_trainable_variables
    variables = list(named(given).values())
    targets = [*parameters(net), *variables]
    sizes = [target.numel() for target in targets]
    if sum(sizes) != len(theta):
        raise ValueError(
            f"theta has {len(theta)} numbers, but the net and its {len(variables)} "
            f"external trainable variables take {sum(sizes)}. Give the net and the "
            "variables that the problem was made of."
        )
    values = list(theta.split(sizes))
    if variables:
        targets[len(targets) - len(variables) :] = _ordered(problem, given)
        assert problem is not None
        values[len(values) - len(variables) :] = problem.network.numbers(theta).unbind()
    with torch.no_grad():
        for target, value in zip(targets, values, strict=True):
            target.copy_(value.view_as(target))


def parameters(net: Net) -> list[Tensor]:
    """The parameters of a net in the order of theta."""
    chains = _chains(net)
    if chains and _activation(net) is not None:
        return [parameter for chain in chains for parameter in _of(chain)]
    return [p for p in net.parameters() if p.requires_grad]


def named(variables: Variables) -> dict[str, Tensor]:
    """External trainable variables by name; ``c0``, ``c1``, ... where they have none.

    Raises:
        ValueError: If a variable is not a single number.
    """
    if isinstance(variables, Tensor):
        variables = [variables]
    if not isinstance(variables, Mapping):
        variables = {f"c{k}": variable for k, variable in enumerate(variables)}
    for name, variable in variables.items():
        if variable.numel() != 1:
            raise ValueError(
                f"External trainable variable '{name}' has shape "
                f"{list(variable.shape)}; give single numbers, one dde.Variable each."
            )
    return dict(variables)


def _ordered(problem: Problem | None, variables: Variables) -> list[Tensor]:
    """Variables in the order of theta."""
    by_name = named(variables)
    mapped = isinstance(variables, Mapping)
    if problem is None:
        raise ValueError(
            f"A bare theta tells neither the names nor the units of its last "
            f"{len(by_name)} numbers, for {', '.join(by_name)}; give the result of the "
            "run, or problem=...: what theta was trained for."
        )
    names = list(problem.unknowns)
    if mapped and set(names) == set(by_name):
        return [by_name[name] for name in names]
    if not mapped and (names == list(by_name) or len(names) == len(by_name) == 1):
        return list(by_name.values())
    raise ValueError(
        f"The unknowns of the run are {', '.join(names)}, but the variables are "
        f"{', '.join(by_name)}; give external_trainable_variables as a dictionary by "
        "the names that the problem was made with."
    )


def _check(net: Net) -> None:
    if getattr(net, "regularizer", None) is not None:
        raise ValueError(
            f"The net has the regularizer {net.regularizer}, which is no residual at a "
            "point; build it without."
        )
    if any("Dropout" in type(part).__name__ for part in net.modules()):
        raise ValueError(
            "The net has dropout, which makes residuals random; build it without."
        )


def _chains(net: Net) -> list[list[Linear]]:
    """The layers of each independent part of a FNN or PFNN; none for other nets.

    None either where more or less than weights and biases of the layers is trained, or
    where a layer, or what the net does with them, has been changed.
    """
    nn = deepxde().nn
    if type(net) is nn.FNN:
        chains = [list(net.linears)]
    elif type(net) is nn.PFNN and all(isinstance(k, ModuleList) for k in net.layers):
        chains = [list(chain) for chain in zip(*net.layers, strict=True)]
    else:
        return []
    layers = [layer for chain in chains for layer in chain]
    if any(len(chain) < 2 for chain in chains) or not all(map(_plain, layers)):
        return []
    trained = {id(p) for p in net.parameters() if p.requires_grad}
    read = {id(p) for chain in chains for p in _of(chain)}
    return chains if trained == read and _unchanged(net) else []


def _plain(layer: Module) -> bool:
    """Whether a layer is an affine map, and nothing else."""
    return type(layer) is Linear and layer.bias is not None and _unchanged(layer)


def _unchanged(module: Module) -> bool:
    """Whether the module computes what its class says: no hooks, no other forward."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return not hooks and "forward" not in vars(module)


def _of(chain: Sequence[Linear]) -> list[Tensor]:
    return [p for layer in chain for p in (layer.weight, layer.bias)]


def _activation(net: Net) -> str | None:
    """The name of the one activation of all hidden layers, if the library knows it."""
    if not hasattr(net, "activation"):
        return None
    functions = net.activation
    functions = functions[:-1] if isinstance(functions, list) else [functions]
    if any(isinstance(f, Module) and list(f.parameters()) for f in functions):
        return None
    z = torch.linspace(-8, 8, 33, dtype=torch.float64, device="cpu")
    for name, known in ACTIVATIONS.items():
        if all(torch.allclose(f(z), known(z, 0)[0], 1e-14, 1e-15) for f in functions):
            return name
    return None
