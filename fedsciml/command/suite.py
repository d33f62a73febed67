"""Names of the problems that methods are compared on."""

SINES = ("sine2", "sine4", "sine8")
LINES = ("poisson1d", "allen_cahn", "bratu", "fisher_kpp", "reaction_diffusion")
SPACES = ("poisson2d", "poisson3d", "poisson5d")
SUITE = (*SINES, "gaussians2d", *LINES, *SPACES)
"""The problems of suite ``fipa``."""

FAMILIES = ("oscillations", "materials", "gauges", "grunfeld")
"""Those whose clients have parameters of their own."""
