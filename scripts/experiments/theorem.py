r"""Theorem 1 of FIPA: with the published schedule the gap to Gauss-Newton is O(1 / K).

Chang, He, Hao (2026), arXiv 2601.13608. In round k client m keeps the eigenvalues of
its gramian above delta lambda_1 and takes tau steps of gradient descent,

    delta = min(C / (k (|g_m| + |sum_j g_j|)), 0.99),
    tau   = ceil(log(C' / (k |g_m|)) / log(1 - eta lambda_kept)),

lambda_kept the least eigenvalue kept; published C = 1, C' = 0.1 and tau at most 200.
The gap is |theta_K - theta_K^gn| between the trajectories from one start, both with
the step length 1/2. Why it should be so: let G(theta) = theta + D_gn(theta) / 2 be the
centralised map and theta_{k+1} = G(theta_k) + e_k FIPA's. If |e_k| <= a / k, and
|G(x) - G(y)| <= q |x - y| with q < 1 along both paths, then

    gap_{k+1} <= q gap_k + a / k,   so   gap_K = O(1 / K).

Each link was measured, along the second half of the rounds, as tests/theorem.py does:

eigenvalue_low    least eigenvalue of any client's J_m^T J_m over the largest: the
                  schedule makes |e_k| = O(1 / k) if it is bounded away from zero,
range_missed      and if g_m is in the range of what is kept: largest
                  |(1 - P_kept) g_m| / |g_m|,
contraction       q: largest |G(x) - G(y)| / |x - y|, sampled about the path and
                  between the paths,
lipschitz         largest |J(x) - J(y)| / |x - y| at the same pairs, over |J|,
perturbation      of a: largest k |e_k|, over that of the first half. Near 2 where e_k
                  does not fall at all, at most about 1 where it falls like 1 / k,
clipped           share of the tau that the limit cut short.

`affine` (a linear model) and `logistic` (a single neuron) have more rows than
parameters and contradicting targets: everything holds, for suitable C and C'. `sine2`
is a network of the suite, with a tenth of its points and a damped step: its eigenvalues
fall to zero, what is dropped does not fall with k, and where the gradients fall delta
rises again. With the published limit of tau, too, e_k stops falling.
"""

from collections.abc import Sequence

from experiments._drawing import Drawing, chosen
from experiments._experiment import Experiment
from experiments._record import Entry, select
from experiments._table import Table
from experiments._trajectories import LEAST, RECORD
from experiments._words import title
from fedsciml import plot
from fedsciml.plot import Curve, Panel

PROBLEMS = {"affine": "linear", "logistic": "neuron", "sine2": title("sine2")}
"""In words."""


def table(entries: Sequence[Entry]) -> Table:
    """The slopes, and what the theorem assumes."""
    heads = ["problem", "constants", "slope [95 %]", "least eigenvalue"]
    heads += ["gradient missed", "contraction q", "perturbation", "steps cut short"]
    rows = []
    for e in select(entries, sweep="theorem"):
        slope, low, high = (
            f"{e[k]:z.2f}" for k in ("slope", "slope_low", "slope_high")
        )
        of = e["assumptions"]
        row = [f"`{e['problem']}`", e["kind"], f"{slope} [{low}, {high}]"]
        row += [f"{of[k]:.1e}" for k in ("eigenvalue_low", "range_missed")]
        row += [f"{of['contraction']:.3g}", f"{of['perturbation']:.2g}"]
        rows.append([*row, f"{of['clipped']:.0%}".replace("%", " %")])
    caption = "What the theorem assumes, and the slope of the gap."
    return Table("theorem", caption, heads, rows, "docs/consistency.md")


def theorem(entries: Sequence[Entry]) -> plot.Figure:
    """The gap at the horizon K under the published schedule, beside 1 / K."""
    runs = chosen(entries, sweep="theorem")
    curves = []
    for number, e in enumerate(runs):
        slope = f"{e['slope']:.2f} [{e['slope_low']:.2f}, {e['slope_high']:.2f}]"
        kind = e["kind"].replace("tau <=", r"$\tau \leq$")
        label = f"{PROBLEMS[e['problem']]}, {kind}: slope {slope}"
        gap = [max(g, LEAST) for g in e["gap"]]
        curves.append(Curve(label, e["K"], gap, number, number, number + 1))
    horizons = runs[0]["K"]
    line = [runs[0]["gap"][-1] * horizons[-1] / k for k in horizons]
    curves.append(Curve("$1 / K$", horizons, line, 6, 3))
    panel = Panel("", "horizon $K$", "gap to centralised Gauss-Newton", curves)
    return plot.panels([panel], 1, width=plot.COLUMN, height=3.0, legend="below")


EXPERIMENT = Experiment(
    "theorem",
    __doc__,
    tables=lambda entries: [table(entries)],
    drawings={
        "trajectory-theorem": Drawing(
            theorem,
            "The gap to centralised Gauss-Newton at the horizon K under the "
            "published schedule, its fitted slope with a 95 % interval, and the line "
            "1/K; of a linear model, a neuron and a network.",
        )
    },
    record=RECORD,
)
