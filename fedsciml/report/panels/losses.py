"""The loss in parts: by term, and by client."""

from collections.abc import Mapping

from fedsciml.problem import Problem
from fedsciml.report.markup import Html, beside, joined, table
from fedsciml.report.panels._series import drawn, of_each
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import number

FEWEST = 2
"""Rounds that are no curve yet."""


def panel(story: Story) -> Panel | None:
    """Whose and which loss is left."""
    terms, clients = of_each(story.history, "terms"), {}
    if story.clients > 1:
        clients = of_each(story.history, "losses", "client")
    last = dict(story.result.terms) if story.result else {}
    if not terms and not clients and not last:
        return None
    told, parts = [], []
    if last:
        worst = max(last, key=lambda name: last[name])
        part = 100 * last[worst] / (sum(last.values()) or 1.0)
        told.append(f"In the end {part:.3g}% of the loss is in the term '{worst}'.")
        end = float(len(story.history))
        for name, (x, y) in terms.items():
            if name in last and x[-1] < end:
                x.append(end)
                y.append(last[name])
        enough = any(len(x) > FEWEST for x, _ in terms.values())
        by_term = drawn(terms if enough else {}, "Loss by term, against rounds")
        parts.append(beside(by_term, _terms(last, story.problem), len(last)))
    if clients:
        of = {name: y[-1] for name, (_, y) in clients.items()}
        most = max(of, key=lambda name: of[name])
        told.append(
            f"When it last told, {most} had the largest loss, {number(of[most])}."
        )
        by_client = drawn(clients, "Loss by client, against rounds")
        parts.append(beside(by_client, _clients(of), len(of)))
    return Panel("Where the loss is", " ".join(told), joined(parts), 50)


def _terms(last: Mapping[str, float], problem: Problem | None) -> Html:
    weights = {term.name: term.weight for term in problem.terms} if problem else {}
    total = sum(last.values()) or 1.0
    rows = [
        [name, number(weights.get(name)), number(loss), f"{loss / total:.1%}"]
        for name, loss in last.items()
    ]
    return table("Loss of the trained model", ["term", "weight", "loss", "part"], rows)


def _clients(last: Mapping[str, float]) -> Html:
    rows = [[name, number(loss)] for name, loss in last.items()]
    return table("Last loss told", ["client", "loss"], rows)
