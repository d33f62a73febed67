"""Personal parameters: families of equations, next to tuned methods that average.

Family s has number s, and so has its start; ten are reported, families 100 and 101 are
searched. Errors are relative L2 errors, the mean over the sites of a family.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from statistics import mean

from experiments import _personal_rivals as rivals
from experiments._experiment import Case, Experiment, token
from experiments._personal import Options, federated, local
from experiments._record import Entry, select

FAMILIES = range(10)
SEARCHED = [100, 101]

KEY = ("case", "label", "setting", "method", "grid", "rounds", "seeds")
OURS = "ours: FIPA, f eliminated"
FAST = ("fedavg", "alternate", "alone", "tuned", "fedlora")
"""Methods of which all families are trained at once."""

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
    mine = grid(prior=(1e-6, 1e-5), personal_prior=(1e-6, 1e-5), basis=("own",))
    for net in ("magnitudes", "waves, head", "inputs"):
        found.append((OURS, net, "fipa", mine, 60))
    damped = grid(prior=(0.0, 1e-7, 1e-6, 1e-5))
    for net in ("mlp", "waves"):
        found.append(("local, Gauss-Newton", net, "local", damped, 40))
    return found


def cases(entries: Sequence[Entry]) -> list[Case]:
    """The runs; those with settings of the search when it is done."""
    return list({token(case): case for case in every(entries)}.values())


def every(entries: Sequence[Entry]) -> Iterator[Case]:
    """As ``cases``; some come twice."""
    yield from searched("noisy", searches(), {"noise": 0.01, "equation": False})
    yield from reported(entries, "noisy", searches())


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


def score(entry: Entry) -> float:
    """Of ours the error at the end; of others the lowest, in their favour."""
    return float(entry["error"][-1] if entry["label"] == OURS else entry["best"])


def chosen(entries: Sequence[Entry]) -> Entry:
    """An entry of the setting whose mean over the families is lowest."""
    found: dict[str, list[Entry]] = {}
    for e in entries:
        found.setdefault(token((e["setting"], e["options"])), []).append(e)
    return min(found.values(), key=lambda es: mean(map(score, es)))[0]


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
    if method in FAST:
        return rivals.entries(seeds, setting, method, grid, rounds)
    pairs = product(grid, seeds)
    if method == "local":
        return [local(seed, setting, own, rounds) for own, seed in pairs]
    return [federated(seed, setting, method, own, rounds) for own, seed in pairs]


EXPERIMENT = Experiment("personal", __doc__, KEY, cases, measure)
