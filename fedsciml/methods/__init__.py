"""Methods by name. One module each, which is its own registry entry.

A module of this package whose name has no leading underscore is a method of that name
(see ``fedsciml.registry``). Its ``make`` returns the ``Method`` and takes plain values
only: numbers, words and switches, each with a default. The first line of the module's
docstring says what the method is.
"""

from fedsciml.methods._base import (
    EARLY,
    LOSS,
    SHARE,
    Addressed,
    Answers,
    Budget,
    ClientPart,
    Evaluation,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Opening,
    Parts,
    S,
    Said,
    State,
    addressed,
    conclude,
    reaches,
)
from fedsciml.methods._laws import Inconsistent
from fedsciml.methods._local import Local, Solver, Trained, minimise, train
from fedsciml.methods._records import (
    Leaf,
    Record,
    flatten,
    kind,
    mapped,
    payload,
    placed,
    rebuild,
    unique,
)
from fedsciml.methods._sketching import generator
from fedsciml.registry import Registry

__all__ = [
    "EARLY",
    "LOSS",
    "SHARE",
    "Addressed",
    "Answers",
    "Budget",
    "ClientPart",
    "Evaluation",
    "Exchanges",
    "Expected",
    "Field",
    "Inconsistent",
    "Info",
    "Leaf",
    "Local",
    "Method",
    "Opening",
    "Parts",
    "Record",
    "S",
    "Said",
    "Solver",
    "State",
    "Trained",
    "about",
    "addressed",
    "conclude",
    "flatten",
    "generator",
    "kind",
    "load",
    "mapped",
    "minimise",
    "names",
    "options",
    "payload",
    "placed",
    "reaches",
    "rebuild",
    "summary",
    "train",
    "unique",
]


_METHODS: Registry[Method] = Registry("method", __name__)

names = _METHODS.names
"""Names of all methods, sorted."""

about = _METHODS.about
"""A method's description."""

summary = _METHODS.summary
"""What the method of a name is, in one line."""

options = _METHODS.options
"""The options of the method of a name, in the order of its ``make``."""

load = _METHODS.load
"""The method of a name, made with ``options``: ``load("fedavg", tau=20)``."""
