"""Runs killed at random moments and resumed; a program, as it kills what it forked.

usage: python tests/kills.py NUMBER SEED DIRECTORY

Prints a JSON object: how many were killed where, and which ended otherwise than a run
that was not killed.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsciml import Result, methods, problems, run
from fedsciml.federation import loop

ROUNDS = 60
PROBLEM = problems.load("allen_cahn", points=0.1, width=8)
METHODS = (methods.load("fedavg", tau=2, keep_state=True), methods.load("fipa"))
INTERVALS = (0.0, 0.01, 0.1, 2.0)
"""Seconds between checkpoints: every round, some, few, only the last."""


def trained(number: int, out: Path | None, resume: bool = False) -> Result:
    """The run of a number: its method, and how often it saves."""
    loop.CHECKPOINT_SECONDS = INTERVALS[number // len(METHODS) % len(INTERVALS)]
    method = METHODS[number % len(METHODS)]
    return run(PROBLEM, method, ROUNDS, number, out=out, resume=resume)


def essence(result: Result) -> list[Any]:
    """What has to be the same: all but the seconds."""
    lines = [replace(line, seconds=0.0).line() for line in result.history]
    return [result.theta_sha256(), result.loss, lines]


def forked(work: Callable[[], object]) -> int:
    """A process that does it and ends; its number."""
    process = os.fork()
    if not process:
        try:
            work()
        finally:
            os._exit(0)
    return process


def where(out: Path) -> str:
    """Where in a run it was killed."""
    if any(out.glob("*.tmp")):
        return "within a replacement"
    if not (out / "run.json").exists():
        return "before run.json"
    if (out / "model.safetensors").exists():
        return "after its end"
    if not (out / "checkpoint.safetensors").exists():
        return "before the first checkpoint"
    return "after a checkpoint"


def main(number: int, seed: int, directory: Path) -> None:
    """Kill, resume, compare."""
    places, other, draw = Counter[str](), list[int](), random.Random(seed)
    for k in range(number):
        whole = trained(k, None)
        begin = time.perf_counter()
        trained(k, directory / f"{k}-whole")
        longest = 1.1 * (time.perf_counter() - begin)
        out = directory / str(k)
        process = forked(lambda k=k, out=out: trained(k, out))
        time.sleep(draw.uniform(0, longest))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        places[where(out)] += 1
        resumed = trained(k, out, resume=(out / "run.json").exists())
        if essence(resumed) != essence(whole):
            other.append(k)
    sys.stdout.write(json.dumps({"killed": places, "other": other}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
