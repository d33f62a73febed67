"""Personal parameters: families of equations, next to tuned methods that average.

Family s has number s, and so has its start; ten are reported, families 100 and 101 are
searched. Errors are relative L2 errors, the mean over the sites of a family.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from statistics import mean

from experiments import _personal_rivals as rivals
from experiments._experiment import Case, Experiment, token
from experiments._personal import Options, beginner, federated, local
from experiments._personal_figure import DRAWINGS
from experiments._personal_numbers import gap, told
from experiments._personal_tables import FOUR, OURS, SEARCHED, final, tables
from experiments._record import Entry, select

FAMILIES = range(10)

KEY = ("case", "label", "setting", "method", "grid", "rounds", "seeds")
FAST = ("fedavg", "alternate", "alone", "tuned", "fedlora", "new alone", "new tuned")
"""Methods of which all families are trained at once."""

NEW = {
    "local, Adam": "new alone",
    "local, Gauss-Newton": "new local",
    "FedAvg, then tuned at the site": "new tuned",
}
"""How a new site is trained, by the label of the others."""

DENSE: Options = {"basis": "own", "sketch": "svd"}

SUMS: Options = {"basis": "shared", "upload": "sums"}

RATES = (3e-3, 1e-2)
PRIORS = (0.0, 1e-5, 1e-4)


def grid(**values: Sequence[object]) -> list[Options]:
    """All combinations."""
    return [dict(zip(values, v, strict=True)) for v in product(*values.values())]


def both(options: Sequence[Options]) -> list[Options]:
    """With the prior of f that of theta."""
    return [{**o, "personal_prior": o["prior"]} for o in options]


Search = tuple[str, str, str, list[Options], int]
"""Label, network, method, what is tried, rounds."""


def searches() -> list[Search]:
    """Noisy families without their equation."""
    averaged = both(grid(tau=(20,), learning_rate=RATES, prior=PRIORS))
    alone = grid(tau=(100,), learning_rate=RATES, prior=PRIORS)
    after = grid(tau=(20,), averaged=(50,), learning_rate=(1e-2,))
    after = [{**a, **b} for a, b in product(after, grid(own_rate=RATES, prior=PRIORS))]
    staged = grid(tau=(20,), averaged=(100,), directions=(50,), learning_rate=(1e-2,))
    rates = grid(global_rate=RATES, own_rate=(1e-2, 3e-2))
    staged = [{**a, **b} for a, b in product(staged, rates)]
    found: list[Search] = []
    for net in ("mlp", "waves"):
        found.append(("local, Adam", net, "alone", alone, 40))
    found += [
        ("FedAvg of all", "mlp", "fedavg", averaged[::3], 100),
        ("FedAvg, then tuned at the site", "mlp", "tuned", after, 250),
        ("FedPer", "head", "fedavg", averaged, 200),
        ("FedPer", "waves, head", "fedavg", averaged, 200),
        ("FedRep", "waves, head", "alternate", averaged, 150),
        ("FedSA-LoRA", "factors", "fedavg", averaged, 200),
        ("FedLoRA-Optimizer as published", "split", "fedlora", staged, 200),
        ("FedLoRA-Optimizer, together", "split", "fedavg", averaged, 200),
        ("FedAvg, magnitudes personal", "magnitudes", "fedavg", averaged, 200),
    ]
    heavy = both(grid(tau=(20,), learning_rate=(1e-3, 3e-3), prior=(3e-4, 1e-3)))
    heavy += both(grid(tau=(20,), learning_rate=(1e-3,), prior=(1e-4,)))
    found += [
        ("FedPer", "waves, head", "fedavg", heavy, 200),
        ("FedRep", "waves, head", "alternate", heavy, 150),
    ]
    priors = [(5e-6, 1e-5), (1e-5, 3e-6), (1e-6, 3e-6)]
    mine = [{"prior": a, "personal_prior": b, **DENSE} for a, b in priors]
    found.append((OURS, "magnitudes", "fipa", mine, 60))
    found.append((OURS, "inputs", "fipa", mine[:1], 60))
    head = {"prior": 1e-5, "personal_prior": 1e-5, **DENSE}
    found.append((OURS, "waves, head", "fipa", [head], 60))
    damped = grid(prior=(0.0, 1e-7, 1e-6, 1e-5))
    for net in ("mlp", "waves"):
        found.append(("local, Gauss-Newton", net, "local", damped, 40))
    found.append(
        ("local, Gauss-Newton", "waves", "local", grid(prior=(1e-4, 1e-3)), 40)
    )
    found.append(
        (
            "local, Adam",
            "waves",
            "alone",
            grid(tau=(100,), learning_rate=(1e-3, 3e-3), prior=(3e-4, 1e-3)),
            40,
        )
    )
    return found


def cases(entries: Sequence[Entry]) -> list[Case]:
    """The runs; those with settings of the search when it is done."""
    return list({token(case): case for case in every(entries)}.values())


def every(entries: Sequence[Entry]) -> Iterator[Case]:
    """As ``cases``; some come twice."""
    noisy: Options = {"noise": 0.01, "equation": False}
    yield from searched("noisy", searches(), noisy)
    yield from reported(entries, "noisy", searches())
    yield from newcomers(entries, noisy)
    yield from others()
    yield from several(entries)
    yield from slow()


def several(entries: Sequence[Entry]) -> Iterator[Case]:
    """Ours with its best setting, from four starts."""
    for e in select(entries, case="noisy", label=OURS):
        if e["seed"] in FAMILIES:
            own = [{**e["options"], "starts": 4}]
            more = own, e["rounds"], [e["seed"]]
            yield "noisy", FOUR, e["setting"], "fipa", *more


def newcomers(entries: Sequence[Entry], more: Options) -> Iterator[Case]:
    """A new site; ours is told of in the runs of the others."""
    plan = [search for search in searches() if search[0] in NEW]
    plan = [(*search[:2], NEW[search[0]], *search[3:]) for search in plan]
    yield from searched("new", plan, more)
    yield from reported(entries, "new", plan)


def others() -> Iterator[Case]:
    """Families without noise, with their equation, materials, sensors, bytes."""
    exact: Options = {"noise": 0.0, "equation": True}
    known: Options = {"noise": 0.01, "equation": True}
    head, shared = {"network": "waves, head"}, {"network": "mlp"}
    alone, weak = {"network": "waves", **known}, [{"prior": 1e-8}]
    for seed in FAMILIES:
        yield "exact", OURS, {**head, **exact}, "fipa", [DENSE], 30, [seed]
    small = {**DENSE, "prior": 1e-7, "personal_prior": 1e-6}
    for seed in FAMILIES:
        yield "equation", OURS, {**head, **known}, "fipa", [small], 12, [seed]
        name = "local, Gauss-Newton"
        yield "equation", name, alone, "local", weak, 20, [seed]
        yield "new, equation", name, alone, "new local", weak, 40, [seed]
    data = {"noise": 0.0, "equation": False}
    rate: Options = {"tau": 20, "learning_rate": 3e-3}
    every = list(FAMILIES)
    yield "exact", "FedAvg of all", {**shared, **data}, "fedavg", [rate], 100, every
    yield "exact", "FedPer", {**head, **data}, "fedavg", [rate], 200, every
    here = {"network": "lora", "noise": 0.01, "equation": False}
    yield "variation", "LoRA", here, "variation", [rate], 50, every
    for seed in FAMILIES:
        yield "gauges", OURS, {}, "gauges", [DENSE], 25, [seed]
    fixed = "fixed:damping=1e-3"
    for network in ("magnitudes", "waves, head"):
        where = {"network": network, **known}
        for way in ({"basis": "own"}, {"basis": "shared"}, SUMS):
            full = {"policy": fixed, **way}
            yield "gap", "one step after the other", where, "gap", [full], 10, [0]
    for network in ("magnitudes", "waves, head"):
        where = {"network": network, **known}
        for way in ({"basis": "own"}, {"basis": "shared"}, SUMS):
            given = {k: v for k, v in small.items() if k not in ("sketch", "basis")}
            yield "bytes", OURS, where, "fipa", [{**given, **way}], 20, [0]
    for seed in FAMILIES:
        yield "materials", OURS, {}, "materials", [DENSE], 100, [seed]


def slow() -> Iterator[Case]:
    """What takes long: methods that average with the equation, and the joint step."""
    exact: Options = {"noise": 0.0, "equation": True, "network": "waves, head"}
    known: Options = {"noise": 0.01, "equation": True}
    head, alone = {"network": "waves, head", **known}, {"network": "waves", **known}
    every = list(FAMILIES)
    for seed in FAMILIES[:2]:
        name = "Gauss-Newton, centralised"
        yield "exact", name, exact, "gauss_newton", [{}], 30, [seed]
    rate: Options = {"tau": 20, "learning_rate": 1e-2}
    yield "equation", "local, Adam", alone, "alone", [rate], 30, every
    yield "equation", "FedPer", head, "fedavg", [rate], 30, every


def searched(
    case: str, plan: Iterable[Search], more: Options, seeds: Sequence[int] = SEARCHED
) -> Iterator[Case]:
    """Runs of a search; those that take long one by one."""
    for label, network, method, options, rounds in plan:
        setting = {"network": network, **more}
        if method in FAST:
            yield case, label, setting, method, options, rounds, list(seeds)
            continue
        for own, seed in product(options, seeds):
            yield case, label, setting, method, [own], rounds, [seed]


def reported(
    entries: Sequence[Entry], case: str, plan: Sequence[Search]
) -> Iterator[Case]:
    """The best of each label on the families that are reported."""
    for label in dict.fromkeys(search[0] for search in plan):
        wanted = sum(len(s[3]) for s in plan if s[0] == label) * len(SEARCHED)
        done = select(entries, case=case, label=label)
        done = [e for e in done if e["seed"] in SEARCHED]
        if len(done) < wanted:
            continue
        best = chosen(done)
        same = (best["setting"], best["method"], [best["options"]], best["rounds"])
        if best["method"] in FAST:
            yield case, label, *same, list(FAMILIES)
            continue
        for seed in FAMILIES:
            yield case, label, *same, [seed]


def chosen(entries: Sequence[Entry]) -> Entry:
    """An entry of the setting whose mean over the families is lowest."""
    found: dict[str, list[Entry]] = {}
    for e in entries:
        found.setdefault(token((e["setting"], e["options"])), []).append(e)
    return min(found.values(), key=lambda es: mean(map(final, es)))[0]


def measure(
    case: str,
    label: str,
    setting: Options,
    method: str,
    grid: list[Options],
    rounds: int,
    seeds: list[int],
) -> list[Entry]:
    """An entry for each setting and family."""
    if method in ("new alone", "new tuned"):
        return rivals.beginners(seeds, setting, method[4:], grid, rounds)
    if method in FAST:
        return rivals.entries(seeds, setting, method, grid, rounds)
    if method == "variation":
        return rivals.varied(seeds, setting, grid[0], rounds)
    return [
        single(method, seed, setting, own, rounds) for own, seed in product(grid, seeds)
    ]


def single(
    method: str, seed: int, setting: Options, options: Options, rounds: int
) -> Entry:
    """An entry of runs of the library."""
    given = seed, setting, options, rounds
    match method:
        case "local":
            return local(*given)
        case "new local":
            return beginner(*given)
        case "materials" | "gauges":
            return told(method, *given)
        case "gap":
            return gap(*given)
    return federated(seed, setting, method, options, rounds)


EXPERIMENT = Experiment("personal", __doc__, KEY, cases, measure, tables, DRAWINGS)
