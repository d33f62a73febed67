"""How to use the model, go on with the run, or do it again."""

import json
from shlex import join
from typing import Any

from fedsciml import wrappers
from fedsciml.report.markup import code, joined, tag
from fedsciml.report.story import Panel, Story

PLAIN = {
    "warmup": None,
    "train": None,
    "personal": None,
    "dtype": "float64",
    "device": "cpu",
    "resample": None,
    "compress": "none",
    "groups": 1,
    "dp": None,
    "backend": "inprocess",
}
"""Flags of a run, and their values if they are not given."""


def panel(story: Story) -> Panel:
    """Lines to type."""
    where, found = str(story.directory), story.configuration
    asked = int(found.get("rounds", 1))
    finished = len(story.history) >= asked
    rounds = 2 * asked if finished else asked
    lines = {}
    if story.history:
        own = story.problem is not None and story.problem.personal is not None
        lines["Use the model"] = (
            f"import fedsciml\n\nresult = fedsciml.load({where!r})\n"
            f"u = result.solution(points{', client=0' if own else ''})  # u.value, ..."
        )
    if command := found.get("command"):
        further = ["--rounds", str(rounds)] if finished else []
        lines["Go on"] = join(["fedsciml", "resume", where, *further])
        words = _words(command, str(found.get("method")), asked)
        lines["Do it again"] = join(words)
    else:
        lines["Go on"] = (
            f"result = fedsciml.run(problem, method, rounds={rounds}, "
            f"seed={found.get('seed')},\n{22 * ' '}out={where!r}, resume=True)"
        )
    parts = [part for k, v in lines.items() for part in (tag("h3", k), code(v, k))]
    return Panel("Use it, go on, do it again", "", joined(parts), 210)


def _words(command: dict[str, Any], method: str, rounds: int) -> list[str]:
    """The command that began the run."""
    words = ["fedsciml", "run", str(command["problem"])]
    for key, value in command.get("parameters", {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["--set", f"{key}={text}"]
    method = str(command.get("method", method))
    words += ["--method", method]
    known = wrappers.options(method)
    for key, value in command.get("options", {}).items():
        if key in known and value != known[key].default:
            words += [f"--{key.replace('_', '-')}", str(value)]
    words += ["--rounds", str(rounds), "--seed", str(command.get("seed", 0))]
    words += [f"--{key}" for key in ("secure",) if command.get(key)]
    if command.get("gn_gap"):
        words.append("--gn-gap")
    for key, plain in PLAIN.items():
        if command.get(key, plain) != plain:
            words += [f"--{key}", str(command[key])]
    return words
