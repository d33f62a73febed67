"""The page: all panels, one below the other, with a list of them."""

import re
from html import escape
from importlib import import_module
from logging import getLogger
from pathlib import Path
from pkgutil import iter_modules

import fedsciml
from fedsciml.federation import Result, replace_file
from fedsciml.problem import Problem
from fedsciml.report import panels
from fedsciml.report.markup import Html, joined, paragraphs, tag
from fedsciml.report.story import Panel, Story, of_record, of_result
from fedsciml.report.words import count

log = getLogger(__name__)

NAME = "report.html"

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing."""

WAYS = {"inprocess": "in one process", "flower": "over Flower"}
"""What carried the messages, in words."""


def write(result: Result) -> Path:
    """Write the report of a recorded run into its directory, in place of any there.

    Raises:
        ValueError: If the run was not recorded.
        OSError: If the page cannot be written.
    """
    return _write(of_result(result))


def unfinished(directory: Path | str, problem: Problem | None = None) -> Path:
    """Write the report of a run that did not come to its end, from its record.

    Args:
        directory: The run directory.
        problem: What was trained, if it is at hand: for its partition.

    Raises:
        ValueError: If there is no run, or its record is damaged.
        OSError: If the page cannot be written.
    """
    return _write(of_record(Path(directory), problem))


def page(story: Story) -> str:
    """The report, as HTML."""
    shown = sorted(_panels(story), key=lambda named: named[1].order)
    name = str(story.configuration.get("problem", "run"))
    method = str(story.configuration.get("method", ""))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{name}, {method}: report"),
        tag("style", Html(Path(__file__).with_name("layout.css").read_text())),
    )
    links = [tag("li", tag("a", p.title, href=f"#{key}")) for key, p in shown]
    body = tag(
        "body",
        tag("a", "Skip to the report", href="#report", class_="skip"),
        tag(
            "header",
            tag("p", "Report of a run", class_="kind"),
            tag("h1", name, " ", tag("span", f"by {method}") if method else ""),
            tag("p", _setting(story), class_="setting"),
            _scheme(),
        ),
        tag("nav", tag("ul", *links), aria_label="Contents"),
        tag("main", *(_section(key, p) for key, p in shown), id="report", tabindex=-1),
        tag(
            "footer",
            paragraphs(
                f"Written by fedsciml {fedsciml.__version__}. This page is complete in "
                "itself: it loads nothing and runs no program."
            ),
        ),
    )
    return _apart(f"<!doctype html>\n{tag('html', head, body, lang='en')}\n")


def _write(story: Story) -> Path:
    path = story.directory / NAME
    replace_file(path, page(story))
    return path


def _panels(story: Story) -> list[tuple[str, Panel]]:
    """Names and panels; one that fails says so, and the others are there."""
    found = []
    for module in iter_modules(panels.__path__):
        if module.name.startswith("_"):
            continue
        try:
            made = import_module(f"{panels.__name__}.{module.name}").panel(story)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            log.warning("The report has no panel '%s': %s", module.name, told)
            made = Panel(
                module.name.replace("_", " ").capitalize(),
                f"This panel could not be made: {told}",
            )
        if made is not None:
            found.append((module.name, made))
    return found


def _section(key: str, panel: Panel) -> Html:
    return tag(
        "section",
        tag("h2", panel.title, id=f"{key}-title"),
        tag("p", _whole(panel.summary), class_="summary") if panel.summary else Html(),
        panel.body,
        id=key,
        aria_labelledby=f"{key}-title",
    )


def _whole(text: str) -> Html:
    """The text, in which no line ends within a number."""
    kept = r'<span class="whole">\g<0></span>'
    return Html(re.sub(r"[\d.]+e-\d+", kept, escape(text)))


def _setting(story: Story) -> str:
    """What was run, in a line."""
    found, n = story.configuration, len(story.history)
    where = WAYS.get(str(found.get("backend")), str(found.get("backend")))
    own = found.get("own_parameters")
    more = f" and {own:,} of each client's own" if own else ""
    parts = [
        "centralised" if story.pooled else count(story.clients, "client"),
        count(n, "round"),
        f"{found['parameters']:,} parameters{more}" if "parameters" in found else "",
        f"seed {found.get('seed')}",
        str(found.get("dtype")),
        "" if story.pooled else where,
    ]
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def _scheme() -> Html:
    """The choice between light and dark; the system's until one is made."""
    choices = []
    for key, word in (("auto", "As the system"), ("light", "Light"), ("dark", "Dark")):
        radio = tag("input", type="radio", name="scheme", id=key, checked=key == "auto")
        choices.append(tag("label", radio, tag("span", word)))
    return tag("fieldset", tag("legend", "Colours"), joined(choices), class_="scheme")


def _apart(text: str) -> str:
    """The page with names of its drawings' parts that are each drawing's own."""
    first, *drawings = text.split("<svg ")
    for k, drawing in enumerate(drawings):
        inside, end, rest = drawing.partition("</svg>")
        inside = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>d{k}-", inside)
        drawings[k] = inside + end + rest
    return "<svg ".join([first, *drawings])
