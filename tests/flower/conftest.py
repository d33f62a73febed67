"""What tests of Flower share."""

from importlib.util import find_spec

import pytest


class Clock:
    """Shows the time that was slept, an hour for a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Take no time."""
        self.now += 3600 * max(seconds, 1.0)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites that do not answer a first hello are not waited for."""
    if find_spec("flwr") is not None:
        from fedsciml.flower import membership

        monkeypatch.setattr(membership, "time", Clock())
