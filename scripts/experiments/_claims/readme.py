"""The prose of README.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = [
    "an error of 1e-6",
    "all below 1e-11",
    "seconds of one core to 1e-6",
    "2000 iterations of Adam",
    "Apache-2.0",
    "100,000 parameters",
    "send less to 97 %",
]
