"""Tables of the runs on classification."""

from collections.abc import Sequence
from itertools import product
from math import isfinite
from statistics import median

from scipy.stats import spearmanr

from experiments._classes import (
    LAZY,
    OFTEN,
    PLAN,
    SELDOM,
    SKETCHES,
    STARTS,
    Options,
    best,
    first,
    plain,
    ranked,
    tuned,
)
from experiments._experiment import token
from experiments._record import Entry, select
from experiments._table import Cell, Table

PAGE = "docs/classification_results.md"
MORE = ("warm_up", "trained")
OURS: dict[str, Options] = {
    "FIPA, rank 20, gradient": SKETCHES,
    "FIPA lazy, rank 10 every 8": LAZY,
    "FIPA lazy, rank 5 every 5": OFTEN,
    "FIPA lazy, rank 5 every 10": SELDOM,
}
LAZIES: tuple[Options, ...] = (
    LAZY,
    OFTEN,
    SELDOM,
    {"rank": "10", "every": 16},
    {"rank": "10", "every": 30},
)
"""Tried on other starts."""

LEVELS = (0.95, 0.97, 0.98)


def at_round(entry: Entry, k: int) -> float:
    """Accuracy after k rounds, or of the last one."""
    found: list[float] = entry["accuracy"]
    return found[min(k, len(found)) - 1]


def best_shot(entries: Sequence[Entry]) -> list[Entry]:
    """The starts of the local training that is best in one round."""
    found: dict[str, list[Entry]] = {}
    for e in entries:
        found.setdefault(token((e["options"],)), []).append(e)
    return max(found.values(), key=lambda es: median(at_round(e, 1) for e in es))


def middle(costs: Sequence[float]) -> str:
    """Median of all starts, those that never got there infinite; how many did."""
    some = sum(map(isfinite, costs))
    of = "" if some == len(costs) else f" ({some} of {len(costs)})"
    at = median(costs)
    return f"{at:.3g}{of}" if isfinite(at) else f"never{of}"


def percent(values: Sequence[float]) -> str:
    """Median, in per cent."""
    return f"{100 * median(values):.1f}"


def ours(
    entries: Sequence[Entry], problem: str, alpha: float, options: Options
) -> list[Entry]:
    """The starts of FIPA with a setting, the longest run of each."""
    mine = select(entries, problem=problem, alpha=alpha, method="fipa", options=options)
    longest = {e["seed"]: e for e in sorted(mine, key=lambda e: int(e["rounds"]))}
    return [longest[seed] for seed in STARTS if seed in longest]


def setting(options: Options) -> str:
    """Options, as on the command line."""
    words = {"learning_rate": "rate", "gradient": "with the gradient"}
    return ", ".join(
        words.get(key, key) + ("" if value is True else f" {value}")
        for key, value in options.items()
        if key != "local"
    )


def digits(entries: Sequence[Entry], alpha: float) -> Table:
    """Rounds, uploads and seconds to some accuracies."""
    groups = {
        name: ours(entries, "digits", alpha, options) for name, options in OURS.items()
    }
    groups |= {m: tuned(entries, "digits", alpha, m) for m in PLAN}
    rows: list[list[Cell]] = []
    for name, mine in groups.items():
        if not mine:
            continue
        row: list[Cell] = [name, len(mine), percent([best(e) for e in mine])]
        row += [middle([first(e, level) for e in mine]) for level in LEVELS]
        row += [middle([first(e, level, "up") for e in mine]) for level in LEVELS[1:]]
        row.append(middle([first(e, LEVELS[1], "seconds") for e in mine]))
        row.append(setting(mine[0]["options"]) if name in PLAN else "")
        rows.append(row)
    heads = ["method", "starts", "best %", *(f"rounds to {x:.0%}" for x in LEVELS)]
    heads += [f"p up to {x:.0%}" for x in LEVELS[1:]]
    heads += [f"CPU s to {LEVELS[1]:.0%}", "setting"]
    caption = f"digits, alpha {alpha}: medians over the starts."
    return Table(f"digits-{alpha}", caption, heads, rows, PAGE)


def central(entries: Sequence[Entry]) -> Table:
    """What training on all digits in one place reaches."""
    mine = select(entries, problem="digits", method="lbfgs")
    rows: list[list[Cell]] = []
    for e in sorted(mine, key=lambda e: int(e["seed"])):
        row: list[Cell] = [e["seed"], percent([best(e)]), percent([e["accuracy"][-1]])]
        for options in OURS.values():
            for alpha in (0.1, 0.05):
                run = select(ours(entries, "digits", alpha, options), seed=e["seed"])
                row.append(middle([first(r, 0.98) for r in run]) if run else "")
        rows.append(row)
    heads = ["start", "L-BFGS best %", "at its end %"]
    short = ("rank 20", "10 / 8", "5 / 5", "5 / 10")
    heads += [f"{name}, alpha {alpha}" for name in short for alpha in (0.1, 0.05)]
    caption = "All digits in one place, and our rounds to 98 %, by start."
    return Table("digits-central", caption, heads, rows, PAGE)


def alphas(entries: Sequence[Entry]) -> Table:
    """Rounds and uploads to 97 % by alpha."""
    rows: list[list[Cell]] = []
    for alpha in (0.05, 0.1, 0.3, 0.5):
        groups = {m: tuned(entries, "digits", alpha, m) for m in ("fedavg", "scaffold")}
        for name in list(OURS)[:2]:
            groups[name] = ours(entries, "digits", alpha, OURS[name])
        for name, mine in groups.items():
            if mine:
                row: list[Cell] = [f"{alpha}", name, percent([best(e) for e in mine])]
                for axis, level in product(("round", "up"), LEVELS[1:]):
                    row.append(middle([first(e, level, axis) for e in mine]))
                rows.append(row)
    heads = ["alpha", "method", "best %", "rounds to 97%", "to 98%"]
    heads += ["p up to 97%", "to 98%"]
    return Table("digits-alpha", "By alpha:", heads, rows, PAGE)


def by_ranks(rank: str, gradient: bool) -> Options:
    """FIPA of a rank, with the same step policy without the gradient."""
    return {"rank": rank, "gradient": gradient} | (
        {} if gradient else {"policy": "greedy"}
    )


def by_rank(entries: Sequence[Entry]) -> Table:
    """Ranks with the gradient and without."""
    rows: list[list[Cell]] = []
    for rank in ("5", "10", "20", "50"):
        for word in ("yes", "no"):
            mine = [
                e
                for e in ours(entries, "digits", 0.1, by_ranks(rank, word == "yes"))
                if e["seed"] < 3
            ]
            if mine:
                row: list[Cell] = [rank, word]
                row += [len(mine), percent([at_round(e, 20) for e in mine])]
                row += [middle([first(e, x) for e in mine]) for x in LEVELS]
                row.append(middle([first(e, LEVELS[-1], "up") for e in mine]))
                rows.append(row)
    heads = ["rank", "gradient", "starts", "% at round 20"]
    heads += [*(f"rounds to {x:.0%}" for x in LEVELS), "p up to 98%"]
    return Table("digits-rank", "By rank, alpha 0.1:", heads, rows, PAGE)


def shots(entries: Sequence[Entry]) -> Table:
    """One round."""
    mine = select(entries, problem="digits", rounds=1)
    averaged = select(mine, method="fedavg")
    rows: list[list[Cell]] = []
    if averaged:
        groups = {"FedAvg": best_shot(averaged)}
        for word in ("diagonal", "kfac", "sketch"):
            of = select(mine, method="fedfisher")
            groups[f"FedFisher, {word}"] = [
                e for e in of if e["options"]["fisher"] == word
            ]
        for name, runs in groups.items():
            if runs:
                order = sorted(runs, key=lambda e: int(e["seed"]))
                each = [f"{100 * at_round(e, 1):.1f}" for e in order]
                all_ = percent([at_round(e, 1) for e in runs])
                sent = f"{median(e['up'][-1] for e in runs):.3g}"
                rows.append([name, all_, *each, sent, setting(runs[0]["options"])])
    heads = ["method", "median %", *(f"start {s}" for s in range(5)), "p up", "setting"]
    return Table("digits-one-shot", "One round, alpha 0.1:", heads, rows, PAGE)


def warm(entries: Sequence[Entry]) -> Table:
    """After a warm-up."""
    mine = [e for e in entries if not plain(e)]
    rows: list[list[Cell]] = []
    if not mine:
        return Table("digits-warm-up", "", [""], [], PAGE)
    setting_ = mine[0]["options"]["warm_up"][1]
    on = select(entries, method="fedavg", options=setting_, alpha=0.1, rounds=60)
    going = {e["seed"]: e for e in on}
    mine = [e for e in mine if e["seed"] in going]
    groups: dict[tuple[int, str, str], list[Entry]] = {}
    for e in mine:
        options = e["options"]
        how = "lazy" if "every" in options else "rank 20"
        key = (options["warm_up"][2], options["trained"], how)
        groups.setdefault(key, []).append(e)
    for (rounds, trained, how), runs in sorted(groups.items()):
        last = [e["accuracy"][-1] for e in runs]
        others = [going[e["seed"]] for e in runs]
        equal = [
            max(best(o, e["rounds"]), 0.0) for e, o in zip(runs, others, strict=True)
        ]
        same = [_within(o, e["up"][-1]) for e, o in zip(runs, others, strict=True)]
        before = [at_round(o, rounds) for o in others]
        rows.append(
            [
                *(rounds, trained, how, percent(before), percent(last)),
                *(percent([best(e) for e in runs]), percent(equal), percent(same)),
                f"{median(e['up'][-1] for e in runs):.3g}",
            ]
        )
    heads = ["warm-up", "trained", "by", "% before", "% at end", "best %"]
    heads += ["FedAvg's best %, equal rounds", "equal uploads", "p up"]
    return Table("digits-warm-up", "After rounds of FedAvg:", heads, rows, PAGE)


def _within(entry: Entry, up: float) -> float:
    """Best accuracy for so many uploads."""
    pairs = zip(entry["accuracy"], entry["up"], strict=True)
    return max(value for value, sent in pairs if sent <= up + 1e-9)


def images_of(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The starts of each method on mnist5k, of rivals with the best of the search."""
    mine, found = select(entries, problem="mnist5k"), dict[str, list[Entry]]()
    for e in mine:
        found.setdefault(token((e["method"], e["options"])), []).append(e)
    most: dict[str, list[Entry]] = {}
    for key, runs in found.items():
        word = key if runs[0]["method"] == "fipa" else runs[0]["method"]
        rank = (len(runs), at_round(runs[0], 10))
        if word not in most or rank > (len(most[word]), at_round(most[word][0], 10)):
            most[word] = runs
    return [most[word] for word in sorted(most)]


def images(entries: Sequence[Entry]) -> Table:
    """The convolutional network."""
    rows: list[list[Cell]] = []
    for runs in images_of(entries):
        row: list[Cell] = [runs[0]["method"], setting(runs[0]["options"]), len(runs)]
        for k in (5, 10, 15):
            some = [e for e in runs if len(e["accuracy"]) >= k]
            row.append(percent([at_round(e, k) for e in some]) if some else "")
        up = [e["up"][9] for e in runs if len(e["up"]) > 9]
        seconds = [e["seconds"][9] for e in runs if len(e["up"]) > 9]
        row += [f"{median(x):.3g}" if x else "" for x in (up, seconds)]
        row.append(middle([first(e, 0.92, "up") for e in runs]))
        rows.append(row)
    heads = ["method", "setting", "starts", "% at round 5", "10", "15"]
    heads += ["p up at 10", "CPU s at 10", "p up to 92%"]
    return Table("mnist5k", "mnist5k, alpha 0.1:", heads, rows, PAGE)


def lazily(entries: Sequence[Entry]) -> Table:
    """Lazy sketches on other starts than those reported."""
    rows: list[list[Cell]] = []
    for options in LAZIES:
        mine = select(entries, alpha=0.05, options=options, rounds=24)
        if mine:
            row: list[Cell] = [options["rank"], options["every"], len(mine)]
            row += [middle([first(e, x) for e in mine]) for x in LEVELS[1:]]
            row += [middle([first(e, x, "up") for e in mine]) for x in LEVELS[1:]]
            rows.append(row)
    heads = ["rank", "every", "starts", *(f"rounds to {x:.0%}" for x in LEVELS[1:])]
    heads += [f"p up to {x:.0%}" for x in LEVELS[1:]]
    return Table("digits-lazy", "Starts 5 to 8, alpha 0.05:", heads, rows, PAGE)


def gains(entries: Sequence[Entry], alpha: float) -> list[tuple[float, float]]:
    """Overlap, and points of accuracy of FIPA above FedAvg after ten rounds."""
    mine = ours(entries, "digits", alpha, SKETCHES)
    others = {e["seed"]: e for e in tuned(entries, "digits", alpha, "fedavg")}
    return [
        (e["overlap"], 100 * (at_round(e, 10) - at_round(others[e["seed"]], 10)))
        for e in mine
        if e["seed"] in others and "overlap" in e
    ]


def correlation(entries: Sequence[Entry]) -> Table:
    """Of the overlap of the clients' subspaces with the gain over FedAvg."""
    rows: list[list[Cell]] = []
    every = list[tuple[float, float]]()
    for alpha in (0.05, 0.1, 0.3, 0.5):
        pairs = gains(entries, alpha)
        every += pairs
        if pairs:
            x, y = zip(*pairs, strict=True)
            rows.append(
                [f"{alpha}", len(pairs), f"{median(x):.3f}", f"{median(y):.1f}"]
            )
    if len(every) > 2:
        x, y = zip(*every, strict=True)
        rank = float(spearmanr(x, y).statistic)
        rows.append(["all", len(every), f"{median(x):.3f}", f"{median(y):.1f}"])
        rows.append(["Spearman's correlation", len(every), "", f"{rank:.2f}"])
    heads = ["alpha", "starts", "overlap", "points above FedAvg, round 10"]
    return Table("digits-overlap", "Overlap and gain:", heads, rows, PAGE)


def searched(entries: Sequence[Entry]) -> Table:
    """The best settings of the search."""
    rows: list[list[Cell]] = []
    for method in PLAN:
        for options in ranked(entries, method)[:3]:
            rows.append([method, setting(options)])
    return Table(
        "digits-search", "Best of the search:", ["method", "setting"], rows, PAGE
    )


def tables(entries: Sequence[Entry]) -> list[Table]:
    """All of them."""
    return [
        digits(entries, 0.1),
        digits(entries, 0.05),
        central(entries),
        by_rank(entries),
        alphas(entries),
        shots(entries),
        warm(entries),
        images(entries),
        lazily(entries),
        correlation(entries),
        searched(entries),
    ]
