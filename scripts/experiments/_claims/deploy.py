"""The prose of docs/deploy.md."""

from experiments._numbers import cell
from experiments._prose import Claim, Setting


def found(points: int) -> tuple[str, str]:
    """Share of the points found from shared rows; error of their values."""
    row = (str(points), "rows of one")
    share, error = cell("observed", row, "row space").split(", ")
    return spaced(share), error


def spaced(share: str) -> str:
    """``92 %`` of ``92%``."""
    return f"{share.removesuffix('%')} %"


CLAIMS = [
    Claim(
        "the places of {} of a site's 20 points are found, with a median error of "
        "their values of {}; of 400 points {}, where guesses find {} by chance.",
        lambda: [
            *found(20),
            found(400)[0],
            spaced(cell("observed", ("400", "rows of one"), "by chance")),
        ],
    )
]

SETTINGS: list[Setting] = [
    "versions 1.38 to 1.42 are",
    "with 1.42.",
    "3.11 or newer",
    "localhost, 127.0.0.1",
    "port 8000",
    "port 443",
    "counted from 0",
    "500 if it is not given |",
    "500 if it is not given;",
    "(exit code 305)",
    "port 9094",
    "`join` seconds (300.0)",
    "**exits with 0 when",
    "with exit code 305",
    "a hash of the problem (without data) | 100 bytes",
    "| 16 bytes |",
    "4 numbers that check the basis, 16 products",
    "at most 4 k (k + 3) bytes and 170, 3.6 kB for k = 28",
    "8 p bytes more",
    "at most 64 | up to 512 (k + 1) bytes |",
    "at most 64 | up to 512 (k + 1) bytes, 11 kB for k = 20",
    "8 k (p + 1) bytes, 354 kB for k = 20, p = 2209",
    "8 p and more",
    "its loss | 8 bytes",
    "at most 300 letters",
    "| 300 bytes |",
    "127.0.0.1:39091",
    # flwr: a SuperNode sleeps so long between requests, and a server waits for twice
    # an interval of 30 s between heartbeats.
    "Up to 3 s of them pass",
    "Flower tells after 60 s",
]
