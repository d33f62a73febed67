"""Tables of the runs with personal parameters."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from experiments._personal import Options
from experiments._record import Entry, grouped, select
from experiments._runs import spread
from experiments._table import Cell, Table

PAGE = "docs/personal_results.md"
OURS = "ours: FIPA, f eliminated"
FOUR = "ours, the lowest loss of four starts"
SEARCHED = (100, 101)


def final(entry: Entry) -> float:
    """Of ours the error at the end; of others the lowest, in their favour."""
    ours = entry["label"] in (OURS, FOUR) or entry["method"] == "gauss_newton"
    return float(entry["error"][-1] if ours else entry["best"])


def reported(entries: Sequence[Entry], case: str) -> dict[str, list[Entry]]:
    """The families that are reported, by label; ours first."""
    mine = [e for e in select(entries, case=case) if e["seed"] not in SEARCHED]
    found = {k: favourite(v) for k, v in grouped(mine, "label").items()}
    order = sorted(
        found, key=lambda k: (k not in (OURS, FOUR), median(map(final, found[k])))
    )
    return {label: found[label] for label in order}


def favourite(runs: Sequence[Entry]) -> list[Entry]:
    """Those with the setting whose median is lowest, where there are several."""
    found: dict[str, list[Entry]] = {}
    for e in runs:
        found.setdefault(words(e["options"]), []).append(e)
    return min(found.values(), key=lambda es: median(map(final, es)))


def words(options: Options) -> str:
    """Options, as on the command line."""
    hidden = ("basis", "sketch")
    return ", ".join(f"{k} {v}" for k, v in options.items() if k not in hidden)


def compared(entries: Sequence[Entry], case: str, name: str, caption: str) -> Table:
    """Errors of the methods on families, and ours over theirs."""
    groups, rows = reported(entries, case), list[Sequence[Cell]]()
    best = groups.get(FOUR) or groups.get(OURS, [])
    ours = {e["seed"]: final(e) for e in best}
    for label, runs in groups.items():
        ratios = [ours[e["seed"]] / final(e) for e in runs if e["seed"] in ours]
        first = runs[0]
        ratio = f"{median(ratios):.2f}" if ratios and runs != best else ""
        up = f"{first['up'] / 1e6:.2g}" if first.get("up") else ""
        rows.append(
            [
                *(label, first["setting"]["network"], len(runs)),
                *(_spread(map(final, runs)), ratio, up),
                words(first["options"]),
            ]
        )
    heads = ["method", "network", "families", "error", "ours over it", "MB from a site"]
    return Table(name, caption, [*heads, "setting"], rows, PAGE)


def _spread(values: Iterable[float]) -> str:
    found = spread(list(values))
    assert found is not None
    return f"{found.median:.3f} [{found.low:.3f}, {found.high:.3f}]"


def exact(entries: Sequence[Entry]) -> Table:
    """Families without noise."""
    rows = list[Sequence[Cell]]()
    for label, runs in reported(entries, "exact").items():
        worst = [e["worst"] for e in runs if "worst" in e]
        below = sum(w <= 1e-8 for w in worst)
        there = [
            next((k for k, x in _pairs(e) if x <= 1e-8), None)
            for e in runs
            if "worst" in e
        ]
        some = [k for k in there if k is not None]
        rows.append(
            [
                *(label, runs[0]["setting"]["network"], len(runs)),
                f"{median(map(final, runs)):.1e}",
                f"{median(worst):.1e}" if worst else "",
                f"{below} of {len(worst)}" if worst else "",
                f"{median(some):.0f} ({len(some)})" if some else "",
                f"{runs[0]['up'] / 1e6:.2g}",
            ]
        )
    heads = ["method", "network", "families", "error", "that of the worst site"]
    heads += ["families with all sites below 1e-8", "rounds to a mean of 1e-8"]
    caption = "Without noise."
    return Table("personal-exact", caption, [*heads, "MB from a site"], rows, PAGE)


def _pairs(entry: Entry) -> Iterator[tuple[int, float]]:
    return zip(entry["round"], entry["error"], strict=True)


def newcomers(entries: Sequence[Entry]) -> Table:
    """A site with six points that took no part."""
    rows = list[Sequence[Cell]]()
    ours = {}
    for case, name in (("noisy", "data alone"), ("equation", "with the equation")):
        groups = reported(entries, case)
        mine = [e for e in groups.get(FOUR, groups.get(OURS, [])) if "new" in e]
        if not mine:
            continue
        values = {e["seed"]: e["new"] for e in mine}
        rows.append([mine[0]["label"], name, len(mine), _spread(values.values()), ""])
        ours[name] = values
        other = "new" if case == "noisy" else "new, equation"
        for label, runs in reported(entries, other).items():
            ratios = [values[e["seed"]] / final(e) for e in runs if e["seed"] in values]
            ratio = f"{median(ratios):.2f}" if ratios else ""
            rows.append([label, name, len(runs), _spread(map(final, runs)), ratio])
    heads = ["method", "known", "families", "error", "ours over it"]
    return Table("personal-new", "A new site with six points.", heads, rows, PAGE)


def numbers(entries: Sequence[Entry]) -> Table:
    """Materials and instruments."""
    rows = list[Sequence[Cell]]()
    for case in ("materials", "gauges"):
        runs = select(entries, case=case)
        if not runs:
            continue
        off = [abs(x) for e in runs for x in e["numbers"]]
        each = [max(map(abs, e["numbers"])) for e in runs]
        joint = [abs(x) <= 2 for e in runs for x in e["joint"]]
        held = [abs(x) <= 2 for e in runs for x in e["held"]]
        rows.append(
            [
                *(f"`{case}`", len(runs), len(off)),
                f"{100 * median(off):.2f}",
                f"{100 * sum(x <= 0.02 for x in off) / len(off):.0f}",
                f"{100 * median(each):.1f}",
                f"{100 * sum(joint) / len(joint):.0f}",
                f"{100 * sum(held) / len(held):.0f}",
                f"{median(e['error'] for e in runs):.1e}",
            ]
        )
    heads = ["problem", "families", "numbers", "median error %", "% within 2 %"]
    heads += ["median of the worst of a family %", "% within 2 sd, all rows"]
    heads += ["% within 2 sd, at the site alone", "error of the solution"]
    caption = "Numbers of the sites' own, with 1 % noise."
    return Table("personal-numbers", caption, heads, rows, PAGE)


WAYS = {"own": "own sketches", "shared": "shared basis, rows", "sums": "sums"}


def way(options: Options) -> str:
    """How uploads are made."""
    return WAYS[str(options.get("upload", options["basis"]))]


def gaps(entries: Sequence[Entry]) -> Table:
    """Steps next to the centralised joint ones, and bytes."""
    rows = list[Sequence[Cell]]()
    runs = {
        (e["setting"]["network"], way(e["options"])): e
        for e in select(entries, case="gap")
    }
    long = {
        (e["setting"]["network"], way(e["options"])): e
        for e in select(entries, case="bytes")
    }
    for key, e in sorted(runs.items()):
        outside = e["outside"]
        row: list[Cell] = [*key, f"{e['parameters']} + {e['own']}"]
        row += [f"{e['gap']:.1e}", f"{e['middle']:.1e}"]
        row.append("" if outside is None else f"{outside:.2f}")
        if key in long:
            other = long[key]
            row += [f"{other['error'][-1]:.1e}", f"{other['up'] / 1e3:.0f}"]
        else:
            row += ["", ""]
        rows.append(row)
    heads = ["network", "uploads", "p shared + own", "largest gap", "median gap"]
    heads += ["largest part outside", "error after 20 rounds", "kB from a site"]
    caption = "Steps, next to the centralised joint ones, and bytes."
    return Table("personal-gap", caption, heads, rows, PAGE)


def stages(entries: Sequence[Entry]) -> Table:
    """FedLoRA-Optimizer, stage by stage."""
    label = "FedLoRA-Optimizer as published"
    runs = [e for e in reported(entries, "noisy").get(label, []) if "stages" in e]
    rows = list[Sequence[Cell]]()
    if runs:
        every = list(zip(*(e["stages"] for e in runs), strict=True))
        names = ("averaged", "directions of A", "own magnitudes of B")
        before: float | None = None
        for name, values in zip(names, every, strict=True):
            at = median(values)
            gain = "" if before is None else f"{100 * (before - at) / before:+.1f}"
            rows.append([name, f"{at:.3f}", gain])
            before = at
        together = reported(entries, "noisy").get("FedLoRA-Optimizer, together", [])
        if together:
            rows.append(
                ["the same split trained together", _spread(map(final, together)), ""]
            )
    heads = ["after the stage", "error", "gain %"]
    return Table("personal-stages", "FedLoRA-Optimizer by stage.", heads, rows, PAGE)


def variations(entries: Sequence[Entry]) -> Table:
    """How far factors of low rank go."""
    runs, rows = select(entries, case="variation"), list[Sequence[Cell]]()
    if runs:
        for what, one, two, published in (
            ("direction", "A", "B", "A 1.7 times B"),
            ("magnitude", "A", "B", "B 41 times A"),
        ):
            a = median(e[f"{what}_{one}"] for e in runs)
            b = median(e[f"{what}_{two}"] for e in runs)
            ratio = median(e[f"{what}_{two}"] / e[f"{what}_{one}"] for e in runs)
            rows.append([what, f"{a:.1e}", f"{b:.1e}", f"{ratio:.2g}", published])
    heads = ["what", "A", "B", "B over A", "in the paper"]
    caption = "Change of factors in a round of local training after 50 of FedAvg."
    return Table("personal-variation", caption, heads, rows, PAGE)


def searched(entries: Sequence[Entry]) -> Table:
    """The best of each network on the families of the search."""
    rows = list[Sequence[Cell]]()
    mine = [e for e in select(entries, case="noisy") if e["seed"] in SEARCHED]
    for label, runs in grouped(mine, "label").items():
        for network in dict.fromkeys(e["setting"]["network"] for e in runs):
            here = [e for e in runs if e["setting"]["network"] == network]
            groups: dict[str, list[Entry]] = {}
            for e in here:
                groups.setdefault(words(e["options"]), []).append(e)
            best = min(groups, key=lambda k: sum(map(final, groups[k])))
            each = ", ".join(f"{final(e):.3f}" for e in groups[best])
            rows.append([label, network, len(groups), each, best])
    heads = ["method", "network", "settings", "errors, families 100 and 101", "best"]
    return Table("personal-search", "The search.", heads, rows, PAGE)


def tables(entries: Sequence[Entry]) -> list[Table]:
    """All of them."""
    return [
        exact(entries),
        compared(entries, "noisy", "personal-noisy", "Noisy, data alone."),
        compared(entries, "equation", "personal-equation", "Noisy, with equation."),
        newcomers(entries),
        numbers(entries),
        gaps(entries),
        stages(entries),
        variations(entries),
        searched(entries),
    ]
