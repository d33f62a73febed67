"""Draw the figures in figures/ from the records in figures/data/; nothing is trained.

    python scripts/make_figures.py

The histories `allen_cahn-METHOD.jsonl` are those of a run of `make demo`.
"""

import json
from pathlib import Path

from fedsciml import plot

FIGURES = Path(__file__).parents[1] / "figures"
METHODS = ("fipa", "fedavg", "gauss_newton")


def main() -> None:
    """Draw every figure."""
    histories = {
        method: [json.loads(line) for line in path.read_text().splitlines()]
        for method in METHODS
        for path in [FIGURES / "data" / f"allen_cahn-{method}.jsonl"]
    }
    figure = plot.convergence(histories, "relative_l2", "allen_cahn")
    plot.save(figure, FIGURES / "allen_cahn-convergence.png")


if __name__ == "__main__":
    main()
