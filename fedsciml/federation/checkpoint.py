"""What a run continues from, and how it is packed into a file."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedsciml.federation.participation import Heard, Participation
from fedsciml.federation.traffic import Traffic
from fedsciml.methods import Leaf, Record, State, flatten, rebuild

UNSEALED = b"0" * 64
"""In the place of the checksum while that is computed."""


class Checkpoint(NamedTuple):
    """All that continues a run after ``round`` rounds.

    Attributes:
        round: How many are done.
        state: The server's.
        memories: The clients', in their order.
        traffic: So far.
        seconds: So far.
        participation: Who took part in the last round; None before the first.
    """

    round: int
    state: State
    memories: list[Record | None]
    traffic: Traffic = Traffic()
    seconds: float = 0.0
    participation: Participation | None = None


def pack(content: Mapping[str, object]) -> bytes:
    """Tensors, and what JSON knows, as a safetensors file with a checksum.

    ``sha256`` in its metadata is that of the whole file with zeros in its place.
    """
    # Clones, as two entries may be the same tensor.
    tensors = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    plain = {key: value for key, value in content.items() if key not in tensors}
    metadata = {"plain": json.dumps(plain), "sha256": UNSEALED.decode()}
    data = save(tensors, metadata)
    return data.replace(_seal(UNSEALED), _seal(_sha256(data)), 1)


def unpack(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What was packed into a file.

    Raises:
        ValueError: If a bit of it is not as it was written.
    """
    data = path.read_bytes()
    found = re.search(_seal(rb"([0-9a-f]{64})"), data)
    if found is None or found[1] != _sha256(data.replace(found[0], _seal(UNSEALED), 1)):
        raise ValueError("its checksum is not that of its content")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        plain: dict[str, Any] = json.loads(header["__metadata__"]["plain"])
        # Clones: the file's tensors may be aligned otherwise than fresh ones, and the
        # last digit of a dot product depends on that.
        tensors = {k: v.to(device, copy=True) for k, v in load(data).items()}
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    return {**plain, **tensors}


def _seal(digest: bytes) -> bytes:
    return b'"sha256":"' + digest + b'"'


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def flat(checkpoint: Checkpoint) -> dict[str, object]:
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
        members, stale, heard, norms, strikes = checkpoint.participation
        content |= {"members": members, "stale": stale, "norms": norms}
        content["strikes"] = {str(m): rounds for m, rounds in strikes.items()}
        content["heard"] = {str(m): last.round for m, last in heard.items()}
        records |= {f"last{m}": last.last for m, last in heard.items()}
    for name, record in records.items():
        if record is not None:
            content |= {f"{name}/{k}": value for k, value in flatten(record).items()}
    return content


def rebuilt(content: Mapping[str, Any], kinds: Sequence[type]) -> Checkpoint:
    """The checkpoint that ``flat`` took apart, of records of these kinds."""
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
            plain["members"],
            plain["stale"],
            heard,
            plain["norms"],
            {int(m): rounds for m, rounds in plain["strikes"].items()},
        )
    return Checkpoint(
        plain["round"],
        records["state"],
        [records.get(f"memory{m}") for m in range(plain["clients"])],
        Traffic(*plain["traffic"]),
        plain["seconds"],
        participation,
    )
