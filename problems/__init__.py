"""Problems, one module each: ``make(**parameters)`` returns a ``Problem``.

A module in this directory is a problem because it is there (see ``fedsciml.registry``);
its name is the problem's, the first line of its docstring what ``--help`` shows.
Modules whose names start with an underscore are machinery.
"""

from dataclasses import replace

from fedsciml.problem import Problem
from fedsciml.registry import Option, Registry

__all__ = [
    "PRIORS",
    "about",
    "load",
    "names",
    "options",
    "parse",
    "signature",
    "summary",
]

PRIOR = Option(
    float,
    0.0,
    "lambda of lambda / 2 times the sum of the squared parameters, added to the loss; "
    "0 for none.",
)
"""An option of every problem."""

PERSONAL_PRIOR = Option(
    float,
    0.0,
    "lambda of lambda / 2 times the squared distance of each client's own parameters "
    "from where they begin; 0 for none.",
)
"""Another one, for those whose clients have some."""

PRIORS = {"prior": PRIOR, "personal_prior": PERSONAL_PRIOR}
"""Options of every problem, beside those of its ``make``."""


class _Problems(Registry[Problem]):
    """Problems, each of which can have priors, whatever its ``make`` takes."""

    def options(self, name: str) -> dict[str, Option]:
        """Those of ``make``, and the priors."""
        return {**PRIORS, **super().options(name)}

    def load(self, name: str, **options: object) -> Problem:
        """The problem of that name, with its priors."""
        taken = super().options(name)
        given = {k: options.pop(k) for k in PRIORS if k in options and k not in taken}
        for key, value in given.items():
            PRIORS[key].check(value)
        made = super().load(name, **options)
        if not given:
            return made
        parameters = {**made.parameters, **given}
        return replace(made, parameters=parameters, **given)  # type: ignore[arg-type]


_PROBLEMS = _Problems("problem", __name__, result=Problem)

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
