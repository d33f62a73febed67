"""What a site has of its own after a run, read from the files of its memory."""

from pathlib import Path

from torch import Tensor

from fedsciml.federation.site import Content, Files
from fedsciml.methods import kind
from fedsciml.methods._records import KIND
from fedsciml.wrappers.personal import Memory


def own(directory: Path | str, run: str, rounds: int) -> dict[int, Tensor]:
    """Parameters of the site's own at the model, f [p_f], by its number.

    Those of several sites, where they have one directory.

    Args:
        directory: In which it remembers.
        run: Name of the run.
        rounds: After which the model stands.

    Raises:
        ValueError: If there is nothing of this run, or of another round, or the site
            was not told how the run ended.
    """
    names = [path.stem for path in Path(directory).glob(f"{run}.*-*.safetensors")]
    clients = {name.removeprefix(f"{run}.").partition("-")[0] for name in names}
    if not clients:
        raise ValueError(
            f"{directory} holds nothing of run {run}. Give the directory of the site's "
            "node config, memory=..., and the model of a run that it took part in."
        )
    return {m: _values(Files(directory, run, m), m, rounds) for m in map(int, clients)}


def _values(files: Files, client: int, rounds: int) -> Tensor:
    """One site's, from its last memory."""
    last = max(files, key=lambda stamp: [*map(int, stamp.split("."))])
    done, content = int(last.partition(".")[0]), files[last]
    inside = _inside(content)
    if inside is None:
        raise ValueError(
            f"What client {client} remembers has no parameters of its own: those of "
            "this run's problem are all shared. Leave memory out."
        )
    if done != rounds or f"{inside}begun/{KIND}" in content:
        raise ValueError(
            f"Client {client} last took part in round {done}, and was not told how "
            f"round {rounds} of the model ended: what it has of its own is not that of "
            "this model. Fit it again: fedsciml.personalise(problem, result, data)."
        )
    values = content[f"{inside}model"]
    assert isinstance(values, Tensor)
    return values[0]


def _inside(content: Content) -> str | None:
    """Where the memory of personal parameters is in that of a method around it."""
    for path, value in content.items():
        if path.endswith(KIND) and value == kind(Memory):
            return path.removesuffix(KIND)
    return None
