"""The prose of docs/command.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = ["| 0 |", "| 1 |", "| 2 |", "| 130, 143 |"]
"""Exit statuses."""
