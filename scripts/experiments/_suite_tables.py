"""Tables of the suites: FIPA beside other methods at equal rounds, bytes, seconds."""

from collections.abc import Mapping, Sequence
from statistics import mean, median

from experiments._record import Entry, select
from experiments._runs import ROUNDS, Runs, ahead, error, first, middle, spread
from experiments._table import AtMost, Cell, Table, megabytes, plain

TARGETS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def overview(runs: Runs, rivals: Sequence[str]) -> Table:
    """A row per problem: FIPA beside centralised Gauss-Newton and the best rival."""
    rows: list[list[Cell]] = []
    for problem in runs.problems:
        mine = runs.of(problem, "fipa")
        if not mine:
            continue
        found = [(e, name) for name in rivals if (e := runs.median(problem, name))]
        best, name = min(found, default=(None, ""))
        fedavg = runs.median(problem, "fedavg")
        ours = spread(runs.errors(problem, "fipa"))
        rows.append(
            [
                problem,
                _kind(mine[0]),
                ours,
                runs.median(problem, "gauss_newton"),
                runs.median(problem, "fipa_paper"),
                fedavg,
                f"{plain(best)} ({name})" if best else None,
                f"{mean(mean(e['rank'][:ROUNDS]) for e in mine):.0f}",
                megabytes(_at(mine, "bytes")),
                f"{_pace(mine):.2g}",
            ]
        )
    heads = ["problem", "error", "FIPA [quartiles]", "centralised Gauss-Newton"]
    heads += ["published FIPA", "FedAvg", "best other federated", "mean rank", "MB"]
    caption = f"Error after {ROUNDS} rounds, median over the starts."
    return Table("overview", caption, [*heads, "s / round"], rows)


def matrix(runs: Runs, methods: Sequence[str]) -> Table:
    """A row per method, a column per problem."""
    rows: list[list[Cell]] = []
    for method in methods:
        cells = [runs.median(problem, method) for problem in runs.problems]
        if any(cell is not None for cell in cells):
            rows.append([method, *cells])
    caption = f"Error after {ROUNDS} rounds, medians over the starts."
    return Table("methods", caption, ["method", *runs.problems], rows)


def against(runs: Runs, rival: str = "fedavg") -> Table:
    """FIPA against a rival at equal rounds, bytes and seconds."""
    rows: list[list[Cell]] = []
    for problem in runs.problems:
        pairs = runs.pairs(problem, "fipa", rival)
        if not pairs:
            continue
        factor = middle(
            [error(b, "round", ROUNDS) / error(a, "round", ROUNDS) for a, b in pairs]
        )
        cells: list[Cell] = [problem, runs.median(problem, "fipa")]
        cells += [runs.median(problem, rival), factor]
        for axis in ("bytes", "seconds"):
            cells += [_equal(pairs, axis), _equal([(b, a) for a, b in pairs], axis)]
        cells.append(megabytes(middle([ahead(a, b, "bytes") for a, b in pairs])))
        rows.append(cells)
    heads = ["problem", "FIPA", rival, "factor"]
    heads += [f"{rival} at FIPA's bytes", f"FIPA at {rival}'s bytes"]
    heads += [f"{rival} at FIPA's seconds", f"FIPA at {rival}'s seconds"]
    caption = f"FIPA and {rival} after {ROUNDS} rounds, and when they spent the same."
    return Table(f"against-{rival}", caption, [*heads, "FIPA ahead from MB"], rows)


def published(runs: Runs, authors: Sequence[Entry]) -> Table:
    """How soon FIPA gets to the best error of the authors and of their rule here.

    Args:
        runs: Of ``fipa`` and ``fipa_paper``.
        authors: Best error, its round and seconds, of the authors' own program.
    """
    theirs = {line["problem"]: line for line in authors}
    rows: list[list[Cell]] = []
    for problem in runs.problems:
        mine, line = runs.of(problem, "fipa"), theirs.get(problem)
        paper = runs.pairs(problem, "fipa_paper", "fipa")
        if not mine or not (line or paper):
            continue
        cells: list[Cell] = [problem]
        if line:
            took = middle([first(e, "seconds", line["error"]) for e in mine])
            seconds = line["seconds"]
            cells += [float(line["error"]), f"{line['round']} / {seconds or '?'}"]
            cells.append(_costs(mine, line["error"], central=False))
            cells.append(f"{seconds / took:.0f}" if took and seconds else None)
        else:
            cells += [None] * 4
        bests = [min(a["error"]) for a, _ in paper]
        ratios, theirs_cost, ours_cost = [], [], []
        for (a, b), best in zip(paper, bests, strict=True):
            theirs_cost.append(_costs([a], best, central=False))
            ours_cost.append(_costs([b], best, central=False))
            ratios.append(first(a, "seconds", best) / first(b, "seconds", best))
        if paper:
            at = sorted(range(len(bests)), key=bests.__getitem__)[(len(bests) - 1) // 2]
            cells += [bests[at], theirs_cost[at], ours_cost[at]]
            cells.append(f"{ratios[at]:.0f}" if ratios[at] else None)
        else:
            cells += [None] * 4
        rows.append(cells)
    heads = ["problem", "authors' best", "round / s", "FIPA to it", "times faster"]
    heads += ["published rule's best", "round / MB / s", "FIPA to it", "times faster"]
    caption = (
        "The authors' program on two cores and the published rule in this library, at "
        "their best errors; FIPA to the same error (rounds / MB / seconds)."
    )
    return Table("published", caption, heads, rows)


def detail(runs: Runs, problem: str, methods: Sequence[str]) -> Table:
    """A row per method: errors when it spent as much as FIPA, and costs of errors."""
    rows: list[list[Cell]] = []
    for method in methods:
        mine = runs.of(problem, method)
        if not mine:
            continue
        pairs = runs.pairs(problem, "fipa", method)
        central = not any(e["bytes"][-1] for e in mine)
        cells: list[Cell] = [method, spread(runs.errors(problem, method))]
        for axis in ("bytes", "epochs", "seconds"):
            cells.append(None if axis == "bytes" and central else _equal(pairs, axis))
        for target in TARGETS:
            cells.append(_costs(mine, target, central))
        rows.append(cells)
    kind = _kind(select(runs.entries, problem=problem)[0])
    heads = ["method", f"{ROUNDS} rounds"]
    heads += [f"FIPA's {axis}" for axis in ("bytes", "epochs", "seconds")]
    heads += [f"to {target:.0e}" for target in TARGETS]
    caption = (
        f"{problem}: {kind} after {ROUNDS} rounds, and at the bytes, local epochs and "
        f"seconds of FIPA's {ROUNDS} rounds; rounds / MB / seconds to an error."
    )
    return Table(f"detail-{problem}", caption, heads, rows)


def reached(
    name: str,
    problems: Sequence[str],
    entries: Sequence[Entry],
    asked: Mapping[str, float | None],
    rounds: int,
) -> Table:
    """A row per problem: FIPA's error beside Gauss-Newton's, DeepXDE's and FedAvg's.

    Args:
        name: Of the suite.
        problems: Its problems.
        entries: Its runs; the longest of each start.
        asked: The errors aimed at.
        rounds: After so many, or at the end of a shorter run, FIPA and Gauss-Newton
            are compared; of DeepXDE and FedAvg the lowest error of a run counts.
    """
    rows: list[Sequence[Cell]] = []
    runs = Runs(sorted(entries, key=lambda e: e["seed"]))
    for problem in problems:
        mine = runs.of(problem, "fipa")
        if not mine:
            continue
        ours = middle(runs.errors(problem, "fipa", rounds))
        central = middle(runs.errors(problem, "gauss_newton", rounds))
        last = mine[0]
        rows.append(
            [
                problem,
                last["clients"],
                last["parameters"],
                ours,
                asked.get(problem.partition(":")[0]),
                _each(last),
                central,
                f"{ours / central:.2g}" if ours and central else None,
                middle([min(e["error"]) for e in runs.of(problem, "deepxde")]),
                *_averaging(runs.of(problem, "fedavg")),
                f"{len(mine)} x {median(e['round'][-1] for e in mine):.0f}",
                f"{mean(mean(e['rank']) for e in mine):.0f}" if last["rank"] else None,
                megabytes(middle([e["bytes"][-1] for e in mine])),
                f"{mean(e['seconds'][-1] / e['round'][-1] for e in mine):.2g}",
            ]
        )
    heads = ["problem", "clients", "p", "FIPA", "asked", "of each output"]
    heads += ["centralised Gauss-Newton", "FIPA / it", "DeepXDE", "FedAvg"]
    heads += ["its rounds x epochs", "FIPA: starts x rounds"]
    caption = f"Suite {name}: error after {rounds} rounds, median over the starts."
    return Table(name, caption, [*heads, "mean rank", "MB", "s / round"], rows)


def _each(entry: Entry) -> str | None:
    """``u 1.2e-9, k 3.4e-7``: the last errors of the outputs and unknowns."""
    found = entry.get("each", {}).items()
    return ", ".join(f"{name} {plain(value)}" for name, value in found) or None


def _averaging(entries: Sequence[Entry]) -> list[Cell]:
    if not entries:
        return [None, None]
    lowest = middle([min(e["error"]) for e in entries])
    rounds = median(e["round"][-1] for e in entries)
    epochs = entries[0]["epochs"][-1] // entries[0]["round"][-1]
    return [lowest, f"{rounds:.0f} x {epochs}"]


def _at(entries: Sequence[Entry], axis: str) -> float | None:
    """Median of what the starts have spent after ``ROUNDS`` rounds."""
    return middle(
        [
            max(x for x, k in zip(e[axis], e["round"], strict=True) if k <= ROUNDS)
            for e in entries
        ]
    )


def _pace(entries: Sequence[Entry]) -> float:
    """Median seconds a round, of the first ``ROUNDS`` or of a shorter run."""
    last = [max(k for k in e["round"] if k <= ROUNDS) for e in entries]
    return median(
        e["seconds"][e["round"].index(k)] / k
        for e, k in zip(entries, last, strict=True)
    )


def _equal(pairs: Sequence[tuple[Entry, Entry]], axis: str) -> Cell:
    """The second's error when it has spent what the first has in ``ROUNDS`` rounds."""
    errors, whole = [], True
    for one, two in pairs:
        level = _at([one], axis)
        if level is None:
            continue
        errors.append(error(two, axis, level))
        whole &= two[axis][-1] >= level
    found = middle(errors)
    return found if whole or found is None else AtMost(found)


def _costs(entries: Sequence[Entry], target: float, central: bool) -> Cell:
    rounds, sent, seconds = (
        middle([first(e, axis, target) for e in entries])
        for axis in ("round", "bytes", "seconds")
    )
    if rounds is None:
        return None
    parts = [f"{rounds:.0f}", "-" if central else megabytes(sent), f"{seconds:.2g}"]
    return " / ".join(str(part) for part in parts)


def _kind(entry: Entry) -> str:
    return "MSE" if entry["quantity"] == "mse" else "relative L2"
