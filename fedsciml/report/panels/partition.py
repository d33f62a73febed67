"""Who holds which points."""

import numpy as np
import torch

from fedsciml import plot
from fedsciml.problem import Problem
from fedsciml.report.markup import Html, beside, joined, picture, table
from fedsciml.report.panels._series import FEW, named
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, listed

CLASSES = 12
"""Classes that are a table; more are a map."""

MOST = 1500
"""Points that are drawn."""


def panel(story: Story) -> Panel | None:
    """Points of each client, and where they lie."""
    problem = story.problem
    counts = None if problem is None else _counts(story, problem)
    if problem is None or counts is None:
        return None
    terms, sizes = [term.name for term in problem.terms], [sum(own) for own in counts]
    total = sum(sizes)
    rows = [
        [f"client {m}", *(f"{n:,}" for n in own), f"{sum(own) / max(total, 1):.1%}"]
        for m, own in enumerate(counts)
    ]
    told = f"{count(total, 'point')} of {listed(terms)}"
    if len(counts) > 1:
        low, high = min(sizes), max(sizes)
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        told += f" at {len(counts)} clients, {span} each"
    told += "; the method pools them." if story.pooled and len(counts) > 1 else "."
    drawing, labels = Html(), Html()
    if story.private:
        told += " The run was private: its points are not drawn."
    elif problem.partial:
        told += " They are at the sites, and not known here."
    elif plot.drawable(problem):
        drawing = _drawn(problem, total)
    else:
        labels = _labelled(problem)
    held = table("Points by client and term", ["client", *terms, "part of all"], rows)
    body = joined([beside(drawing, held, len(rows)), labels])
    return Panel("Who holds what", told, body, 80)


def _counts(story: Story, problem: Problem) -> list[list[int]] | None:
    """Points of each term at each client; None if they are not known here."""
    if not problem.partial:
        return [problem.counts(m) for m in range(problem.clients)]
    known = story.configuration.get("flower", {}).get("counts")
    if known is None:
        return None
    late = {int(m): own for line in story.history for m, own in line.joined.items()}
    return [list(late.get(m, own)) for m, own in enumerate(known)]


def _labelled(problem: Problem) -> Html:
    """Which classes each client has; nothing where there are none."""
    counts = plot.labelled(problem)
    if counts is None:
        return Html()
    clients, classes = counts.shape
    if classes <= CLASSES and clients <= FEW:
        rows = [
            [f"client {m}", *map(str, row)] for m, row in enumerate(counts.tolist())
        ]
        heads = ["", *(f"class {c}" for c in range(classes))]
        return table("Rows by class", heads, rows)
    box = (-0.5, classes - 0.5), (-0.5, clients - 0.5)
    sharp = np.kron(counts.astype(float), np.ones((8, 8)))
    view = plot.Map(sharp, box, ("class", "client"))
    caption = "Rows of each class at each client"
    return picture(plot.coloured(view), caption, f"Up to {counts.max()}.")


def _drawn(problem: Problem, total: int) -> Html:
    """All points, or some of them, in the colours of the clients."""
    flat, clients = len(problem.coordinates) == 1, problem.clients
    generator, curves = torch.Generator().manual_seed(0), []
    for shard in problem.shards():
        for rows in shard.rows:
            points, bulk = rows.points, rows.term == 0
            if total > MOST:
                some = torch.randperm(len(points), generator=generator)
                points = points[some[: -(-len(points) * MOST // total)]]
            y = [float(shard.client)] * len(points) if flat else points[:, 1].tolist()
            # The bulk in dots, conditions and data in marks of their own.
            mark, size = (0, 5) if bulk else (rows.term % len(plot.MARKERS), 4)
            x = points[:, 0].tolist()
            curves.append(plot.Curve("", x, y, shard.client, None, mark, size=size))
    across, *others = problem.coordinates
    view = plot.Panel(
        *("", across, "" if flat else others[0], curves, "linear", "linear"),
        ylim=(clients - 0.5, -0.5) if flat else None,
        yticks=named(range(clients)) if flat else {},
    )
    caption = "Points" if total <= MOST else f"Some {MOST:,} of the points"
    if len(others) > 1:
        caption += ", seen along the other coordinates"
    legend = [] if flat else [(f"client {m}", m, 9) for m in range(clients)]
    drawing = plot.chart(view, 420, min(90 + 26 * clients, 640) if flat else 360)
    told = f"{count(total, 'point')} of {count(clients, 'client')}."
    return picture(drawing, caption, told, legend if clients <= FEW else [])
