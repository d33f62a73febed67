"""The prose of docs/personal.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = [
    "lambda/2 |f_m",
    "about 1e-6 to 1e-5",
    "[J_s; 0], (I",
    "[r; 0] are",
    "to 1e-10 in the tests",  # asserted by tests/wrappers/test_personal.py
    "as mu_f goes to 0",
]
