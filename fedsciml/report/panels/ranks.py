"""Ranks of the sketches, and the basis that all parties share."""

from collections.abc import Sequence

from fedsciml.federation import Round
from fedsciml.report.markup import Html, details, joined, pictures, table
from fedsciml.report.panels._series import drawn, sampled
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import number


def panel(story: Story) -> Panel | None:
    """How many directions of the clients' Jacobians were sent."""
    lines = [line for line in story.history if line.ranks]
    if not lines:
        return None
    every = [rank for line in lines for rank in line.ranks]
    size = story.configuration.get("parameters", "all")
    told = f"Sketches had {min(every)} to {max(every)} directions, of {size:,}."
    ranks = dict[str, tuple[list[float], list[float]]]()
    for line in lines:
        names = [f"client {m}" for m in line.losses]
        if len(names) != len(line.ranks):  # of sums over clients
            names = [f"sum {k}" for k in range(len(line.ranks))]
        for name, rank in zip(names, line.ranks, strict=True):
            x, y = ranks.setdefault(name, ([], []))
            x.append(line.round)
            y.append(rank)
    parts = [drawn(ranks, "Rank of each sketch", yscale="linear", width=360)]
    if story.known("basis"):
        most = max(line.basis or 0 for line in lines)
        told += f" All parties shared a basis of up to {most} directions."
        shared, outside = (
            {"": (story.column("round"), story.column(key))}
            for key in ("basis", "outside")
        )
        parts = [
            drawn(shared, "Size of the shared basis", yscale="linear"),
            drawn(outside, "Part of the gradient outside of it", first=1),
        ]
    body = [pictures(*parts, columns=2), details("As numbers", _table(lines))]
    return Panel("Ranks", told, joined(body), 100)


def _table(lines: Sequence[Round]) -> Html:
    heads = ["round", "smallest rank", "largest rank"]
    more = {"basis": "shared basis", "outside": "outside", "condition": "condition"}
    keys = [key for key in more if any(getattr(x, key) is not None for x in lines)]
    rows = [
        [
            *(str(line.round), str(min(line.ranks)), str(max(line.ranks))),
            *(number(getattr(line, key)) for key in keys),
        ]
        for line in sampled(lines)
    ]
    return table(
        "Ranks by round", [*heads, *(more[key] for key in keys)], rows, words=0
    )
