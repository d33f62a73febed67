"""Say what a run was, how it ended, and how to go on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsciml.command.records import NAMES, Recorded, known, recorded, table, written
from fedsciml.command.summary import ranges
from fedsciml.command.terminal import columns
from fedsciml.federation import Round
from fedsciml.federation.traffic import size
from fedsciml.registry import SUFFIX

SHOWN = (1, 2, 5)
"""Rounds of which a line is shown, with their tenfold, and the last."""


def show(directory: Path, /) -> None:
    """Say what a run was, how it ended, and how to go on.

    Args:
        directory: Of the run; it may be unfinished, or have failed.
    """
    run = recorded(directory)
    print(f"{run.directory}: {run.state}\n")
    print(columns(_facts(run).items()))
    if run.history:
        print(f"\n{_rounds(run.history)}")
    if run.model:
        print(f"\n{run.model['outcome'][1]}")
        for warning in run.model["warnings"]:
            print(f"warning: {warning}")
    if run.failure:
        print(f"\n{run.failure}")
    print(f"\n{columns(_next(run).items())}")


def _facts(run: Recorded) -> dict[str, str]:
    """What the run was, and what it came to."""
    made, order = run.configuration, run.configuration.get("command", {})
    given = ", ".join(f"{k} = {v}" for k, v in order.get("parameters", {}).items())
    facts = {
        "problem": f"{order.get('problem', made['problem'])}{given and f' ({given})'}",
        "method": run.method,
        "clients": str(made["clients"]),
        "parameters": f"{_size(made)}, {made['dtype']}, on {made['device']}",
        "seed": str(made["seed"]),
        "messages": str(made["backend"]),
    }
    if not run.history:
        return facts
    last, first = run.history[-1], run.history[0]
    if first.first is not None:
        tried = ", ".join(f"{f:g} promises {part:.3g}" for f, part in first.tried)
        facts["first layer"] = f"begun with {first.first:g} ({tried})"
    facts["rounds"] = f"{len(run.history)} of {made['rounds']}"
    facts["loss"] = f"{run.model['loss'] if run.model else last.loss:.2e}"
    held_out = run.model["held_out"] if run.model else None
    if held_out is not None:
        facts["loss"] += f"; at points that are not trained on {held_out:.2e}"
    facts |= {
        name: written(key, last.value(key), 2)
        for key, name in NAMES.items()
        if key in known(run.history) and key != "loss"
    }
    if run.model:
        facts |= {name: f"{x:.6g}" for name, x in run.model["unknowns"].items()}
        facts |= ranges(run.model.get("own", {}))
    facts["sent"] = f"{size(last.bytes_up)} up, {size(last.bytes_down)} down"
    facts["seconds"] = f"{last.seconds:.1f}"
    dropped = sum(len(line.dropped) for line in run.history)
    if dropped:
        facts["dropped"] = f"{dropped} uploads, see history.jsonl"
    if last.epsilon is not None:
        facts["privacy spent"] = f"epsilon {last.epsilon:.3g}, delta {last.delta:.1g}"
    return facts


def _size(made: Mapping[str, Any]) -> str:
    """Numbers of parameters."""
    own = made.get("own_parameters")
    more = f" shared, {own} of each client's own" if own else ""
    return f"{made['parameters']}{more}"


def _rounds(history: Sequence[Round]) -> str:
    """A line for few of the rounds."""
    quantities = known(history)
    chosen = {s * 10**k for s in SHOWN for k in range(7)} | {len(history)}
    heads = ["round", *(NAMES[name] for name in quantities), "sent", "seconds"]
    rows = [
        [
            str(line.round),
            *(written(name, line.value(name)) for name in quantities),
            size(line.sent),
            f"{line.seconds:.1f}",
        ]
        for line in history
        if line.round in chosen
    ]
    return table(heads, rows)


def _next(run: Recorded) -> dict[str, str]:
    """What can be done with the run."""
    rounds, where = run.configuration["rounds"], run.directory
    found = {}
    if "command" in run.configuration:
        more = f" --rounds {2 * rounds}" if run.model else ""
        trained = str(run.configuration["command"].get("problem", ""))
        if trained.endswith(SUFFIX) and not Path(trained).is_file():
            more += " --problem FILE.py"  # it was moved
        found["go on"] = f"fedsciml resume {where}{more}"
    if run.history:
        own = bool(run.configuration.get("own_parameters"))
        sites = run.configuration.get("flower")
        apart = ", memory=DIR" if own and sites else ""
        whose = ", client=0" if own else ""
        call = f'fedsciml.load("{where}"{apart}).solution(points{whose})'
        found["the model, in Python"] = call
    files = [p.name for kind in ("*.html", "*.png") for p in sorted(where.glob(kind))]
    if files:
        found["to look at"] = ", ".join(files)
    return found
