"""The prose of docs/basis.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = ["1 % noise", '"More rounds" to 1e-10']
