"""Differential privacy: what of the budget is spent."""

from fedsciml.report.markup import details, joined, pictures, table
from fedsciml.report.panels._series import drawn, sampled
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import number


def panel(story: Story) -> Panel | None:
    """Epsilon and delta by round."""
    lines = [line for line in story.history if line.epsilon is not None]
    if not lines:
        return None
    last = lines[-1]
    told = (
        f"After {last.round} rounds ({number(last.epsilon)}, {number(last.delta, 1)})-"
        "differential privacy is spent: whatever the run tells is at most "
        f"exp({number(last.epsilon)}) times as probable with any single point as "
        f"without it, but for {number(last.delta, 1)}. What a study in one process "
        "tells besides, as errors at test points, is not counted."
    )
    spent = {
        "epsilon": ([float(x.round) for x in lines], [x.epsilon or 0.0 for x in lines])
    }
    rows = [
        [str(x.round), number(x.epsilon), number(x.delta, 1)] for x in sampled(lines)
    ]
    body = [
        pictures(
            drawn(spent, "Epsilon spent, against rounds", yscale="linear"), columns=2
        ),
        details(
            "As numbers",
            table(
                "Epsilon and delta by round",
                ["round", "epsilon", "delta"],
                rows,
                words=0,
            ),
        ),
    ]
    return Panel("Privacy spent", told, joined(body), 120)
