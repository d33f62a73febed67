"""The loss at points that are not trained on, beside that at those that are."""

from fedsciml.report.markup import Html, beside, table
from fedsciml.report.panels._series import drawn, sampled
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import number


def panel(story: Story) -> Panel | None:
    """Whether a small loss is that of the equation, or of its points alone."""
    lines = [line for line in story.history if line.held_out is not None]
    result = story.result
    last = result.held_out if result else None
    if not lines and last is None:
        return None
    points = [(float(line.round), line.held_out) for line in lines]
    if last is not None and (not lines or lines[-1].round < len(story.history)):
        points.append((float(len(story.history)), last))
    series = {
        "loss": (story.column("round"), story.column("loss")),
        "at other points": ([k for k, _ in points], [v or 0.0 for _, v in points]),
    }
    told = (
        "A network can fit its points and not the equation between them. The loss at "
        "points that are not trained on, of the terms that have such points,"
    )
    if last is not None and result is not None:
        told += (
            f" is {number(last)} in the end, that of training {number(result.loss)}."
        )
    else:
        told += f" was {number(lines[-1].held_out)} when it was last asked for."
    rows = [
        [str(line.round), number(line.loss), number(line.held_out)]
        for line in sampled(lines)
    ]
    columns = ["round", "loss where its step starts", "held-out loss after it"]
    body = Html()
    if rows:
        enough = len(points) > 1
        shown = drawn(series if enough else {}, "Loss at both, against rounds")
        body = beside(shown, table("Held-out loss", columns, rows, words=0), len(rows))
    return Panel("Between the points", told, body, 60)
