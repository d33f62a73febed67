"""Who took part: dropped, stood in for, suspected."""

from collections import Counter

from fedsciml import plot
from fedsciml.report.markup import Html, details, joined, picture, pictures, table
from fedsciml.report.panels._series import named
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, listed

KINDS = {
    "stale": ("an earlier sketch stood in", 5, 20),
    "dropped": ("not merged", 1, 12),
    "joined": ("joined late", 2, 14),
    "suspects": ("data seem to contradict", 3, 8),
    "against": ("alone against a step", 7, 5),
}
"""Fields of rounds that name clients: in words, and the colours and sizes of marks."""


def panel(story: Story) -> Panel | None:
    """Rounds in which something was the matter with a client."""
    history = story.history
    if not history or story.pooled or story.clients < 2:
        return None
    seen = {
        kind: [(line.round, int(m)) for line in history for m in getattr(line, kind)]
        for kind in KINDS
    }
    if not any(seen.values()):
        return Panel(
            "Who took part", "Every client took part in every round.", order=90
        )
    told = [
        f"{words}: {listed([f'client {m} in {n}' for m, n in sorted(tally.items())])}"
        for kind, (words, *_) in KINDS.items()
        if (tally := Counter(m for _, m in seen[kind]))
    ]
    summary = f"Of {count(len(history), 'round')}: {'; '.join(told)}."
    return Panel(
        "Who took part",
        summary,
        joined(
            [pictures(_drawn(story, seen)), details("As numbers", _table(story, seen))]
        ),
        90,
    )


def _drawn(story: Story, seen: dict[str, list[tuple[int, int]]]) -> Html:
    curves = [
        plot.Curve(
            words,
            [k for k, _ in marks],
            [m for _, m in marks],
            *(colour, None, 0),
            size=size,
        )
        for kind, (words, colour, size) in KINDS.items()
        if (marks := seen[kind])
    ]
    clients = sorted({m for marks in seen.values() for _, m in marks})
    panel = plot.Panel(
        "",
        "round",
        "",
        curves,
        "linear",
        "linear",
        xlim=(0, len(story.history) + 1),
        ylim=(max(clients) + 0.5, min(clients) - 0.5),
        yticks=named(clients),
    )
    tall = min(100 + 30 * len(clients), 560)
    legend = [(c.label, c.colour, 9) for c in curves]
    return picture(plot.chart(panel, 420, tall), "What happened when", "", legend)


def _table(story: Story, seen: dict[str, list[tuple[int, int]]]) -> Html:
    clients = sorted({m for marks in seen.values() for _, m in marks})
    rows = []
    for m in clients:
        reasons = [
            line.dropped[str(m)] for line in story.history if str(m) in line.dropped
        ]
        often = Counter(reasons).most_common(1)
        counts = [str(sum(n == m for _, n in seen[kind])) for kind in KINDS]
        rows.append([f"client {m}", often[0][0] if often else "", *counts])
    heads = [
        "client",
        "why it was mostly not merged",
        *(words for words, *_ in KINDS.values()),
    ]
    return table("Rounds by client", heads, rows, words=2)
