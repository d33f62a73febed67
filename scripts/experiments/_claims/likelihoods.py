"""The prose of docs/likelihoods.md."""

from experiments._prose import Claim, Setting

CLAIMS: list[Claim] = []

SETTINGS: list[Setting] = [
    "z² / 2 |",
    "the class, 0 to C - 1 |",
    "the logit of 1 | 0 or 1 |",
    "or pairs [n, 2], count and exposure",
    "(f + 1) / 2 log(1 + u² / f)",
    "mean and 1, both over the scale | pairs [n, 2]:",
    "and 0, or -1 below and 1 above it",
    "C - 1 residuals a row",
    "it does not become 0:",
    "<= 2 loss",
    "more than 1000 parameters",
    "lambda / 2 times the",
    "mean of 2 l",
    "in 15 bins of probability",
    "<= 2 l of every",
]
