"""Secure sums: what the server was told."""

from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count


def panel(story: Story) -> Panel | None:
    """What nobody learnt of a single client."""
    command = story.configuration.get("command") or {}
    if not command.get("secure"):
        return None
    groups = int(command.get("groups", 1))
    clients = count(story.clients, "client")
    whom = f"the {clients}" if groups == 1 else f"{groups} groups of the {clients}"
    told = (
        f"What clients sent was masked: the server was told sums over {whom}, and "
        "nobody's own numbers. So this report has no loss and no rank of a client."
    )
    return Panel("Secure sums", told, order=110)
