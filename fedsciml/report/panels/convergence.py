"""Loss and error against rounds, bytes and seconds."""

import math

from fedsciml.federation.history import RISES
from fedsciml.federation.traffic import size
from fedsciml.report.markup import Html, details, joined, pictures, table
from fedsciml.report.panels._series import drawn, of_each, sampled
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import number, seconds

QUANTITIES = {"loss": "loss", "relative_l2": "relative L2 error"}
"""What is drawn, where it is known."""

METRICS = {"accuracy": "Accuracy on the tests", "deviance": "Mean deviance"}
"""Likewise, of the tests: each by itself."""


def panel(story: Story) -> Panel | None:
    """How loss and error fell, and what that took."""
    history = story.history
    if not history:
        return None
    values = {
        label: story.column(key)
        for key, label in QUANTITIES.items()
        if story.known(key)
    }
    axes = {
        "round": ("Against rounds", story.column("round")),
        "MB sent, both ways": (
            "Against what was sent",
            [line.sent / 1e6 for line in history],
        ),
        "seconds": ("Against time", story.column("seconds")),
    }
    if story.pooled:
        del axes["MB sent, both ways"]
    parts = [
        drawn(
            {label: (x, y) for label, y in values.items()},
            caption,
            xlabel=xlabel,
            width=360,
        )
        for xlabel, (caption, x) in axes.items()
    ]
    more = _tested(story)
    errors = of_each(history, "errors")
    if any(math.isfinite(v) for _, y in errors.values() for v in y):
        last = [[name, number(y[-1])] for name, (_, y) in errors.items()]
        more += [
            drawn(errors, "Relative error of each output and number", first=1),
            table("In the end", ["", "relative error"], last),
        ]
    if story.known("gn_gap"):
        gaps = {"gap": (story.column("round"), story.column("gn_gap"))}
        gap = drawn(gaps, "Distance to the centralised Gauss-Newton step", first=2)
        more.append(gap)
    numbers = details("As numbers", _table(story))
    body = [pictures(*parts), pictures(*more, columns=2), numbers]
    return Panel("Convergence", _told(story), joined(body), 40)


def _tested(story: Story) -> list[Html]:
    """Accuracy and deviance against rounds and what was sent."""
    axes = {"round": ("", story.column("round"))}
    if not story.pooled:
        sent = [line.sent / 1e6 for line in story.history]
        axes["MB sent, both ways"] = ", against what was sent", sent
    parts = []
    for key, caption in METRICS.items():
        scale = "linear" if key in RISES else "log"
        for xlabel, (more, x) in axes.items() if story.known(key) else ():
            one, told = {key: (x, story.column(key))}, caption + more
            parts.append(drawn(one, told, xlabel=xlabel, yscale=scale, first=2))
    return parts


def _told(story: Story) -> str:
    first, last = story.history[0], story.history[-1]
    stood = sum(line.step == 0 for line in story.history)
    reached = story.result.loss if story.result else last.loss
    text = f"The loss went from {number(first.loss)} to {number(reached)}"
    if story.known("relative_l2"):
        text += f", the relative L2 error to {number(last.relative_l2)}"
    if story.known("accuracy"):
        text += f", the accuracy to {last.value('accuracy'):.1%}"
    text += f", in {seconds(last.seconds)}"
    text += "; nothing was sent." if story.pooled else f" and {size(last.sent)}."
    if stood:
        text += f" In {stood} of {len(story.history)} rounds no step was taken."
    return text


def _table(story: Story) -> Html:
    shown = {"relative_l2": "relative L2 error"}
    tested = {key: key for key in METRICS if story.known(key)}
    if tested:
        shown = {k: v for k, v in shown.items() if story.known(k)} | tested
    columns = ["round", "loss", *shown.values(), "step", "damping", "sent", "seconds"]
    rows = [
        [
            str(line.round),
            number(line.loss),
            *(number(line.value(key)) for key in shown),
            number(line.step, 2),
            number(line.damping, 2),
            size(line.sent),
            f"{line.seconds:.2f}",
        ]
        for line in sampled(story.history)
    ]
    return table("Rounds", columns, rows, words=0)
