"""Why the result may be wrong though the run was completed."""

from fedsciml.report.markup import tag
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count


def panel(story: Story) -> Panel | None:
    """All warnings, or none."""
    absent = story.result.absent if story.result else {}
    told = list(story.warnings)
    told += [
        f"Client {m} did not tell its loss in the end: {why}"
        for m, why in absent.items()
    ]
    if not told:
        return None
    body = tag("ul", *(tag("li", text) for text in told), class_="warnings")
    return Panel("Warnings", f"{count(len(told), 'thing')} to look at first.", body, 20)
