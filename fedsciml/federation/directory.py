"""Run directories: what a run was, what happened in each round, where to continue.

    run.json                configuration, seed, versions, threads
    history.jsonl           one line per round
    checkpoint.safetensors  all that is needed to continue after its round
    model.safetensors       the result, written when the run is finished
    failure.json            why a run ended before that, if it was not killed
    run.lock                there while a run writes

Files are replaced atomically and history lines are appended whole. After a ``kill -9``
the history may be ahead of the checkpoint; what is ahead is dropped and done again,
with the same result. Numbers that are not finite are ``null``, as JSON has no other.

A checkpoint knows its run: it has a checksum, the hash of the configuration, and that
of the history until its round. So a run does not go on from what was damaged, edited or
copied from another run. (Against somebody who computes the hashes anew they are no
help: that needs a key.)
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fedsciml.federation.checkpoint import Checkpoint, flat, pack, rebuilt, unpack
from fedsciml.federation.files import LOCK, locked, replace_file
from fedsciml.federation.history import Round
from fedsciml.federation.journal import Journal
from fedsciml.federation.saving import HASH

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.safetensors"

T = TypeVar("T")

FREE = ("rounds", "rules", "until", "environment")
"""Of a run.json, what need not be the same when its run goes on."""

KEPT = "Record kept in "
"""Begins the note on an error that ended a run of which there is a record."""

UNSAVED = "What came last could not be saved: "
"""Begins the note on an error that ended a run, where saving failed too."""

BEGIN = {LOCK, "run.json.tmp"}
"""What a run leaves that is killed before it has a run.json."""


class RunDirectory:
    """One run directory. Use ``opened``, ``create`` or ``resume``."""

    def __init__(self, directory: Path, configuration: Mapping[str, object]) -> None:
        self.directory = directory
        # Through JSON, so that it is the same when it is read again.
        self.configuration: dict[str, object] = json.loads(_text(configuration))
        self._journal = Journal(directory / "history.jsonl")
        self._wanted: dict[int, str] = {}  # its digest, by the checkpoint's round

    @classmethod
    @contextmanager
    def opened(
        cls,
        directory: Path | str,
        configuration: Mapping[str, object],
        resume: bool = False,
    ) -> Iterator["RunDirectory"]:
        """A new run's directory, or that of a run to resume, held for this process.

        Raises:
            BlockingIOError: If another run is writing to it.
            Exception: As ``create`` and ``resume``.
        """
        directory, write = Path(directory), cls.resume if resume else cls.create
        if resume:
            _run_json(directory)  # complain first if there is none
        elif directory.exists() and not directory.is_dir():
            raise _full(directory)
        _text(configuration)  # what cannot be written leaves no directory
        made = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with locked(directory):
                yield write(directory, configuration)
        finally:
            if made:
                with suppress(OSError):  # it holds a run
                    directory.rmdir()

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
        content = _text({**configuration, "environment": environment()})
        if directory.exists() and (
            not directory.is_dir()
            or any(path.name not in BEGIN for path in directory.iterdir())
        ):
            raise _full(directory)
        directory.mkdir(parents=True, exist_ok=True)
        replace_file(directory / "run.json", content)
        return cls(directory, configuration)

    @classmethod
    def resume(
        cls, directory: Path | str, configuration: Mapping[str, object] | None = None
    ) -> "RunDirectory":
        """Open the run in a directory; ``configuration``, where given, must agree.

        Rounds and rules need not: a run may go on to more rounds, or with fewer
        clients.

        Raises:
            ValueError: If there is no run, or one of another configuration.
        """
        directory = Path(directory)
        found = _run_json(directory)
        found.pop("environment", None)
        given = json.loads(_text(configuration or {}))  # now lists, where tuples were
        for key, value in given.items():
            if key in FREE or found.get(key) == value:
                continue
            if key == HASH:
                raise ValueError(
                    f"The problem is not the one that the run in {directory} began "
                    "with: its equation, data, network or partition has changed since. "
                    "Put back what it was, or start another run in a new directory."
                )
            raise ValueError(
                f"The run in {directory} has {key} = {found.get(key)!r}, not "
                f"{value!r}. Resume it without that argument, or start another run "
                "in a new directory."
            )
        if configuration is not None:
            found["until"] = given.get("until")
        return cls(directory, found)

    def history(self, rounds: int | None = None) -> list[Round]:
        """The first rounds recorded, or all; a half-written last line is left out.

        Raises:
            ValueError: If line k is damaged or not of round k; the message names it.
        """
        return self._journal.rounds(rounds)

    def rewind(self, rounds: int) -> list[Round]:
        """Go back to ``rounds`` rounds: the history until then, any failure forgotten.

        Raises:
            ValueError: If there are fewer rounds than that, one is damaged, or they are
                not those after which the checkpoint that was loaded was saved.
        """
        history = self._journal.rewind(rounds, self._wanted.get(rounds))
        (self.directory / "failure.json").unlink(missing_ok=True)
        return history

    def aim(self, rounds: int) -> None:
        """Say that the run goes on, to so many rounds; it is not finished any more.

        What else is free in a run that is resumed, ``until``, is now as given.
        """
        found = _run_json(self.directory)
        self.configuration["rounds"] = rounds
        now = {"rounds": rounds, "until": self.configuration.get("until")}
        if any(found.get(key) != value for key, value in now.items()):
            now = {k: v for k, v in (found | now).items() if v is not None}
            replace_file(self.directory / "run.json", _text(now))
        (self.directory / MODEL).unlink(missing_ok=True)

    def append(self, line: Round) -> None:
        """Add a round to the history."""
        self._journal.append(line)

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        self._journal.sync()  # a checkpoint must not outlive its history
        run = {
            "configuration": self._configuration_sha256(),
            "history": self._journal.digest(checkpoint.round),
        }
        data = pack({**flat(checkpoint), **run})
        replace_file(self.directory / CHECKPOINT, data)

    def load(
        self, kinds: Sequence[type], device: torch.device | str = "cpu"
    ) -> Checkpoint | None:
        """The checkpoint, or None before the first.

        Args:
            kinds: Types of the records in it.
            device: Where its tensors are needed.

        Raises:
            ValueError: If its file is damaged, or of a run of another configuration.
        """
        found = self._unpacked(lambda content: rebuilt(content, kinds), device)
        if found is None:
            return None
        checkpoint, content = found
        self._wanted = {checkpoint.round: str(content.get("history"))}
        return checkpoint

    def reached(self) -> tuple[int, Tensor] | None:
        """Rounds and model of the checkpoint, or None before the first.

        Whatever the method, of whose records nothing else is read.

        Raises:
            ValueError: As ``load``.
        """
        found = self._unpacked(
            lambda content: (int(content["round"]), content["state/theta"])
        )
        return found and found[0]

    def _unpacked(
        self, read: Callable[[dict[str, Any]], T], device: torch.device | str = "cpu"
    ) -> tuple[T, dict[str, Any]] | None:
        """What is read of the checkpoint's content, and this; None if there is none."""
        path = self.directory / CHECKPOINT
        if not path.exists():
            return None
        try:
            content = unpack(path, device)
            found = read(content)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged: {error}. Remove it to do the run again from its "
                "first round, or start another run in a new directory."
            ) from error
        if content.get("configuration") != self._configuration_sha256():
            raise ValueError(
                f"{path} is of another run: problem, method, seed or another part of "
                "its configuration is not that of run.json. Put back what was there, "
                "remove the checkpoint to do the run again from its first round, or "
                "start another run in a new directory."
            )
        return found, content

    def finish(self, model: bytes) -> None:
        """Write the trained model, as ``saving.packed``."""
        replace_file(self.directory / MODEL, model)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.directory / MODEL).exists()

    def fail(self, error: BaseException) -> None:
        """Write why the run ended before its last round."""
        content = {"error": type(error).__name__, "message": str(error)}
        replace_file(self.directory / "failure.json", _text(content))

    @property
    def failure(self) -> str:
        """Why the run ended before its last round; empty if nothing says so.

        Raises:
            ValueError: If what says so is damaged.
            KeyError: Likewise.
        """
        path = self.directory / "failure.json"
        if not path.exists():
            return ""
        found = json.loads(path.read_text())
        return f"{found['error']}: {found['message']}"

    def ended(self, error: BaseException, latest: Checkpoint) -> None:
        """Save what an error leaves of a run, and note on it where and how to go on.

        That it cannot be saved is a note too: the first error is the one that tells.
        """
        notes = [
            f"{KEPT}{self.directory}.",
            f"Continue with run(..., out={str(self.directory)!r}, resume=True), or "
            f"fedsciml resume {self.directory} where a command began it.",
        ]
        try:
            self.save(latest)
            if not isinstance(error, KeyboardInterrupt):
                self.fail(error)
        except Exception as second:
            notes.append(
                f"{UNSAVED}{type(second).__name__}: {second}. Mend that first; rounds "
                "that are not saved are then done again."
            )
        for note in notes:
            error.add_note(note)

    def _configuration_sha256(self) -> str:
        fixed = {k: v for k, v in self.configuration.items() if k not in FREE}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


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


def _text(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _full(directory: Path) -> FileExistsError:
    return FileExistsError(
        f"{directory} is not empty. Choose another directory, remove it, or continue "
        f"the run in it: fedsciml resume {directory}, or in Python resume=True."
    )


def _run_json(directory: Path) -> dict[str, object]:
    """What a directory says of its run.

    Raises:
        ValueError: If there is no run.
    """
    path = directory / "run.json"
    if not path.is_file():
        raise ValueError(f"There is no run in {directory}: it has no run.json.")
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    return found
