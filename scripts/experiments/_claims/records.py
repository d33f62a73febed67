"""The prose of docs/records.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = ["in more than 6 coordinates"]
