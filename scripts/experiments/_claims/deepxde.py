"""The prose of docs/deepxde.md."""

from experiments._numbers import digits, record, word
from experiments._prose import Claim, Setting
from experiments._record import grouped


def slower(way: str, than: str) -> str:
    """Of two ways to residual and Jacobian, least seconds in those of the other."""
    (paths,) = record("paths.json")
    seconds = {e["way"]: float(e["seconds"]) for e in paths["paths"]}
    return digits(seconds[way] / seconds[than])


def starts() -> int:
    """Of the script and method that has the fewest."""
    runs = grouped(record("deepxde.json"), "example", "method", "clients")
    return min(len(of) for of in runs.values())


FAST = "DeepXDE's pde on jets"

CLAIMS = [
    Claim(
        "take {} times as long as those of a residual written on jets. Other modules "
        "take a general path, {} times slower; `vmap(jacrev)` takes {} times as long "
        "and nested autograd row by row {} times (",
        lambda: [
            slower(FAST, "residual written on jets"),
            slower("DeepXDE's pde and net, general path", FAST),
            slower("vmap(jacrev) of a point", FAST),
            slower("nested autograd, row by row", FAST),
        ],
    ),
    Claim("Number of starts: {}.", lambda: [word(starts())]),
]

SETTINGS: list[Setting] = [
    "(Burgers, 900 rows, p = 1185, one core",
    "(rate 1e-3, at most 5000 iterations and half",
    "by FIPA with 2 and with 4 clients",
    "each run had 40 of them",
    "at most 100 rounds too",
    "networks of 900 to 2000 parameters, 30 to 2800 points",
    "start at 2 (`diffusion_inverse`) and 1 (`lorenz_inverse`)",
    "With 200 anchors for each term",
    "above 1e-8 of the largest",
    # tests/deepxde/test_anchors_of_conditions.py
    "less than 1e-7 of the clients' rows",
]
