"""Names in words, as figures and tables for people have them."""

TITLES = {
    "allen_cahn": "Allen-Cahn",
    "allen_cahn_time": "Allen-Cahn in time",
    "ammonium": "Ammonium in rain",
    "bratu": "Bratu",
    "burgers": "Burgers",
    "burgers_inverse": "Burgers, viscosity unknown",
    "characters": "Characters",
    "digits": "Handwritten digits",
    "euler_beam": "Euler beam",
    "fisher_kpp": "Fisher-KPP",
    "gauges": "Gauges",
    "gaussians2d": "Six Gaussians, 2-D",
    "gramacy_lee": "Gramacy and Lee's function",
    "grunfeld": "Grunfeld's investments",
    "heat": "Heat",
    "heat_inverse": "Heat, diffusivity unknown",
    "helmholtz": "Helmholtz",
    "inverse_diffusion_reaction": "Reaction, rate unknown",
    "kdv": "Korteweg-de Vries",
    "kovasznay": "Kovasznay flow",
    "lame": "Linear elasticity",
    "materials": "Materials",
    "mnist5k": "MNIST, 5000 digits",
    "oscillations": "Damped oscillations",
    "outliers": "A line with outliers",
    "poisson10d": "Poisson, 10-D",
    "poisson1d": "Poisson, 1-D",
    "poisson2d": "Poisson, 2-D",
    "poisson3d": "Poisson, 3-D",
    "poisson5d": "Poisson, 5-D",
    "poisson_lshape": "Poisson, L-shape",
    "poisson_multiscale": "Poisson, many scales",
    "poisson_ring": "Poisson, ring",
    "poisson_square": "Poisson, square",
    "randhie": "Visits to a doctor",
    "reaction_diffusion": "Reaction and diffusion",
    "schaffer": "Schaffer's function",
    "schroedinger": "Schroedinger",
    "sine2": r"$\sin 2 \pi x$",
    "sine4": r"$\sin 4 \pi x$",
    "sine8": r"$\sin 8 \pi x$",
    "taylor_green": "Taylor-Green vortex",
    "terrain": "Terrain",
    "wave": "Wave",
}
"""Of problems."""

OPTIONS = {
    "clients": "{} clients",
    "cutoff": "cut-off {}",
    "noise": "noise {}",
    "points": "{}-fold points",
    "width": "width {}",
}
"""Of arguments of problems."""


POLICIES = {
    "levenberg_marquardt": "Levenberg-Marquardt",
    "natural": "Natural (default)",
}
"""Of step policies, where a name with blanks is not it."""


def title(problem: str) -> str:
    """A problem in words, with its options; NAME or NAME:KEY=VALUE,..."""
    name, _, options = problem.partition(":")
    return ", ".join([TITLES.get(name, spelt(name)), *map(_option, _pairs(options))])


def spelt(name: str) -> str:
    """A name of code with blanks, and a capital in front."""
    return name.replace("_", " ").capitalize()


def named(text: str) -> str:
    """NAME:KEY=VALUE,... in words, of a step policy."""
    name, _, options = text.partition(":")
    words = POLICIES.get(name, spelt(name))
    return ", ".join([words, *map(_option, _pairs(options))])


def partition(text: str) -> str:
    """A partition of the points: ``strips``, ``boxes``, ``pieces:4``."""
    name, _, pieces = text.partition(":")
    return f"{pieces} piece{'s' * (pieces != '1')} each" if pieces else name


def _pairs(options: str) -> list[list[str]]:
    """Keys and values."""
    return [pair.split("=", 1) for pair in options.split(",") if pair]


def _option(pair: list[str]) -> str:
    """An argument in words."""
    key, *values = pair
    value = values[0] if values else ""
    if value.lower() in ("", "true"):
        return key.replace("_", " ")
    return OPTIONS.get(key, key.replace("_", " ") + " {}").format(value)
