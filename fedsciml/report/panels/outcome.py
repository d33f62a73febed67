"""In short: what came out, and at what price."""

import math

from fedsciml.federation.traffic import size
from fedsciml.report.markup import Html, facts, tag
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, number, raised, seconds

MOST = 4
"""Unknown numbers among the figures."""


def panel(story: Story) -> Panel:
    """The outcome in a sentence, and the figures that one asks for first."""
    return Panel("In short", _sentence(story), _figures(story), 10)


def _sentence(story: Story) -> str:
    done, asked = len(story.history), story.configuration.get("rounds")
    told = [f"The run is not finished: {done} of {asked} rounds are recorded."]
    if story.result is not None:
        told = [story.result.outcome.sentence]
    if story.failure:
        told.append(f"It ended with {story.failure}")
    if warned := len(story.warnings):
        told.append(f"There is reason for care: {count(warned, 'warning')}.")
    return " ".join(told)


def _figures(story: Story) -> Html:
    if not story.history:
        return Html()
    last, result = story.history[-1], story.result
    loss = last.loss if result is None else result.loss
    first = story.history[0].loss
    found: list[tuple[str, str, str]] = [
        ("Loss", raised(loss), f"from {number(first, 2)}"),
        ("Relative L2 error", raised(last.relative_l2), "on the test points"),
        ("MSE", raised(last.mse), "mean squared error"),
    ]
    if math.isnan(last.mse):
        del found[1:]
    if "accuracy" in last.metrics:
        found.append(("Accuracy", f"{last.metrics['accuracy']:.1%}", "on the tests"))
    if "deviance" in last.metrics:
        mean = number(last.metrics["deviance"])
        found.append(("Deviance", mean, "mean of a test row"))
    if not found[1:]:
        elsewhere = "own_parameters" in story.configuration and not (
            result and result.personal
        )
        why = "clients have their own" if elsewhere else "there is no reference"
        found.append(("Error", "not known", why))
    if result is not None:
        numbers = list(result.unknowns().items())[:MOST]
        found += [(name, number(value, 6), "found") for name, value in numbers]
    if story.pooled:
        found.append(("Sent", "nothing", "the method is centralised"))
    else:
        up, down = size(last.bytes_up), size(last.bytes_down)
        found.append(("Sent", size(last.sent), f"{up} up, {down} down"))
    each = seconds(last.seconds / last.round)
    found.append(("Time", seconds(last.seconds), f"{each} a round"))
    tiles = ((name, Html(_value(value, more))) for name, value, more in found)
    return tag("div", facts(tiles), class_="tiles")


def _value(value: str, more: str) -> str:
    return tag("span", value, class_="value") + tag("span", more, class_="more")
