"""The prose of README.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = ["Apache-2.0", "100,000 parameters", "send less to 97 %"]
