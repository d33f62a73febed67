"""What was run: problem, method, rules, versions."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fedsciml.problem import Problem
from fedsciml.report.markup import Html, code, details, facts, joined, table
from fedsciml.report.story import Panel, Story
from fedsciml.report.words import count, number

AROUND = {
    "warmup": "first {}",
    "train": "layers trained: {}",
    "personal": "personal parameters trained: {}",
    "resample": "points drawn again ({})",
    "compress": "uploads in {}",
    "dp": "differential privacy with {}",
}
"""What may stand around a method, in words."""


def panel(story: Story) -> Panel:
    """The configuration, in words and as it is recorded."""
    parts = [facts([*_facts(story), *_prior(story.problem)])]
    if story.problem is not None:
        parts.append(_terms(story.problem))
    record = json.dumps(story.configuration, indent=2)
    parts.append(details("All of it, as in run.json", code(record, "run.json")))
    return Panel("What was run", "", joined(parts), 200)


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    found = story.configuration
    command: Mapping[str, Any] = found.get("command") or {}
    yield "Problem", _named(found.get("problem"), found.get("problem_parameters"))
    options = command.get("options") or found.get("method_options")
    yield "Method", _named(found.get("method"), options)
    around = {text: command.get(key) for key, text in AROUND.items()}
    told = [text.format(value) for text, value in around.items() if _says(value)]
    if told:
        yield "Around it", ", ".join(told)
    if not story.pooled:
        yield "Rules", _rules(found.get("rules") or {})
    device, dtype, seed = (found.get(key) for key in ("device", "dtype", "seed"))
    if story.history and story.history[0].first is not None:
        tried = ", ".join(f"{f:g}: {x:.3g}" for f, x in story.history[0].tried)
        chosen = f"{story.history[0].first:g}, of promises {tried}"
        yield "Frequency of the first layer", chosen
    yield "Numbers", f"{dtype} on {device}, seed {seed}"
    versions = (f"{k} {v}" for k, v in found.get("environment", {}).items())
    yield "Versions", ", ".join(versions)


def _named(name: object, options: Mapping[str, Any] | None) -> str:
    """A name with its options, in a line; without those that say nothing."""
    told = []
    for key, value in (options or {}).items():
        value = value.get("type") if isinstance(value, Mapping) else value
        if _says(value):
            told.append(f"{key.replace('_', ' ')} {value}")
    return f"{name}, with {', '.join(told)}" if told else str(name)


def _says(value: object) -> bool:
    return value is not None and value is not False and value != "none"


def _rules(rules: Mapping[str, Any]) -> str:
    """Which rounds counted, in words."""
    least, told = rules.get("min_clients"), []
    if least is None:
        told.append("all clients are needed in every round")
    else:
        told.append(f"a round needs {count(int(least), 'client')}")
    if rules.get("deadline"):
        told.append(f"answers come within {rules['deadline']} s")
    if rules.get("patience"):
        told.append(f"a round is tried again for {rules['patience']} s")
    if rules.get("staleness"):
        rounds = count(int(rules["staleness"]), "round")
        told.append(f"an absent client's last sketch stands in for {rounds}")
    if float(rules.get("outlier", "inf")) < float("inf"):
        told.append(f"uploads above {rules['outlier']} times the usual are refused")
    if rules.get("drop_suspects"):
        told.append("suspects are dropped")
    return "; ".join(told)


def _prior(problem: Problem | None) -> Iterator[tuple[str, str]]:
    """The part of the loss that needs no data, and what is only tested with."""
    if problem is not None and problem.prior:
        about = "times half the sum of the squared parameters, in the loss"
        yield "Prior", f"{number(problem.prior)} {about}"
    if problem is not None and problem.testing is not None:
        rows = problem.testing.pooled().points
        yield "Tests", f"{count(rows, 'row')}, on which nobody trains"


def _terms(problem: Problem) -> Html:
    heads = ["term", "residual", "weight"]
    if not problem.squares:
        heads[1:2] = ["predictor", "likelihood"]
    rows = []
    for term in problem.terms:
        about = (term.residual.__doc__ or "").strip().partition("\n")[0]
        told = [] if problem.squares else [str(term.likelihood).removesuffix("()")]
        rows.append([term.name, about, *told, number(term.weight)])
    return table("Terms of the loss", heads, rows, words=len(heads) - 1)
