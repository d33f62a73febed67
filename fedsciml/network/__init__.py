"""Networks as functions of one flat parameter vector theta, shape [p]."""

from fedsciml.network.activation import ACTIVATIONS
from fedsciml.network.base import Network, PointFunction
from fedsciml.network.convolution import ConvNet, fednet, lenet
from fedsciml.network.features import beside, even, periodic, scaled
from fedsciml.network.frequency import FREQUENCIES
from fedsciml.network.grouped import groups
from fedsciml.network.jet import Jet, Nested
from fedsciml.network.layers import Convolution, Dense, GroupNorm, Pool
from fedsciml.network.low_rank import Lora, lora
from fedsciml.network.mapped import Mapped
from fedsciml.network.mlp import MLP
from fedsciml.network.module import ModuleNetwork
from fedsciml.network.parallel import Parallel
from fedsciml.network.partial import Partial, Trained
from fedsciml.network.personal import AtSite, Joint, Personal
from fedsciml.network.solution import Solution
from fedsciml.network.starts import automatic, framed, settled, starts
from fedsciml.network.tape import Tape
from fedsciml.network.units import Sums, standard, sums

__all__ = [
    "ACTIVATIONS",
    "FREQUENCIES",
    "MLP",
    "AtSite",
    "ConvNet",
    "Convolution",
    "Dense",
    "GroupNorm",
    "Jet",
    "Joint",
    "Lora",
    "Mapped",
    "ModuleNetwork",
    "Nested",
    "Network",
    "Parallel",
    "Partial",
    "Personal",
    "PointFunction",
    "Pool",
    "Solution",
    "Sums",
    "Tape",
    "Trained",
    "automatic",
    "beside",
    "even",
    "fednet",
    "framed",
    "groups",
    "lenet",
    "lora",
    "periodic",
    "scaled",
    "settled",
    "standard",
    "starts",
    "sums",
]
