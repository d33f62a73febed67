"""Run directories: what a run was, what happened in each round, where to continue.

    run.json                configuration, seed, versions, threads; written once
    history.jsonl           one line per round
    checkpoint.safetensors  all that is needed to continue after its round
    model.safetensors       theta, written when the run is finished
    failure.json            why a run ended before that, if it was not killed

Files are replaced atomically and history lines are appended whole. After a ``kill -9``
the history may be ahead of the checkpoint; what is ahead is dropped and done again,
with the same result. Numbers that are not finite are ``null``, as JSON has no other.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from fedsciml.federation.checkpoint import Checkpoint, flat, pack, rebuilt, unpack
from fedsciml.federation.history import Round


class RunDirectory:
    """One run directory. Use ``create`` or ``resume``."""

    def __init__(self, directory: Path, configuration: Mapping[str, object]) -> None:
        self.directory = directory
        self.configuration = dict(configuration)

    @classmethod
    def create(
        cls, directory: Path | str, configuration: Mapping[str, object]
    ) -> "RunDirectory":
        """Start a run in an empty or new directory.

        Empty is also one whose run was killed before it had a run.json.

        Raises:
            FileExistsError: If the directory holds anything; nothing is overwritten.
        """
        directory = Path(directory)
        if directory.exists() and (
            not directory.is_dir()
            or any(path.name != "run.json.tmp" for path in directory.iterdir())
        ):
            raise FileExistsError(
                f"{directory} is not empty. Choose another directory, remove it, or "
                f"continue the run in it with --resume {directory}."
            )
        directory.mkdir(parents=True, exist_ok=True)
        record = cls(directory, configuration)
        content = {**record.configuration, "environment": environment()}
        replace_file(directory / "run.json", json.dumps(content, indent=2) + "\n")
        return record

    @classmethod
    def resume(
        cls, directory: Path | str, configuration: Mapping[str, object] | None = None
    ) -> "RunDirectory":
        """Open the run in a directory; ``configuration``, where given, must agree.

        Raises:
            ValueError: If there is no run, or one of another configuration.
        """
        directory = Path(directory)
        path = directory / "run.json"
        if not path.is_file():
            raise ValueError(f"No run to resume in {directory}: it has no run.json.")
        try:
            found = json.loads(path.read_text())
            if not isinstance(found, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}.") from error
        found.pop("environment", None)
        # Through JSON, so that tuples and lists compare equal.
        given = json.loads(json.dumps(dict(configuration or {})))
        for key, value in given.items():
            if found.get(key) != value and key == "problem_sha256":
                raise ValueError(
                    f"The problem is not the one that the run in {directory} began "
                    "with: its equation, data, network or partition has changed since. "
                    "Put back what it was, or start another run in a new directory."
                )
            if found.get(key) != value:
                raise ValueError(
                    f"The run in {directory} has {key} = {found.get(key)!r}, not "
                    f"{value!r}. Resume it without that argument, or start another run "
                    "in a new directory."
                )
        return cls(directory, found)

    def history(self, rounds: int | None = None) -> list[Round]:
        """The first rounds recorded, or all; a half-written last line is left out.

        Raises:
            ValueError: If one of their lines is damaged; the message names it.
        """
        path = self.directory / "history.jsonl"
        if not path.exists():
            return []
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        history = []
        for number, text in enumerate(whole.splitlines()[:rounds], 1):
            try:
                history.append(Round.read(text))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number} is damaged: {error}. Start another run in "
                    "a new directory."
                ) from error
        return history

    def rewind(self, rounds: int) -> list[Round]:
        """Go back to ``rounds`` rounds: the history until then, any failure forgotten.

        Raises:
            ValueError: If there are fewer rounds than that, or one is damaged.
        """
        lines = self.history(rounds)
        path = self.directory / "history.jsonl"
        if len(lines) < rounds:
            raise ValueError(
                f"{path} has {len(lines)} rounds, but the checkpoint beside it is of "
                f"round {rounds}: damaged. Start another run in a new directory."
            )
        replace_file(path, "".join(line.line() for line in lines))
        (self.directory / "failure.json").unlink(missing_ok=True)
        return lines

    def append(self, line: Round) -> None:
        """Add a round to the history."""
        with (self.directory / "history.jsonl").open("a") as file:
            file.write(line.line())

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        with (self.directory / "history.jsonl").open("a") as file:
            os.fsync(file.fileno())  # a checkpoint must not outlive its history
        replace_file(self.directory / "checkpoint.safetensors", pack(flat(checkpoint)))

    def load(
        self, kinds: Sequence[type], device: torch.device | str = "cpu"
    ) -> Checkpoint | None:
        """The checkpoint, or None before the first.

        Args:
            kinds: Types of the records in it.
            device: Where its tensors are needed.

        Raises:
            ValueError: If its file is damaged.
        """
        path = self.directory / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            return rebuilt(unpack(path, device), kinds)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged: {error}. Remove it to do the run again from its "
                "first round, or start another run in a new directory."
            ) from error

    def finish(self, theta: Tensor) -> None:
        """Write the trained parameters."""
        data = save({"theta": theta.detach().cpu()}, {"format": "fedsciml theta"})
        replace_file(self.directory / "model.safetensors", data)

    def fail(self, error: BaseException) -> None:
        """Write why the run ended before its last round."""
        content = {"error": type(error).__name__, "message": str(error)}
        replace_file(
            self.directory / "failure.json", json.dumps(content, indent=2) + "\n"
        )


def environment() -> dict[str, object]:
    """Versions and threads: what a run's last digits depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment it is the old one or the new one, whole."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
