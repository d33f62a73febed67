"""All experiments."""

from importlib import import_module

from experiments._experiment import Experiment

MODULES = (
    "suite",
    "spectra",
    "trajectory",
    "theorem",
    "ranks",
    "partitions",
    "clients",
    "cost",
    "solutions",
    "stall",
    "steps",
    "inverse",
    "compression",
    "backends",
    "observer",
    "stragglers",
    "outliers",
    "deepxde",
    "terrain",
    "tuning",
    "speed",
    "paths",
)
"""In the order of the list of figures."""


def experiments() -> dict[str, Experiment]:
    """By name."""
    found = [import_module(f"experiments.{name}").EXPERIMENTS for name in MODULES]
    return {e.name: e for several in found for e in several}
