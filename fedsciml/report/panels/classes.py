"""Classes on the tests: how many are right, which are mistaken, and how surely."""

import numpy as np
from numpy.typing import NDArray

from fedsciml import plot
from fedsciml.analysis.metrics import predicted
from fedsciml.likelihoods import Reliability
from fedsciml.report.markup import Html, details, joined, picture, pictures, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, listed, number

MOST = 20
"""Classes of which all pairs are a table."""

SHARP = 16
"""Pixels along a cell of a map, which stays sharp where it is stretched."""

WORST = 5
"""Mistakes that are told in words."""


def panel(story: Story) -> Panel | None:
    """Confusion and reliability of each term of the tests that has classes."""
    problem, theta = story.problem, story.theta
    if problem is None or theta is None:
        return None
    told, parts = [], []
    personal = story.result.personal if story.result else {}
    for k, (z, y) in enumerate(predicted(problem, theta, personal)):
        if y is None or not len(y):
            continue
        term = problem.tests[k]
        counts = term.likelihood.confusion(z, y)
        bins = term.likelihood.reliability(z, y)
        if counts is None or bins is None:
            continue
        found = counts.cpu().numpy()
        told.append(_told(found, term.likelihood.metrics(z, y)["calibration"]))
        tables = [_confused(found), _each(found), _bins(bins)]
        shown = pictures(_mistakes(found), _reliable(bins), columns=2)
        parts += [shown, details("As numbers", *tables)]
    if not told:
        return None
    return Panel("Classes", " ".join(told), joined(parts), 32)


def _told(counts: NDArray[np.int64], calibration: float) -> str:
    """How many are right, and which mistakes are the most frequent."""
    n, right = int(counts.sum()), int(np.trace(counts))
    text = f"Of {count(n, 'test row')} {right:,} are right, {right / n:.1%}."
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:WORST]
    pairs = [np.unravel_index(k, wrong.shape) for k in order]
    most = [f"{i} for {j} ({wrong[i, j]})" for i, j in pairs if wrong[i, j]]
    if most:
        text += f" Most often mistaken: {listed(most)}."
    return (
        f"{text} The probabilities given to the choices are off by "
        f"{number(calibration, 2)} in the mean (expected calibration error)."
    )


def _mistakes(counts: NDArray[np.int64]) -> Html:
    """A map of the mistakes; what is right is left empty."""
    c = len(counts)
    part = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(part, np.nan)
    if not np.nansum(part):
        return Html()
    view = plot.Map(
        np.kron(part, np.ones((SHARP, SHARP))),
        ((-0.5, c - 0.5), (-0.5, c - 0.5)),
        ("taken for class", "class"),
        (0.0, float(np.nanmax(part))),
        equal=True,
    )
    wrong = int(counts.sum() - np.trace(counts))
    caption = "Mistakes, as parts of the class; what is right is left empty"
    return picture(plot.coloured(view), caption, f"{count(wrong, 'row')} in all.")


def _reliable(bins: Reliability) -> Html:
    """What a model says of its choices, and what is true."""
    told, right = bins.told.tolist(), bins.right.tolist()
    curves = [
        plot.Curve("calibrated", [0, 1], [0, 1], 6, 1),
        plot.Curve("this model", told, right, 0, None, 7, size=8),
    ]
    view = plot.Panel(
        *("", "probability given to the choice", "part that is right", curves),
        *("linear", "linear"),
        xlim=(0, 1.02),
        ylim=(-0.04, 1.04),
    )
    legend = [("calibrated", 6, 1), ("this model", 0, 9)]
    return picture(plot.chart(view, 380, 330), "Choices by probability", "", legend)


def _confused(counts: NDArray[np.int64]) -> Html:
    if len(counts) > MOST:
        return Html()
    heads = ["class", *(f"as {j}" for j in range(len(counts)))]
    rows = [[str(i), *map(str, row)] for i, row in enumerate(counts.tolist())]
    return table("Rows of each class, by what they are taken for", heads, rows)


def _each(counts: NDArray[np.int64]) -> Html:
    right, truly, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    rows = [
        [str(k), f"{truly[k]:,}", *(_part(right[k], of[k]) for of in (truly, taken))]
        for k in range(len(counts))
    ]
    heads = ["class", "rows", "found (recall)", "rightly said (precision)"]
    return table("Each class", heads, rows)


def _bins(bins: Reliability) -> Html:
    rows = [
        [number(told), number(right), f"{int(n):,}"]
        for told, right, n in zip(*(part.tolist() for part in bins), strict=True)
    ]
    heads = ["probability given", "part that is right", "rows"]
    return table("Choices by probability", heads, rows, words=0)


def _part(some: int, whole: int) -> str:
    return f"{some / whole:.1%}" if whole else "none"
