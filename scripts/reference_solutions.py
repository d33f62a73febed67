"""Make the table of the reference solution of `allen_cahn_time` in `problems/data`.

It is solved by a method that shares nothing with the networks, twice, the second time
with a coarser resolution; their difference is printed.

    python scripts/reference_solutions.py
"""

import io

import _common
import numpy as np
from scipy.integrate import solve_ivp

from fedsciml.federation.files import replace_file
from fedsciml.problems import allen_cahn_time
from fedsciml.problems._chebyshev import collocation

Table = dict[str, np.ndarray]

COARSE = 0.8
"""Resolution of the second solution."""


def allen_cahn(resolution: float = 1.0) -> Table:
    """u [101, 101] at x [101] in [0, 1] and t [101] in [0, 1].

    u is even, so x >= 0 with u_x = 0 at x = 0 and u = -1 at x = 1 is enough. Chebyshev
    collocation in x, of degree 480 times the resolution; the Radau method in t, of
    order 5, with tolerance 1e-12.
    """
    degree = round(480 * resolution)
    space = collocation(degree, 0.0, 1.0)
    inner = slice(1, degree)
    slope, second = space.derivative[-1], space.derivative @ space.derivative

    def whole(u: np.ndarray) -> np.ndarray:
        """With the ends: -1, and the value that makes the slope at x = 0 vanish."""
        right = -np.ones_like(u[:1])
        left = -(slope[0] * right + slope[inner] @ u) / slope[-1]
        return np.concatenate([right, u, left])

    zero = np.zeros(degree - 1)
    constant = allen_cahn_time.DIFFUSIVITY * (second @ whole(zero))[inner]
    linear = allen_cahn_time.DIFFUSIVITY * (second @ whole(np.eye(degree - 1)))[inner]
    linear -= constant[:, None]

    x = space.points[inner]
    t = np.linspace(0, 1, 101)
    solved = solve_ivp(
        lambda _, u: linear @ u + constant - 5 * (u**3 - u),
        (0, 1),
        x**2 * np.cos(np.pi * x),
        method="Radau",
        t_eval=t,
        jac=lambda _, u: linear - np.diag(5 * (3 * u**2 - 1)),
        rtol=1e-12,
        atol=1e-12,
    )
    at = np.linspace(0, 1, 101)
    return {"x": at, "t": t, "u": space.interpolate(whole(solved.y), at)}


def main() -> None:
    """Make the table."""
    _common.parser(__doc__).parse_args()
    table, coarse, path = allen_cahn(), allen_cahn(COARSE), allen_cahn_time.TABLE
    change = max(float(np.abs(table[k] - coarse[k]).max()) for k in table)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **table)
    replace_file(path, content.getvalue())
    print(f"{path}: a coarser resolution changes it by at most {change:.1e}")


if __name__ == "__main__":
    main()
