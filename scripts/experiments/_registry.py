"""All experiments: modules of this package without a leading underscore."""

from importlib import import_module
from pkgutil import iter_modules

import experiments as package
from experiments._experiment import Experiment

ORDER = (
    *("suite", "spectra", "trajectory", "theorem", "ranks", "partitions", "clients"),
    *("cost", "solutions", "stall", "steps", "inverse", "compression", "backends"),
)
"""Of the list of figures; other modules follow."""


def experiments() -> dict[str, Experiment]:
    """By name."""
    names = {module.name for module in iter_modules(package.__path__)}
    names = {name for name in names if not name.startswith("_")}
    found: dict[str, Experiment] = {}
    for name in [*ORDER, *sorted(names - {*ORDER})]:
        module = import_module(f"experiments.{name}")
        several = getattr(module, "EXPERIMENTS", ()) or (module.EXPERIMENT,)
        found |= {experiment.name: experiment for experiment in several}
    return found
