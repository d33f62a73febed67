"""Networks as functions of one flat parameter vector theta, shape [p]."""

from fedsciml.network.activation import (
    ACTIVATIONS,
    Activation,
    relu,
    sigmoid,
    sin,
    swish,
    tanh,
)
from fedsciml.network.jet import (
    VALUE,
    Channel,
    Index,
    Jet,
    Layout,
    Mixing,
    Nested,
    Product,
    channel,
    derivatives,
    layout,
)
from fedsciml.network.mlp import (
    MLP,
    Constraint,
    ModuleNetwork,
    Network,
    PointFunction,
    Step,
    Tape,
)
from fedsciml.network.parallel import (
    Parallel,
    ParallelConstraint,
    ParallelTape,
)

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "VALUE",
    "Activation",
    "Channel",
    "Constraint",
    "Index",
    "Jet",
    "Layout",
    "Mixing",
    "ModuleNetwork",
    "Nested",
    "Network",
    "Parallel",
    "ParallelConstraint",
    "ParallelTape",
    "PointFunction",
    "Product",
    "Step",
    "Tape",
    "channel",
    "derivatives",
    "layout",
    "relu",
    "sigmoid",
    "sin",
    "swish",
    "tanh",
]
