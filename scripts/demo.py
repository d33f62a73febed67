"""A regression and a differential equation, federated and centralised, side by side."""

import argparse
import sys
from pathlib import Path

import _common  # noqa: F401 - before torch, see there
import torch

from fedsciml import Result, methods, plot, problems, run
from fedsciml.command.terminal import new_directory, size, status, terminable
from fedsciml.command.tuning import tuned

PROBLEMS = ("sine2", "allen_cahn")
METHODS = ("fipa", "fedavg", "gauss_newton")
ROUNDS = 50


@terminable()
def main() -> int:
    """Train, print one table, draw; returns the exit status."""
    try:
        _demo()
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", [])
        print("Interrupted.", *notes, sep="\n", file=sys.stderr)
        return status(error)
    return 0


def _demo() -> None:
    torch.set_num_threads(1)  # problems as small as these only wait for a second
    out = new_directory("demo")
    results: dict[tuple[str, str], Result] = {}
    for name in PROBLEMS:
        for method in METHODS:
            results[name, method] = train(name, method, out / f"{name}-{method}")
    print(table(results))
    for name in PROBLEMS:
        mine = {method: results[name, method] for method in METHODS}
        histories = {method: result.history for method, result in mine.items()}
        plot.pictures(mine[METHODS[0]], out, histories, f"{name}-")
    names = ", ".join(sorted(path.name for path in out.glob("*.png")))
    print(
        "\nfedavg runs with the options that a search found best; gauss_newton "
        "decomposes the\nwhole pooled Jacobian by LAPACK's full SVD, fipa the clients' "
        f"by a range finder.\n\nRecords and pictures ({names})\nare in {out}."
    )


def train(name: str, method: str, out: Path) -> Result:
    """One run, FedAvg and its kin with the options that a search found best."""
    try:
        options = tuned(name, method)
    except ValueError:
        options = {}
    return run(
        problems.load(name, clients=2),
        methods.load(method, **options),
        ROUNDS,
        out=out,
        progress=True,
    )


def table(results: dict[tuple[str, str], Result]) -> str:
    """All runs, a line each."""
    form = "{:12}{:14}{:>18}{:>12}{:>8}{:>10}{:>10}{:>9}"
    heads = (
        "problem",
        "method",
        "relative L2 error",
        "test MSE",
        "rounds",
        "sent up",
        "sent down",
        "seconds",
    )
    lines = [form.format(*heads)]
    for (name, method), result in results.items():
        relative_l2, mse = result.errors()
        last = result.history[-1]
        lines.append(
            form.format(
                name,
                method,
                f"{relative_l2:.1e}",
                f"{mse:.1e}",
                last.round,
                size(last.bytes_up) if last.bytes_up else "-",
                size(last.bytes_down) if last.bytes_down else "-",
                f"{last.seconds:.1f}",
            )
        )
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.exit(main())
