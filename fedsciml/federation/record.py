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
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedsciml.federation.exchange import Checkpoint
from fedsciml.federation.participation import Heard, Participation
from fedsciml.federation.traffic import Traffic
from fedsciml.methods import Leaf, flatten, rebuild


@dataclass(frozen=True)
class Round:
    """One round of a history.

    Seconds are those of clients, messages and server; that for measuring the error is
    not counted. The loss is that of the point from which the round steps, which may
    rise for some rounds; the errors are those of the model, which stays at the lowest
    loss meanwhile.

    Attributes:
        round: Its number, from 1.
        loss: At the round's start, summed over the clients.
        step: Length of the step taken, as a fraction of the full one; 0 if none was.
        damping: mu of the step, absolute; 0 for none.
        cutoff: Relative cut-off of singular values in the step; 0 for none.
        ranks: Rank of each client's sketch, in the order of the clients.
        epochs: Local epochs of each client.
        probes: Candidate steps whose losses the clients were asked for.
        relative_l2: Error of the model on the test points; NaN if not known.
        mse: Likewise, mean squared.
        errors: Of each output and unknown number, where there are several.
        bytes_up: Sent by the clients until the end of the round.
        bytes_down: Sent to them.
        messages: Messages both ways.
        seconds: Until the end of the round.
        dropped: Clients whose uploads were not merged, and why.
        stale: Clients for whom an earlier sketch stood in, and its age in rounds.
        gn_gap: Distance of the step from the centralised Gauss-Newton step, relative;
            None where it was not asked for.
    """

    round: int
    loss: float
    step: float = 1.0
    damping: float = 0.0
    cutoff: float = 0.0
    ranks: tuple[int, ...] = ()
    epochs: int = 0
    probes: int = 0
    relative_l2: float = math.nan
    mse: float = math.nan
    errors: Mapping[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    messages: int = 0
    seconds: float = 0.0
    dropped: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, int] = field(default_factory=dict)
    gn_gap: float | None = None

    __hash__ = None  # type: ignore[assignment]

    @property
    def sent(self) -> int:
        """Sent both ways."""
        return self.bytes_up + self.bytes_down

    def line(self) -> str:
        """Strict JSON with a line break; null for what is not finite."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("errors", "dropped", "stale"):
            if not plain[name]:
                del plain[name]
        if self.gn_gap is None:
            del plain["gn_gap"]
        return json.dumps(_swapped(plain, _finite), allow_nan=False) + "\n"

    @classmethod
    def read(cls, line: str | bytes) -> "Round":
        """The round that a line holds.

        Raises:
            ValueError: If it holds none.
        """
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        found = _swapped(found, _known)
        found["ranks"] = tuple(found.get("ranks", ()))
        try:
            return cls(**found)
        except TypeError as error:
            raise ValueError(f"no round: {error}") from error


class Record:
    """One run directory. Use ``create`` or ``resume``."""

    def __init__(self, directory: Path, configuration: Mapping[str, object]) -> None:
        self.directory = directory
        self.configuration = dict(configuration)

    @classmethod
    def create(
        cls, directory: Path | str, configuration: Mapping[str, object]
    ) -> "Record":
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
    ) -> "Record":
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
        replace_file(self.directory / "checkpoint.safetensors", pack(_flat(checkpoint)))

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
            return _checkpoint(unpack(path, device), kinds)
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


def pack(content: Mapping[str, object]) -> bytes:
    """Tensors, and what JSON knows, as a safetensors file."""
    # Clones, as two entries may be the same tensor.
    tensors = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    plain = {key: value for key, value in content.items() if key not in tensors}
    return save(tensors, {"plain": json.dumps(plain)})


def unpack(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What was packed into a file.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            plain: dict[str, Any] = json.loads(file.metadata()["plain"])
            # Clones: the file's tensors may be aligned otherwise than fresh ones, and
            # the last digit of a dot product depends on that.
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    return {**plain, **tensors}


def _flat(checkpoint: Checkpoint) -> dict[str, object]:
    """A checkpoint as tensors and plain data, its records flattened."""
    content: dict[str, object] = {
        "round": checkpoint.round,
        "traffic": list(checkpoint.traffic),
        "seconds": checkpoint.seconds,
        "clients": len(checkpoint.memories),
    }
    records: dict[str, object] = {"state": checkpoint.state}
    records |= {f"memory{m}": memory for m, memory in enumerate(checkpoint.memories)}
    if checkpoint.participation is not None:
        members, stale, heard, norms = checkpoint.participation
        content |= {"members": members, "stale": stale, "norms": norms}
        content["heard"] = {str(m): last.round for m, last in heard.items()}
        records |= {f"last{m}": last.last for m, last in heard.items()}
    for name, record in records.items():
        if record is not None:
            content |= {f"{name}/{k}": value for k, value in flatten(record).items()}
    return content


def _checkpoint(content: Mapping[str, Any], kinds: Sequence[type]) -> Checkpoint:
    plain, parts = dict[str, Any](), dict[str, dict[str, Leaf]]()
    for key, value in content.items():
        part, slash, name = key.partition("/")
        if slash:
            parts.setdefault(part, {})[name] = value
        else:
            plain[key] = value
    records = {name: rebuild(part, kinds) for name, part in parts.items()}
    participation = None
    if "members" in plain:
        heard = {
            int(m): Heard(records[f"last{m}"], k) for m, k in plain["heard"].items()
        }
        participation = Participation(
            plain["members"], plain["stale"], heard, plain["norms"]
        )
    return Checkpoint(
        plain["round"],
        records["state"],
        [records.get(f"memory{m}") for m in range(plain["clients"])],
        Traffic(*plain["traffic"]),
        plain["seconds"],
        participation,
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


def _finite(value: Any) -> Any:  # noqa: ANN401
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _known(value: Any) -> Any:  # noqa: ANN401
    return math.nan if value is None else value


def _swapped(line: Mapping[str, Any], swap: Callable[[Any], Any]) -> dict[str, Any]:
    """The line with other values, also in the dictionaries in it."""
    return {
        key: _swapped(value, swap) if isinstance(value, dict) else swap(value)
        for key, value in line.items()
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
