"""The prose of docs/secure.md."""

import re

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = [
    re.compile(r"^[1-5]\. \*\*", re.M),
    "spent no more than epsilon 3",
    re.compile(
        r"^\| .* [\d, ]+(?: bytes)?(?: a (?:number|site), .*)?(?: a site)? \|$", re.M
    ),
]
"""What leaves a site has sizes by definition: a point of X25519 (32 bytes), a time (8)
and a signature (64) are 104 bytes; a share (17) and its seal (16) are 33."""
