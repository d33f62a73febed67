"""Write made sensors' data of an inverse problem, one CSV file per site.

    python scripts/sensors.py heat_inverse --noise 0.01 --clients 4 --out sites
    python scripts/run.py heat_inverse --clients 4 --set data=sites

The numbers are written with all their digits: a run on the files is a run on the data
that the problem makes itself.
"""

from collections.abc import Sequence
from pathlib import Path

import _common  # before torch, see there

from fedsciml import problems
from fedsciml.problems._sensors import write

INVERSE = ("burgers_inverse", "heat_inverse")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the data and write them."""
    parser = _common.parser(__doc__)
    parser.add_argument("problem", choices=INVERSE, help="whose solution is measured")
    parser.add_argument("--clients", type=int, default=4, help="sites, default 4")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="standard deviation over the root mean square of the values, default 0",
    )
    parser.add_argument("--out", type=Path, required=True, help="new directory")
    given = parser.parse_args(arguments)
    try:
        problem = problems.load(
            given.problem, clients=given.clients, seed=given.seed, noise=given.noise
        )
        given.out.mkdir(parents=True)
    except FileExistsError:
        parser.error(f"{given.out} is there already; give a new directory.")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    write(problem, given.out)
    print(f"{problem.clients} files in {given.out}")


if __name__ == "__main__":
    main()
