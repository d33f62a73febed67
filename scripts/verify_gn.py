"""Is FIPA's step the centralised Gauss-Newton step? One table; exit status 1 if not.

What is compared, and how far: ``fedsciml/command/verification.py``.

    python scripts/verify_gn.py                      # minutes: everything
    python scripts/verify_gn.py --problems sine2 allen_cahn --json -
"""

import sys
from pathlib import Path

import _common  # before torch, see there

from fedsciml.command.suite import SUITE
from fedsciml.command.verify import told


def main() -> int:
    """Check, print, and say by the exit status whether a tolerance was missed."""
    parser = _common.parser(__doc__)
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=SUITE,
        default=SUITE,
        metavar="NAME",
        help=f"default all: {', '.join(SUITE)}",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the checks there; - for standard output",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="problems side by side; default 2"
    )
    todo = parser.parse_args()
    return told(todo.problems, todo.jobs, todo.json)


if __name__ == "__main__":
    sys.exit(main())
