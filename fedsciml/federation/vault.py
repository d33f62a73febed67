"""What a site keeps on disk, by names, and the server cannot turn back."""

import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from fedsciml.federation.files import refuse_link, replace_file
from fedsciml.problem import SiteError

_END = ".word"


class Vault(MutableMapping[str, str]):
    """Words in files ``DIRECTORY/KEY.word``.

    A file is replaced as a whole and is on the disk before the call returns. Memories
    of a ``Site`` have stamps, which the server names; these words have not: there is
    one state of them, the last. They are kept from run to run.

    Args:
        directory: Made, for its owner alone, when the first word is written.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    def __getitem__(self, key: str) -> str:
        try:
            return self._path(key).read_text()
        except FileNotFoundError:
            raise KeyError(key) from None
        except UnicodeDecodeError as error:
            raise SiteError(
                f"{key}{_END}, in the site's vault, is damaged. An older copy "
                "would forget what the site told: begin anew with another identity and "
                "an empty vault."
            ) from error

    def __setitem__(self, key: str, word: str) -> None:
        refuse_link(self.directory)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._path(key), word)

    def __delitem__(self, key: str) -> None:
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._path(key).is_file()

    def __iter__(self) -> Iterator[str]:
        try:
            names = [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:
            return
        yield from sorted(n.removesuffix(_END) for n in names if n.endswith(_END))

    def __len__(self) -> int:
        return sum(1 for _ in self)  # list(self) would ask for the length

    def _path(self, key: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9.-]{1,200}", key):
            raise ValueError(
                f"A key is of up to 200 letters, digits, dots and hyphens, got {key!r}."
            )
        return self.directory / f"{key}{_END}"
