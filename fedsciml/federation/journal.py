"""The file ``history.jsonl`` of a run: a line per round, and a hash of them."""

from pathlib import Path

from fedsciml.federation.files import append_to, replace_file
from fedsciml.federation.history import Round, chained

AGAIN = "Start another run in a new directory."


class Journal:
    """The history of a run as a file. Line k is round k.

    Args:
        path: The file; there may be none yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests = [""]  # of the lines until each round

    def rounds(self, first: int | None = None) -> list[Round]:
        """The first rounds, or all; a half-written last line is left out.

        Raises:
            ValueError: If line k is damaged or not of round k; the message names it.
        """
        found = []
        for number, text in enumerate(self._lines(first), 1):
            try:
                line = Round.read(text)
                if line.round != number:
                    raise ValueError(
                        f"it is of round {line.round}; lines are missing, doubled or "
                        "in another order"
                    )
            except ValueError as error:
                raise ValueError(
                    f"{self.path}, line {number} is damaged: {error}. {AGAIN}"
                ) from error
            found.append(line)
        return found

    def rewind(self, rounds: int, digest: str | None = None) -> list[Round]:
        """Leave out what is after these rounds; those that are left.

        Args:
            rounds: How many.
            digest: What ``digest`` was after them, where it is known.

        Raises:
            ValueError: If there are fewer, one is damaged, or they are others.
        """
        found, lines = self.rounds(rounds), self._lines(rounds)
        if len(lines) < rounds:
            raise ValueError(
                f"{self.path} has {len(lines)} rounds, but the checkpoint beside it is "
                f"of round {rounds}: damaged. {AGAIN}"
            )
        digests = [""]
        for line in lines:
            digests.append(chained(digests[-1], line))
        if digest not in (None, digests[-1]):
            raise ValueError(
                f"{self.path} is not that with which the checkpoint beside it was "
                f"saved, in its first {rounds} rounds: one of the two was edited or "
                f"is of another run. Put back what was there. {AGAIN}"
            )
        replace_file(self.path, b"".join(lines))
        self._digests = digests
        return found

    def append(self, line: Round) -> None:
        """Add a round."""
        text = line.line()
        append_to(self.path, text)
        self._digests.append(chained(self._digests[-1], text.encode()))

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        append_to(self.path, "", sync=True)

    def digest(self, rounds: int) -> str:
        """Hash of the lines until then, as far as they were rewound or added here."""
        return self._digests[: rounds + 1][-1]

    def _lines(self, first: int | None) -> list[bytes]:
        """The first whole lines, with their breaks."""
        if not self.path.exists():
            return []
        *whole, _ = self.path.read_bytes().split(b"\n")
        return [line + b"\n" for line in whole[:first]]
