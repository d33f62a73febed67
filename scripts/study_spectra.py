"""Singular values of the clients' and the pooled Jacobian along a run of FIPA.

At the start and after some rounds with the default options: the singular values, how
many lie above the cut-off in use, and the principal angles in radians between the row
spaces of the sketches of neighbours, client m and m + 1, at some ranks: 0 where both
see the same direction of theta, pi / 2 where one sees nothing of the other's.

    python scripts/study_spectra.py              # about 3 minutes: what is missing
    python scripts/study_spectra.py --problems allen_cahn --fresh
"""

import argparse
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import _common  # noqa: F401  before torch, see there
import torch
from _common import Entry
from scipy.linalg import subspace_angles
from study_trajectory import short, started
from torch import Tensor

import problems
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.record import replace_file
from fedsciml.linalg.sketch import Sketch, from_jacobian
from fedsciml.methods import conclude
from fedsciml.methods.fipa import Fipa, Opening
from fedsciml.problem import Problem
from fedsciml.residual import System

RECORD = Path(__file__).parents[1] / "figures" / "data" / "spectra.json"
PROBLEMS = ("allen_cahn", "sine8", "poisson2d")
ROUNDS = (0, 5, 20, 50)
RANKS = (5, 10, 20)
POOLED = -1
EPS = torch.finfo(torch.float64).eps


def places(problem: Problem) -> Iterator[tuple[int, Tensor, float]]:
    """Rounds done, theta there, and the relative cut-off of the round that follows."""
    method = Fipa()
    clients = InProcess().connect(problem, method)
    state = method.start(started(problem), 0)
    for done in range(max(ROUNDS) + 1):
        if done in ROUNDS:
            opening = next(method.round(state))
            assert isinstance(opening, Opening)
            yield done, opening.theta, opening.reach
        state, _ = conclude(method.round(state), clients.exchange)


def sketched(system: System, theta: Tensor) -> Sketch:
    """All of a client's problem."""
    linear = system.linearise(theta)
    return from_jacobian(linear.jacobian(), linear.residual)


def angles(one: Sketch, other: Sketch) -> dict[str, list[float]]:
    """Principal angles of the leading row spaces, the largest first, by rank."""
    most = min(one.rank, other.rank)
    first, second = (s.factor / s.singular_values.unsqueeze(-1) for s in (one, other))
    return {
        str(rank): short(subspace_angles(first[:rank].mT, second[:rank].mT))
        for rank in RANKS
        if rank <= most
    }


def spectra(name: str) -> list[Entry]:
    """The entries of a problem."""
    problem = problems.load(name)
    clients = [System(problem, shard) for shard in problem.shards()]
    pooled = System(problem, problem.pooled())
    entries = []
    for done, theta, reach in places(problem):
        whole = torch.linalg.svdvals(pooled.linearise(theta).jacobian())
        top = float(whole[0])
        found = [sketched(system, theta) for system in clients]
        between = [*(angles(*pair) for pair in pairwise(found)), {}]
        values = {POOLED: whole}
        values |= {m: sketch.singular_values for m, sketch in enumerate(found)}
        for client, s in values.items():
            entries.append(
                {
                    "problem": name,
                    "round": done,
                    "client": client,
                    # What is lower is rounding.
                    "singular_values": short(s[s > EPS * top].tolist()),
                    "cutoff": short([reach * top])[0],
                    "above": int((s > reach * top).sum()),
                    "angles": {} if client == POOLED else between[client],
                }
            )
    return entries


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    torch.set_num_threads(1)
    entries = json.loads(todo.out.read_text()) if todo.out.is_file() else []
    for name in todo.problems:
        if todo.fresh:
            entries = [e for e in entries if e["problem"] != name]
        if any(e["problem"] == name for e in entries):
            continue
        entries += spectra(name)
        todo.out.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        replace_file(todo.out, f"[\n{lines}\n]\n")
    print(f"{todo.out}: {len(entries)} entries; draw it by make figures.")


if __name__ == "__main__":
    main()
