"""Models as files: a run's result in one safetensors file, and what is read of it.

Tensors are ``theta`` [p] and ``history``, the bytes of a history.jsonl. The metadata
are JSON: configuration, loss, warnings and what else a ``Result`` holds, the version
that wrote it, and a checksum of the file. Of the problem there are its name and
parameters, and a hash by which another one is refused. No pickle.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import fedsciml
from fedsciml.analysis.personal import numbers
from fedsciml.federation.checkpoint import pack, unpack
from fedsciml.federation.history import Round
from fedsciml.problem import Problem
from fedsciml.residual.fingerprint import agreement, fingerprint
from fedsciml.residual.held_out import DISTURBED

if TYPE_CHECKING:
    from fedsciml.federation.result import Result

FORMAT = 1
"""Of the files; one that a version does not know is refused."""

KEPT = ("loss", "absent", "held_out", "terms", "warnings")
"""Of a result, what is in the metadata as it is."""

OWN = "personal."
"""In the names of tensors: parameters of a client's own, with its number."""

HASH = "problem_sha256"
"""In a configuration: a hash by which a guess of the data could be checked."""


def packed(result: "Result") -> bytes:
    """A result as a file.

    Raises:
        ValueError: If a part of its configuration is nothing that JSON knows.
    """
    lines = "".join(line.line() for line in result.history).encode()
    configuration = dict(result.configuration)
    private = result.history[-1].epsilon is not None
    public = private or result.problem.partial
    if private:
        configuration.pop(HASH, None)
    content = {
        "format": FORMAT,
        "version": fedsciml.__version__,
        "configuration": configuration,
        "public": public,
        HASH: identity(result.problem, result.theta, public),
        "theta": result.theta,
        "history": torch.from_numpy(np.frombuffer(lines, np.uint8).copy()),
        "outcome": list(result.outcome),
        "unknowns": result.unknowns(),  # for who does not make the problem again
        **({"own": _own(result)} if result.personal else {}),
        **{key: getattr(result, key) for key in KEPT},
        **{f"{OWN}{m}": values for m, values in result.personal.items()},
    }
    try:
        return pack(content)
    except TypeError as error:
        raise ValueError(
            f"The result cannot be saved: its configuration holds what JSON does not "
            f"know ({error}). Give Problem(parameters=...) and notes of plain numbers, "
            "words and lists."
        ) from error


def _own(result: "Result") -> dict[str, dict[str, float]]:
    """Unknown numbers of the clients' own, by client and name."""
    found = numbers(result.problem, result.theta, result.personal)
    return {str(m): own for m, own in found.items() if own}


def read(path: Path) -> dict[str, Any]:
    """What was ``packed`` into a file; the history as rounds.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is something else, damaged, or of a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}. Give the directory of a run, or a file that "
            "result.save(path) wrote."
        )
    try:
        content = unpack(path)
        if "format" not in content:
            raise ValueError("it holds something else")
    except ValueError as error:
        raise ValueError(
            f"{path} is no model of fedsciml, or damaged: {error}. Give the directory "
            "of a run, or a file that result.save(path) wrote, as it was written."
        ) from error
    if content["format"] > FORMAT:
        raise ValueError(
            f"{path} was written by fedsciml {content['version']}, in a form that this "
            f"version, {fedsciml.__version__}, does not know. Take a newer one: "
            "pip install --upgrade fedsciml."
        )
    lines = content["history"].numpy().tobytes().splitlines()
    own = {k: content.pop(k) for k in list(content) if k.startswith(OWN)}
    personal = {int(k.removeprefix(OWN)): values for k, values in own.items()}
    history = [Round.read(line) for line in lines]
    return {**content, "history": history, "personal": personal}


def identity(problem: Problem, theta: Tensor, public: bool) -> str:
    """Hash that tells whether a problem is that of a model theta [p].

    Taken beside theta, where the loss is no rounding, and not at the start: a torch
    module may be built with other weights.

    Args:
        problem: What was trained.
        theta: Its parameters.
        public: Whether only what all parties have in common counts, and no data: under
            differential privacy, and of a problem as a server has it.
    """
    at = DISTURBED * theta.detach().cpu().double()
    return agreement(problem, at) if public else fingerprint(problem, at=at)
