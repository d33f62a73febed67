"""Hard problems: what is run from which starts."""

from collections.abc import Iterator, Sequence
from itertools import chain, product
from typing import NamedTuple

from experiments._experiment import Case

EASY = (
    *("sine2", "sine4", "sine8", "poisson1d", "allen_cahn", "bratu", "fisher_kpp"),
    *("reaction_diffusion", "euler_beam", "poisson_multiscale", "poisson_square"),
    *("heat", "inverse_diffusion_reaction", "gramacy_lee"),
    *("poisson_multiscale:points=4", "inverse_diffusion_reaction:points=4"),
)
"""Rounds of a tenth of a second; two of them also with enough points."""

MIDDLE = ("wave", "schroedinger", "poisson_ring:clients=2", "lame")
HEAVY = (
    *("kdv", "helmholtz", "poisson2d", "kovasznay", "burgers", "taylor_green"),
    *("gaussians2d:clients=2", "poisson10d", "allen_cahn_time"),
    *("schaffer:clients=2", "poisson3d", "poisson5d"),
)
EVERY = (*EASY, *MIDDLE, *HEAVY)
"""Problems with a smooth solution; some are published for more than two clients."""

FEW = (
    *("taylor_green", "gaussians2d", "kovasznay", "allen_cahn_time", "schaffer"),
    *("poisson3d", "poisson5d", "poisson10d"),
)
"""Three starts in place of five."""

OWN = ("helmholtz", "allen_cahn_time", "gramacy_lee", "schaffer")
"""More than 4000 parameters."""

AUTO = "first=auto"
GOAL = 1e-6
ENOUGH = 1e-9
"""Error at which a run of all problems ends."""


class Plan(NamedTuple):
    """A setting, from any start.

    Attributes:
        problem: NAME or NAME:KEY=VALUE,...
        method: Options of FIPA, as words.
        rounds: At most.
        until: Error at which a run ends.
    """

    problem: str
    method: str
    rounds: int
    until: float

    def case(self, seed: int) -> Case:
        """From one start."""
        return self.problem, self.method, seed, self.rounds, self.until


def name_of(problem: str) -> str:
    """The name of a problem, without its options."""
    return problem.partition(":")[0]


def word(problem: str, *options: str) -> str:
    """A problem with more options."""
    name, _, given = problem.partition(":")
    every = [o for o in (given, *options) if o]
    return f"{name}:{','.join(every)}" if every else name


def plan_of(problem: str, first: str = "", policy: str = "") -> Plan:
    """A problem from its published start, or with a first-layer frequency."""
    own = "basis=own" if name_of(problem) in OWN else ""
    method = " ".join(part for part in (own, policy) if part)
    return Plan(word(problem, first), method, 100, ENOUGH)


def every(names: Sequence[str], seeds: Sequence[int]) -> Iterator[Case]:
    """Problems from both starts."""
    for seed, name, first in product(seeds, names, ("", AUTO)):
        if seed < (3 if name_of(name) in FEW else 5):
            yield plan_of(name, first).case(seed)


BENT = (
    *("sine4", "sine8", "reaction_diffusion", "euler_beam", "allen_cahn"),
    *("poisson1d", "heat", "gramacy_lee:first=5"),
)
"""Problems that are run with and without acceleration."""


def bent(problem: str) -> tuple[Plan, Plan]:
    """With acceleration and without it."""
    return plan_of(problem), plan_of(problem, policy="policy=natural:curves=false")


SINE8 = Plan("sine8:first=auto", "", 40, 0.0)
GRAMACY = (
    Plan("gramacy_lee:first=auto", "basis=own", 60, 1e-10),
    Plan("gramacy_lee:first=auto,points=2", "basis=own", 60, 1e-10),
    Plan("gramacy_lee:activation=sin,first=1,points=2", "basis=own", 60, 1e-10),
)
HELMHOLTZ = (
    Plan("helmholtz:first=auto", "basis=own", 100, 1e-9),
    Plan("helmholtz:first=0.3", "basis=own", 100, 1e-9),
)
SHALLOW = "points=0.25,depth=1,width=64,initialisation=glorot"
POISSON5 = Plan(f"poisson5d:{SHALLOW}", "policy=natural:begin=1e-5", 100, 1e-10)
POISSON10 = plan_of("poisson10d")
STEEP = Plan("burgers:normalise=gradient,points=2", "", 150, 1e-10)
MILD = Plan("burgers:nu=0.01,normalise=gradient,points=2", "", 100, 1e-10)
EVEN = Plan(
    "allen_cahn_time:symmetric=true,width=32,points=0.5",
    "resample=10,power=0,ratio=1.5",
    100,
    1e-10,
)

CHEAP = {SINE8: 10, **dict.fromkeys(GRAMACY, 10)}
LIGHT = {POISSON5: 5, **dict.fromkeys(HELMHOLTZ, 10)}
DEAR = {MILD: 3, EVEN: 3, STEEP: 5, POISSON10: 3}
"""Settings that are named, and from how many starts: rounds of less than a tenth of a
second, of less than one, and others."""


def named(plans: dict[Plan, int], seeds: Sequence[int]) -> Iterator[Case]:
    """The settings that are named."""
    for seed, (plan, starts) in product(seeds, plans.items()):
        if seed < starts:
            yield plan.case(seed)


def cases() -> list[Case]:
    """The runs, cheap ones first; of those that take long one or two starts of each."""
    five, ten = range(5), range(10)
    found = chain(
        every(EASY, five),
        named(CHEAP, ten),
        (p.case(seed) for seed in five for name in BENT for p in bent(name)),
        light(0),
        *(chain(light(seed + 1), dear(seed)) for seed in range(3)),
        named(LIGHT | DEAR, ten),
        every(EVERY, five),
    )
    return list(dict.fromkeys(found))


def light(seed: int) -> Iterator[Case]:
    """One start of what takes a minute."""
    yield from named(LIGHT, [seed])
    yield from every(MIDDLE, [seed])


def dear(seed: int) -> Iterator[Case]:
    """One start of what takes minutes: what is named, and published networks."""
    for name in ("kdv", "kovasznay", "taylor_green"):
        yield plan_of(name).case(seed)
    yield from named(DEAR, [seed])
