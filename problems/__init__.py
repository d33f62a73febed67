"""Problems, one module each: ``make(**parameters)`` returns a ``Problem``.

A module in this directory is a problem because it is there (see ``fedsciml.registry``);
its name is the problem's, the first line of its docstring what ``--help`` shows.
Modules whose names start with an underscore are machinery.
"""

from fedsciml.problem import Problem
from fedsciml.registry import Registry

__all__ = ["about", "load", "names", "options", "parse", "signature", "summary"]

_PROBLEMS: Registry[Problem] = Registry("problem", __name__, result=Problem)

names = _PROBLEMS.names
"""Names of all problems, sorted."""

about = _PROBLEMS.about
"""A problem's description."""

summary = _PROBLEMS.summary
"""The first line of a problem's description."""

options = _PROBLEMS.options
"""The parameters that a problem's ``make`` takes."""

signature = _PROBLEMS.signature
"""All that a problem's ``make`` takes, also what is no word on a command line."""

load = _PROBLEMS.load
"""The problem of a name, made with ``parameters``: ``load("heat", clients=4)``."""

parse = _PROBLEMS.parse
"""The problem that a word stands for: ``parse("heat:clients=4")``."""
