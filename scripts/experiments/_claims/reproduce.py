"""The prose of docs/reproduce.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = ["4 minutes", "15 minutes", "10 minutes", "5 minutes"]
