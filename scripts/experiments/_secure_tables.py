"""The tables of experiment `secure`."""

from collections.abc import Sequence
from statistics import mean, median

from experiments._record import Entry, grouped, select
from experiments._runs import reached
from experiments._table import Cell, Table
from experiments.observer import chance

PAGE = "docs/privacy.md"
BOTH = "in turns"
"""Plain and secure sums, one round after the other."""

METHODS = ("fipa", "fedavg", "gradient_only")
"""Of which a round is weighed."""


def reading(points: int, others: int, clients: int) -> str:
    """``20 beside 4 x 100``."""
    return f"{points} beside {clients - 1} x {others}"


def read_words(setting: str) -> tuple[int, int, int]:
    """Points, those of each other client, and how many clients there are."""
    points, _, rest = setting.partition(" beside ")
    others, _, each = rest.partition(" x ")
    return int(points), int(each), int(others) + 1


def tables(entries: Sequence[Entry]) -> list[Table]:
    """All of them."""
    makers = (errors, cost, killed, liar, observer, difference)
    return [make(select(entries, kind=make.__name__)) for make in makers]


def errors(entries: Sequence[Entry]) -> Table:
    """A row per problem: plain and secure, medians over the starts and the worst."""
    heads = ["problem", "clients", "starts", "rounds", "error", "plain", "secure"]
    heads += ["worst, plain", "worst, secure", "seconds, secure / plain"]
    rows: list[list[Cell]] = []
    for (problem, rounds), found in grouped(entries, "setting", "rounds").items():
        ways = [select(found, way=way) for way in ("plain", "secure")]
        ends = [[e["error"][-1] for e in way] for way in ways]
        row: list[Cell] = [problem.partition(":clients")[0], ways[0][0]["clients"]]
        quantity = ways[0][0]["quantity"]
        row += [len(ways[0]), rounds, "root MSE" if quantity == "mse" else quantity]
        row += [f"{median(end):.1e}" for end in ends]
        row += [f"{max(end):.1e}" for end in ends]
        seconds = [sum(sum(e["seconds"]) for e in way) for way in ways]
        rows.append([*row, f"{seconds[1] / seconds[0]:.2f}"])
    caption = "Errors with secure sums and with plain ones, at the end."
    return Table("secure-errors", caption, heads, rows, PAGE)


def cost(entries: Sequence[Entry]) -> Table:
    """A row per method and number of clients."""
    heads = ["method", "clients", "kB, plain", "kB, secure", "ratio", "up", "down"]
    heads += ["numbers", "letters", "keys, once", "ratio, first round", "seconds"]
    rows: list[list[Cell]] = []
    for method in METHODS:
        found = select(entries, case=method)
        for clients, both in grouped(found, "clients").items():
            (plain,), (secure,) = (select(both, way=w) for w in ("plain", "secure"))
            one, two = (sum(e["round"].values()) for e in (plain, secure))
            row: list[Cell] = [method, clients, f"{one / 1e3:.3g}", f"{two / 1e3:.3g}"]
            row += [f"{two / one:.2f}"]
            row += [f"{secure[way] / plain[way]:.2f}" for way in ("up", "down")]
            row += [f"{secure['round'].get(w, 0) / two:.0%}" for w in heads[7:9]]
            first = sum(secure["first"].values())
            row += [f"{secure['first'].get('keys', 0) / 1e3:.3g} kB"]
            row += [f"{first / sum(plain['first'].values()):.2f}"]
            rows.append([*row, f"{secure['seconds'] / plain['seconds']:.2f}"])
    caption = "A round with secure sums against one with plain sums."
    return Table("secure-cost", caption, heads, rows, PAGE)


def killed(entries: Sequence[Entry]) -> Table:
    """A row per death."""
    heads = ["killed", "in sum", "back", "starts", "round counts", "a step in it"]
    heads += ["error at end", "worst", "rounds to 1e-10", "more"]
    rows: list[list[Cell]] = []
    base = {e["seed"]: e["to"] for e in select(entries, case="nobody")}
    for word, found in grouped(entries, "case").items():
        who, number, back = word.split(", ") if word != "nobody" else (word, "", "")
        ends = [e["end"] for e in found]
        row: list[Cell] = [
            who,
            number.removeprefix("sum "),
            back.replace("back", "at once"),
        ]
        counts = sum(len(e["error"]) == e["rounds"] for e in found)
        steps = sum(e["steps"][0] > 0 for e in found)
        row += [len(found), f"{counts} of {len(found)}", f"{steps} of {len(found)}"]
        row += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
        row += [reached([e["to"] for e in found])]
        rows.append([*row, f"{median(e['to'] - base[e['seed']] for e in found):g}"])
    caption = "Clients that are killed after masking."
    return Table("secure-killed", caption, heads, rows, PAGE)


def liar(entries: Sequence[Entry]) -> Table:
    """A row per lie."""
    heads = ["lie", "starts", "found in round", "named", "rounds without step"]
    heads += ["error at end", "worst", "rounds to 1e-10"]
    rows: list[list[Cell]] = []
    for word, found in grouped(entries, "case").items():
        ends, rounds = [e["end"] for e in found], [e["found"] for e in found]
        named = sorted({m for e in found for m in e["who"]})
        lies = word not in ("nobody", "the liar is absent")
        row: list[Cell] = [word, len(found)]
        row += [", ".join(map(str, rounds)) if lies else ""]
        row += [", ".join(map(str, named)) if lies else ""]
        row += [f"{median(e['still'] for e in found):g}"]
        row += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
        rows.append([*row, reached([e["to"] for e in found])])
    caption = "One of nine clients lies."
    return Table("secure-liar", caption, heads, rows, PAGE)


def observer(entries: Sequence[Entry]) -> Table:
    """A row per number of points and what is seen."""
    heads = ["points of each of 4 sites", "seen", "guesses", "by chance"]
    heads += ["row space", "gramian", "told from another site's"]
    rows: list[list[Cell]] = []
    for setting in sorted({e["setting"] for e in entries}, key=read_words):
        for word in ("masked", "opened"):
            found = select(entries, setting=setting, case=word)
            if not found:
                continue
            n, guesses = read_words(setting)[0], found[0]["points"]
            seen = "one site's message" if word == "masked" else "the sum of all"
            row: list[Cell] = [n, seen, guesses, f"{chance(guesses):.1%}"]
            row += [_read(found), _read(found, "fitted_")]
            right = [e["right"] for e in found if "right" in e]
            rows.append([*row, f"{mean(right):.1%}" if right else ""])
    caption = "Points found from a masked message and from the opened sum."
    return Table("secure-observer", caption, heads, rows, PAGE)


def difference(entries: Sequence[Entry]) -> Table:
    """A row per number of points, distance, number of sums and way of reading."""
    heads = ["points", "others", "moved by", "sums", "read by", "gramian off by"]
    heads += ["by chance", "row space", "gramian"]
    rows: list[list[Cell]] = []
    for setting in sorted({e["setting"] for e in entries}, key=read_words):
        points, others, clients = read_words(setting)
        found = grouped(select(entries, setting=setting), "case", "way")
        for (case, way), mine in found.items():
            far, _, number = case.partition(" x ")
            if way == "subtracted" and number != "1":
                continue
            off = median(e["gramian"] for e in mine)
            row: list[Cell] = [points, f"{clients - 1} x {others}"]
            row += [f"{float(far):.0%}", number, way, f"{off:.0e}"]
            row += [f"{chance(points):.1%}", _read(mine), _read(mine, "fitted_")]
            rows.append(row)
    caption = "The points of a site that dropped out, from a difference of sums."
    return Table("secure-difference", caption, heads, rows, PAGE)


def _read(entries: Sequence[Entry], attack: str = "") -> str:
    """``92%, 2e-11``."""
    values = [e[f"{attack}value"] for e in entries]
    values = [value for value in values if value is not None]
    text = f"{mean(e[f'{attack}found'] for e in entries):.0%}"
    return text + (f", {median(values):.0e}" if values else "")
