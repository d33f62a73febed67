"""The prose of docs/characters.md."""

from experiments._numbers import column, digits, ends
from experiments._prose import Claim, Setting

BARE, OURS = "the model as it is", "ours: FIPA, magnitudes eliminated"


def bits() -> dict[str, float]:
    """Per character, by method."""
    return {name: float(x) for name, x in column("characters", "mean").items()}


def gains() -> list[str]:
    """The least and the most that a method improves on the model."""
    found = bits()
    bare = found.pop(BARE)
    return [f"{x:.2f}" for x in ends(bare - x for x in found.values())]


def apart() -> str:
    """The most that methods differ in bits."""
    found = bits()
    del found[BARE]
    low, high = ends(found.values())
    return f"{high - low:.2f}"


def times() -> str:
    """Bytes of ours in those of FedAvg."""
    sent = column("characters", "kB from a site")
    return digits(float(sent[OURS]) / float(sent["FedAvg of LoRA"]))


CLAIMS = [
    Claim("as it is, by {} to {} bits", gains),
    Claim("sends {} times the bytes of FedAvg", lambda: [times()]),
    Claim("are at most {} bits", lambda: [apart()]),
]

SETTINGS: list[Setting] = [
    "reads 40 characters",
    "textgenrnn/) 2.0",
    "is 31 rows",
    "makes 356 *features*",
    "its 356 features",
    "Keras' equations, to 1e-12",  # asserted by tests/programs/test_characters.py
    "UTF-8",
    "four of 1900 characters",
    "a change of rank 2",
    "prior is 0.01",
    "2 ln 2 = 1.386 times the bits",
    "32 characters is 5 bits",
]
