"""The prose of docs/machines.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = ["256 MiB at most, 128 MiB in a shared basis"]
"""Sizes of the pieces that a Jacobian is made by."""
